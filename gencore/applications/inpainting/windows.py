"""Filling holes in pictures of any size with a network that was trained on small ones.

The network looks at a square around the hole, reduced to the size that it was trained on, and fills that. Then the square is
halved, and the hole is drawn again in smaller squares, each begun from what is there already with half of the noise on it
(`gencore.applications.editing.sdedit`), until a pixel of the network is a pixel of the picture. What one square has drawn
is known to the next. Only pixels of the hole are ever changed.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from gencore.applications.editing.drawings import sdedit
from gencore.applications.palette import Holes, Networks, PaletteRecipe, guided, to_picture
from gencore.data import to_float, to_uint8
from gencore.data.resize import overlaps
from gencore.diffusion.sampling import sampler
from gencore.errors import InputError
from gencore.training import rng

STRENGTH = 0.6  # of the noise from which finer squares begin
AROUND = 2.0  # side of the first square, in units of the longer side of the hole
SHIFT = 0.625  # from one square to the next, in sides: where they overlap, the second sees what the first drew
MOST_SQUARES = 400  # beyond, a hole stays as coarse as it is
GRAIN = 128  # cells along the longer side of a picture, on which separate holes are told apart


class Window(NamedTuple):
    """A square of a picture, which may stick out: its corner and its side in pixels."""

    top: int
    left: int
    side: int


class Square(NamedTuple):
    """A square to be filled, the number of the hole that it belongs to, and how often the first one was halved."""

    window: Window
    hole: int
    level: int


@torch.inference_mode()
def fill(
    model: tuple[Networks, PaletteRecipe],
    image: Tensor,
    hole: Tensor,
    seed: int = 0,
    number: int = 0,
    watch: Callable[[Sequence], Iterable] = iter,
) -> Tensor:
    """Fill the holes of a picture.

    Parameters
    ----------
    model : tuple of Networks and PaletteRecipe
        A network trained for `Holes`, such as the zoo's ``inpaint_photos``.
    image : Tensor
        uint8 ``(3, H, W)`` of any size; what stands in the hole does not matter.
    hole : Tensor
        bool ``(H, W)``, True where the picture is to be filled.
    seed, number : int
        Which series of fills, and which of the series.
    watch : callable
        Given the list of squares, returns them one by one; a progress bar, for instance.

    Returns
    -------
    Tensor
        uint8 ``(3, H, W)``, on the CPU; outside the hole the very bytes of ``image``.

    Raises
    ------
    InputError
        If the model was not trained for holes, the mask has another size, covers nothing or all, or the channels differ.
    """
    (network,), recipe = model
    if not isinstance(recipe.task, Holes):
        raise InputError(f"model: was trained for {type(recipe.task).__name__}; filling needs one trained for Holes")
    check_hole(image, hole, recipe.network.channels)
    device, size = next(network.parameters()).device, recipe.data.size
    canvas, finished = to_float(image).to(device), ~hole.to(device)
    known, before = finished, Square(Window(0, 0, 0), 0, 0)
    for counter, square in enumerate(watch(plan(hole, size))):
        window, coarse = square.window, square.level == 0
        if square.hole != before.hole:
            finished = known  # the last squares of a hole have drawn all of it
        if (square.hole, square.level) != (before.hole, before.level) or not counter:
            known = finished.clone()  # what coarser squares drew is a sketch
        before = square
        patch, missing = cut(canvas, known, window, size)
        generator = rng.generator(seed, number, f"square {counter}")  # on the CPU: the same on every device

        def fresh(step: int = 0, shape: tuple[int, ...] = (1, *patch.shape), stream: torch.Generator = generator) -> Tensor:
            return torch.randn(shape, generator=stream).to(device)

        eps = fresh()
        seen = recipe.task.show_hole(patch[None], missing[None])
        rough = torch.zeros_like(eps) if coarse else cut(canvas, torch.ones_like(known), window, size)[0][None]
        strength = 1.0 if coarse else STRENGTH
        how = recipe.sampling
        drawn = sdedit(guided(model, seen), recipe.process, rough, strength, eps, how.steps, sampler=sampler(how, fresh))
        paste(canvas, to_picture(recipe.task, drawn, seen)[0], window, ~known)
        rows, columns, _, _ = _overlap(window, *hole.shape)
        known[rows, columns] = True
    return torch.where(hole, to_uint8(canvas).cpu(), image)


def check_hole(image: Tensor, hole: Tensor, channels: int = 3) -> None:
    """Raise `InputError` unless a picture ``(channels, H, W)`` can be filled in a hole, bool ``(H, W)``."""
    if image.ndim != 3 or image.shape[0] != channels or image.dtype != torch.uint8:
        raise InputError(f"picture {tuple(image.shape)}, {image.dtype}: must be uint8 of shape ({channels}, H, W)")
    if hole.shape != image.shape[1:] or hole.dtype != torch.bool:
        raise InputError(f"mask {tuple(hole.shape)}, {hole.dtype}: must be bool and as large as the picture, {image.shape[1:]}")
    if not hole.any():
        raise InputError("mask: covers nothing, so that there is nothing to fill; paint white what is to be filled")
    if hole.all():
        raise InputError("mask: covers the whole picture, of which something must be known; paint black what is to stay")


def plan(hole: Tensor, size: int) -> list[Square]:
    """Return the squares to be filled, one after the other.

    Parameters
    ----------
    hole : Tensor
        bool ``(H, W)``.
    size : int
        Side of the network's pictures.
    """
    height, width = hole.shape
    squares: list[Square] = []
    for number, (top, left, bottom, right) in enumerate(boxes(hole)):
        longer = max(bottom - top, right - left)
        side = max(math.ceil(AROUND * longer), min(size, max(height, width)))
        # A square that holds the hole and does not stick out, if that leaves something to be seen around the hole.
        side = max(min(side, height, width), math.ceil(1.25 * longer) if longer > 0.8 * min(height, width) else 0)
        first = Window(_begin(top, bottom, side, height), _begin(left, right, side, width), side)
        levels = [[first]]
        while (side := max(size, side // 2)) < levels[-1][0].side and levels[-1][0].side > 1.5 * size:
            finer = list(_tile(hole, top, left, bottom, right, side))
            if len(finer) > MOST_SQUARES:
                break
            levels.append(finer)
        squares += [Square(window, number, level) for level, windows in enumerate(levels) for window in windows]
    return squares


def boxes(hole: Tensor) -> list[tuple[int, int, int, int]]:
    """Return a box around each separate hole: top, left, bottom and right, the last two beyond it.

    The boxes are as exact as the cells on which holes are told apart; neighbouring cells count as one hole.
    """
    height, width = hole.shape
    cell = math.ceil(max(height, width) / GRAIN)
    coarse = max_pool2d(hole[None, None].float(), cell, ceil_mode=True)  # (1, 1, h, w)
    mask = max_pool2d(coarse, 3, stride=1, padding=1)
    label = torch.arange(1.0, mask.numel() + 1).view_as(mask) * mask
    while not torch.equal(flooded := max_pool2d(label, 3, stride=1, padding=1) * mask, label):
        label = flooded  # the largest number floods its component
    label, found = (label * coarse)[0, 0], []  # (h, w)
    for each in label.unique().tolist():
        if each:
            rows, columns = (label == each).nonzero(as_tuple=True)
            top, left = int(rows.min()) * cell, int(columns.min()) * cell
            found.append((top, left, min(int(rows.max() + 1) * cell, height), min(int(columns.max() + 1) * cell, width)))
    return sorted(found)


def cut(canvas: Tensor, known: Tensor, window: Window, size: int) -> tuple[Tensor, Tensor]:
    """Return a square at the network's size, and where something is missing in it.

    Parameters
    ----------
    canvas : Tensor
        The picture, ``(C, H, W)``.
    known : Tensor
        bool ``(H, W)``. A pixel of the result is the mean of the known pixels in its area.
    window : Window
        The square; what sticks out is missing.
    size : int
        Side of the result.

    Returns
    -------
    patch, missing : Tensor
        ``(C, size, size)``, and float ``(1, size, size)``: 1 where not all of the area is known.
    """
    rows, columns, own_rows, own_columns = _overlap(window, *known.shape)
    square = canvas.new_zeros(len(canvas), window.side, window.side)
    there = canvas.new_zeros(1, window.side, window.side)
    square[:, own_rows, own_columns] = canvas[:, rows, columns]
    there[:, own_rows, own_columns] = known[rows, columns].to(canvas)
    share = overlaps(window.side, size).to(canvas)  # (size, side)
    weight = share @ there @ share.T  # (1, size, size)
    patch = share @ (square * there) @ share.T / weight.clamp(min=1e-6)
    return patch.clamp(-1, 1), (weight < 1 - 1e-4).to(canvas)


def paste(canvas: Tensor, patch: Tensor, window: Window, where: Tensor) -> None:
    """Lay a square, at the network's size, over the picture in place, where ``where``, bool ``(H, W)``, is True."""
    rows, columns, own_rows, own_columns = _overlap(window, *where.shape)
    smaller = window.side < patch.shape[1]
    large = interpolate(patch[None], size=(window.side,) * 2, mode="bicubic", antialias=smaller)[0].clamp(-1, 1)
    canvas[:, rows, columns] = torch.where(where[rows, columns], large[:, own_rows, own_columns], canvas[:, rows, columns])


