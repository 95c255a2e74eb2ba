"""Black-and-white pictures drawn from grey ones: a grey level is the probability of white."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Binarise:
    """Draw each pixel anew, -1 or 1, whenever a picture is seen (Burda et al. 2016, https://arxiv.org/abs/1509.00519)."""

    def __call__(self, x: Tensor, u: Tensor) -> Tensor:
        """Return pictures of -1 and 1 for grey ones in [-1, 1], given uniform numbers ``u`` in [0, 1) of the same shape."""
        return 2 * (u < (x + 1) / 2).float() - 1
