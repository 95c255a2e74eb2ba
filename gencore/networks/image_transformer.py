"""A picture as a sentence: a causal transformer over its symbols, row by row.

Parmar et al. 2018, "Image transformer", https://arxiv.org/abs/1802.05751; Chen et al. 2020, "Generative pretraining from
pixels", https://proceedings.mlr.press/v119/chen20s.html, section 2: the decoder of Vaswani et al. 2017 whose tokens are pixels.
The same network over an autoencoder's codes is the prior of Esser et al. 2021, "Taming transformers for high-resolution image
synthesis", https://arxiv.org/abs/2012.09841, section 3.2. Equation numbers (IT.n) are those of the chapter "A
picture as a sentence".

Deviations: attention reaches all tokens before, not a block of them; a place is the sum of a learned vector for its row and one
for its column; each token knows the symbols around its place that are already written by a small convolution (`near`), so that
attention need not learn who its neighbours are; what is told is added to every token; dropout takes whole channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions
from gencore.networks.incremental import Band, Strip
from gencore.networks.symbols import At, Grid, check_symbols
from gencore.networks.transformer import Transformer, TransformerNetwork, dropout_factors


@dataclass(frozen=True)
class ImageTransformer:
    """Sizes of an image transformer.

    Attributes
    ----------
    grid : Grid
        What is written; one symbol at each place, each value of which gets a vector of its own.
    transformer : Transformer
        The stack; causal, without context.
    near : int
        How far each token sees by convolution: so many symbols before it in reading order, and so many rows above, to as many
        places left and right. 0: only the symbol before.
    drop : float
        Share of channels that are left out in training.
    """

    grid: Grid = Grid()
    transformer: Transformer = Transformer(causal=True)
    near: int = 0
    drop: float = 0.0

    def __post_init__(self) -> None:
        if self.grid.channels != 1:
            raise InputError(f"grid.channels {self.grid.channels}: this network writes one symbol at each place")
        if not self.transformer.causal or self.transformer.context:
            raise InputError("transformer: must be causal, and without context")
        if self.near < 0:
            raise InputError(f"near {self.near}: must be 0 or more")
        if not 0 <= self.drop < 1:
            raise InputError(f"drop {self.drop}: must be at least 0 and below 1")

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """Shape of the uniform numbers that one picture's dropout takes."""
        return (self.transformer.depth, 2, self.transformer.width) if self.drop else ()


class ImageTransformerNetwork(nn.Module):
    """Map a grid of symbols to the parameters of each place's distribution, given the places before it.

    Parameters
    ----------
    config : ImageTransformer
        The sizes.
    """

    def __init__(self, config: ImageTransformer) -> None:
        super().__init__()
        grid, width, near = config.grid, config.transformer.width, config.near
        self.config = config
        self.table = nn.Embedding(grid.levels, width)
        self.rows = nn.Parameter(torch.randn(grid.size, 1, width))
        self.columns = nn.Parameter(torch.randn(1, grid.size, width))
        for vectors in (self.table.weight, self.rows, self.columns):
            nn.init.normal_(vectors, std=0.2)
        self.told = Conditions(grid.conditions, width)
        if near:
            self.above = nn.Conv2d(width, width, (near, 2 * near + 1))
            self.beside = nn.Conv2d(width, width, (1, near))
        self.body = TransformerNetwork(config.transformer)
        self.head = nn.Linear(width, grid.numbers)

    def forward(self, symbols: Tensor, cond: Tensor | None = None, u: Tensor | None = None) -> Tensor:
        """Return ``(B, numbers, H, W)`` for symbols, int64 ``(B, 1, H, W)``, and int64 conditions ``(B, K)``.

        Uniform numbers ``u``, ``(B, *config.noise_shape)``, say what is left out in training; without them nothing is.

        Raises
        ------
        InputError
            If symbols or conditions do not fit the network.
        """
        check_symbols(self.config.grid, symbols)
        return self.from_vectors(self.table(symbols[:, 0]), cond, u)

    def from_vectors(self, x: Tensor, cond: Tensor | None = None, u: Tensor | None = None) -> Tensor:
        """Return the same as `forward` for the symbols' vectors ``(B, H, W, width)``, by which one can differentiate."""
        seen = self.tokens(x) + self.told(cond, len(x))[:, None, None]  # (B, H, W, width)
        h = self.body(seen.flatten(1, 2), keep=self.keep(u))  # (B, N, width)
        return self.head(h).unflatten(1, x.shape[1:3]).movedim(3, 1)  # (B, numbers, H, W)

    def keep(self, u: Tensor | None) -> Tensor | None:
        """Return the factors by which uniform numbers leave channels out; None if nothing is."""
        return dropout_factors(u, self.config.drop) if u is not None and self.config.drop else None

    def tokens(self, x: Tensor) -> Tensor:
        """Return the tokens ``(B, H, W, width)`` of symbols with vectors ``(B, H, W, width)``: what is known, and the place."""
        return self._before(x) + self.rows + self.columns

    def _before(self, x: Tensor) -> Tensor:
        """Return what each token knows of the symbols before it, ``(B, H, W, width)``, for their vectors."""
        if not self.config.near:
            return pad(x.flatten(1, 2), (0, 0, 1, 0))[:, :-1].view_as(x)  # one place on
        near, x = self.config.near, x.movedim(3, 1)  # (B, width, H, W)
        above = self.above(pad(x, (near, near, near, 0))[:, :, :-1])  # (B, width, H, W)
        line = pad(x.flatten(2)[:, :, None], (near, 0))[..., :-1]  # before a row stands the end of the row above
        return (above + self.beside(line).reshape(above.shape)).movedim(1, 3)

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return ``at(row, column) -> (B, numbers)``; see `gencore.networks.symbols`.

        Keys and values of the tokens before are kept, and so are the rows that convolutions look at.
        """
        check_symbols(self.config.grid, symbols)
        batch, _, height, width = symbols.shape
        told, token_at = self.told(cond, batch), self.incremental_tokens(symbols)
        caches = self.body.caches(batch, height * width)

        def at(row: int, column: int) -> Tensor:
            token = token_at(row, column) + told  # (B, width)
            return self.head(self.body(token[:, None], caches=caches)[:, 0])

        return at

    def incremental_tokens(self, symbols: Tensor) -> At:
        """Return ``token_at(row, column) -> (B, width)``: what `tokens` gives, place by place, as symbols are written."""
        (batch, _, height, width), near = symbols.shape, self.config.near
        nothing = self.rows.new_zeros(batch, self.config.transformer.width)
        if near:
            band, strip, above = Band(self.above, batch, width), Strip(self.beside, batch, height * width), [self.above.bias]

        def before(row: int, column: int) -> Tensor:
            """Return what a token knows of the symbols before it, ``(B, width)``."""
            place = row * width + column
            last = self.table(symbols[:, 0].flatten(1)[:, place - 1]) if place else nothing
            if not near:
                return last
            if place:
                strip.write(place - 1, last)
            if column == 0:
                above[0] = self.above.bias[None, :, None].expand(batch, -1, width)
                if row:
                    above[0] = band.push(self.table(symbols[:, 0, row - 1]).movedim(2, 1)[:, :, None])[:, :, 0]
            return above[0][:, :, column] + strip.read(place)

        return lambda row, column: before(row, column) + self.rows[row, 0] + self.columns[0, column]
