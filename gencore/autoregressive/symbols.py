"""Pixels as symbols, and back."""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.errors import InputError


@dataclass(frozen=True)
class Pixels:
    """Each pixel's level is a symbol, or each square of pixels is one.

    The chain rule holds for any order and any grouping. Squares of black and white pixels keep networks small: a square of
    2x2 is one of 16 symbols, and there is a quarter as many to write.

    Attributes
    ----------
    levels : int
        Grey levels that are told apart: 2 for black and white, 256 for all.
    block : int
        Side of the square that makes one symbol; above 1, of ``levels ** block**2`` symbols.
    """

    levels: int = 256
    block: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.levels <= 256:
            raise InputError(f"levels {self.levels}: a pixel has 2 to 256")
        if not 1 <= self.block <= 4 or self.values > 65_536:  # 4 x 4 pixels of 2 levels; beyond, one cannot even count
            raise InputError(f"block {self.block}: 1 or more, but symbols, levels ** block**2, are at most 65,536")

    @property
    def values(self) -> int:
        """How many values a symbol takes."""
        return self.levels ** self.block**2

    def write(self, x: Tensor) -> Tensor:
        """Return symbols, int64 ``(B, C, H / block, W / block)``, of pictures ``(B, C, H, W)`` in [-1, 1]."""
        level = ((x + 1) * ((self.levels - 1) / 2)).round().long()
        b, c, height, width = level.shape
        squares = level.view(b, c, height // self.block, self.block, width // self.block, self.block)
        squares = squares.permute(0, 1, 3, 5, 2, 4).flatten(2, 3)  # (B, C, block^2, h, w)
        return (squares * self._worth(x.device)).sum(2)

    def read(self, symbols: Tensor) -> Tensor:
        """Return pictures, float32 ``(B, C, H, W)``, of such symbols."""
        digits = symbols[:, :, None] // self._worth(symbols.device) % self.levels  # (B, C, block^2, h, w)
        b, c, _, height, width = digits.shape
        squares = digits.view(b, c, self.block, self.block, height, width).permute(0, 1, 4, 2, 5, 3)
        return squares.reshape(b, c, height * self.block, width * self.block) * (2 / (self.levels - 1)) - 1

    def _worth(self, device: torch.device) -> Tensor:
        """Return what a level counts at each place of a square, ``(block^2, 1, 1)``."""
        return (self.levels ** torch.arange(self.block**2, device=device))[:, None, None]
