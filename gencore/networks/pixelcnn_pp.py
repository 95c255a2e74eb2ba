"""PixelCNN++: Salimans, Karpathy, Chen & Kingma 2017.

"PixelCNN++: improving the PixelCNN with discretized logistic mixture likelihood and other modifications",
https://arxiv.org/abs/1701.05517, sections 2.3 and 2.4 and figure 2. Two streams of maps run through a network shaped
like a U. The first knows the rows above a place, and looks up and to both sides; the second knows what stands on the
left in its own row too, looks up and left, and listens to the first in each of its blocks. No weight is masked: where
a layer looks follows from the sides on which its input is padded. Convolutions with stride 2 lead to lower
resolutions, transposed ones lead back, and each map of the way down is heard by one block of the way up. A block of
the paper's code is, with the concatenated ELU ``e(x) = [ELU(x), ELU(-x)]``, with ``a`` for all that it listens to,
and ``c`` for what is told::

    y = conv(e(x)) + V e(a)
    p, q = conv(e(y)) + W c
    x + p * sigmoid(q)

One place at a time is computed as in Ramachandran et al. 2017, "Fast generation for convolutional autoregressive
models", https://arxiv.org/abs/1704.06001: all maps are kept, the first stream is computed a row at a time when a row
begins, and a lower resolution only at the places where it has something new, which are those of even row and column.

What a place depends on: nothing of itself or after it. With B ``blocks`` and one resolution, it is the ``4 B + 1``
places on its left, and in each of the ``4 B + 3`` rows above all from ``4 B + 2`` columns on the left to ``4 B + 1``
on the right: there is no blind spot. Lower resolutions carry farther, but have nothing new for an odd row. With two
of them, a place of an even row depends on all before it, as far as they carry; one of an odd row knows no more than
``4 B + 2`` places to the left in its own row, and to the right in the row above.

Deviations: no dropout; no weight normalisation, and so no first weights that follow from data, but PyTorch's own, by
which a block starts near the identity as well; streams are shifted before their first convolutions and not after, so
that places at the border get the bias too. As in the paper's code, the input has one more channel, of ones: it is
zero only outside.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, elu, glu, linear, pad

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions
from gencore.networks.symbols import At, Grid, SymbolEmbedding, check_symbols

Said = list[list[Tensor]]  # for each resolution, what the first stream's blocks say to the second's, (B, 2C, H, W)


@dataclass(frozen=True)
class PixelCNNPP:
    """Sizes of a PixelCNN++.

    Attributes
    ----------
    grid : Grid
        What is written; ``grid.outputs`` is the number of the likelihood's parameters.
    width : int
        Channels of the maps of either stream.
    blocks : int
        Blocks of either stream at each resolution on the way down. The way up has one more, except at the lowest.
    resolutions : int
        How many, each half the one before; the size of the grid must allow it.
    """

    grid: Grid = field(default_factory=Grid)
    width: int = 32
    blocks: int = 2
    resolutions: int = 3

    def __post_init__(self) -> None:
        for name in ("width", "blocks", "resolutions"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.grid.size % self.divisor:
            raise InputError(f"size {self.grid.size}: {self.resolutions} resolutions take multiples of {self.divisor}")

    @property
    def divisor(self) -> int:
        """The size of the grid must be a multiple of this number."""
        return 1 << (self.resolutions - 1)


def concat_elu(h: Tensor) -> Tensor:
    """Return ELU of a map, then ELU of its negative: ``(B, 2C, H, W)`` for ``(B, C, H, W)``."""
    return torch.cat([elu(h), elu(-h)], dim=1)


class Pointwise(nn.Conv2d):
    """A convolution of 1x1, which takes the shortest way if it is given one place only."""

    def __init__(self, channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(channels, out_channels, 1, bias=bias)

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, out_channels, H, W)`` for ``(B, channels, H, W)``."""
        if h.shape[2:] == (1, 1):
            return linear(h.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]
        return super().forward(h)