def _overlap(window: Window, height: int, width: int) -> tuple[slice, slice, slice, slice]:
    """Return the rows and columns of the picture that a square covers, and the same in the square's own count."""
    top, left = max(window.top, 0), max(window.left, 0)
    bottom, right = min(window.top + window.side, height), min(window.left + window.side, width)
    own_rows = slice(top - window.top, bottom - window.top)
    return slice(top, bottom), slice(left, right), own_rows, slice(left - window.left, right - window.left)


def _begin(first: int, last: int, side: int, length: int) -> int:
    """Return where a stretch of this side begins that has ``first`` to ``last`` in its middle, within 0 to ``length`` if it can."""
    middle = (first + last - side) // 2
    return (length - side) // 2 if side > length else min(max(middle, 0), length - side)


def _tile(hole: Tensor, top: int, left: int, bottom: int, right: int, side: int) -> Iterator[Window]:
    """Yield overlapping squares that cover a box, row by row, but for those without a hole in them."""
    height, width = hole.shape
    margin = round(side * (1 - SHIFT) / 2)  # what is around the hole is to be seen
    for y in _steps(top - margin, bottom + margin, side):
        for x in _steps(left - margin, right + margin, side):
            y0, x0 = (min(max(place, 0), max(0, length - side)) for place, length in ((y, height), (x, width)))
            window = Window(y0, x0, side)
            rows, columns, _, _ = _overlap(window, height, width)
            if hole[rows, columns].any():
                yield window


def _steps(first: int, last: int, side: int) -> list[int]:
    """Return where squares begin that cover a stretch evenly, overlapping by a share of at least ``1 - SHIFT``."""
    count = max(1, math.ceil((last - first - side) / (SHIFT * side)) + 1)
    if count == 1:
        return [(first + last - side) // 2]
    return [first + round(number * (last - first - side) / (count - 1)) for number in range(count)]
