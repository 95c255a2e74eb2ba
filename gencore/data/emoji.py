"""Emoji: 1,410 symbols in three drawing styles, 32x32 RGB on white, with names in English and Chinese.

Split by code point: a symbol is held out in all styles or in none, or else a network would meet in training what it is
judged on. A symbol is held out when a hash of its code points falls into one of ten bins (136 symbols of 1,410).
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.resize import area_resize
from gencore.data.root import ASSETS, data_root
from gencore.errors import InputError
from gencore.integrity import SUMS, check_file

COLUMNS = 40  # symbols in a row of the asset sheets
IN_NEITHER_SPLIT = ("1F63A",)  # grinning cat: held out by its hash, but Fluent draws it like 1F431, which is not
Style = Literal["noto", "twemoji", "fluent3d"]


@dataclass(frozen=True)
class Emoji:
    """Emoji in the styles asked for.

    Attributes
    ----------
    styles : tuple of {"noto", "twemoji", "fluent3d"}
        Drawing styles; images come style after style.
    size : int
        32, or smaller: each pixel then is the mean of the area it covers. 64 pixels do not ship: they are built by
        ``python tools/build_assets.py emoji64`` into the data folder (``$GENCORE_DATA`` or ``~/.cache/gencore/data``).
    """

    styles: tuple[Style, ...] = ("noto", "twemoji", "fluent3d")
    size: int = 32
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if not (8 <= self.size <= 32 or self.size == 64):
            raise InputError(f"size {self.size}: emoji come at 8 to 32 pixels, or at 64")
        if not self.styles or len(set(self.styles)) < len(self.styles):
            raise InputError("styles: name at least one of noto, twemoji, fluent3d, and none twice")

    def load(self, split: Split) -> ImageSet:
        """Return a split.

        Returns
        -------
        ImageSet
            Labels are the symbols' categories, captions their English names. ``meta`` holds ``code`` (code points),
            ``style``, ``zh`` (Chinese name), ``tags`` and ``tags_zh`` (tuples of words).

        Raises
        ------
        InputError
            If a file is missing or altered.
        """
        check_split(split)
        folder, side = ASSETS, 32
        if self.size == 64:
            folder, side = data_root() / "emoji64", 64
            if not (folder / SUMS).is_file():
                raise InputError(
                    f"{folder}: holds no emoji of 64 pixels; build them with 'python tools/build_assets.py emoji64' "
                    "in a clone of the book's repository, or take size=32"
                )
        symbols = json.loads(check_file(folder / "emoji.json").read_text("utf-8"))
        held_out = split == "heldout"
        keep = [
            place
            for place, symbol in enumerate(symbols)
            if is_held_out(symbol["code"]) == held_out and symbol["code"] not in IN_NEITHER_SPLIT
        ]
        images = torch.cat([_cut(folder / f"emoji_{style}.webp", side, len(symbols))[keep] for style in self.styles])
        kept = [symbols[place] for place in keep] * len(self.styles)
        classes = tuple(sorted({symbol["category"] for symbol in symbols}))
        meta = {key: tuple(symbol[key] for symbol in kept) for key in ("code", "zh")}
        meta |= {key: tuple(tuple(symbol[key]) for symbol in kept) for key in ("tags", "tags_zh")}
        meta["style"] = tuple(style for style in self.styles for _ in keep)
        return ImageSet(
            f"emoji/{split}",
            images if self.size == side else area_resize(images, self.size),
            torch.tensor([classes.index(symbol["category"]) for symbol in kept]),
            classes,
            tuple(symbol["name"] for symbol in kept),
            meta,
        )


def is_held_out(code: str) -> bool:
    """Whether a symbol, named by its code points such as ``"1F600"``, belongs to the held-out tenth."""
    return hashlib.blake2b(code.encode()).digest()[0] % 10 == 0


def _cut(path: Path, side: int, count: int) -> Tensor:
    """Cut a sheet of ``COLUMNS`` tiles a row into uint8 ``(count, 3, side, side)``."""
    with Image.open(check_file(path)) as file:
        sheet = torch.from_numpy(np.array(file.convert("RGB")))  # (rows * side, COLUMNS * side, 3)
    tiles = sheet.unflatten(0, (-1, side)).unflatten(2, (COLUMNS, side))  # (rows, side, COLUMNS, side, 3)
    return tiles.permute(0, 2, 4, 1, 3).flatten(0, 1)[:count].contiguous()