class ShiftedConv(nn.Conv2d):
    """A convolution whose output at a place follows from the input up to that place only.

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output.
    kernel : tuple of int
        Rows and columns; the last row lies on the place.
    right : int
        How many of the columns lie on the right of the place.
    stride : int
        2 to halve the resolution.
    shift : tuple of int
        How many rows up and columns to the left the kernel is moved from there.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: tuple[int, int],
        right: int = 0,
        stride: int = 1,
        shift: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__(channels, out_channels, kernel, stride)
        self.top, self.bottom = kernel[0] - 1 + shift[0], -shift[0]  # rows of zeros; where negative, rows cut off
        self.left, self.right = kernel[1] - 1 - right + shift[1], right - shift[1]

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, out_channels, H / stride, W / stride)`` for ``(B, channels, H, W)``."""
        return super().forward(pad(h, (self.left, self.right, self.top, self.bottom)))


class Remembering:
    """A shifted convolution that is given its input, and asked for its output, at a few places at a time.

    Parameters
    ----------
    conv : ShiftedConv
        The layer.
    size : int
        Height and width of its input.
    """

    def __init__(self, conv: ShiftedConv, size: int) -> None:
        self.conv, self.size = conv, size
        self.weight = conv.weight.detach().permute(0, 2, 3, 1).flatten(1)  # (out_channels, rows * columns * channels)
        self.seen: Tensor | None = None  # the padded input, as far as it is known; channels of a place lie together

    def write(self, h: Tensor, row: int, column: int) -> None:
        """Take note of input ``(B, channels, 1, n)``, which starts at a place."""
        conv, (b, channels, _, n) = self.conv, h.shape
        if self.seen is None:
            height, width = conv.top + self.size, conv.left + self.size + max(conv.right, 0)
            self.seen = h.new_zeros(b, height, width, channels).permute(0, 3, 1, 2)  # (B, channels, height, width)
        self.seen[:, :, conv.top + row, conv.left + column : conv.left + column + n] = h[:, :, 0]

    def read(self, row: int, column: int, n: int) -> Tensor:
        """Return `n` outputs from a place on, ``(B, out_channels, 1, n)``."""
        (rows, columns), stride = self.conv.kernel_size, self.conv.stride[0]
        first, last = column * stride, (column + n - 1) * stride + columns
        window = self.seen[:, :, row * stride : row * stride + rows, first:last]
        if n == 1:
            return linear(window.permute(0, 2, 3, 1).flatten(1), self.weight, self.conv.bias)[:, :, None, None]
        return conv2d(window, self.conv.weight, self.conv.bias, stride)

    def __call__(self, h: Tensor, row: int, column: int) -> Tensor:
        """Take note of input, and return the output at its places."""
        self.write(h, row, column)
        return self.read(row, column, h.shape[3])


class Block(nn.Module):
    """A gated residual block.

    Parameters
    ----------
    width : int
        Channels of the map that it changes.
    kernel : tuple of int
        Of its two convolutions.
    right : int
        Columns that these see on the right.
    heard : int
        Channels of what it listens to; 0 for nothing.
    told : bool
        Whether conditions enter.
    """

    def __init__(self, width: int, kernel: tuple[int, int], right: int, heard: int, told: bool) -> None:
        super().__init__()
        self.first = ShiftedConv(2 * width, width, kernel, right)
        self.listen = Pointwise(heard, width, bias=False) if heard else None
        self.second = ShiftedConv(2 * width, 2 * width, kernel, right)
        self.tell = nn.Linear(width, 2 * width, bias=False) if told else None

    def forward(
        self,
        h: Tensor,
        e: Tensor,
        heard: list[Tensor],
        told: Tensor,
        first: nn.Module | None = None,
        second: nn.Module | None = None,
    ) -> Tensor:
        """Return ``(B, width, H, W)`` for a map of that shape.

        Parameters
        ----------
        h, e : Tensor
            The map, and its concatenated ELU ``(B, 2 * width, H, W)``, which others may have use for too.
        heard : list of Tensor
            Concatenated ELU of all that the block listens to, ``heard`` channels in all.
        told : Tensor
            ``(B, width)``.
        first, second : callable, optional
            What stands in for the convolutions, if these are computed a few places at a time.
        """
        y = (first or self.first)(e)  # (B, width, H, W)
        if self.listen is not None:
            y = y + self.listen(torch.cat(heard, dim=1))
        y = (second or self.second)(concat_elu(y))  # (B, 2 * width, H, W)
        if self.tell is not None:
            y = y + self.tell(told)[:, :, None, None]
        return h + glu(y, dim=1)


