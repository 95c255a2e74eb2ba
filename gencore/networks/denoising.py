"""A network that is told how much noise there is, and what the picture is to show.

The noise enters through the embedded time, as in Ho et al. 2020, https://arxiv.org/abs/2006.11239; what is to be seen
through one learned vector for each value of each condition, added to it, as in Dhariwal & Nichol 2021,
https://arxiv.org/abs/2105.05233, section 3.1. Each condition has one more vector, "not told": Ho & Salimans 2022,
https://arxiv.org/abs/2207.12598, train with it in place of some of the conditions.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.embeddings import TimeEmbedding, condition_tables, tell
from gencore.networks.unet import UNet, UNetNetwork


@dataclass(frozen=True)
class DenoisingUNet:
    """Sizes of a U-Net that is told time and conditions.

    Attributes
    ----------
    size : int
        Height and width of the images in pixels.
    unet : UNet
        The U-Net; ``unet.embedding`` is the length of the vector that tells.
    conditions : tuple of int
        For each condition, how many values it has: ``(10,)`` for the classes of digits. Empty: nothing is told but the time.
    """

    size: int = 28
    unet: UNet = UNet(embedding=128)
    conditions: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.size % self.unet.divisor:
            raise InputError(f"size {self.size}: this U-Net takes multiples of {self.unet.divisor}")
        if self.unet.embedding < 2 or self.unet.embedding % 2:
            raise InputError(f"unet.embedding {self.unet.embedding}: the time is told by an even number of at least 2")
        if any(count < 1 for count in self.conditions):
            raise InputError(f"conditions {self.conditions}: each has at least one value")

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.unet.channels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return self.channels, self.size, self.size


class Teller(nn.Module):
    """Make one vector of the time and the conditions.

    Parameters
    ----------
    conditions : tuple of int
        How many values each condition has; their number stands for "not told".
    width : int
        Length of the vector.
    """

    def __init__(self, conditions: tuple[int, ...], width: int) -> None:
        super().__init__()
        self.time = TimeEmbedding(width)
        self.tables = condition_tables(conditions, width)

    def forward(self, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return ``(B, width)`` for times ``(B,)`` and conditions, int64 ``(B, K)``; errors as in `embeddings.tell`."""
        return tell(self.time(t), self.tables, cond)  # (B, width)


class DenoisingUNetNetwork(nn.Module):
    """Map a noised picture, its time and its conditions to a prediction of the same shape: of picture, noise or a mix.

    Parameters
    ----------
    config : DenoisingUNet
        The sizes.
    """

    def __init__(self, config: DenoisingUNet) -> None:
        super().__init__()
        self.config = config
        self.teller = Teller(config.conditions, config.unet.embedding)
        self.unet = UNetNetwork(config.unet)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, C, H, W)`` for noised images ``(B, C, H, W)``, times ``(B,)`` in [0, 1], int64 conditions ``(B, K)``.

        Raises
        ------
        InputError
            If images or conditions do not fit the network.
        """
        return self.unet(x_t, self.teller(t, cond))
