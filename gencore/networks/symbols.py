"""What autoregressive networks read and are asked about: a grid of whole numbers, written row by row.

A symbol is a grey level, a square of black and white pixels, or a code of an autoencoder. Each network of this kind has two
ways in. ``forward(symbols, cond)`` takes a grid that is already written, and returns for every place at once what the symbols
before it say of its own: the parameters of a distribution, ``(B, outputs, size, size)``. ``incremental(symbols, cond)``
returns a function ``at(row, column) -> (B, outputs)`` that says the same of one place, having looked at no other than those
before it; it must be called for the places in turn, row by row, and reads `symbols` at the moment it is called, so that the
caller may write them in place. Of several channels at a place, each may depend on those before: such a network is asked again
for the same place after each has been written. It remembers what it computed of earlier places, which is what makes drawing affordable.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError

At = Callable[[int, int], Tensor]  # what `incremental` returns


@dataclass(frozen=True)
class Grid:
    """What is written, and what is told beforehand.

    Attributes
    ----------
    size : int
        Height and width of the grid.
    channels : int
        Symbols at each place: 3 for colours, else 1.
    levels : int
        How many values a symbol takes, from 0 on.
    outputs : int, optional
        How many numbers the network returns for each place; by default one for each value of each channel, the logits of
        a categorical distribution.
    named : bool
        Whether symbols are names, whose order means nothing, as those of codes: the network then learns a vector for each.
        Otherwise they are amounts, such as grey levels.
    conditions : tuple of int
        For each condition, how many values it has: ``(10,)`` for the classes of digits. Empty: nothing is told.
    """

    size: int = 28
    channels: int = 1
    levels: int = 2
    outputs: int | None = None
    named: bool = False
    conditions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("size", "channels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.levels < 2:
            raise InputError(f"levels {self.levels}: a symbol takes at least 2 values")
        if self.outputs is not None and self.outputs < 1:
            raise InputError(f"outputs {self.outputs}: must be 1 or more")
        if any(count < 1 for count in self.conditions):
            raise InputError(f"conditions {self.conditions}: each has at least one value")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one grid of symbols."""
        return self.channels, self.size, self.size

    @property
    def numbers(self) -> int:
        """How many numbers the network returns for each place."""
        return self.levels * self.channels if self.outputs is None else self.outputs


class SymbolEmbedding(nn.Module):
    """Turn symbols into what convolutions can work on.

    Parameters
    ----------
    grid : Grid
        What symbols are.
    width : int
        Length of the vector for each symbol, if they are names.

    Attributes
    ----------
    channels : int
        Channels that come out: those of the grid, or as many vectors of `width`.
    """

    def __init__(self, grid: Grid, width: int) -> None:
        super().__init__()
        self.grid = grid
        self.table = nn.Embedding(grid.levels, width) if grid.named else None
        self.channels = grid.channels * (width if grid.named else 1)
        self.register_buffer("low", torch.tensor(-1.0), persistent=False)  # knows the number format of the network

    def forward(self, symbols: Tensor) -> Tensor:
        """Return ``(B, channels, H, W)`` for symbols ``(B, C, H, W)``: amounts in [-1, 1], or vectors.

        Amounts may be given as floats, to differentiate by them.
        """
        if self.table is None:
            amounts = symbols if symbols.is_floating_point() else symbols.to(self.low)
            return amounts * (2 / (self.grid.levels - 1)) + self.low
        return self.table(symbols).movedim(-1, 2).flatten(1, 2)  # (B, C * width, H, W)


def check_symbols(grid: Grid, symbols: Tensor) -> None:
    """Raise `InputError` unless symbols have the shape of the grid, ``(B, C, H, W)``."""
    if symbols.dim() != 4 or tuple(symbols.shape[1:]) != grid.shape:
        raise InputError(f"symbols of shape {tuple(symbols.shape[1:])}: this network takes {grid.shape}")
