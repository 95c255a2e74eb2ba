"""U-Net: Ronneberger, Fischer & Brox 2015, "U-Net: convolutional networks for biomedical image segmentation".

https://arxiv.org/abs/1505.04597, figure 1: a path down that halves the resolution and widens the channels, a path up
that mirrors it, and at each resolution a connection that carries maps across, where they are concatenated.

Deviations are those of Ho et al. 2020, "Denoising diffusion probabilistic models", https://arxiv.org/abs/2006.11239,
appendix B, and of its code: residual blocks with group normalisation; padding, so that output and input have one size;
strided convolutions instead of pooling, nearest neighbours and a convolution instead of transposed convolutions; each
map of the path down, not only the last of its resolution, is carried across; the last convolution starts at zero; a
condition may enter in every block; at the lowest resolution, places may attend to each other (there at 16x16), and to a
context such as the words of a caption (Rombach et al. 2022, https://arxiv.org/abs/2112.10752, section 3.3). Not taken over
from there: dropout. Added: the input can be cut into patches that become channels (space to depth), which saves time,
and two convolutions at full resolution can follow, without which patches leave a faint grid.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from gencore.errors import InputError
from gencore.networks.blocks import GROUPS, Downsample, ResidualBlock, Upsample, zero_init
from gencore.networks.transformer import Attention


@dataclass(frozen=True)
class UNet:
    """Sizes of a U-Net.

    Attributes
    ----------
    channels : int
        Channels of the input.
    out_channels : int, optional
        Channels of the output; by default those of the input.
    width : int
        Channels of the hidden maps at the highest resolution, a multiple of 8.
    multipliers : tuple of int
        One for each resolution, from the highest to the lowest, each half the one before: channels in units of `width`.
    blocks_per_level : int
        Residual blocks at each resolution of the path down; the path up has one more.
    embedding : int
        Length of the vector that conditions every block; 0 for none.
    patch : int
        1, or the side of the square of pixels that becomes channels before the first convolution.
    heads : int
        Heads of the attention that follows each block at the lowest resolution; 0 for none.
    finish : int
        Channels of two convolutions at full resolution, which see the input once more; 0 for none.
    context : int
        Length of the vectors, such as those of words, to which places attend at the lowest resolution; 0 for none.
    """

    channels: int = 1
    out_channels: int | None = None
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks_per_level: int = 1
    embedding: int = 0
    patch: int = 1
    heads: int = 0
    finish: int = 0
    context: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % GROUPS:
            raise InputError(f"width {self.width}: must be a positive multiple of {GROUPS}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise InputError(f"multipliers {self.multipliers}: give at least one, each 1 or more")
        for name in ("channels", "out_channels", "blocks_per_level", "patch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} {value}: must be 1 or more")
        if self.embedding < 0:
            raise InputError(f"embedding {self.embedding}: must be 0 (none) or the length of the conditioning vector")
        if self.heads < 0 or self.heads and self.width * self.multipliers[-1] % self.heads:
            raise InputError(f"heads {self.heads}: must be 0 (none) or a divisor of the channels at the lowest resolution")
        if self.finish < 0:
            raise InputError(f"finish {self.finish}: must be 0 (none) or the channels of the last convolutions")
        if self.context < 0 or self.context and not self.heads:
            raise InputError(f"context {self.context}: must be 0 (none), or the length of its vectors, and heads to attend")

    @property
    def divisor(self) -> int:
        """Height and width of the images must be multiples of this number."""
        return self.patch << (len(self.multipliers) - 1)


class MapAttention(nn.Module):
    """Let each place of a map gather from all others, or from a context; it starts as the identity.

    Parameters
    ----------
    channels, heads : int
        Channels of the map, and heads that share them.
    context : int, optional
        Length of the context's vectors, if places gather from those.
    """

    def __init__(self, channels: int, heads: int, context: int | None = None) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(GROUPS, channels)
        self.attention = Attention(channels, heads, context)
        zero_init(self.attention.out)

    def forward(self, h: Tensor, context: Tensor | None = None) -> Tensor:
        """Return ``(B, C, H, W)`` for ``(B, C, H, W)`` and, if places gather from one, a context ``(B, M, context)``."""
        return h + self.attention(self.tokens(h), context).transpose(1, 2).unflatten(2, h.shape[2:])

    def tokens(self, h: Tensor) -> Tensor:
        """Return the normalised places of a map ``(B, C, H, W)``, row by row: ``(B, HW, C)``."""
        return self.norm(h).flatten(2).transpose(1, 2)


class AttendingBlock(nn.Module):
    """A residual block, attention among places after it, and attention to a context if there is one."""

    def __init__(self, block: ResidualBlock, attention: MapAttention, cross: MapAttention | None = None) -> None:
        super().__init__()
        self.block, self.attention, self.cross = block, attention, cross

    def forward(self, h: Tensor, embedding: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Return ``(B, out_channels, H, W)`` for ``(B, channels, H, W)``.

        If conditioned, by a vector ``(B, E)`` and by a context ``(B, M, context)``.
        """
        h = self.attention(self.block(h, embedding))
        return h if self.cross is None else self.cross(h, context)


