"""Blocks of U-Nets: He et al. 2016, "Identity mappings in deep residual networks", as Ho et al. 2020 use them.

https://arxiv.org/abs/1603.05027, equation 1 and figure 4(e): normalisation and activation come before the convolution,
and nothing stands on the way of the sum.

Deviations, taken from "Denoising diffusion probabilistic models", https://arxiv.org/abs/2006.11239, appendix B, and its
code: group normalisation (Wu & He 2018, https://arxiv.org/abs/1803.08494) instead of batch normalisation, SiLU instead
of ReLU, and a second convolution that starts at zero, so that a new block is the identity. The condition enters by a
scale and a shift (FiLM: Perez et al. 2018, https://arxiv.org/abs/1709.07871), where Ho et al. only add a shift.

Beside them: what tells a convolution where it is (CoordConv: Liu et al. 2018, https://arxiv.org/abs/1807.03247).
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, silu

from gencore.errors import InputError

GROUPS = 8  # of each group normalisation; all numbers of channels are multiples of it


def doublings(size: int) -> int:
    """Return how often a size halves until it is 4, 5, 6 or 7: these have three binary digits, and a doubling adds one."""
    return max(0, size.bit_length() - 3)


def zero_init(layer: nn.Conv2d | nn.Linear) -> nn.Conv2d | nn.Linear:
    """Set the weights and the bias of a layer to zero, and return it."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def with_coordinates(x: Tensor) -> Tensor:
    """Return maps ``(B, C, H, W)`` with two more channels: each place's x and y, from -1 to 1, ``(B, C + 2, H, W)``.

    Convolutions treat all places alike, and attention does not know where they lie; "at the left" then means little.
    """
    height, width = x.shape[2:]
    across = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype).expand(height, -1)
    down = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)[:, None].expand(-1, width)
    return torch.cat([x, torch.stack([across, down]).expand(len(x), -1, -1, -1)], 1)


class ResidualBlock(nn.Module):
    """Add to the input what two convolutions make of it.

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output, multiples of 8. If they differ, a 1x1 convolution takes the input to the sum.
    embedding : int
        Length of the vector that conditions the block; 0 for none.
    """

    def __init__(self, channels: int, out_channels: int, embedding: int = 0) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(GROUPS, channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.film = nn.Linear(embedding, 2 * out_channels) if embedding else None
        self.norm2 = nn.GroupNorm(GROUPS, out_channels)
        self.conv2 = zero_init(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        self.shortcut = nn.Conv2d(channels, out_channels, 1) if channels != out_channels else nn.Identity()

    def forward(self, h: Tensor, embedding: Tensor | None = None) -> Tensor:
        """Return ``(B, out_channels, H, W)`` for ``(B, channels, H, W)`` and, if conditioned, a vector ``(B, E)``."""
        r = self.conv1(silu(self.norm1(h)))  # (B, out_channels, H, W)
        r = self.norm2(r)
        if self.film is not None:
            scale, shift = self.film(silu(embedding))[:, :, None, None].chunk(2, dim=1)  # (B, out_channels, 1, 1) each
            r = (1 + scale) * r + shift
        r = self.conv2(silu(r))
        return self.shortcut(h) + r  # equation 1


class Downsample(nn.Module):
    """Halve height and width by a convolution with stride 2.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, channels, H/2, W/2)`` for ``(B, channels, H, W)``; `InputError` if H or W is odd."""
        if h.shape[2] % 2 or h.shape[3] % 2:
            raise InputError(f"a map of {h.shape[2]}x{h.shape[3]} cannot be halved; height and width must be even")
        return self.conv(h)


class Upsample(nn.Module):
    """Double height and width by repeating pixels, then convolve: no checkerboard (Odena et al. 2016).

    https://distill.pub/2016/deconv-checkerboard/

    Parameters
    ----------
    channels : int
        Channels of input and output.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, channels, 2H, 2W)`` for ``(B, channels, H, W)``."""
        return self.conv(interpolate(h, scale_factor=2.0, mode="nearest"))
