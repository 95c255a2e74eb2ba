"""Lines are where a picture changes abruptly: thin, whole, and where Canny's other implementations find them."""

import numpy as np
import pytest
import torch
from skimage import feature

from gencore.data import Emoji
from gencore.data.edges import Edges
from gencore.errors import InputError


def picture(value, size=16):
    return torch.full((1, 3, size, size), value, dtype=torch.uint8)


def lines(images, **options):
    found = Edges(**options)(images)
    assert found.dtype == torch.uint8 and set(found.unique().tolist()) <= {0, 255}
    return found == 0


def test_a_step_is_one_line_of_one_pixel():
    for axis in (2, 3):
        x = picture(200)
        x.narrow(axis, 8, 8).fill_(100)
        found = lines(x)[0, 0]
        found = found if axis == 3 else found.T
        columns = found.any(0).nonzero().flatten().tolist()
        assert len(columns) == 1 and columns[0] in (7, 8)
        assert found[:, columns[0]].all()


def test_the_height_of_a_step_decides():
    """Without blur, a step of height h has slope h: it is a line from ``high`` on."""
    for height, there in ((50, False), (52, True)):
        x = picture(100)
        x[..., 8:] = 100 + height
        assert lines(x, blur=0.0, low=0.1, high=0.2).any().item() is there  # 0.2 of 255 is 51


def test_a_faint_line_counts_where_it_continues_a_strong_one():
    x = picture(100)
    x[..., :8, 8:] = 200
    x[..., 8:, 8:] = 130
    assert lines(x, blur=0.0, low=0.08, high=0.3)[0, 0].any(1).all()
    faint = x.clone()
    faint[..., :8, :] = 100
    assert not lines(faint, blur=0.0, low=0.08, high=0.3)[0, 0, 10:].any()


def test_a_step_in_one_colour_is_seen_and_a_plain_picture_has_none():
    x = picture(100)
    x[:, 2, :, 8:] = 180
    assert lines(x).any() and not lines(picture(100)).any()


@pytest.mark.parametrize("turn", [0, 1, 2, 3])
def test_lines_turn_with_the_picture(turn):
    """Up to the choice between two equal neighbours: each line is at most a pixel away."""
    x = Emoji(("noto",)).load("heldout").images[:20]
    straight, turned = lines(x), lines(x.rot90(turn, (2, 3))).rot90(-turn, (2, 3))
    near = torch.nn.functional.max_pool2d(straight.float(), 3, 1, 1) > 0
    assert (turned & ~near).float().sum() / turned.sum() < 0.02


def test_lines_are_where_scikit_image_finds_them():
    """All but one in fifty lie within a pixel, both ways; slopes there are four times ours, for its kernel sums up to that."""
    images = Emoji(("fluent3d",)).load("heldout").images[:40].float().mean(1, keepdim=True).round().to(torch.uint8)
    ours = lines(images, blur=1.0, low=0.08, high=0.2)[:, 0]
    theirs = torch.stack([
        torch.from_numpy(feature.canny(x.numpy().astype(float) / 255, 1.0, 4 * 0.08, 4 * 0.2, mode="nearest"))
        for x in images[:, 0]
    ])
    for one, other in ((ours, theirs), (theirs, ours)):
        near = torch.nn.functional.max_pool2d(other[:, None].float(), 3, 1, 1)[:, 0] > 0
        assert (one & near).sum() / one.sum() > 0.98
    assert np.isclose(ours.sum() / theirs.sum(), 1, atol=0.05)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (2, 1, 1, 1), (1, 3, 5, 9)])
def test_any_number_and_size(shape):
    assert Edges()(torch.zeros(shape, dtype=torch.uint8)).shape == (shape[0], 1, *shape[2:])


@pytest.mark.parametrize(("wrong", "message"), [
    (dict(blur=-1.0), "blur -1.0"), (dict(low=0.0), "low 0.0"), (dict(low=0.3), "low 0.3, high 0.2"),
])
def test_settings_that_make_no_sense_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        Edges(**wrong)
