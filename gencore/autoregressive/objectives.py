"""What an autoregressive model minimises: the negative log-likelihood, one symbol after the other.

Equation numbers (PR.n) are those of the chapter "Pixel by pixel".
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from gencore.autoregressive.likelihoods import Categorical, LogisticMixture
from gencore.networks.symbols import Grid
from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The networks of this family: one, ``model(symbols, cond)``."""

    model: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation.

    Attributes
    ----------
    dropped : Tensor or None
        Uniform in [0, 1), ``(B, *noise_shape)``, for networks that leave channels out in training.
    ratio, order : Tensor or None
        Uniform in [0, 1), ``(B,)`` and ``(B, N)``, for objectives that hide symbols: how many, and which.
    """

    dropped: Tensor | None = None
    ratio: Tensor | None = None
    order: Tensor | None = None


@dataclass(frozen=True)
class NextSymbol:
    """Each symbol's surprise, given those before it: together the exact negative log-likelihood of the picture.

    Attributes
    ----------
    likelihood : Categorical or LogisticMixture
        The distribution of one place.
    """

    likelihood: Categorical | LogisticMixture = Categorical()

    def __call__(self, networks: Networks, symbols: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the mean surprise of a place.

        Parameters
        ----------
        networks : Networks
            The model.
        symbols : Tensor
            int64 ``(B, C, H, W)``.
        cond : Tensor or None
            Conditions, int64 ``(B, K)``.
        draw : Draw
            What dropout takes.

        Returns
        -------
        Loss
            Parts: ``nats`` of a whole picture.
        """
        extra = () if draw.dropped is None else (draw.dropped,)
        log_p = self.likelihood.log_prob(networks.model(symbols, cond, *extra), symbols)  # (B, H, W)
        nats = -log_p.sum((1, 2)).mean()  # (PR.3)
        return Loss(nats / log_p[0].numel(), {"nats": nats})

    def needs(self, grid: Grid) -> int:
        """Return how many numbers the network must return for each place."""
        return self.likelihood.numbers(grid)
