"""Pixel recurrent networks: van den Oord, Kalchbrenner & Kavukcuoglu 2016, "Pixel recurrent neural networks".

https://arxiv.org/abs/1601.06759. A first convolution looks at the symbols around a place that come before it. Layers of
LSTM then carry what they saw over the grid, each added to what it was given; two small layers turn the sum into numbers.

- The Row LSTM (section 3.1, equation 3) walks down the rows. Its state at a place comes from the places beside the one
  above, and its input from the row's left. It sees a triangle that opens upwards.
- The Diagonal BiLSTM (section 3.2, equation 3) walks along diagonals, so that a state comes from the place above and the
  place beside. One direction starts at the top left and one at the top right. The second one's map is moved down by a
  row before the two are added, for it has looked to the right.

Layers and first convolution are tied together as in section 3.3, table 1: maps have 2h features, states have h.

Receptive fields
----------------
Let K be half of ``kernel``, R half of ``reach`` (both rounded down), and L the number of layers. The parameters of the
place (r, c) on a grid with columns 0 to n - 1 depend on exactly these symbols (r', c'):

- Row LSTM: in its own row from ``c - L R - K`` to ``c - 1``; D rows above, D > 0, from ``c - (D + L) R - K`` to the
  greater of ``min(n - 1, c + D R) - 1`` and ``c + (D - 1) R + K``; none outside of the grid.
- Diagonal BiLSTM: all that come before, but for the last of the row above, (r - 1, n - 1), which is seen from
  ``c >= n - 1 - K`` on only. The map that is moved down knows of the row above what its features know, and the features
  of its last place were made without the symbol there. The paper says that all are seen.

Deviations: symbols at a place are one, colours are left to the PixelCNN; masks are not multiplied, the kernels are cropped
instead; states outside of the grid are zero, where a skewed map would let them run on biases alone; the bias of forget
gates starts at 1 (Jozefowicz et al. 2015, https://proceedings.mlr.press/v37/jozefowicz15.html, section 6); conditions add a
learned bias to each layer's gates, as in van den Oord et al. 2016b, https://arxiv.org/abs/1606.05328, equation 4 for h that
says which value it is, and start at zero; no connections skip layers on the way to the output.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions
from gencore.networks.symbols import At, Grid, SymbolEmbedding, check_symbols

# What a layer's `incremental` returns: its map at (row, column), given the map below at this place.
LayerAt = Callable[[int, int, Tensor], Tensor]


@dataclass(frozen=True)
class RowLSTM:
    """Layers that walk down the rows.

    Attributes
    ----------
    reach : int
        Width of the convolutions along a row, odd: how fast the triangle opens upwards.
    """

    reach: int = 3

    def __post_init__(self) -> None:
        if self.reach < 1 or self.reach % 2 == 0:
            raise InputError(f"reach {self.reach}: must be odd, and 1 or more")

    def build(self, grid: Grid, width: int) -> "RowLSTMLayer":
        """Return a layer whose states have this width."""
        return RowLSTMLayer(self, grid, width)


@dataclass(frozen=True)
class DiagonalBiLSTM:
    """Layers that walk along diagonals, from both upper corners."""

    def build(self, grid: Grid, width: int) -> "DiagonalBiLSTMLayer":
        """Return a layer whose states have this width."""
        return DiagonalBiLSTMLayer(grid, width)


@dataclass(frozen=True)
class PixelRNN:
    """Sizes of a pixel recurrent network.

    Attributes
    ----------
    grid : Grid
        What is written; one symbol at each place.
    layer : RowLSTM or DiagonalBiLSTM
        How layers walk over the grid.
    width : int
        h: features of a state; maps between layers have twice as many.
    depth : int
        Number of layers.
    kernel : int
        Side of the square that the first convolution looks at, of which only what comes before the centre counts; odd.
    """

    grid: Grid = Grid()
    layer: RowLSTM | DiagonalBiLSTM = RowLSTM()
    width: int = 32
    depth: int = 3
    kernel: int = 7

    def __post_init__(self) -> None:
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.kernel < 3 or self.kernel % 2 == 0:
            raise InputError(f"kernel {self.kernel}: must be odd, and 3 or more")
        if self.grid.channels != 1:
            raise InputError(f"grid.channels {self.grid.channels}: this network writes one symbol at each place")


class FirstConvolution(nn.Module):
    """Look at the symbols around each place that come before it: a convolution of mask A (section 3.4), cropped.

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output.
    kernel : int
        Side of the square whose upper half is looked at, odd.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        self.half = kernel // 2
        self.above = nn.Conv2d(channels, out_channels, (self.half, kernel))
        self.left = nn.Conv2d(channels, out_channels, (1, self.half), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, out_channels, H, W)`` for ``(B, channels, H, W)``."""
        half = self.half
        return self.above(pad(x, (half, half, half, -1))) + self.left(pad(x, (half, -1)))  # (B, out_channels, H, W)

    def row(self, rows: Tensor) -> Tensor:
        """Return what up to `half` rows add to the one below them, ``(W, B, out_channels)``, for ``(B, channels, rows, W)``."""
        padded = pad(rows, (self.half, self.half, self.half - rows.shape[2], 0))  # (B, channels, half, W + 2 half)
        return self.above(padded)[:, :, 0].permute(2, 0, 1)

    def place(self, begun: Tensor) -> Tensor:
        """Return what up to `half` places add to the next, ``(B, out_channels)``, for ``(B, channels, 1, places)``."""
        padded = pad(begun, (self.half - begun.shape[3], 0))  # (B, channels, 1, half)
        return conv2d(padded, self.left.weight)[:, :, 0, 0]


class RowLSTMLayer(nn.Module):
    """Walk down the rows (section 3.1), and add what was found.

    Maps are ``(H, W, B, features)``, so that one row, or one place, lies in one piece.

    Parameters
    ----------
    config : RowLSTM
        How far it reaches.
    grid : Grid
        Its conditions count.
    width : int
        h: features of a state.
    """

    def __init__(self, config: RowLSTM, grid: Grid, width: int) -> None:
        super().__init__()
        self.half, self.width = config.reach // 2, width
        self.from_input = nn.Linear((self.half + 1) * 2 * width, 4 * width)  # K^is, of mask B: cropped at the place itself
        self.from_state = nn.Linear(config.reach * width, 4 * width, bias=False)  # K^ss
        self.conditions = _silent(Conditions(grid.conditions, 4 * width))
        self.out = nn.Linear(width, 2 * width)
        _remember(self.from_input.bias, width)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Return a map ``(H, W, B, 2h)`` for a map ``(H, W, B, 2h)`` and conditions, int64 ``(B, K)``."""
        columns, batch = x.shape[1:3]
        gates = self.from_input(_beside(x, self.half, 0))  # (H, W, B, 4h)
        gates = gates + self.conditions(cond, batch).to(gates.dtype)
        c = gates.new_zeros(columns, batch, self.width, dtype=self.out.weight.dtype)
        h = c.to(gates.dtype)
        rows = []
        for row in gates.unbind(0):
            h, c = _lstm(row + self.from_state(_beside(h, self.half, self.half)), c)  # (W, B, h)
            rows.append(h)
        return x + self.out(torch.stack(rows))  # (H, W, B, 2h), section 3.3

    def incremental(self, cond: Tensor | None, like: Tensor) -> LayerAt:
        """Return a function that gives the map at each place in turn; `like`, ``(W, B, 2h)``, says on how many."""
        told = self.conditions(cond, like.shape[1])  # (B, 4h)
        h = c = self.out.weight.new_zeros(*like.shape[:2], self.width)  # (W, B, h), of the row above
        begun, found, gates = [], [], None

        def at(row: int, column: int, x: Tensor) -> Tensor:
            nonlocal h, c, begun, found, gates
            if column == 0:
                if row > 0:
                    h, c = (torch.stack(states) for states in zip(*found, strict=True))
                gates = told + self.from_state(_beside(h, self.half, self.half))  # (W, B, 4h)
                begun, found = [torch.zeros_like(x)] * self.half, []
            begun.append(x)
            seen = torch.cat(begun[column:], 1)  # (B, (half + 1) 2h)
            found.append(_lstm(gates[column] + self.from_input(seen), c[column]))
            return x + self.out(found[-1][0])

        return at


