"""Public-domain photographs and paintings: 77 photographs of 256 pixels on the shorter side, 8 by Vincent van Gogh.

Split by photograph: every eighth is held out. Patches are cut when the data are loaded, on a fixed grid.
"""

import functools
import io
import json
import zipfile
from collections.abc import Sequence
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


@functools.cache
def photos_of(split: Split) -> tuple[Picture, ...]:
    """Return the whole photographs of a split of `Photos`; they are decoded once and then shared."""
    check_split(split)
    return tuple(each for place, each in enumerate(photographs()) if (place % EVERY == FIRST) == (split == "heldout"))


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


class Squares:
    """Whole pictures on a device, as bytes, out of which squares are cut at any place.

    Parameters
    ----------
    pictures : sequence of Tensor
        uint8 ``(3, H, W)``, of any sizes.
    size : int
        Side of the squares.
    device : torch.device or str
        Where the pictures live.

    Raises
    ------
    InputError
        If there are none, or one is smaller than the squares.
    """

    def __init__(self, pictures: Sequence[Tensor], size: int, device: torch.device | str = "cpu") -> None:
        if not pictures:
            raise InputError("photographs: there are none to learn from")
        if small := [tuple(each.shape[1:]) for each in pictures if min(each.shape[1:]) < size]:
            raise InputError(f"a photograph of {small[0][0]}x{small[0][1]} pixels: smaller than the squares of {size}")
        pixels = [each.flatten(1).T for each in pictures]  # (H W, 3)
        lengths = torch.tensor([len(each) for each in pixels])
        self._size, self._pixels = size, torch.cat(pixels).contiguous().to(device)
        self._first = (lengths.cumsum(0) - lengths).to(device)  # where each picture begins
        self._height, self._width = torch.tensor([each.shape[1:] for each in pictures]).to(device).unbind(1)
        self._side = torch.arange(size, device=device)

    def __len__(self) -> int:
        return len(self._first)

    def cut(self, u: Tensor) -> Tensor:
        """Return squares, uint8 ``(B, 3, size, size)``, for uniform numbers ``(B, 3)``: which picture, row and column."""
        # Float32 has numbers below 1 that a large factor rounds up to it.
        which = (u[:, 0] * len(self)).long().clamp(max=len(self) - 1)  # (B,)
        height, width = self._height[which], self._width[which]
        top = (u[:, 1] * (height - self._size + 1)).long().minimum(height - self._size)
        left = (u[:, 2] * (width - self._size + 1)).long().minimum(width - self._size)
        rows = (top[:, None] + self._side) * width[:, None] + left[:, None] + self._first[which, None]  # (B, S)
        return self._pixels[rows[:, :, None] + self._side].permute(0, 3, 1, 2)  # (B, 3, S, S)


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
