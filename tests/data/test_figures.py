"""Figures: poses within the picture, drawings that show them, and a reader that finds them again."""

import pytest
import torch

from gencore.data import figures
from gencore.data.figures import (
    ANGLES,
    BACKGROUND,
    BONES,
    JOINTS,
    NIGHT,
    PALETTES,
    POSE,
    Figures,
    colours_of,
    draw_figures,
    draw_sticks,
    joints_of,
    paint,
    sample_poses,
)
from gencore.data.figures_reader import SIZE, joint_errors, read_figures
from gencore.errors import InputError


@pytest.fixture(scope="module")
def people():
    return Figures(images=40).people("train")


def test_a_split_is_always_the_same_at_every_size_and_the_other_one_differs():
    small, large = Figures(16, 5), Figures(64, 5)
    for one, other in zip(small.people("train"), large.people("train"), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(small.people("train")[0], small.people("heldout")[0][:5])
    data = small.load("train")
    assert data.images.shape == (5, 3, 16, 16) and data.images.dtype == torch.uint8
    assert torch.equal(data.labels, small.people("train")[1][:, 2]) and len(small.people("heldout")[0]) == 500


def test_poses_lie_within_their_ranges_and_joints_within_the_picture():
    pose = sample_poses(2_000, torch.Generator().manual_seed(0))
    low, high = torch.tensor(ANGLES).T
    assert (pose[:, 3:] >= low).all() and (pose[:, 3:] <= high).all()
    spread = (pose[:, 3:].amax(0) - pose[:, 3:].amin(0)) / (high - low)
    assert (spread > 0.95).all(), "all of each range is used"
    joints = joints_of(pose)
    assert joints.min() > figures.EDGE and joints.max() < 1 - figures.EDGE
    assert pose[:, 2].max() <= figures.SIZES[1]


def test_joints_written_plainly():
    """A figure that stands upright, arms and legs hanging, of size 1; then each limb lifted to the side, and bent."""
    pose = torch.zeros(1, len(POSE))
    pose[0, :3] = torch.tensor([0.5, 0.5, 1.0])
    where = dict(zip(JOINTS, joints_of(pose)[0].tolist(), strict=True))
    expected = {
        "hips": (0.5, 0.5), "neck": (0.5, 0.25), "head": (0.5, 0.12), "left shoulder": (0.415, 0.25),
        "left elbow": (0.415, 0.395), "left hand": (0.415, 0.535), "right shoulder": (0.585, 0.25),
        "right elbow": (0.585, 0.395), "right hand": (0.585, 0.535), "left hip": (0.452, 0.5), "left knee": (0.452, 0.69),
        "left foot": (0.452, 0.88), "right hip": (0.548, 0.5), "right knee": (0.548, 0.69), "right foot": (0.548, 0.88),
    }  # fmt: skip
    for name, place in expected.items():
        assert where[name] == pytest.approx(place, abs=1e-6), name
    limbs = (("upper arm", "elbow", "hand", 0.145, 0.14), ("thigh", "knee", "foot", 0.19, 0.19))
    for side, way in (("left", -1), ("right", 1)):
        for limb, joint, end, upper, lower in limbs:
            turned, root = pose.clone(), where[f"{side} {'shoulder' if joint == 'elbow' else 'hip'}"]
            turned[0, POSE.index(f"{side} {limb}")] = way * torch.pi / 2  # straight to the side
            moved = dict(zip(JOINTS, joints_of(turned)[0].tolist(), strict=True))
            assert moved[f"{side} {joint}"] == pytest.approx((root[0] + way * upper, root[1]), abs=1e-6)
            assert moved[f"{side} {end}"] == pytest.approx((root[0] + way * (upper + lower), root[1]), abs=1e-6)
            assert {name for name in JOINTS if moved[name] != pytest.approx(where[name])} == {f"{side} {joint}", f"{side} {end}"}
            turned[0, POSE.index(f"{side} {joint}")] = way * torch.pi / 2  # on top of it: now the end points up
            found = joints_of(turned)[0, JOINTS.index(f"{side} {end}")].tolist()
            assert found == pytest.approx((root[0] + way * upper, root[1] - lower), abs=1e-6)
    pose = torch.zeros(1, len(POSE))
    pose[0, 2:5] = torch.tensor([2.0, 0.3, 0.2])
    hips, neck, head = joints_of(pose)[0, :3]
    lean = torch.tensor([0.3, 0.5])
    assert (neck - hips).tolist() == pytest.approx((0.5 * torch.stack([lean[0].sin(), -lean[0].cos()])).tolist())
    assert (head - neck).tolist() == pytest.approx((0.26 * torch.stack([lean[1].sin(), -lean[1].cos()])).tolist(), rel=1e-5)


def test_each_bone_has_its_colour_where_it_lies(people):
    pose = people[0][:12]
    picture, joints = draw_sticks(pose, 128), joints_of(pose)
    seen = 0
    for start, end, colour in BONES:
        middle = (128 * torch.lerp(joints[:, start], joints[:, end], 0.6)).long()
        found = picture[torch.arange(12), :, middle[:, 1], middle[:, 0]].int()
        seen += ((found - torch.tensor(colour)).abs().amax(1) <= 2).float().mean()
    assert seen / len(BONES) > 0.85, "some bones cross others"
    assert picture[:, :, 0, 0].tolist() == [list(NIGHT)] * 12


def test_hands_head_and_clothes_have_their_colours(people):
    """Where nothing is in front: the right hand always, the trunk and face where no arm crosses them."""
    pose, outfit = people
    picture, joints = draw_figures(pose, outfit, 128).int(), joints_of(pose)
    hand = (128 * joints[:, JOINTS.index("right hand")]).long()
    skin = torch.tensor(PALETTES[0])[outfit[:, 0]]
    assert torch.equal(picture[torch.arange(40), :, hand[:, 1], hand[:, 0]], skin.int())
    chest = (128 * torch.lerp(joints[:, 0], joints[:, 1], 0.6)).long()
    shirt = torch.tensor(PALETTES[2])[outfit[:, 2]]
    found = picture[torch.arange(40), :, chest[:, 1], chest[:, 0]]
    assert (found == shirt).all(1).float().mean() > 0.7
    assert picture[:, :, 0, 0].tolist() == [list(BACKGROUND)] * 40


def test_painting_parts_says_which_part_each_pixel_shows(people):
    parts = torch.eye(8).expand(40, -1, -1)
    shares = paint(people[0], parts, 48)  # (40, 8, 48, 48)
    torch.testing.assert_close(shares.sum(1), torch.ones(40, 48, 48))
    assert (shares.amax((2, 3))[:, [0, 1, 2, 3, 4, 5, 7]] > 0.5).all(), "every part is seen"
    mixed = torch.einsum("nphw,npc->nchw", shares, colours_of(people[1]))
    torch.testing.assert_close(mixed, paint(people[0], colours_of(people[1]), 48), atol=1e-5, rtol=1e-5)


def test_a_drawing_does_not_depend_on_those_drawn_with_it(people):
    pose, outfit = people
    assert torch.equal(draw_figures(pose, outfit, 32)[7:8], draw_figures(pose[7:8], outfit[7:8], 32))
    assert torch.equal(draw_sticks(pose, 32)[7:8], draw_sticks(pose[7:8], 32))


@pytest.fixture(scope="module")
def moved(people):
    """Twelve figures whose limbs are turned a little from what is told, and what is read off their pictures."""
    told, outfit = (each[:12] for each in people)
    true = told.clone()
    true[:, 3:] += 0.12 * torch.randn(12, 10, generator=torch.Generator().manual_seed(1))
    return told, true, outfit, read_figures(draw_figures(true, outfit, 64), outfit, told)


def test_a_pose_nearby_is_read_to_a_fraction_of_a_pixel(moved):
    told, true, _, reading = moved
    off, found = joint_errors(told, true), joint_errors(reading.pose, true)
    assert off.mean() * SIZE > 0.5, "before the fit"
    assert found.median() * SIZE < 0.1 and found.mean() * SIZE < 0.2
    limbs = off > 0.02  # joints that really moved
    read = joint_errors(told, reading.pose)[limbs]
    assert ((read - off[limbs]).abs() / off[limbs]).median() < 0.1, "a move is measured to a tenth"


def test_colours_are_read(moved):
    *_, outfit, reading = moved
    seen = reading.outfit >= 0
    assert seen.float().mean() > 0.95 and torch.equal(reading.outfit[seen], outfit[seen])


def test_other_clothes_than_told_are_seen(people):
    pose, outfit = (each[:12] for each in people)
    worn = outfit.clone()
    worn[:, 2] = (worn[:, 2] + 1) % len(PALETTES[2])
    reading = read_figures(draw_figures(pose, worn, 64), outfit, pose)
    assert (reading.outfit[:, 2] == worn[:, 2]).float().mean() > 0.9


def test_no_figure_fits_badly(moved, people):
    pose, outfit = (each[:12] for each in people)
    nothing = torch.tensor(BACKGROUND, dtype=torch.uint8)[None, :, None, None].expand(12, -1, 64, 64)
    assert read_figures(nothing, outfit, pose).misfit.min() > 3 * moved[3].misfit.max()


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (2, 3, 16, 16), (2, 3, 32, 40)])
def test_pictures_of_another_form_are_refused(shape):
    with pytest.raises(InputError, match="figures are read off"):
        read_figures(torch.zeros(shape), torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 13))


@pytest.mark.parametrize(("wrong", "message"), [(dict(size=8), "size 8"), (dict(images=0), "images 0")])
def test_sets_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Figures(**wrong)