class DiagonalBiLSTMLayer(nn.Module):
    """Walk along diagonals from both upper corners (section 3.2), and add what was found.

    Maps are ``(H, W, B, features)``. The weights of both directions lie one after the other, from the left first.

    Parameters
    ----------
    grid : Grid
        Its size and conditions count.
    width : int
        h: features of a state.
    """

    def __init__(self, grid: Grid, width: int) -> None:
        super().__init__()
        self.size, self.width = grid.size, width
        self.from_input = nn.Linear(2 * width, 2 * 4 * width)  # K^is
        self.from_state = nn.Linear(2 * width, 2 * 4 * width, bias=False)  # K^ss, for the place above, then that beside
        self.conditions = _silent(Conditions(grid.conditions, 2 * 4 * width))
        self.out = nn.Linear(width, 2 * width)
        _remember(self.from_input.bias, width)
        row, column = torch.arange(grid.size)[:, None], torch.arange(grid.size)
        diagonals = torch.stack([row + column, row + column.flip(0)]).flatten(1)  # the number of each place's diagonal
        order = diagonals.argsort(stable=True)  # (2, H W): places diagonal by diagonal, on each downwards
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("back", order.argsort(), persistent=False)

    def forward(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """Return a map ``(H, W, B, 2h)`` for a map ``(H, W, B, 2h)`` and conditions, int64 ``(B, K)``."""
        n, batch = self.size, x.shape[2]
        weight, bias = self._input(cond, batch)
        skewed = x.flatten(0, 1).index_select(0, self.order.flatten())  # (2 H W, B, 2h)
        gates = torch.bmm(skewed.view(2, n * n * batch, -1), weight)  # (2, H W B, 4h)
        gates = gates.view(2, n * n, batch, -1) + bias[:, None].to(gates.dtype)  # (2, H W, B, 4h)
        weight = self.from_state.weight.view(2, 4 * self.width, -1).mT.to(gates.dtype)  # (2, 2h, 4h), made narrow once
        c = gates.new_zeros(2, 0, batch, self.width, dtype=self.out.weight.dtype)
        h = c.to(gates.dtype)
        found = []
        for diagonal in gates.split([n - abs(n - 1 - number) for number in range(2 * n - 1)], 1):  # (2, places, B, 4h)
            if diagonal.shape[1] > h.shape[1]:  # above its upper end, and beside its lower one, is nothing
                h, c = (pad(state, (0, 0, 0, 0, 1, 1)) for state in (h, c))
            before = torch.cat([h[:, :-1], h[:, 1:]], 3)  # (2, places, B, 2h): above, and beside
            new = torch.baddbmm(diagonal.flatten(1, 2), before.flatten(1, 2), weight)  # (2, places B, 4h)
            h, c = _lstm(new.view_as(diagonal), c[:, 1:])  # (2, places, B, h)
            found.append(h)
        left, right = torch.cat(found, 1).unbind(0)  # (H W, B, h)
        left = left.index_select(0, self.back[0])
        right = pad(right.index_select(0, self.back[1, :-n]), (0, 0, 0, 0, n, 0))  # moved down by a row
        return x + self.out(left + right).view_as(x)  # (H, W, B, 2h), section 3.3

    def incremental(self, cond: Tensor | None, like: Tensor) -> LayerAt:
        """Return a function that gives the map at each place in turn; `like`, ``(W, B, 2h)``, says on how many."""
        from_input, bias = self._input(cond, like.shape[1])
        from_above, from_beside = self.from_state.weight.view(2, 4 * self.width, -1).mT.chunk(2, 1)  # (2, h, 4h) each
        nothing = self.out.weight.new_zeros(like.shape[1], self.width)  # (B, h)
        right = nothing.expand(self.size, -1, -1)  # (W, B, h), of the row above
        begun, left, gates, h, c = [], [nothing] * self.size, None, None, None

        def at(row: int, column: int, x: Tensor) -> Tensor:
            nonlocal right, begun, left, gates, h, c
            if column == 0:
                if row > 0:  # only now is the row above complete, and can be walked from its right end
                    right = walk_back(torch.stack(begun) @ from_input[1] + right @ from_above[1] + bias[1])
                gates = torch.stack(left) @ from_above[0] + bias[0]  # (W, B, 4h)
                begun, left, h, c = [], [], nothing, nothing
            h, c = _lstm(gates[column] + x @ from_input[0] + h @ from_beside[0], c)
            begun.append(x)
            left.append(h)
            return x + self.out(h + right[column])

        def walk_back(gates: Tensor) -> Tensor:
            h = c = nothing
            found = []
            for place in reversed(gates.unbind(0)):
                h, c = _lstm(place + h @ from_beside[1], c)
                found.append(h)
            return torch.stack(found[::-1])  # (W, B, h)

        return at

    def _input(self, cond: Tensor | None, batch: int) -> tuple[Tensor, Tensor]:
        """Return what turns an input into gates: ``(2, 2h, 4h)``, and ``(2, B, 4h)`` to be added."""
        bias = self.from_input.bias + self.conditions(cond, batch)  # (B, 2 * 4h)
        return self.from_input.weight.view(2, 4 * self.width, -1).mT, bias.unflatten(1, (2, -1)).transpose(0, 1)


class PixelRNNNetwork(nn.Module):
    """Say of each place what the symbols before it let expect.

    Parameters
    ----------
    config : PixelRNN
        The sizes.
    """

    def __init__(self, config: PixelRNN) -> None:
        super().__init__()
        self.config = config
        features = 2 * config.width
        self.embedding = SymbolEmbedding(config.grid, config.width)
        self.first = FirstConvolution(self.embedding.channels, features, config.kernel)
        self.layers = nn.ModuleList(config.layer.build(config.grid, config.width) for _ in range(config.depth))
        self.head = nn.Sequential(
            nn.ReLU(), nn.Linear(features, features), nn.ReLU(), nn.Linear(features, config.grid.numbers)
        )

    def forward(self, symbols: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, numbers, H, W)`` for symbols, int64 ``(B, 1, H, W)``, and conditions, int64 ``(B, K)``.

        Symbols that are amounts may be given as floats.

        Raises
        ------
        InputError
            If symbols or conditions do not fit the network.
        """
        check_symbols(self.config.grid, symbols)
        x = self.first(self.embedding(symbols)).permute(2, 3, 0, 1).contiguous()  # (H, W, B, 2h)
        for layer in self.layers:
            x = layer(x, cond)
        return self.head(x).permute(2, 3, 0, 1)  # (B, numbers, H, W)

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return a function ``at(row, column) -> (B, numbers)``, as `gencore.networks.symbols` says.

        At the start of a row, all that follows from the rows above is computed for the whole row at once.
        """
        check_symbols(self.config.grid, symbols)
        above = self.first.row(self.embedding(symbols[:, :, :0]))  # (W, B, 2h)
        layers = [layer.incremental(cond, above) for layer in self.layers]

        def at(row: int, column: int) -> Tensor:
            nonlocal above
            if column == 0:
                above = self.first.row(self.embedding(symbols[:, :, max(0, row - self.first.half) : row]))
            begun = symbols[:, :, row : row + 1, max(0, column - self.first.half) : column]
            x = above[column] + self.first.place(self.embedding(begun))  # (B, 2h)
            for layer in layers:
                x = layer(row, column, x)
            return self.head(x)  # (B, numbers)

        return at


def _lstm(gates: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Return the new state h and cell c, ``(..., h)`` each, for sums ``(..., 4h)`` and the cell before: equation 3."""
    o, f, i, _ = gates.sigmoid().chunk(4, -1)  # faster of all that lies together than of three quarters
    g = gates[..., -c.shape[-1] :].tanh()
    c = f * c + i * g  # under autocast in float32, as it starts, for errors add up
    return o * c.to(o.dtype).tanh(), c


def _beside(x: Tensor, left: int, right: int) -> Tensor:
    """Put the features of neighbours in a row beside each other: ``(..., W, B, (left + 1 + right) C)``; outside are zeros."""
    padded = pad(x, (0, 0, 0, 0, left, right))  # (..., left + W + right, B, C)
    return torch.cat([padded.narrow(-3, shift, x.shape[-3]) for shift in range(left + 1 + right)], -1)


def _remember(bias: Tensor, width: int) -> None:
    """Let the forget gates of biases ``(directions 4h,)`` start at 1."""
    nn.init.ones_(bias.view(-1, 4, width)[:, 1])


def _silent(conditions: Conditions) -> Conditions:
    """Let conditions start as zeros, and return them."""
    for table in conditions.tables:
        nn.init.zeros_(table.weight)
    return conditions
