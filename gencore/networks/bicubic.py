"""Bicubic resizing: Keys 1981, "Cubic convolution interpolation for digital image processing".

https://doi.org/10.1109/TASSP.1981.1163711, equation 4 with a = -1/2, the value for which a parabola is met exactly. Pixels
are squares whose middles carry the values; where a picture shrinks, the kernel is widened by the same factor, so that what
the small picture cannot show is averaged away and does not come back as a pattern (antialiasing). At a border the kernel is
cut, and its weights are scaled to sum to 1. This is Pillow's bicubic filter, and MATLAB's but for the border.
"""

from torch import Tensor
from torch.nn.functional import interpolate

from gencore.errors import InputError


def enlarge(x: Tensor, times: int) -> Tensor:
    """Return images ``times`` larger on each side: ``(B, C, h, w)`` to ``(B, C, times h, times w)``, float32.

    Values may overshoot the range of the input a little at edges.
    """
    height, width = x.shape[2:]
    # Without ``antialias``, PyTorch takes another kernel: a = -3/4.
    return interpolate(x.float(), size=(times * height, times * width), mode="bicubic", antialias=True)


def reduce(x: Tensor, times: int) -> Tensor:
    """Return images ``times`` smaller on each side, antialiased: ``(B, C, H, W)`` to ``(B, C, H/times, W/times)``, float32.

    Raises
    ------
    InputError
        If height or width is no multiple of ``times``.
    """
    height, width = x.shape[2:]
    if height % times or width % times:
        raise InputError(f"images of {height}x{width}: cut them to multiples of {times} before they are reduced {times} times")
    return interpolate(x.float(), size=(height // times, width // times), mode="bicubic", antialias=True)
