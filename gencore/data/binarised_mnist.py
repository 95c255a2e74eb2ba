"""MNIST binarised once and for all, as Larochelle & Murray 2011 published it for comparing likelihoods.

"The neural autoregressive distribution estimator", https://proceedings.mlr.press/v15/larochelle11a.html; each pixel was
drawn with the digit's grey level as the probability of white (Salakhutdinov & Murray 2008).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.root import data_root
from gencore.errors import InputError

ADDRESS = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
FILES = {"train": ("binarized_mnist_train.amat", 50_000), "heldout": ("binarized_mnist_test.amat", 10_000)}
ZERO, ONE, SPACES = ord("0"), ord("1"), tuple(b" \t\r\n")


@dataclass(frozen=True)
class BinarisedMnist:
    """50,000 binary digits to train on, 10,000 held out, 28x28; their classes are not in the files.

    Nothing is downloaded: the server gives no checksum.

    Attributes
    ----------
    root : str or None
        Folder for data sets; None is ``$GENCORE_DATA`` or else ``~/.cache/gencore/data``. The files, text with a line
        of 784 zeros and ones for each digit, lie in ``BinarisedMNIST`` below it.
    """

    root: str | None = None
    size: ClassVar[int] = 28
    channels: ClassVar[int] = 1

    def load(self, split: Split) -> ImageSet:
        """Return a split, black and white as 0 and 255; `InputError` if its file is missing or not whole."""
        check_split(split)
        file, count = FILES[split]
        path = data_root(self.root) / "BinarisedMNIST" / file
        images = torch.from_numpy(255 * _read(path, count)).view(count, 1, self.size, self.size)
        return ImageSet(f"binarised-mnist/{split}", images, torch.zeros(count, dtype=torch.int64), ("digit",))


def _read(path: Path, count: int) -> np.ndarray:
    """Return the zeros and ones of a text file, uint8 ``(count * 784,)``."""
    try:
        text = np.frombuffer(path.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); fetch it from {ADDRESS}/{path.name}") from None
    bits = text[(text == ZERO) | (text == ONE)]
    if len(bits) != count * 784 or len(bits) + np.isin(text, SPACES).sum() != len(text):
        raise InputError(f"{path}: is not {count:,} lines of 784 zeros and ones; fetch it anew from {ADDRESS}/{path.name}")
    return bits - ZERO