class Level(nn.Module):
    """One stream at one resolution and all below it.

    Parameters
    ----------
    config : PixelCNNPP
        The sizes.
    second : bool
        Which stream: the first looks up and to both sides, by kernels of 2x3; the second up and left, by 2x2.
    depth : int
        Number of the resolution; 0 is the highest.
    """

    def __init__(self, config: PixelCNNPP, second: bool, depth: int = 0) -> None:
        super().__init__()
        width, told, lowest = config.width, bool(config.grid.conditions), depth == config.resolutions - 1
        kernel, right = ((2, 2), 0) if second else ((2, 3), 1)
        self.depth, self.second = depth, second
        heard, kept = 2 * width * second, 2 * width
        self.down = nn.ModuleList([Block(width, kernel, right, heard, told) for _ in range(config.blocks)])
        self.up = nn.ModuleList(
            [Block(width, kernel, right, heard + kept, told) for _ in range(config.blocks + (not lowest))]
        )
        self.below = None
        if not lowest:
            self.halve = ShiftedConv(width, width, kernel, right, stride=2)
            self.below = Level(config, second, depth + 1)
            self.enlarge = nn.ConvTranspose2d(width, width, kernel, 2, padding=(0, right), output_padding=(0, right))

    def forward(self, h: Tensor, told: Tensor, heard: Said | None = None) -> tuple[Tensor, Said]:
        """Return a map ``(B, width, H, W)`` for one, and what the blocks say, for each resolution from this one on.

        Parameters
        ----------
        h, told : Tensor
            The map, and what is told, ``(B, width)``.
        heard : list of list of Tensor, optional
            What the first stream's blocks have said, if this is the second.
        """
        others = iter(heard[self.depth]) if self.second else None
        e = concat_elu(h)  # (B, 2 * width, H, W)
        kept, said, deeper = [e], [], []
        for block in self.down:
            h = block(h, e, [next(others)] if self.second else [], told)
            e = concat_elu(h)
            kept.append(e)
            said.append(e)
        if self.below is None:
            kept.pop()  # the last map is where the way up begins
        else:
            h, deeper = self.below(self.halve(h), told, heard)  # (B, width, H / 2, W / 2)
            h = self.enlarge(h)  # (B, width, H, W)
            e = concat_elu(h)
        for block in self.up:
            h = block(h, e, [kept.pop(), next(others)] if self.second else [kept.pop()], told)
            e = concat_elu(h)
            said.append(e)
        return h, [said, *deeper]


