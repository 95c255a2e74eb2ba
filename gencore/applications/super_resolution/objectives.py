"""What a network that enlarges pictures minimises: its error pixel by pixel, in one of two measures.

Squared error: Dong et al. 2014, https://arxiv.org/abs/1501.00092, equation 4. Absolute error: Lim et al. 2017,
https://arxiv.org/abs/1707.02921, section 3.2, where it gave the smaller squared error too. Nothing here knows that pictures
are enlarged: any network that maps one picture to another can be trained by it.

What other networks add, a perceptual distance (Ledig et al. 2017, https://arxiv.org/abs/1609.04802, section 2.2) and an
adversary, is passed in by the loop: `gencore.vae.adversary` has both terms. Equation numbers (SR.n) are those of the chapter
"Super-resolution".
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

from torch import Tensor, nn

from gencore.errors import InputError
from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The network that is trained, averaged, shipped and loaded."""

    model: nn.Module


@dataclass(frozen=True)
class PixelError:
    """Error of a prediction, averaged over pixels and colours.

    Attributes
    ----------
    measure : {"absolute", "squared"}
        Of each number's difference. The squared error is least for the mean of what is possible, the absolute one for
        the median.
    weight : float
        Factor in the total, beside what others add.
    """

    measure: Literal["absolute", "squared"] = "absolute"
    weight: float = 1.0

    def __post_init__(self) -> None:
        if self.weight <= 0:
            raise InputError(f"weight {self.weight}: must be positive")

    def __call__(self, networks: Networks, given: Tensor, wanted: Tensor) -> Loss:
        """Return the loss of one batch; there is nothing random in it.

        Parameters
        ----------
        networks : Networks
            ``model`` maps what is given to what is wanted.
        given, wanted : Tensor
            Pictures in [-1, 1], such as ``(B, C, h, w)`` and ``(B, C, H, W)``.

        Returns
        -------
        Loss
            One part, ``absolute_error`` or ``squared_error``, without the weight; and the ``picture`` that was predicted.
        """
        picture = networks.model(given).float()  # (B, C, H, W)
        difference = picture - wanted
        error = difference.abs().mean() if self.measure == "absolute" else difference.square().mean()  # (SR.10)
        return Loss(self.weight * error, {f"{self.measure}_error": error}, picture=picture)
