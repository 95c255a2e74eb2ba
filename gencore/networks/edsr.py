"""EDSR: Lim et al. 2017, "Enhanced deep residual networks for single image super-resolution".

https://arxiv.org/abs/1707.02921, figures 2(c) and 3: residual blocks of two convolutions without normalisation, all at the
small size, one connection around them all, and a sub-pixel convolution at the end (Shi et al. 2016,
https://arxiv.org/abs/1609.05158, equation 4): a convolution to r² times the channels, whose numbers are laid out as r x r
pixels. It is SRResNet (Ledig et al. 2017, https://arxiv.org/abs/1609.04802) without its batch normalisation.

Deviations: the network adds its output to the bicubic enlargement, and starts as that, since its last convolution starts at
zero (Kim et al. 2016, https://arxiv.org/abs/1511.04587, learn such a residual); it goes from the small size to the large
one in one step, also where the paper takes two of x2, and with ``finish`` channels in place of all; the sizes are those
that this book trains, a seventieth of the paper's.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, relu

from gencore.errors import InputError
from gencore.networks.bicubic import enlarge
from gencore.networks.blocks import zero_init


@dataclass(frozen=True)
class EDSR:
    """Sizes of the network.

    Attributes
    ----------
    times : int
        How many times larger each side becomes.
    channels : int
        1 for grey, 3 for colour.
    width : int
        Channels of the hidden maps at the small size.
    blocks : int
        Residual blocks.
    finish : int
        Channels of the hidden map at the large size.
    scaling : float
        Factor of what a block adds; the paper takes 0.1 where ``width`` is 256.
    """

    times: int = 4
    channels: int = 3
    width: int = 48
    blocks: int = 11
    finish: int = 16
    scaling: float = 1.0

    def __post_init__(self) -> None:
        for name in ("times", "channels", "width", "blocks", "finish"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if self.scaling <= 0:
            raise InputError(f"scaling {self.scaling}: must be positive")

    @property
    def reach(self) -> int:
        """Pixels of the small picture, in each direction, that a pixel of the large one depends on."""
        return 2 * self.blocks + 4  # a pixel a convolution, and one for the last, which sees less than that


class EDSRBlock(nn.Module):
    """Add to a map what two convolutions make of it; neither is normalised, and nothing follows the sum."""

    def __init__(self, width: int, scaling: float) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.scaling = scaling

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, width, h, w)`` for ``(B, width, h, w)``."""
        return h + self.scaling * self.conv2(relu(self.conv1(h)))


class EDSRNetwork(nn.Module):
    """Map a picture to one that is larger; a new network is bicubic interpolation.

    Parameters
    ----------
    config : EDSR
        The sizes.
    """

    def __init__(self, config: EDSR) -> None:
        super().__init__()
        self.config = config
        self.stem = nn.Conv2d(config.channels, config.width, 3, padding=1)
        self.blocks = nn.ModuleList([EDSRBlock(config.width, config.scaling) for _ in range(config.blocks)])
        self.body = nn.Conv2d(config.width, config.width, 3, padding=1)
        self.subpixel = nn.Conv2d(config.width, config.times**2 * config.finish, 3, padding=1)
        self.head = zero_init(nn.Conv2d(config.finish, config.channels, 3, padding=1))

    def forward(self, low: Tensor) -> Tensor:
        """Return ``(B, channels, times h, times w)``, unbounded, for images ``(B, channels, h, w)`` in [-1, 1]."""
        start = h = self.stem(low)  # (B, width, h, w)
        for block in self.blocks:
            h = block(h)
        h = start + self.body(h)
        h = relu(pixel_shuffle(self.subpixel(h), self.config.times))  # (B, finish, H, W)
        return enlarge(low, self.config.times) + self.head(h)