class RememberingLevel:
    """What `Level` computes, a few places at a time: a row of the first stream, a place of the second.

    Parameters
    ----------
    level : Level
        The layers.
    size : int
        Height and width of their maps.
    """

    def __init__(self, level: Level, size: int) -> None:
        self.level, self.size = level, size
        blocks = (*level.down, *level.up)
        self.convs = {block: [Remembering(conv, size) for conv in (block.first, block.second)] for block in blocks}
        self.enlarged: Tensor | None = None  # (B, width, size, size): what has come up from the level below
        if level.below is not None:
            self.halve = Remembering(level.halve, size)
            self.below = RememberingLevel(level.below, size // 2)

    def __call__(
        self, h: Tensor, told: Tensor, row: int, column: int, heard: Said | None = None
    ) -> tuple[Tensor, Said]:
        """Return what `Level` does, ``(B, width, 1, n)``, for its input ``(B, width, 1, n)`` from a place on.

        All that the first stream says of the row must be in `heard`.
        """
        level, n = self.level, h.shape[3]

        def step(block: Block, h: Tensor, e: Tensor, heard: list[Tensor]) -> Tensor:
            first, second = (lambda given, conv=conv: conv(given, row, column) for conv in self.convs[block])
            return block(h, e, heard, told, first, second)

        others = iter([e[:, :, :, column : column + n] for e in heard[level.depth]]) if level.second else None
        e = concat_elu(h)  # (B, 2 * width, 1, n)
        kept, said, deeper = [e], [], []
        for block in level.down:
            h = step(block, h, e, [next(others)] if level.second else [])
            e = concat_elu(h)
            kept.append(e)
            said.append(e)
        if level.below is None:
            kept.pop()
        else:
            self.halve.write(h, row, column)
            if row % 2 == 0 and column % 2 == 0:
                half = max(n // 2, 1)
                low = self.halve.read(row // 2, column // 2, half)
                low, deeper = self.below(low, told, row // 2, column // 2, heard)  # (B, width, 1, half)
                self._enlarge(low, row, column)
            h = self.enlarged[:, :, row : row + 1, column : column + n]
            e = concat_elu(h)
        for block in level.up:
            h = step(block, h, e, [kept.pop(), next(others)] if level.second else [kept.pop()])
            e = concat_elu(h)
            said.append(e)
        return h, [said, *deeper]

    def _enlarge(self, low: Tensor, row: int, column: int) -> None:
        """Take note of two rows, or of a square of four places, that a row or a place of the level below determines."""
        high = self.level.enlarge(low)  # (B, width, 2, n or 2)
        if self.enlarged is None:
            self.enlarged = high.new_zeros(*high.shape[:2], self.size, self.size)
        self.enlarged[:, :, row : row + 2, column : column + high.shape[3]] = high


class PixelCNNPPNetwork(nn.Module):
    """Say of each place of a grid what the symbols before it mean for its own.

    Parameters
    ----------
    config : PixelCNNPP
        The sizes.
    """

    def __init__(self, config: PixelCNNPP) -> None:
        super().__init__()
        self.config, width = config, config.width
        self.embedding = SymbolEmbedding(config.grid, width)
        self.conditions = Conditions(config.grid.conditions, width)
        channels = self.embedding.channels + 1  # one of ones
        self.rows_above = ShiftedConv(channels, width, (2, 3), right=1, shift=(1, 0))
        self.row_above = ShiftedConv(channels, width, (1, 3), right=1, shift=(1, 0))
        self.left = ShiftedConv(channels, width, (2, 1), shift=(0, 1))
        self.first, self.second = Level(config, second=False), Level(config, second=True)
        self.head = Pointwise(width, config.grid.numbers)

    def forward(self, symbols: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return parameters ``(B, outputs, H, W)`` of each place's distribution.

        Parameters
        ----------
        symbols : Tensor
            ``(B, C, H, W)``, int64 or, to differentiate by them, floating-point.
        cond : Tensor, optional
            int64 ``(B, K)``, one column for each of ``grid.conditions``; None tells nothing.

        Raises
        ------
        InputError
            If symbols or conditions do not fit the network.
        """
        check_symbols(self.config.grid, symbols)
        told = self.conditions(cond, len(symbols))  # (B, width)
        x = self._embed(symbols)  # (B, channels, H, W)
        _, said = self.first(self.rows_above(x), told)
        h, _ = self.second(self.row_above(x) + self.left(x), told, said)  # (B, width, H, W)
        return self.head(elu(h))

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return a function that says the same of one place, ``at(row, column) -> (B, outputs)``.

        It must be called for all places in turn, and reads of `symbols` no more than the place before each.
        """
        check_symbols(self.config.grid, symbols)
        size = self.config.grid.size
        told = self.conditions(cond, len(symbols))  # (B, width)
        stems = [Remembering(conv, size) for conv in (self.rows_above, self.row_above, self.left)]
        rows_above, row_above, left = stems
        first, second = RememberingLevel(self.first, size), RememberingLevel(self.second, size)
        said: Said = [[] for _ in range(self.config.resolutions)]
        nothing = 0 * self._embed(symbols[:, :, :1, :1])  # (B, channels, 1, 1)

        @torch.no_grad()
        def at(row: int, column: int) -> Tensor:
            before = divmod(row * size + column - 1, size)
            if before < (0, 0):
                for stem in stems:
                    stem.write(nothing, 0, 0)
            else:
                known = self._embed(symbols[:, :, before[0], before[1], None, None])
                for stem in stems:
                    stem.write(known, *before)
            if column == 0:
                _, new = first(rows_above.read(row, 0, size), told, row, 0)
                said[: len(new)] = new  # lower resolutions have a new row only if this one's number is even
            h = row_above.read(row, column, 1) + left.read(row, column, 1)  # (B, width, 1, 1)
            h, _ = second(h, told, row, column, said)
            return self.head(elu(h)).flatten(1)  # (B, outputs)

        return at

    def _embed(self, symbols: Tensor) -> Tensor:
        """Return symbols as maps, with one of ones: ``(B, channels, H, W)``."""
        x = self.embedding(symbols)
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
