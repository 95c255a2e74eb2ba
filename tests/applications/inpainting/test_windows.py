"""Holes in pictures of any size: what squares are looked at, what they hold, and that only the hole changes."""

from dataclasses import replace

import pytest
import torch

from gencore.applications import palette
from gencore.applications.inpainting import windows
from gencore.applications.inpainting.windows import Window, boxes, cut, fill, paste, plan
from gencore.applications.palette.sampling import build
from gencore.errors import InputError
from tests.applications.palette.test_loop import DAMAGED, FILLED

SIZE = 16
MODEL = build(replace(FILLED, sampling=replace(FILLED.sampling, steps=2))), replace(
    FILLED, sampling=replace(FILLED.sampling, steps=2)
)


def picture(height, width, seed=0):
    return torch.randint(0, 256, (3, height, width), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def hole_at(height, width, *rectangles):
    hole = torch.zeros(height, width, dtype=torch.bool)
    for top, left, bottom, right in rectangles:
        hole[top:bottom, left:right] = True
    return hole


CASES = {
    "small": hole_at(10, 7, (2, 2, 5, 5)),
    "of the network's size": hole_at(16, 16, (4, 4, 9, 9)),
    "large": hole_at(90, 130, (20, 30, 60, 80)),
    "half": hole_at(60, 80, (0, 0, 60, 40)),
    "flat": hole_at(3, 150, (0, 50, 3, 90)),
    "two": hole_at(100, 100, (3, 3, 20, 9), (60, 70, 99, 100)),
    "one pixel": hole_at(50, 40, (49, 39, 50, 40)),
    "all but one": ~hole_at(30, 30, (15, 15, 16, 16)),
}
each_hole = pytest.mark.parametrize("hole", CASES.values(), ids=CASES)


@each_hole
def test_squares_cover_every_hole_at_every_level_and_see_around_it(hole):
    squares = plan(hole, SIZE)
    last = {}
    for square in squares:
        last.setdefault((square.hole, square.level), torch.zeros_like(hole))
        rows, columns, own_rows, own_columns = windows._overlap(square.window, *hole.shape)
        assert rows.stop - rows.start == own_rows.stop - own_rows.start > 0 and own_rows.stop <= square.window.side
        last[square.hole, square.level][rows, columns] = True
        if square.level:
            assert hole[rows, columns].any() and square.window.side >= SIZE
    for number, (top, left, bottom, right) in enumerate(boxes(hole)):
        mine = [covered for (which, _), covered in last.items() if which == number]
        assert mine
        for covered in mine:
            assert covered[top:bottom, left:right][hole[top:bottom, left:right]].all()
    assert [square.hole for square in squares] == sorted(square.hole for square in squares)
    for square in squares:
        if square.level == 0:
            rows, columns, _, _ = windows._overlap(square.window, *hole.shape)
            assert not hole[rows, columns].all()  # something is known there


def test_finer_squares_end_at_the_networks_own_size_unless_there_are_too_many(monkeypatch):
    hole = CASES["large"]
    assert min(square.window.side for square in plan(hole, SIZE)) in range(SIZE, 3 * SIZE // 2 + 1)
    monkeypatch.setattr(windows, "MOST_SQUARES", 3)
    few = plan(hole, SIZE)
    assert len(few) <= 4 and few[0].level == 0


def test_separate_holes_are_told_apart():
    assert boxes(hole_at(100, 100, (3, 3, 20, 9), (60, 70, 99, 100))) == [(3, 3, 20, 9), (60, 70, 99, 100)]
    assert boxes(hole_at(100, 100, (3, 3, 20, 9), (20, 9, 30, 12))) == [(3, 3, 30, 12)]
    (box,) = boxes(hole_at(1000, 600, (100, 100, 203, 111)))
    assert all(abs(a - b) <= 8 for a, b in zip(box, (100, 100, 203, 111), strict=True))


def test_a_cut_is_the_mean_of_what_is_known():
    canvas = picture(12, 12).float() / 127.5 - 1
    known = torch.ones(12, 12, dtype=torch.bool)
    known[0, 0] = known[4, 5] = False
    canvas[:, 0, 0] = float("inf") if False else 1e6  # whatever stands in a hole must not leak
    patch, missing = cut(canvas, known, Window(0, 0, 8), 4)
    assert missing[0, 0, 0] == 1 and missing[0, 2, 2] == 1 and missing.sum() == 2
    block = canvas[:, 0:2, 0:2].flatten(1)
    torch.testing.assert_close(patch[:, 0, 0], block[:, 1:].mean(1))
    torch.testing.assert_close(patch[:, 3, 1], canvas[:, 6:8, 2:4].flatten(1).mean(1))
    outside, gone = cut(canvas, known, Window(-4, 8, 8), 8)
    assert gone[0, :4].all() and gone[0, :, 4:].all() and not gone[0, 4:, :4].any()
    assert torch.equal(outside[:, 4:, :4], canvas[:, 0:4, 8:12]) and not outside[:, :4].any()


@pytest.mark.parametrize("side", [8, 4, 16])
def test_what_is_pasted_lands_in_its_place_only(side):
    canvas, patch = torch.zeros(3, 12, 12), torch.full((3, 8, 8), 0.5)
    patch[:, 4:] = -0.5
    where = torch.ones(12, 12, dtype=torch.bool)
    where[3, 3] = False
    window = Window(1, 1, side)
    paste(canvas, patch, window, where)
    inside = torch.zeros(12, 12, dtype=torch.bool)
    inside[1 : 1 + side, 1 : 1 + side] = True
    assert not canvas[:, ~inside].any() and not canvas[:, 3, 3].any()
    torch.testing.assert_close(canvas[:, 1, 1], torch.full((3,), 0.5), atol=0.03, rtol=0)
    if side < 16:
        torch.testing.assert_close(canvas[:, side, side], torch.full((3,), -0.5), atol=0.03, rtol=0)


@each_hole
def test_only_the_hole_changes_and_a_series_repeats(hole):
    image = picture(*hole.shape)
    filled = fill(MODEL, image, hole, seed=3, number=1)
    assert filled.dtype == torch.uint8 and torch.equal(filled[:, ~hole], image[:, ~hole])
    spoiled = torch.where(hole, 255 - image, image)  # what stands in the hole does not matter
    assert torch.equal(fill(MODEL, spoiled, hole, seed=3, number=1), filled)
    assert not torch.equal(fill(MODEL, image, hole, seed=3, number=2), filled)
    assert not torch.equal(fill(MODEL, image, hole, seed=4, number=1), filled)


def test_every_square_knows_what_those_before_it_drew(monkeypatch):
    """A network that draws the mean of what it sees passes the colour around on, at every level."""
    shown = []

    def guided(model, seen):
        shown.append(seen)
        known = 1 - seen.hole
        mean = (seen.source[:, :3] * known).sum((2, 3)) / known.sum((2, 3))
        return lambda x_t, t: mean[:, :, None, None].expand_as(x_t)

    monkeypatch.setattr(windows, "guided", guided)
    hole = CASES["large"]
    image = torch.where(hole, 0, torch.full((3, *hole.shape), 200)).to(torch.uint8)
    filled = fill(MODEL, image, hole)
    assert (filled.int() - 200).abs().max() <= 1
    squares = plan(hole, SIZE)
    levels = [square.level for square in squares]
    first_of_finest = levels.index(max(levels))
    assert shown[first_of_finest].hole.any() and max(levels) >= 2
    later = [seen.hole.mean().item() for seen in shown[first_of_finest:]]
    assert sum(share < 0.999 for share in later) == len(later)


def test_progress_can_be_watched():
    seen = []
    fill(MODEL, picture(90, 130), CASES["large"], watch=lambda squares: seen.append(len(squares)) or squares)
    assert seen == [len(plan(CASES["large"], SIZE))]


@pytest.mark.parametrize(
    ("image", "hole", "message"),
    [
        (picture(8, 8), torch.zeros(8, 8, dtype=torch.bool), "covers nothing"),
        (picture(8, 8), torch.ones(8, 8, dtype=torch.bool), "covers the whole picture"),
        (picture(8, 8), torch.zeros(8, 9, dtype=torch.bool), "as large as the picture"),
        (picture(8, 8), torch.zeros(8, 8), "must be bool"),
        (picture(8, 8)[:1], torch.zeros(8, 8, dtype=torch.bool), r"must be uint8 of shape \(3, H, W\)"),
    ],
)
def test_masks_that_do_not_fit_are_refused(image, hole, message):
    with pytest.raises(InputError, match=message):
        fill(MODEL, image, hole)


def test_a_model_for_something_else_is_refused():
    with pytest.raises(InputError, match="trained for Damage"):
        fill((build(DAMAGED), DAMAGED), picture(8, 8), hole_at(8, 8, (2, 2, 3, 3)))


def test_the_package_offers_it():
    from gencore.applications import inpainting

    assert inpainting.fill is fill and palette.Holes is type(FILLED.task)
