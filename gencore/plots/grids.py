"""Grids of images, pixel by pixel: generated images are small, and a blurred grid hides what a network draws."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gencore.data.image_set import to_uint8
from gencore.errors import InputError

if TYPE_CHECKING:  # training saves grids without loading Matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def tile(images: Tensor, columns: int, *, scale: int = 1, gap: int = 0) -> np.ndarray:
    """Lay images out in rows, on white.

    Parameters
    ----------
    images : Tensor
        ``(N, C, H, W)``, one or three channels, uint8 or floats in [-1, 1] (values outside are clamped).
    columns : int
        Images in a row; the last row may be shorter.
    scale : int
        Side in pixels of the square that shows one pixel of an image.
    gap : int
        White pixels between neighbouring images.

    Returns
    -------
    ndarray
        uint8, ``(height, width)`` for one channel and ``(height, width, 3)`` for three.

    Raises
    ------
    InputError
        If the images have another shape or type, or a size is not positive.
    """
    images = torch.as_tensor(images).detach().cpu()
    if images.ndim != 4 or images.shape[1] not in (1, 3) or 0 in images.shape:
        raise InputError(f"images: expected shape (N, 1 or 3, H, W), got {tuple(images.shape)}")
    if images.is_floating_point():
        images = to_uint8(images.float())
    if images.dtype != torch.uint8:
        raise InputError(f"images: expected uint8, or floats in [-1, 1], got {images.dtype}")
    if columns < 1 or scale < 1 or gap < 0:
        raise InputError(
            f"grid: columns and scale must be at least 1 and gap at least 0; got {columns}, {scale} and {gap}"
        )
    count, channels, height, width = images.shape
    height, width = height * scale + gap, width * scale + gap  # of a cell, with the gap after it
    rows, columns = -(-count // columns), min(columns, count)
    images = images.repeat_interleave(scale, 2).repeat_interleave(scale, 3)
    page = torch.full((rows * columns, channels, height, width), 255, dtype=torch.uint8)
    page[:count, :, : height - gap, : width - gap] = images
    page = page.view(rows, columns, channels, height, width).permute(0, 3, 1, 4, 2)  # (rows, H, columns, W, C)
    page = page.reshape(rows * height, columns * width, channels)[: rows * height - gap, : columns * width - gap]
    return (page[:, :, 0] if channels == 1 else page).numpy()


def save_grid(
    path: Path | str, images: Tensor, columns: int, *, scale: int = 1, gap: int = 0, colours: int | None = None
) -> None:
    """Write images as one PNG that shows every pixel as it is.

    Parameters
    ----------
    path : Path or str
        The file to write.
    images, columns, scale, gap
        As in `tile`.
    colours : int, optional
        Write a palette of at most so many colours (2 to 256) instead: smaller, no longer exact.
    """
    page = Image.fromarray(tile(images, columns, scale=scale, gap=gap))
    if colours is not None:
        page = with_palette(page, colours)
    page.save(path, "PNG", optimize=True)


def with_palette(page: Image.Image, colours: int) -> Image.Image:
    """Return a picture in at most so many colours (2 to 256), which makes its file smaller."""
    return page.convert("RGB").quantize(colours, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)


def image_grid(images: Tensor, columns: int, *, scale: int = 2, gap: int = 1, ax: "Axes | None" = None) -> "Axes":
    """Draw images as a grid without blur.

    Parameters
    ----------
    images, columns, gap
        As in `tile`.
    scale : int
        Side in pixels of the square that shows one pixel of an image, in a figure made for the grid. In axes that are
        given, their size decides instead.
    ax : Axes, optional
        Where to draw; by default in a new figure that just holds the grid.

    Returns
    -------
    Axes
        The axes, without frame and ticks.
    """
    page = tile(images, columns, scale=scale, gap=gap)
    if ax is None:
        height, width = page.shape[:2]
        figure = _plain_figure()
        figure.set_size_inches(width / figure.dpi, height / figure.dpi)
        ax = figure.add_axes((0, 0, 1, 1))
    _show(ax, page)
    return ax


def labelled_rows(
    rows: Mapping[str, Tensor],
    *,
    columns: int | None = None,
    titles: Sequence[str] = (),
    scale: int = 2,
    gap: int = 1,
    space: int = 6,
) -> "Figure":
    """Draw one grid under the other, each with its label at the left.

    Made for replays (samples of the same noise after more and more training images) and comparisons of models.

    Parameters
    ----------
    rows : mapping of str to Tensor
        Labels and images, from top to bottom; each ``(N, C, H, W)`` as in `tile`.
    columns : int, optional
        Images in a line; by default all images of a row stand in one line.
    titles : sequence of str
        What stands above the images of the first line, from the left.
    scale, gap
        As in `tile`.
    space : int
        Pixels between one grid and the next.

    Returns
    -------
    Figure
        A new figure that just holds the labels and grids.

    Raises
    ------
    InputError
        If there are no rows, images that `tile` does not take, or more titles than images in the first line.
    """
    if not rows:
        raise InputError("rows: there is nothing to draw")
    in_line = columns or len(next(iter(rows.values())))
    if len(titles) > in_line:
        raise InputError(f"titles: {len(titles)} of them, above {in_line} images")
    pages = [tile(images, columns or len(images), scale=scale, gap=gap) for images in rows.values()]
    figure = _plain_figure()
    labels = [figure.text(0, 0, label, ha="right", va="center") for label in rows]
    # the widest label and half a letter's height decide where the grids begin, in whole pixels
    left = int(np.ceil(max(label.get_window_extent().width for label in labels) + labels[0].get_fontsize() / 2))
    width = left + max(page.shape[1] for page in pages)
    top = sum(page.shape[0] for page in pages) + space * (len(pages) - 1)
    heads = [figure.text(0, 0, title, ha="center", va="bottom") for title in titles]
    height = top + int(np.ceil(max((head.get_window_extent().height for head in heads), default=0)))
    figure.set_size_inches(width / figure.dpi, height / figure.dpi)
    side = pages[0].shape[1] / in_line
    for number, head in enumerate(heads):
        head.set_position(((left + (number + 0.5) * side) / width, top / height))
    for page, label in zip(pages, labels):
        high, wide = page.shape[:2]
        _show(figure.add_axes((left / width, (top - high) / height, wide / width, high / height)), page)
        label.set_position(((left - label.get_fontsize() / 2) / width, (top - high / 2) / height))
        top -= high + space
    return figure


def _plain_figure() -> "Figure":
    """Return a new figure whose axes stay where they are put."""
    import matplotlib.pyplot as plt

    figure = plt.figure(layout="constrained")
    figure.set_layout_engine("none")  # leaves a placeholder; without one, saving brings back the default layout
    return figure


def _show(ax: "Axes", page: np.ndarray) -> None:
    if page.ndim == 2:
        page = np.repeat(page[:, :, None], 3, axis=2)  # a colour map would round grey levels
    ax.imshow(page, interpolation="nearest")
    ax.set_axis_off()
