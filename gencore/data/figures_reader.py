"""Reading a pose off the picture of a dressed figure: the drawing itself is fitted to it.

`gencore.data.figures.paint` has a gradient with respect to the pose. Starting from a pose that is near, the one is sought
whose drawing differs least from the picture, first through a blur, then sharply. On the drawing of a pose nearby the fit
finds that pose to within a fraction of a pixel; the tests say how near, and how far.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gencore.data.figures import ANGLES, PALETTES, colours_of, joints_of, paint
from gencore.data.image_set import to_float
from gencore.data.resize import overlaps
from gencore.errors import InputError

SIZE = 32  # side at which figures are read; larger pictures are reduced to it by their areas' means
STEPS = 120
RATES = 0.01, 0.06  # first step lengths: of place and size, in sides, and of angles, in radians
LEAST_SHARE = 1.0  # pixels that a part must show for its colour to be read
RIDGE = 1e-3  # keeps the colours of hidden parts finite


class Reading(NamedTuple):
    """What pictures of figures show.

    Attributes
    ----------
    pose : Tensor
        float32 ``(N, 13)``: the poses whose drawings are nearest.
    misfit : Tensor
        float32 ``(N,)``: root mean square difference of picture and drawing, in units of the whole range of grey levels.
    outfit : Tensor
        int64 ``(N, 4)``: the colour of each palette that skin, hair, shirt and trousers are nearest to; -1 for a part that
        is hidden.
    """

    pose: Tensor
    misfit: Tensor
    outfit: Tensor


def read_figures(images: Tensor, outfits: Tensor, start: Tensor, batch_size: int = 64) -> Reading:
    """Read poses and colours off pictures of dressed figures.

    Parameters
    ----------
    images : Tensor
        ``(N, 3, S, S)``, uint8 or float in [-1, 1]; S is 32 or more.
    outfits : Tensor
        What the figures are meant to wear, int64 ``(N, 4)``: the drawings that are fitted wear it.
    start : Tensor
        Poses near those to be found, ``(N, 13)``.
    batch_size : int
        Pictures read at once; what is read off one does not depend on the others.

    Raises
    ------
    InputError
        If the pictures are not of this form.
    """
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or images.shape[2] < SIZE:
        raise InputError(f"images {tuple(images.shape)}: figures are read off (N, 3, S, S) with S of at least {SIZE}")
    x = to_float(images) if images.dtype == torch.uint8 else images.float()
    share = overlaps(x.shape[-1], SIZE).float()
    x = share @ ((x.clamp(-1, 1) + 1) / 2) @ share.T  # (N, 3, 32, 32), from 0 to 1
    parts = zip(*(each.split(batch_size) for each in (x, outfits, start)), strict=True)
    found = [_read(*part) for part in parts]
    return Reading(*(torch.cat(each) for each in zip(*found, strict=True)))


def joint_errors(pose: Tensor, other: Tensor) -> Tensor:
    """Return how far each joint of two poses is apart, ``(N, 15)``, as a share of the picture's side."""
    return (joints_of(pose) - joints_of(other)).norm(dim=2)


def _read(x: Tensor, outfits: Tensor, start: Tensor) -> Reading:
    colours = colours_of(outfits)
    pose = start.clone().requires_grad_()
    rates = torch.tensor([RATES[0]] * 3 + [RATES[1]] * len(ANGLES))
    mean, square = torch.zeros_like(start), torch.zeros_like(start)
    best, least = start.clone(), torch.full((len(x),), math.inf)
    for step in range(1, STEPS + 1):
        difference = paint(pose, colours, SIZE) - x  # (N, 3, 32, 32)
        sharp = difference.square().mean((1, 2, 3))
        with torch.no_grad():
            better = sharp < least
            least, best = torch.where(better, sharp, least), torch.where(better[:, None], pose, best)
        blurred = [avg_pool2d(difference, side, side // 2).square().mean((1, 2, 3)) for side in (4, 8)]
        early = max(0.0, 1 - 1.5 * step / STEPS)  # the blur shows the way in the beginning, and then would mislead
        (slope,) = torch.autograd.grad((sharp + early * 4 * sum(blurred)).sum(), pose)
        # Adam (Kingma & Ba 2014) for each picture on its own, with steps that become shorter.
        mean, square = 0.8 * mean + 0.2 * slope, 0.95 * square + 0.05 * slope.square()
        moved = mean / (1 - 0.8**step) / ((square / (1 - 0.95**step)).sqrt() + 1e-8)
        with torch.no_grad():
            pose -= rates * 0.5 * (1 + math.cos(math.pi * step / STEPS)) * moved
    return Reading(best, least.sqrt(), _read_outfits(x, best))


def _read_outfits(x: Tensor, pose: Tensor) -> Tensor:
    """Return the nearest colours of parts, int64 ``(N, 4)``: those that, mixed as the pose is drawn, give the picture."""
    parts = torch.eye(8).expand(len(x), -1, -1)
    shares = paint(pose, parts, SIZE).flatten(2)  # (N, 8, 1024): how much of each part each pixel shows
    together = shares @ shares.mT + RIDGE * torch.eye(8)  # (N, 8, 8)
    colours = torch.linalg.solve(together, shares @ x.flatten(2).mT)  # (N, 8, 3), by least squares
    read = []
    for number, palette in enumerate(PALETTES):
        distance = (colours[:, number, None] - torch.tensor(palette) / 255).norm(dim=2)  # (N, colours)
        read.append(torch.where(together[:, number, number] >= LEAST_SHARE, distance.argmin(1), -1))
    return torch.stack(read, 1)
