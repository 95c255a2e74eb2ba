"""How a digit is written: how far it leans, and how wide it is, from the moments of its ink.

A picture's grey values are taken as masses. Hu 1962, "Visual pattern recognition by moment invariants", IRE
Transactions on Information Theory 8(2), describes shapes by the moments of such masses. LeCun et al. 1998,
"Gradient-based learning applied to document recognition", section III.A, deslant digits by the second moments: their
lines are shifted until rows and columns do not vary together.

A shear by ``s`` adds ``s`` to the slant and leaves the width; a horizontal stretch by ``a`` multiplies both by ``a``,
but for the pixels' own width. Neither is a matter of style alone: a 7 leans as it stands, a 1 is narrow. Compare
pictures of one class, or ask how the numbers move together with something else.
"""

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.features import check_images


def slant(images: Tensor) -> Tensor:
    """Return how far the ink leans to the right: pixels to the right for each pixel upwards.

    It is the slope of the line through the ink that gives its best column for each row, by least squares.

    Parameters
    ----------
    images : Tensor
        uint8 ``(N, 1, H, W)``, light ink on a black ground.

    Returns
    -------
    Tensor
        float64 ``(N,)``, the tangent of the angle from the vertical: 0 upright, 1 leaning right by 45 degrees, below 0
        leaning left. NaN for a picture whose ink fills one row at most, which leans no way.

    Raises
    ------
    InputError
        If the images are not uint8, or not grey.
    """
    across, down, both = _second_moments(images)
    return -both / down  # rows are counted downwards


def width(images: Tensor) -> Tensor:
    """Return how wide the ink is once it stands upright: its standard deviation along the rows, in pixels.

    Parameters
    ----------
    images : Tensor
        uint8 ``(N, 1, H, W)``, light ink on a black ground.

    Returns
    -------
    Tensor
        float64 ``(N,)``; a bar of w pixels has ``((w * w - 1) / 12) ** 0.5``. NaN where `slant` is.

    Raises
    ------
    InputError
        If the images are not uint8, or not grey.
    """
    across, down, both = _second_moments(images)
    # What is left of the variance after the shear: never below 0 but for rounding.
    return (across - both.square() / down).clamp(min=0).sqrt()


def _second_moments(images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the ink's variance along the rows and along the columns, and their covariance, float64 ``(N,)`` each."""
    check_images(images, "images")
    if images.shape[1] != 1:
        raise InputError(f"images: {images.shape[1]} channels, but strokes are measured on grey images (N, 1, H, W)")
    ink = images[:, 0].cpu().double()  # (N, H, W), whole numbers: the sums below are exact
    rows, columns = ink.sum(2), ink.sum(1)  # (N, H), (N, W)
    down, across = _from_centre(rows), _from_centre(columns)
    total = ink.sum((1, 2))  # (N,)
    both = torch.einsum("nh,nhw,nw->n", down, ink, across)
    return (columns * across.square()).sum(1) / total, (rows * down.square()).sum(1) / total, both / total


def _from_centre(masses: Tensor) -> Tensor:
    """Return the places 0, 1, ... less their mean under each row of masses, ``(N, L) -> (N, L)``."""
    places = torch.arange(masses.shape[1], dtype=torch.float64)
    return places - ((masses @ places) / masses.sum(1))[:, None]
