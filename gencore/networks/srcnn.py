"""SRCNN: Dong, Loy, He & Tang 2014, "Learning a deep convolutional network for image super-resolution".

https://arxiv.org/abs/1501.00092, equations 1 to 3: a picture enlarged by bicubic interpolation passes through three
convolutions, which the paper reads as cutting patches out, mapping each to another representation, and putting patches
together again.

Deviations: the network sees and returns all three colours, as in the paper's section 4.5, not the luminance alone; the
borders are padded, so that the output has the size of its input; the enlargement belongs to the network; the first weights
are PyTorch's and not from N(0, 0.001²), with which three layers learn slowly for millions of steps.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import relu

from gencore.errors import InputError
from gencore.networks.bicubic import enlarge


@dataclass(frozen=True)
class SRCNN:
    """Sizes of the network.

    Attributes
    ----------
    times : int
        How many times larger each side becomes.
    channels : int
        1 for grey, 3 for colour.
    widths : tuple of int
        Channels after the first and the second convolution.
    kernels : tuple of int
        Sides of the three kernels, all odd.
    """

    times: int = 4
    channels: int = 3
    widths: tuple[int, ...] = (64, 32)
    kernels: tuple[int, ...] = (9, 1, 5)

    def __post_init__(self) -> None:
        for name in ("times", "channels"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        if len(self.widths) != 2 or min(self.widths) < 1:
            raise InputError(f"widths {self.widths}: give two, each 1 or more")
        if len(self.kernels) != 3 or any(side < 1 or side % 2 == 0 for side in self.kernels):
            raise InputError(f"kernels {self.kernels}: give three odd sides")

    @property
    def reach(self) -> int:
        """Pixels of the small picture, in each direction, that a pixel of the large one depends on."""
        pixels = sum(side // 2 for side in self.kernels)  # of the large picture
        return -(-pixels // self.times) + 2  # two more for bicubic interpolation


class SRCNNNetwork(nn.Module):
    """Map a picture to one that is larger.

    Parameters
    ----------
    config : SRCNN
        The sizes.
    """

    def __init__(self, config: SRCNN) -> None:
        super().__init__()
        self.config = config
        widths = (config.channels, *config.widths)
        sizes = zip(widths, config.widths, config.kernels, strict=False)
        self.hidden = nn.ModuleList([nn.Conv2d(old, new, side, padding=side // 2) for old, new, side in sizes])
        self.head = nn.Conv2d(widths[-1], config.channels, config.kernels[-1], padding=config.kernels[-1] // 2)

    def forward(self, low: Tensor) -> Tensor:
        """Return ``(B, channels, times h, times w)`` for images ``(B, channels, h, w)`` in [-1, 1]."""
        h = enlarge(low, self.config.times)  # (B, channels, H, W)
        for layer in self.hidden:
            h = relu(layer(h))  # equations 1 and 2
        return self.head(h)  # equation 3
