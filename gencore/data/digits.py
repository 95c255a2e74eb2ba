"""The first 10,000 training digits of MNIST (LeCun et al. 1998), 28x28 grey, white on black.

In MNIST's own order: the first 9,000 are for training, the last 1,000 are held out. No two of the digits are equal.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.resize import area_resize
from gencore.data.root import ASSETS
from gencore.errors import InputError
from gencore.integrity import check_file

HELD_OUT = slice(9_000, 10_000)


@dataclass(frozen=True)
class Digits:
    """Handwritten digits.

    Attributes
    ----------
    size : int
        28, or smaller: each pixel then is the mean of the area it covers (of 2x2 originals at 14).
    """

    size: int = 28
    channels: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not 4 <= self.size <= 28:
            raise InputError(f"size {self.size}: digits come at 4 to 28 pixels")

    def load(self, split: Split) -> ImageSet:
        """Return 9,000 digits to train on or 1,000 held out; labels and classes are the digits' values.

        Raises
        ------
        InputError
            If the file that ships with gencore is missing or altered.
        """
        check_split(split)
        with np.load(check_file(ASSETS / "digits.npz"), allow_pickle=False) as file:
            part = slice(0, HELD_OUT.start) if split == "train" else HELD_OUT
            images = torch.from_numpy(file["images"][part])[:, None]  # (N, 1, 28, 28)
            labels = torch.from_numpy(file["labels"][part]).long()
        return ImageSet(f"digits/{split}", area_resize(images, self.size), labels, tuple("0123456789"))
