"""Pictures of any size and form: whole, unstretched, and with the edge that they have."""

import pytest
import torch

from gencore.applications.captioning.fitting import fit_whole, is_scene, margin
from gencore.data import Emoji, Shapes
from gencore.data.shapes_scorer import describe
from gencore.errors import InputError

RED = torch.tensor([200, 30, 40], dtype=torch.uint8)


def sheet(height, width, value=255):
    return torch.full((3, height, width), value, dtype=torch.uint8)


def test_a_picture_of_the_right_size_stays_as_it_is():
    image = Emoji(("noto",)).load("heldout").images[0]
    assert torch.equal(fit_whole(image, 32), image)


@pytest.mark.parametrize(("height", "width"), [(64, 32), (32, 64), (7, 50), (1, 1), (300, 3), (3000, 1)])
def test_nothing_is_cut_off_or_stretched(height, width):
    """A picture of one colour with an edge of another: how much of the square each takes."""
    found = fit_whole(RED[:, None, None].expand(3, height, width).contiguous(), 32)
    assert found.shape == (3, 32, 32) and (found == RED[:, None, None]).all()
    half = sheet(40, 80, 0)
    half[:, 10:30, 20:60] = RED[:, None, None]
    found = fit_whole(half, 32)
    assert (found[:, 14:18, 10:22] == RED[:, None, None]).all() and not found[:, :8].any() and not found[:, :, :6].any()


def test_empty_margins_are_left_out_on_request():
    drawing = Emoji(("noto",)).load("heldout").images[3]
    page = sheet(200, 320)
    page[:, 90:122, 40:72] = drawing
    trimmed, whole = fit_whole(page, 32, trim=True), fit_whole(page, 32)
    closest = fit_whole(drawing, 32, trim=True)
    assert (trimmed.float() - closest.float()).abs().mean() < 1
    assert (whole.float() - closest.float()).abs().mean() > 10
    blank = fit_whole(sheet(50, 50), 32, trim=True)
    assert (blank == 255).all()


def test_a_frame_is_left_around_what_was_trimmed():
    page = sheet(64, 64)
    page[:, 16:48, 16:48] = RED[:, None, None]
    found = fit_whole(page, 32, trim=True)
    assert (found[:, 1:31, 1:31] == RED[:, None, None]).all() and (found[:, 0] == 255).all() and (found[:, :, -1] == 255).all()


def test_scenes_are_known_by_their_edge():
    scenes, emoji = Shapes(images=20).load("train"), Emoji().load("heldout")
    assert all(is_scene(image) for image in scenes.images) and sum(is_scene(image) for image in emoji.images) <= 1
    assert torch.equal(margin(scenes.images[0]), torch.full((3,), 245.0))
    noisy = (scenes.images[0].int() + torch.randint(-3, 4, (3, 32, 32), generator=torch.Generator().manual_seed(0))).clamp(0, 255)
    assert is_scene(noisy.to(torch.uint8)) and not is_scene(sheet(9, 9)) and not is_scene(sheet(9, 9, 235))


def test_a_large_scene_shows_what_it_showed():
    small, large = (Shapes(size=size, images=10).load("train") for size in (32, 256))
    for image, other in zip(large.images, small.images, strict=True):
        assert [(t.shape, t.colour, t.size) for t in describe(fit_whole(image, 32))] == [(t.shape, t.colour, t.size) for t in describe(other)]


@pytest.mark.parametrize("image", [sheet(4, 4)[0], sheet(4, 4)[:1], sheet(4, 4).float(), sheet(0, 4)])
def test_what_is_no_picture_is_refused(image):
    with pytest.raises(InputError, match=r"must be uint8 \(3, H, W\)"):
        fit_whole(image, 32)
