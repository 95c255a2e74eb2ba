"""A data set in memory: uint8 images and what is known about each."""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from gencore.errors import InputError

Split = Literal["train", "heldout"]


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Images with labels and captions.

    Attributes
    ----------
    name : str
        Such as ``"digits/train"``.
    images : Tensor
        uint8 ``(N, C, H, W)``.
    labels : Tensor
        int64 ``(N,)``, indices into ``classes``; all zero where there are no classes.
    classes : tuple of str
        Names of the classes.
    captions : tuple of str
        One for each image, or none at all.
    meta : dict of str to tuple
        Further facts, one tuple entry for each image.
    """

    name: str
    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    captions: tuple[str, ...] = ()
    meta: dict[str, tuple] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, index: Tensor) -> "ImageSet":
        """Return the images with these indices, in this order; ``index`` is int64 ``(M,)`` or bool ``(N,)``."""
        index = torch.arange(len(self))[index]
        pick = index.tolist()
        return ImageSet(
            self.name,
            self.images[index],
            self.labels[index],
            self.classes,
            tuple(self.captions[i] for i in pick) if self.captions else (),
            {key: tuple(values[i] for i in pick) for key, values in self.meta.items()},
        )


def check_split(split: str) -> None:
    """Raise `InputError` unless the name of a split is one of the two that every data set has."""
    if split not in ("train", "heldout"):
        raise InputError(f"split is {split!r}; choose 'train' or 'heldout'")


def to_float(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 in [-1, 1], any shape."""
    return images.float() / 127.5 - 1


def to_uint8(images: Tensor) -> Tensor:
    """Map floats in [-1, 1] to the nearest uint8, any shape; values outside are clamped."""
    return (images.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
