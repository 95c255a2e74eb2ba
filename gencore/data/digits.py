"""The first 10,000 training digits of MNIST (LeCun et al. 1998), 28x28 grey, white on black.

In MNIST's own order: the first 9,000 are for training, the last 1,000 are held out.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch.nn.functional import interpolate

from gencore.data.image_set import ImageSet, Split
from gencore.errors import InputError
from gencore.integrity import check_file

ASSET = Path(__file__).parent / "assets" / "digits.npz"
HELD_OUT = slice(9_000, 10_000)


@dataclass(frozen=True)
class Digits:
    """Handwritten digits.

    Attributes
    ----------
    size : int
        28, or 14 or 7: each pixel then is the mean of a block of the original.
    """

    size: int = 28
    channels: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.size not in (28, 14, 7):
            raise InputError(f"size {self.size}: digits come at 28, 14 or 7 pixels")

    def load(self, split: Split) -> ImageSet:
        """Return a split: 9,000 digits to train on or 1,000 held out; labels and classes are the digits' values."""
        with np.load(check_file(ASSET), allow_pickle=False) as file:
            part = slice(0, HELD_OUT.start) if split == "train" else HELD_OUT
            images = torch.from_numpy(file["images"][part])[:, None]  # (N, 1, 28, 28)
            labels = torch.from_numpy(file["labels"][part]).long()
        if self.size != 28:
            images = interpolate(images.float(), size=(self.size, self.size), mode="area").round().to(torch.uint8)
        return ImageSet(f"digits/{split}", images, labels, tuple("0123456789"))