class UNetNetwork(nn.Module):
    """Map an image to an image of the same size.

    Parameters
    ----------
    config : UNet
        The sizes.
    """

    def __init__(self, config: UNet) -> None:
        super().__init__()
        self.config = config
        pixels = config.patch**2
        widths = [config.width * multiplier for multiplier in config.multipliers]
        width, carried = widths[0], [widths[0]]  # channels of the current map, and of the maps to be carried across
        self.stem = nn.Conv2d(pixels * config.channels, width, 3, padding=1)
        self.down = nn.ModuleList()
        for level, next_width in enumerate(widths):
            if level:
                self.down.append(Downsample(width))
                carried.append(width)
            for _ in range(config.blocks_per_level):
                self.down.append(self._block(width, next_width, level))
                width = next_width
                carried.append(width)
        self.middle = nn.ModuleList([self._block(width, width, level) for _ in range(2)])
        self.up = nn.ModuleList()
        for level, next_width in reversed(list(enumerate(widths))):
            for _ in range(config.blocks_per_level + 1):
                self.up.append(self._block(width + carried.pop(), next_width, level))
                width = next_width
            if level:
                self.up.append(Upsample(width))
        out_channels = config.channels if config.out_channels is None else config.out_channels
        self.norm = nn.GroupNorm(GROUPS, width)
        self.finish = None
        if config.finish:
            self.finish = nn.Conv2d(config.finish + config.channels, config.finish, 3, padding=1)
            self.head = nn.Conv2d(width, pixels * config.finish, 3, padding=1)
            self.last = zero_init(nn.Conv2d(config.finish, out_channels, 3, padding=1))
        else:
            self.head = zero_init(nn.Conv2d(width, pixels * out_channels, 3, padding=1))

    def forward(self, x: Tensor, embedding: Tensor | None = None, context: Tensor | None = None) -> Tensor:
        """Return ``(B, out_channels, H, W)``, unbounded, for images ``(B, channels, H, W)``.

        Parameters
        ----------
        x : Tensor
            Height and width are multiples of ``config.divisor``.
        embedding : Tensor, optional
            ``(B, config.embedding)``; must be there if, and only if, the network was built for it.
        context : Tensor, optional
            ``(B, M, config.context)``, of any length ``M``; likewise.

        Raises
        ------
        InputError
            If the size of the images, of the embedding or of the context does not fit.
        """
        self._check(x, embedding, context)
        h = self.stem(pixel_unshuffle(x, self.config.patch))  # (B, W, H/patch, W/patch)
        carried = [h]
        for layer in self.down:
            h = layer(h) if isinstance(layer, Downsample) else _block(layer, h, embedding, context)
            carried.append(h)
        for block in self.middle:
            h = _block(block, h, embedding, context)  # (B, C, H/divisor, W/divisor)
        for layer in self.up:
            if isinstance(layer, Upsample):
                h = layer(h)
            else:
                h = _block(layer, torch.cat([h, carried.pop()], dim=1), embedding, context)
        h = pixel_shuffle(self.head(silu(self.norm(h))), self.config.patch)  # (B, finish or out_channels, H, W)
        if self.finish is not None:
            h = self.last(silu(self.finish(torch.cat([silu(h), x], dim=1))))  # (B, out_channels, H, W)
        return h

    def _block(self, channels: int, out_channels: int, level: int) -> nn.Module:
        """Return a residual block, with attention if it stands at the lowest resolution and the network has heads."""
        block = ResidualBlock(channels, out_channels, self.config.embedding)
        lowest = level == len(self.config.multipliers) - 1
        if not (lowest and self.config.heads):
            return block
        heads, context = self.config.heads, self.config.context
        cross = MapAttention(out_channels, heads, context) if context else None
        return AttendingBlock(block, MapAttention(out_channels, heads), cross)

    def _check(self, x: Tensor, embedding: Tensor | None, context: Tensor | None) -> None:
        height, width = x.shape[-2:]
        if height % self.config.divisor or width % self.config.divisor:
            raise InputError(f"image of {height}x{width}: this U-Net takes multiples of {self.config.divisor}")
        expected = (len(x), self.config.embedding) if self.config.embedding else None
        given = None if embedding is None else tuple(embedding.shape)
        if given != expected:
            raise InputError(f"embedding: this U-Net takes {expected or 'none'}, but got {given or 'none'}")
        length = 0 if context is None else context.shape[-1]
        if length != self.config.context:
            raise InputError(f"context of length {length}: this U-Net takes {self.config.context} (0: none)")


def _block(block: nn.Module, h: Tensor, embedding: Tensor | None, context: Tensor | None) -> Tensor:
    """Pass a map through a block with what concerns it: only blocks that attend look at the context."""
    return block(h, embedding, context) if isinstance(block, AttendingBlock) else block(h, embedding)
