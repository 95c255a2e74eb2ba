"""Gated PixelCNN: van den Oord et al. 2016, "Conditional image generation with PixelCNN decoders".

https://arxiv.org/abs/1606.05328, section 2.1 (gates, equation 2), section 2.2 and figure 2 (two stacks, and with them no
blind spot), section 2.3 (conditions, equation 4). The vertical stack sees all rows above, the horizontal one what lies to the
left in its own row; the vertical one is handed over in every layer. Kernels are cut to what they may see, so that nothing is
multiplied by zero. Equation numbers (PC.n) are those of the chapter "Masked convolutions".

Deviations: one symbol at each place; the vertical stack has residual connections too; its row r looks at rows up to r and is
handed over one row lower.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import linear, pad, relu

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions
from gencore.networks.incremental import Band, Strip
from gencore.networks.symbols import At, Grid, SymbolEmbedding, check_symbols


@dataclass(frozen=True)
class GatedPixelCNN:
    """Sizes of a gated PixelCNN.

    Attributes
    ----------
    grid : Grid
        What is written; one symbol at each place.
    width : int
        Channels of each stack.
    depth : int
        Gated layers.
    kernel : int
        Side of the first layer's kernel, odd.
    inner : int
        Side of the other kernels, odd.
    """

    grid: Grid = Grid()
    width: int = 64
    depth: int = 6
    kernel: int = 5
    inner: int = 3

    def __post_init__(self) -> None:
        if self.grid.channels != 1:
            raise InputError(f"grid.channels {self.grid.channels}: this network writes one symbol at each place")
        for name in ("width", "depth"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        for name in ("kernel", "inner"):
            if getattr(self, name) < 3 or getattr(self, name) % 2 == 0:
                raise InputError(f"{name} {getattr(self, name)}: must be odd and at least 3, or nothing is seen")


def gate(h: Tensor) -> Tensor:
    """Return ``(B, width, ...)`` for ``(B, 2 width, ...)``: the first half squashed, the second how much of it passes."""
    signal, door = h.chunk(2, dim=1)
    return signal.tanh() * door.sigmoid()  # equation 2, (PC.5)


def rows_above(conv: nn.Conv2d, h: Tensor) -> Tensor:
    """Return a convolution that ends in its own row: ``(B, out, H, W)`` for ``(B, in, H, W)``, a kernel of (reach + 1, k)."""
    high, wide = conv.kernel_size
    return conv(pad(h, (wide // 2, wide // 2, high - 1, 0)))


def lower(h: Tensor) -> Tensor:
    """Return a map one row lower, so that a row gets what the row above it was: ``(B, W, H, W)``."""
    return pad(h, (0, 0, 1, 0))[:, :, :-1]


class GatedLayer(nn.Module):
    """One layer of both stacks (figure 2).

    Parameters
    ----------
    config : GatedPixelCNN
        The sizes.
    """

    def __init__(self, config: GatedPixelCNN) -> None:
        super().__init__()
        width, kernel, reach = config.width, config.inner, config.inner // 2
        self.vertical = nn.Conv2d(width, 2 * width, (reach + 1, kernel))
        self.horizontal = nn.Conv2d(width, 2 * width, (1, reach + 1))
        self.hand_over = nn.Conv2d(2 * width, 2 * width, 1, bias=False)
        self.told = Conditions(config.grid.conditions, 4 * width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, v: Tensor, h: Tensor, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return both stacks, ``(B, width, H, W)`` each, for both and int64 conditions ``(B, K)``."""
        told_v, told_h = self.told(cond, len(v))[:, :, None, None].chunk(2, dim=1)  # (B, 2 width, 1, 1) each, equation 4
        seen = rows_above(self.vertical, v)  # (B, 2 width, H, W)
        beside = self.horizontal(pad(h, (self.horizontal.kernel_size[1] - 1, 0)))  # (B, 2 width, H, W)
        mixed = beside + self.hand_over(lower(seen))
        return v + gate(seen + told_v), h + self.out(gate(mixed + told_h))


