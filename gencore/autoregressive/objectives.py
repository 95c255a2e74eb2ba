"""What an autoregressive model minimises: the negative log-likelihood, one symbol after the other.

Equation numbers (PR.n) are those of the chapter "Pixel by pixel".
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from gencore.autoregressive.likelihoods import Categorical, LogisticMixture, at_least_float32
from gencore.data.wording import END
from gencore.errors import InputError
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


@dataclass(frozen=True)
class WordsThenSymbols:
    """The surprise of a caption's words, then of its picture's symbols: Ramesh et al. 2021, section 2.2.

    https://arxiv.org/abs/2102.12092. The picture is what matters, hence the weights. A caption counts by the mean of its
    words, the end included and what follows it left out; one that is not told (see `gencore.data.told`) counts nothing.

    Attributes
    ----------
    words : float
        Weight of the mean surprise of a word; that of a symbol has the rest of 1.
    likelihood : Categorical
        The distribution of one place.
    """

    words: float = 0.125
    likelihood: Categorical = Categorical()

    def __post_init__(self) -> None:
        if not 0 <= self.words < 1:
            raise InputError(f"words {self.words}: the words' share of the loss must be at least 0 and below 1")

    def __call__(self, networks: Networks, symbols: Tensor, cond: Tensor, draw: Draw) -> Loss:
        """Return the weighted mean surprise of a word and of a symbol.

        Parameters
        ----------
        networks : Networks
            The model; asked for words, it says of them, too.
        symbols : Tensor
            int64 ``(B, 1, H, W)``.
        cond : Tensor
            Captions, int64 ``(B, L)``.
        draw : Draw
            What dropout takes.

        Returns
        -------
        Loss
            Parts: ``nats`` of a whole picture, and ``words``, nats of a word, 0 for a caption that is not told.
        """
        said, of_words = networks.model(symbols, cond, draw.dropped, True)  # (B, levels, H, W), (B, L, words)
        log_p = self.likelihood.log_prob(said, symbols)  # (B, H, W)
        nats = -log_p.sum((1, 2)).mean()
        counted = spoken(cond)  # (B, L)
        surprise = -at_least_float32(of_words).log_softmax(2).gather(2, cond[:, :, None])[:, :, 0] * counted  # (B, L)
        a_word = (surprise.sum(1) / counted.sum(1).clamp(min=1)).mean()
        total = self.words * a_word + (1 - self.words) * nats / log_p[0].numel()
        return Loss(total, {"nats": nats, "words": a_word})

    def needs(self, grid: Grid) -> int:
        """Return how many numbers the network must return for each place."""
        return self.likelihood.numbers(grid)


def spoken(captions: Tensor) -> Tensor:
    """Return which words of captions ``(B, L)`` are said, bool ``(B, L)``: those up to the end, none of an empty caption."""
    ended = (captions == END).cumsum(1)
    return ((ended == 0) | (ended == 1) & (captions == END)) & (captions[:, :1] != END)
