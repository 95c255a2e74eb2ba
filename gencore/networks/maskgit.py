"""MaskGIT's network: Chang et al. 2022, "MaskGIT: masked generative image transformer".

https://arxiv.org/abs/2202.04200, section 3.1: a grid of codes in which some are hidden becomes tokens; a transformer that may
look everywhere says for each place how likely each code is. A hidden code is written as one more value, the mask. It has no
``incremental``, since its places have no order.

Deviations: normalisation stands before each part of a block, as everywhere in this library, and not after embeddings; dropout
takes whole channels; what is told is one token in front, as in the authors' code, the sum of the conditions' vectors; positions
are learned, but begin as sines and cosines of row and column, which saves a small data set from finding out which places are
neighbours; the head is one linear map, where theirs has a hidden layer and shares its weights with the table of codes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions, sinusoidal_grid
from gencore.networks.symbols import Grid, check_symbols
from gencore.networks.transformer import Block, Transformer, dropout_factors


@dataclass(frozen=True)
class MaskGIT:
    """Sizes of the network.

    Attributes
    ----------
    grid : Grid
        What is written: named symbols, one at each place.
    width : int
        Length of the tokens, a multiple of `heads` and of 4.
    depth : int
        Number of blocks.
    heads : int
        Heads of each attention.
    mlp_ratio : int
        Width of the hidden layer between attentions, in units of `width`.
    near : int
        How far each token sees by convolution, in every direction; what is hidden is seen as hidden. 0: only itself.
    drop : float
        Share of channels that are left out in training.
    """

    grid: Grid = Grid(size=8, levels=512, named=True)
    width: int = 128
    depth: int = 4
    heads: int = 4
    mlp_ratio: int = 4
    near: int = 0
    drop: float = 0.0

    def __post_init__(self) -> None:
        if not self.grid.named or self.grid.channels != 1:
            raise InputError(f"grid {self.grid}: must have named symbols, such as codes, and one channel")
        if self.grid.numbers != self.grid.levels:
            raise InputError(f"outputs {self.grid.outputs}: this network gives a logit for each of {self.grid.levels} values")
        if self.width % 4:
            raise InputError(f"width {self.width}: must be a multiple of 4, for positions")
        if self.near < 0:
            raise InputError(f"near {self.near}: must be 0 or more")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop {self.drop}: must be at least 0 and below 1")
        _ = self.block  # its sizes are refused where they are given

    @property
    def block(self) -> Transformer:
        """Sizes of the blocks; each token looks at all."""
        return Transformer(self.width, self.depth, self.heads, mlp_ratio=self.mlp_ratio)

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the uniform numbers that one picture's dropout takes."""
        return (self.depth, 2, self.width) if self.drop else ()

    @property
    def mask(self) -> int:
        """The value of a hidden symbol: one above the others."""
        return self.grid.levels


class MaskGITNetwork(nn.Module):
    """Map a grid with hidden symbols to the logits of each place's symbol.

    The logits of a visible place say nothing of use: the network sees what stands there.

    Parameters
    ----------
    config : MaskGIT
        The sizes.
    """

    def __init__(self, config: MaskGIT) -> None:
        super().__init__()
        self.config, grid = config, config.grid
        self.table = nn.Embedding(grid.levels + 1, config.width)  # the last is the mask
        self.places = nn.Parameter(sinusoidal_grid(grid.size, grid.size, config.width))
        self.teller = Conditions(grid.conditions, config.width)
        self.around = nn.Conv2d(config.width, config.width, 2 * config.near + 1, padding=config.near) if config.near else None
        self.blocks = nn.ModuleList([Block(config.block) for _ in range(config.depth)])
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, grid.levels)

    def forward(
        self, symbols: Tensor, cond: Tensor | None = None, u: Tensor | None = None, hidden: Tensor | None = None
    ) -> Tensor:
        """Return logits ``(B, levels, H, W)`` for symbols, int64 ``(B, 1, H, W)``, and conditions, int64 ``(B, K)``.

        Parameters
        ----------
        symbols : Tensor
            From 0 to ``levels``, which hides.
        cond : Tensor, optional
            What is told; None tells nothing.
        u : Tensor, optional
            Uniform numbers ``(B, *config.noise_shape)``: what is left out in training; without them nothing is.
        hidden : Tensor, optional
            bool, of the shape of `symbols`: places that are hidden, whatever stands there.

        Raises
        ------
        InputError
            If symbols or conditions do not fit the network.
        IndexError
            On the CPU, if a symbol is below 0 or above the mask.
        """
        grid = self.config.grid
        check_symbols(grid, symbols)
        if hidden is not None:
            symbols = symbols.masked_fill(hidden, self.config.mask)
        keep = dropout_factors(u, self.config.drop) if u is not None and self.config.drop else None
        told = self.teller(cond, len(symbols))[:, None]  # (B, 1, width)
        x = self.table(symbols[:, 0])  # (B, H, W, width)
        if self.around is not None:
            x = x + self.around(x.movedim(3, 1)).movedim(1, 3)
        h = torch.cat([told, x.flatten(1, 2) + self.places], dim=1)  # (B, 1 + N, width)
        for number, block in enumerate(self.blocks):
            h = block(h, keep=None if keep is None else keep[:, number])
        logits = self.head(self.norm(h[:, 1:]))  # (B, N, levels)
        return logits.transpose(1, 2).unflatten(2, (grid.size, grid.size))  # (B, levels, H, W)
