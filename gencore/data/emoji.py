"""Emoji: 1,410 symbols in three drawing styles, 32x32 RGB on white, with names in English and Chinese.

Split by code point: a symbol is held out in all styles or in none, or else a network would meet in training what it is
judged on. A symbol is held out when a hash of its code points falls into one of ten bins.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from gencore.data.image_set import ImageSet, Split
from gencore.errors import InputError
from gencore.integrity import check_file

ASSETS = Path(__file__).parent / "assets"
COLUMNS = 40  # symbols in a row of the asset sheets
Style = Literal["noto", "twemoji", "fluent3d"]


@dataclass(frozen=True)
class Emoji:
    """Emoji in the styles asked for.

    Attributes
    ----------
    styles : tuple of {"noto", "twemoji", "fluent3d"}
        Drawing styles; images come style after style.
    size : int
        32, 16 or 8: below 32, each pixel is the mean of a block of the original.
    """

    styles: tuple[Style, ...] = ("noto", "twemoji", "fluent3d")
    size: int = 32
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        if self.size not in (32, 16, 8):
            raise InputError(f"size {self.size}: emoji come at 32, 16 or 8 pixels")
        if not self.styles:
            raise InputError("styles: name at least one of noto, twemoji, fluent3d")

    def load(self, split: Split) -> ImageSet:
        """Return a split; labels are categories, captions English names, ``meta`` has ``style, code, zh, tags, tags_zh``."""
        symbols = json.loads(check_file(ASSETS / "emoji.json").read_text("utf-8"))
        keep = [i for i, symbol in enumerate(symbols) if is_held_out(symbol["code"]) == (split == "heldout")]
        images = torch.cat([_cut(ASSETS / f"emoji_{style}.webp", len(symbols))[keep] for style in self.styles])
        if self.size != 32:
            images = interpolate(images.float(), size=(self.size, self.size), mode="area").round().to(torch.uint8)
        kept = [symbols[i] for i in keep] * len(self.styles)
        classes = tuple(sorted({symbol["category"] for symbol in symbols}))
        meta = {key: tuple(symbol[key] for symbol in kept) for key in ("code", "zh", "tags", "tags_zh")}
        meta["style"] = tuple(style for style in self.styles for _ in keep)
        return ImageSet(
            f"emoji/{split}",
            images,
            torch.tensor([classes.index(symbol["category"]) for symbol in kept]),
            classes,
            tuple(symbol["name"] for symbol in kept),
            meta,
        )


def is_held_out(code: str) -> bool:
    """Whether a symbol, named by its code points such as ``"1F600"``, belongs to the held-out tenth."""
    return hashlib.blake2b(code.encode()).digest()[0] % 10 == 0


def _cut(path: Path, count: int) -> torch.Tensor:
    """Cut a sheet of ``COLUMNS`` 32-pixel tiles a row into uint8 ``(count, 3, 32, 32)``."""
    with Image.open(check_file(path)) as file:
        sheet = torch.from_numpy(np.array(file.convert("RGB")))  # (rows * 32, COLUMNS * 32, 3)
    tiles = sheet.unflatten(0, (-1, 32)).unflatten(2, (COLUMNS, 32))  # (rows, 32, COLUMNS, 32, 3)
    return tiles.permute(0, 2, 4, 1, 3).flatten(0, 1)[:count].contiguous()
