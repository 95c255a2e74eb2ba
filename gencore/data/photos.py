"""Public-domain photographs and paintings: 77 photographs of 256 pixels on the shorter side, 8 by Vincent van Gogh.

Split by photograph: every eighth is held out. Patches are cut when the data are loaded, on a fixed grid.
"""

import io
import json
import zipfile
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.pictures import read_picture, to_tensor
from gencore.data.root import ASSETS
from gencore.errors import InputError
from gencore.integrity import check_file

EVERY, FIRST = 8, 4  # photographs 4, 12, 20, ... are held out


@dataclass(frozen=True, eq=False)
class Picture:
    """A whole picture and where it comes from.

    Attributes
    ----------
    title : str
        What it shows.
    image : Tensor
        uint8 ``(3, H, W)``.
    author, license, source : str
        Who made it, under which licence it is, and the address it was taken from (empty if unknown).
    """

    title: str
    image: Tensor
    author: str
    license: str
    source: str


def photographs() -> tuple[Picture, ...]:
    """Return the 77 photographs, 256 pixels on the shorter side; those with numbers 4, 12, 20, ... are held out."""
    return _read_gallery("photos.zip")


def paintings() -> tuple[Picture, ...]:
    """Return eight paintings by Vincent van Gogh, 500 pixels high."""
    return _read_gallery("paintings.zip")


@dataclass(frozen=True)
class Photos:
    """Square patches of the photographs.

    The grid's step is half a patch in training and a whole patch in the held-out split; the last row and column are
    moved inwards, so that the whole photograph is covered.

    Attributes
    ----------
    size : int
        Side of a patch in pixels, 16 to 256.
    """

    size: int = 64
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 256:
            raise InputError(f"size {self.size}: patches of photographs come at 16 to 256 pixels")

    def load(self, split: Split) -> ImageSet:
        """Return the patches of a split; labels say from which photograph, classes and captions are its title.

        Raises
        ------
        InputError
            If the file that ships with gencore is missing or altered.
        """
        check_split(split)
        step = self.size // 2 if split == "train" else self.size
        pictures = photographs()
        patches, labels = [], []
        for place, picture in enumerate(pictures):
            if (place % EVERY == FIRST) == (split == "heldout"):
                cut = cut_patches(picture.image, self.size, step)
                patches.append(cut)
                labels += [place] * len(cut)
        titles = tuple(picture.title for picture in pictures)
        captions = tuple(titles[place] for place in labels)
        return ImageSet(f"photos/{split}", torch.cat(patches), torch.tensor(labels), titles, captions)


def cut_patches(image: Tensor, size: int, step: int) -> Tensor:
    """Cut patches on a grid that covers the image: ``(C, H, W)`` to ``(N, C, size, size)``."""
    rows, columns = (starts(length, size, step) for length in image.shape[1:])
    return torch.stack([image[:, y : y + size, x : x + size] for y in rows for x in columns])


def starts(length: int, size: int, step: int) -> list[int]:
    """Return where patches begin along one side; the last one ends at the end."""
    last = length - size
    return [*range(0, last, step), last]


def _read_gallery(name: str) -> tuple[Picture, ...]:
    with zipfile.ZipFile(check_file(ASSETS / name)) as file:
        index = json.loads(file.read("index.json"))
        return tuple(
            Picture(
                facts["title"],
                to_tensor(read_picture(io.BytesIO(file.read(facts["file"])), f"{name}/{facts['file']}")),
                facts["author"],
                facts["license"],
                facts["source"],
            )
            for facts in index
        )