class GatedPixelCNNNetwork(nn.Module):
    """Map a grid of symbols to the parameters of each place's distribution, given the places before it.

    Parameters
    ----------
    config : GatedPixelCNN
        The sizes.
    """

    def __init__(self, config: GatedPixelCNN) -> None:
        super().__init__()
        grid, width, reach = config.grid, config.width, config.kernel // 2
        self.config = config
        self.embed = SymbolEmbedding(grid, width)
        self.vertical = nn.Conv2d(self.embed.channels, width, (reach + 1, config.kernel))
        self.horizontal = nn.Conv2d(self.embed.channels, width, (1, reach))  # ends before its place: mask A
        self.layers = nn.ModuleList([GatedLayer(config) for _ in range(config.depth)])
        self.mix = nn.Conv2d(width, width, 1)
        self.head = nn.Conv2d(width, grid.numbers, 1)

    def forward(self, symbols: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, numbers, H, W)`` for symbols ``(B, 1, H, W)`` and int64 conditions ``(B, K)``.

        Raises
        ------
        InputError
            If symbols or conditions do not fit the network.
        """
        check_symbols(self.config.grid, symbols)
        x = self.embed(symbols)  # (B, C, H, W)
        v = rows_above(self.vertical, x)  # (B, width, H, W)
        h = self.horizontal(pad(x, (self.horizontal.kernel_size[1], 0))[:, :, :, :-1]) + lower(v)
        for layer in self.layers:
            v, h = layer(v, h, cond)
        return self.head(relu(self.mix(relu(h))))

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return ``at(row, column) -> (B, numbers)``; see `gencore.networks.symbols`.

        The vertical stack is computed a row at a time, the horizontal one place by place.
        """
        check_symbols(self.config.grid, symbols)
        batch, _, _, width = symbols.shape
        stem = Band(self.vertical, batch, width), Strip(self.horizontal, batch, width)
        inside = []
        for layer in self.layers:
            told_v, told_h = layer.told(cond, batch).chunk(2, dim=1)  # (B, 2 width) each
            bands = Band(layer.vertical, batch, width), Strip(layer.horizontal, batch, width)
            inside.append((layer, *bands, told_v[:, :, None, None], told_h))
        above: list[Tensor] = []  # for the stem and each layer, what the vertical stack hands over to this row

        def finish_row(row: int) -> None:
            """Let the vertical stack read a row that has been written."""
            seen = stem[0].push(self.embed(symbols[:, :, row, None]))  # (B, width, 1, W)
            above[:], v = [seen[:, :, 0]], seen
            for layer, band, _, told_v, _ in inside:
                seen = band.push(v)  # (B, 2 width, 1, W)
                above.append(layer.hand_over(seen)[:, :, 0])
                v = v + gate(seen + told_v)

        def begin_row(row: int) -> None:
            if row:
                finish_row(row - 1)
            else:  # nothing lies above
                above[:] = [symbols.new_zeros(batch, self.vertical.out_channels, width, dtype=self.head.weight.dtype)]
                above.extend(above[0].new_zeros(batch, layer.hand_over.out_channels, width) for layer in self.layers)

        def at(row: int, column: int) -> Tensor:
            if column == 0:
                begin_row(row)
            else:
                stem[1].write(column - 1, self.embed(symbols[:, :, row, column - 1, None, None]).flatten(1))
            h = stem[1].read(column) + above[0][:, :, column]  # (B, width)
            for (layer, _, strip, _, told_h), handed in zip(inside, above[1:], strict=True):
                strip.write(column, h)
                mixed = strip.read(column + 1) + handed[:, :, column] + told_h  # (B, 2 width)
                h = h + linear(gate(mixed), layer.out.weight[:, :, 0, 0], layer.out.bias)
            h = linear(relu(h), self.mix.weight[:, :, 0, 0], self.mix.bias)
            return linear(relu(h), self.head.weight[:, :, 0, 0], self.head.bias)

        return at
