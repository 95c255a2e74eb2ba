"""A user's picture as a captioner takes it: of any size and form, kept whole."""

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from gencore.data import to_uint8
from gencore.data.shapes import BACKGROUND
from gencore.errors import InputError

_ALIKE = 12  # grey levels by which pixels of a margin may differ: JPEG's noise
_SCENE = 4  # and by which a scene's edge may differ from the background of shapes, which is nearly white ...
_SHARE = 0.9  # ... in so many of its pixels: objects keep away from it
_FRAME = 1 / 32  # how much of a side an emoji's margin takes, as in the pictures that were learned from


def fit_whole(image: Tensor, size: int, trim: bool = False) -> Tensor:
    """Make a picture square by adding what its edge shows, in the size wanted; nothing is cut off or stretched.

    Parameters
    ----------
    image : Tensor
        uint8 ``(3, H, W)``.
    size : int
        Height and width wanted.
    trim : bool
        Whether to leave out a margin of one colour first, such as the empty sheet around a small drawing.

    Returns
    -------
    Tensor
        uint8 ``(3, size, size)``.

    Raises
    ------
    InputError
        If it is no such picture.
    """
    if image.dim() != 3 or image.shape[0] != 3 or image.dtype != torch.uint8 or not image.numel():
        raise InputError(f"image {image.dtype} {tuple(image.shape)}: must be uint8 (3, H, W), with at least one pixel")
    edge = margin(image)
    if trim and (inside := _inside(image, edge)) is not None:
        image = inside
    inner = size - 2 * round(size * _FRAME) if trim else size
    height, width = (max(1, round(inner * side / max(image.shape[1:]))) for side in image.shape[1:])
    x = interpolate(image[None].float() / 127.5 - 1, size=(height, width), mode="bilinear", antialias=True)[0]
    above, left = (size - height) // 2, (size - width) // 2
    square = (edge / 127.5 - 1)[:, None, None].repeat(1, size, size)
    square[:, above : above + height, left : left + width] = x
    return to_uint8(square)


def margin(image: Tensor) -> Tensor:
    """Return the colour of a picture's edge, the median of its outermost pixels: float32 ``(3,)`` from 0 to 255."""
    return _edge(image).median(1).values


def is_scene(image: Tensor) -> bool:
    """Whether a picture, uint8 ``(3, H, W)``, has the background of `gencore.data.shapes` at its edge."""
    alike = (_edge(image) - torch.tensor(BACKGROUND)[:, None]).abs() <= _SCENE  # (3, pixels)
    return alike.all(0).float().mean().item() >= _SHARE


def _edge(image: Tensor) -> Tensor:
    """Return a picture's outermost pixels, float32 ``(3, pixels)``."""
    return torch.cat([image[:, 0], image[:, -1], image[:, :, 0], image[:, :, -1]], 1).float()


def _inside(image: Tensor, edge: Tensor) -> Tensor | None:
    """Return the smallest rectangle that holds all that differs from the edge's colour; None if nothing does."""
    differs = ((image.float() - edge[:, None, None]).abs() > _ALIKE).any(0)  # (H, W)
    rows, columns = differs.any(1).nonzero()[:, 0], differs.any(0).nonzero()[:, 0]
    if not len(rows):
        return None
    return image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
