"""PixelCNN: van den Oord et al. 2016, "Pixel recurrent neural networks", https://arxiv.org/abs/1601.06759.

Section 3.5: a stack of convolutions that never see what comes later, because the weights that would see it are multiplied by
zero; section 3.4: mask A, in the first layer, also hides the place itself, mask B, in all others, shows it; colours of one
place are written red, green, blue, and hidden layers are divided among them; figure 5, left: the residual block; table 1:
the head. Equation numbers (PC.n) are those of the chapter "Masked convolutions".

Deviations: conditions shift the middle of each block, by one vector a value (van den Oord et al. 2016, "Conditional image
generation with PixelCNN decoders", https://arxiv.org/abs/1606.05328, equation 3).

The network cannot see everything that was written: what lies above and to the right beyond a slope is hidden from it, however
many layers there are. `gencore.networks.gated_pixelcnn` has no such blind spot.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, relu

from gencore.errors import InputError
from gencore.networks.embeddings import Conditions
from gencore.networks.incremental import Window
from gencore.networks.symbols import At, Grid, SymbolEmbedding, check_symbols


@dataclass(frozen=True)
class PixelCNN:
    """Sizes of a PixelCNN.

    Attributes
    ----------
    grid : Grid
        What is written.
    width : int
        Channels between blocks (the paper's 2h), a multiple of 2 and of twice the grid's channels.
    depth : int
        Residual blocks; at least one if there are conditions.
    kernel : int
        Side of the first layer's kernel, odd.
    inner : int
        Side of the kernels inside blocks, odd.
    """

    grid: Grid = Grid()
    width: int = 64
    depth: int = 7
    kernel: int = 7
    inner: int = 3

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % (2 * self.grid.channels):
            raise InputError(f"width {self.width}: must be a positive multiple of {2 * self.grid.channels}")
        if self.depth < (least := 1 if self.grid.conditions else 0):  # conditions are told to blocks
            raise InputError(f"depth {self.depth}: must be {least} or more")
        for name in ("kernel", "inner"):
            if getattr(self, name) < 1 or getattr(self, name) % 2 == 0:
                raise InputError(f"{name} {getattr(self, name)}: must be odd, so that a kernel has a middle")


def mask(kind: str, kernel: int, groups_in: Tensor, groups_out: Tensor) -> Tensor:
    """Return which weights of a convolution may see what they look at, float32 ``(out, in, kernel, kernel)``.

    Parameters
    ----------
    kind : {"A", "B"}
        Whether a channel may see its own colour at its own place (B) or only the colours before it (A).
    kernel : int
        Side of the kernel.
    groups_in, groups_out : Tensor
        int64 ``(in,)`` and ``(out,)``: to which colour each channel belongs.
    """
    middle = kernel // 2
    seen = torch.zeros(len(groups_out), len(groups_in), kernel, kernel)
    seen[:, :, :middle] = 1  # rows above
    seen[:, :, middle, :middle] = 1  # what lies to the left
    before = groups_in[None] < groups_out[:, None] if kind == "A" else groups_in[None] <= groups_out[:, None]
    seen[:, :, middle, middle] = before.float()  # (PC.3)
    return seen


def colours(channels: int, count: int) -> Tensor:
    """Return to which of ``count`` colours each channel belongs, int64 ``(channels,)``: equal shares, one after the other."""
    return torch.arange(channels) * count // channels


class MaskedConv2d(nn.Conv2d):
    """A convolution that sees only what was written before.

    Parameters
    ----------
    channels, out_channels, kernel : int
        Sizes; the map keeps its own.
    kind : {"A", "B"}
        As for `mask`.
    groups : int
        Colours among which the channels are divided.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int, kind: str, groups: int = 1) -> None:
        super().__init__(channels, out_channels, kernel, padding=kernel // 2)
        seen = mask(kind, kernel, colours(channels, groups), colours(out_channels, groups))
        self.register_buffer("mask", seen, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, out_channels, H, W)`` for ``(B, channels, H, W)``."""
        return conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)  # (PC.2)


class Block(nn.Module):
    """Squeeze, look around, widen, and add (figure 5, left).

    Parameters
    ----------
    config : PixelCNN
        The sizes.
    """

    def __init__(self, config: PixelCNN) -> None:
        super().__init__()
        width, groups = config.width, config.grid.channels
        self.squeeze = MaskedConv2d(width, width // 2, 1, "B", groups)
        self.look = MaskedConv2d(width // 2, width // 2, config.inner, "B", groups)
        self.told = Conditions(config.grid.conditions, width // 2)
        self.widen = MaskedConv2d(width // 2, width, 1, "B", groups)

    def forward(self, h: Tensor, cond: Tensor | None) -> Tensor:
        """Return ``(B, width, H, W)`` for ``(B, width, H, W)`` and int64 conditions ``(B, K)``."""
        r = self.squeeze(relu(h))  # (B, width / 2, H, W)
        r = self.look(relu(r)) + self.told(cond, len(h))[:, :, None, None]
        return h + self.widen(relu(r))


class PixelCNNNetwork(nn.Module):
    """Map a grid of symbols to the parameters of each place's distribution, given the places before it.

    Parameters
    ----------
    config : PixelCNN
        The sizes.
    """

    def __init__(self, config: PixelCNN) -> None:
        super().__init__()
        grid, width = config.grid, config.width
        self.config = config
        self.embed = SymbolEmbedding(grid, width)
        self.stem = MaskedConv2d(self.embed.channels, width, config.kernel, "A", grid.channels)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.depth)])
        self.mix = MaskedConv2d(width, width, 1, "B", grid.channels)
        self.head = MaskedConv2d(width, grid.numbers, 1, "B", grid.channels)

    def forward(self, symbols: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, numbers, H, W)`` for symbols ``(B, C, H, W)`` and int64 conditions ``(B, K)``.

        Raises
        ------
        InputError
            If symbols or conditions do not fit the network.
        """
        check_symbols(self.config.grid, symbols)
        h = self.stem(self.embed(symbols))  # (B, width, H, W)
        h = h.contiguous(memory_format=torch.channels_last)  # most kernels have side 1; a third of a bf16 step was reordering
        for block in self.blocks:
            h = block(h, cond)
        return self.head(relu(self.mix(relu(h))))

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return ``at(row, column) -> (B, numbers)``; see `gencore.networks.symbols`."""
        check_symbols(self.config.grid, symbols)
        batch, _, height, width = symbols.shape
        stem = Window(self.stem.weight * self.stem.mask, self.stem.bias, batch, height, width)
        inside = []
        for block in self.blocks:
            look = Window(block.look.weight * block.look.mask, block.look.bias, batch, height, width)
            inside.append((block, look, block.told(cond, batch)))

        def at(row: int, column: int) -> Tensor:
            if column:  # the neighbour has been written since; a symbol hidden by mask A counts for nothing
                stem.write(row, column - 1, self.embed(symbols[:, :, row, column - 1, None, None]).flatten(1))
            elif row:
                stem.write(row - 1, width - 1, self.embed(symbols[:, :, row - 1, width - 1, None, None]).flatten(1))
            stem.write(row, column, self.embed(symbols[:, :, row, column, None, None]).flatten(1))
            h = stem.read(row, column)  # (B, width)
            for block, window, shift in inside:
                window.write(row, column, relu(_single(block.squeeze, relu(h))))
                h = h + _single(block.widen, relu(window.read(row, column) + shift))
            return _single(self.head, relu(_single(self.mix, relu(h))))

        return at


def _single(layer: MaskedConv2d, h: Tensor) -> Tensor:
    """Return a convolution of kernel 1 at one place, ``(B, out)`` for ``(B, in)``."""
    return linear(h, (layer.weight * layer.mask)[:, :, 0, 0], layer.bias)
