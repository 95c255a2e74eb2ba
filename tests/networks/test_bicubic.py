"""Bicubic resizing against the kernel as it is written down, and against Pillow."""

import numpy as np
import pytest
import torch
from PIL import Image

from gencore.errors import InputError
from gencore.networks.bicubic import enlarge, reduce


def kernel(t):
    """Keys' equation 4 with a = -1/2."""
    t, a = t.abs(), -0.5
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return torch.where(t < 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


def matrix(old, new):
    """Which share each old pixel has in each new one, ``(new, old)``."""
    middles = (torch.arange(new, dtype=torch.float64) + 0.5) * old / new - 0.5
    share = kernel((torch.arange(old) - middles[:, None]) / max(old / new, 1))
    return share / share.sum(1, keepdim=True)


@pytest.mark.parametrize("times", [2, 3, 4])
def test_both_ways_are_keys_kernel(times):
    x = torch.rand(2, 3, 12, 24, generator=torch.Generator().manual_seed(0)) * 2 - 1
    for resize, height, width in ((enlarge, 12 * times, 24 * times), (reduce, 12 // times, 24 // times)):
        expected = matrix(12, height) @ x.double() @ matrix(24, width).T
        torch.testing.assert_close(resize(x, times).double(), expected, rtol=0, atol=1e-5)


def test_a_parabola_is_met_exactly_and_by_no_other_a():
    """Away from the borders: that is why a = -1/2."""
    place = torch.arange(12.0)
    large = (torch.arange(24.0) + 0.5) / 2 - 0.5
    found = enlarge((place**2).expand(1, 1, 12, 12), 2)[0, 0, 8]
    torch.testing.assert_close(found[4:-4], (large**2)[4:-4])


def test_pillow_makes_the_same_picture():
    draw = np.random.default_rng(0).integers(90, 166, (24, 36), dtype=np.uint8)  # between the passes, too, nothing is clipped
    x = torch.from_numpy(draw)[None, None].float()
    for resize, size in ((reduce, (9, 6)), (enlarge, (144, 96))):
        theirs = np.asarray(Image.fromarray(draw).resize(size, Image.Resampling.BICUBIC)).astype(float)
        ours = resize(x, 4)[0, 0].round().numpy()
        assert np.abs(ours - theirs).max() <= 1  # Pillow rounds after each of two passes


def test_what_a_small_picture_cannot_show_is_averaged_away():
    stripes = (torch.arange(32) % 2 * 2.0 - 1).expand(1, 1, 32, 32)
    assert stripes[..., ::4].abs().min() == 1  # every fourth pixel: a picture of nothing but white or black
    assert reduce(stripes, 4)[..., 2:-2].abs().max() < 0.02


def test_sizes_that_do_not_divide_are_refused():
    with pytest.raises(InputError, match="24x30: cut them to multiples of 4"):
        reduce(torch.zeros(1, 3, 24, 30), 4)
