"""A network that paints: Johnson, Alahi & Fei-Fei 2016, told which of several paintings to follow by Dumoulin et al. 2017.

"Perceptual losses for real-time style transfer and super-resolution", https://arxiv.org/abs/1603.08155, and its supplement,
table 1: a 9x9 convolution, two that halve, residual blocks, two doublings, a 9x9 convolution. "A learned representation for
artistic style", https://arxiv.org/abs/1610.07629, equation 5 and table 4: all weights are shared by all styles but the scale
and the shift of each normalisation, so that a style is a row of numbers, and rows can be mixed. Equation numbers (STY.n) are
those of the chapter "Style transfer".

Deviations: instance instead of batch normalisation (Ulyanov et al. 2016, https://arxiv.org/abs/1607.08022), as in the second
paper; borders are mirrored instead of filled with zeros, doublings repeat pixels and convolve, also as there; nothing is
normalised after the last convolution; the numbers of channels are free, and a quarter of the papers' will do; what the network
computes is added to the photograph in colours of the style, before the squashing that ends it, and is nothing at first, so that
it begins with a picture and spares its few channels the task to carry one. The last style is to leave the photograph as it is.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from gencore.errors import InputError
from gencore.networks.blocks import zero_init

EPSILON = 1e-5  # added to variances, as PyTorch does
HELD = 0.95  # what photographs are multiplied by first: the inverse of the squashing is infinite at 1


@dataclass(frozen=True)
class ImageTransform:
    """Sizes of a painting network.

    Attributes
    ----------
    styles : int
        How many rows of scales and shifts it has: one for each painting, and the last for the photograph as it is.
    width : int
        Channels at full resolution; twice as many at half, four times as many at a quarter.
    blocks : int
        Residual blocks at a quarter of the resolution.
    norm : {"instance", "batch"}
        Over which values means and variances are taken: over each map, or over those of all pictures of a batch. The latter
        is for those who want to see what is wrong with it: it remembers nothing, and so needs batches to paint, too.
    """

    styles: int = 8
    width: int = 16
    blocks: int = 5
    norm: str = "instance"

    def __post_init__(self) -> None:
        if self.styles < 2:
            raise InputError(f"styles {self.styles}: must be 2 or more, since the last is the photograph as it is")
        for name in ("width", "blocks"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.norm not in ("instance", "batch"):
            raise InputError(f"norm {self.norm!r}: must be 'instance' or 'batch'")

    @property
    def divisor(self) -> int:
        """Height and width of the images must be multiples of this number."""
        return 4


class StyledConv(nn.Module):
    """A convolution with mirrored borders, and a normalisation whose scale and shift are those of a style.

    Parameters
    ----------
    channels, out_channels, kernel : int
        Of the convolution.
    config : ImageTransform
        How many styles there are, and what is normalised.
    stride : int
        2 to halve the resolution.
    double : bool
        Whether pixels are repeated first, which doubles the resolution.
    """

    def __init__(
        self, channels: int, out_channels: int, kernel: int, config: ImageTransform, stride: int = 1, double: bool = False
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out_channels, kernel, stride, bias=False)  # a shift follows
        self.scale = nn.Parameter(torch.ones(config.styles, out_channels))
        self.shift = nn.Parameter(torch.zeros(config.styles, out_channels))
        self.over = (2, 3) if config.norm == "instance" else (0, 2, 3)
        self.border, self.double = kernel // 2, double

    def forward(self, h: Tensor, mix: Tensor) -> Tensor:
        """Return ``(B, out_channels, H', W')`` for ``(B, channels, H, W)`` and shares of the styles ``(B, styles)``."""
        if self.double:
            h = interpolate(h, scale_factor=2.0, mode="nearest")
        h = self.conv(pad(h, (self.border,) * 4, mode="reflect")).float()  # variances need full precision
        variance, mean = torch.var_mean(h, self.over, correction=0, keepdim=True)
        h = (h - mean) * torch.rsqrt(variance + EPSILON)  # (STY.9)
        # Not a matrix product, which autocast would round to 8 bits.
        scale, shift = ((mix[:, :, None] * rows).sum(1) for rows in (self.scale, self.shift))  # (B, out_channels) each
        return scale[:, :, None, None] * h + shift[:, :, None, None]  # (STY.10)


class StyledBlock(nn.Module):
    """Add to a map what two styled convolutions make of it."""

    def __init__(self, channels: int, config: ImageTransform) -> None:
        super().__init__()
        self.first = StyledConv(channels, channels, 3, config)
        self.second = StyledConv(channels, channels, 3, config)

    def forward(self, h: Tensor, mix: Tensor) -> Tensor:
        """Return ``(B, C, H, W)`` for ``(B, C, H, W)`` and shares of the styles ``(B, styles)``."""
        return h + self.second(torch.relu(self.first(h, mix)), mix)


class ImageTransformNetwork(nn.Module):
    """Map a photograph to a painting of the same size.

    Parameters
    ----------
    config : ImageTransform
        The sizes.
    """

    def __init__(self, config: ImageTransform) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.down = nn.ModuleList([
            StyledConv(3, width, 9, config),
            StyledConv(width, 2 * width, 3, config, stride=2),
            StyledConv(2 * width, 4 * width, 3, config, stride=2),
        ])
        self.blocks = nn.ModuleList([StyledBlock(4 * width, config) for _ in range(config.blocks)])
        self.up = nn.ModuleList([
            StyledConv(4 * width, 2 * width, 3, config, double=True),
            StyledConv(2 * width, width, 3, config, double=True),
        ])
        self.colour_scale = nn.Parameter(torch.full((config.styles - 1, 3), 0.5))
        self.colour_shift = nn.Parameter(torch.zeros(config.styles - 1, 3))
        self.last = zero_init(nn.Conv2d(width, 3, 9))

    def forward(self, x: Tensor, mix: Tensor) -> Tensor:
        """Return pictures ``(B, 3, H, W)`` in (-1, 1) for photographs ``(B, 3, H, W)`` in [-1, 1].

        Parameters
        ----------
        x : Tensor
            Height and width are multiples of 4, and at least 20, so that borders can be mirrored.
        mix : Tensor
            Which style each is to follow: float ``(B, styles)``, a row of shares that sum to 1.

        Raises
        ------
        InputError
            If the size of the images, or the number of shares, does not fit.
        """
        height, width = x.shape[2:]
        if height % self.config.divisor or width % self.config.divisor or min(height, width) < 20:
            raise InputError(f"image of {height}x{width}: this network takes multiples of {self.config.divisor}, from 20 on")
        if mix.shape != (len(x), self.config.styles):
            raise InputError(f"mix {tuple(mix.shape)}: must be {(len(x), self.config.styles)}, a share for each style")
        h = x
        for layer in self.down:
            h = torch.relu(layer(h, mix))  # (B, W, H, W), (B, 2W, H/2, W/2), (B, 4W, H/4, W/4)
        for block in self.blocks:
            h = block(h, mix)
        for layer in self.up:
            h = torch.relu(layer(h, mix))  # (B, 2W, H/2, W/2), (B, W, H, W)
        change = self.last(pad(h, (4,) * 4, mode="reflect")).float()  # (B, 3, H, W)
        return torch.tanh(torch.atanh(HELD * self.recoloured(x, mix).clamp(-1, 1)) + change)

    def recoloured(self, x: Tensor, mix: Tensor) -> Tensor:
        """Return photographs ``(B, 3, H, W)`` with each channel's mean and deviation those of their style."""
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        normal = (x - mean) * torch.rsqrt(variance + EPSILON)
        scale, shift = ((mix[:, :-1, None] * rows).sum(1)[:, :, None, None] for rows in (self.colour_scale, self.colour_shift))
        return mix[:, -1, None, None, None] * x + scale * normal + shift
