"""Reducing pictures exactly: each new pixel is the mean of the area it covers."""

import torch
from torch import Tensor


def area_resize(images: Tensor, size: int) -> Tensor:
    """Reduce square images to a smaller square by exact area averaging.

    Where a new pixel's border cuts an old pixel, the old one counts by the share of it that lies inside. The mean of
    the picture is therefore kept, up to rounding to whole grey levels.

    Parameters
    ----------
    images : Tensor
        uint8 ``(N, C, H, H)``.
    size : int
        New side, at most ``H``.

    Returns
    -------
    Tensor
        uint8 ``(N, C, size, size)``.
    """
    if images.shape[-1] == size:
        return images
    share = overlaps(images.shape[-1], size)
    means = torch.cat([share @ part.double() @ share.T for part in images.split(1024)])  # (N, C, size, size)
    return means.round().to(torch.uint8)


def overlaps(old: int, new: int) -> Tensor:
    """Return float64 ``(new, old)``: by which share each old pixel makes up each new one; every row sums to 1."""
    edges = torch.arange(new + 1, dtype=torch.float64) * old / new
    starts = torch.arange(old, dtype=torch.float64)
    covered = torch.minimum(edges[1:, None], starts + 1) - torch.maximum(edges[:-1, None], starts)  # (new, old)
    return covered.clamp(min=0) * new / old
