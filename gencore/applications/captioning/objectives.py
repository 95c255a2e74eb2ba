"""What a captioner minimises: the surprise of each word, given the picture and the words before it.

Xu et al. 2015, https://arxiv.org/abs/1502.03044, equation 14, first term.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from gencore.data.wording import END
from gencore.errors import InputError
from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The networks: one, ``model(x, captions, language, u)``."""

    model: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation.

    Attributes
    ----------
    language : Tensor
        int64 ``(B,)``: in which language each caption is.
    dropped : Tensor or None
        Uniform in [0, 1), ``(B, *noise_shape)``, for networks that leave channels out in training.
    """

    language: Tensor
    dropped: Tensor | None = None


@dataclass(frozen=True)
class NextWord:
    """The mean surprise of a word.

    Attributes
    ----------
    smoothing : float
        Share of the answer that is spread evenly over all words (Szegedy et al. 2016, https://arxiv.org/abs/1512.00567,
        section 7): the network is to be less sure of itself.
    """

    smoothing: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.smoothing < 1:
            raise InputError(f"smoothing {self.smoothing}: must be at least 0 and below 1")

    def __call__(self, networks: Networks, x: Tensor, captions: Tensor, draw: Draw) -> Loss:
        """Return the mean surprise of a word of the batch, in nats.

        Parameters
        ----------
        networks : Networks
            The model.
        x : Tensor
            Pictures ``(B, C, H, W)`` in [-1, 1].
        captions : Tensor
            One for each, int64 ``(B, L)``. Words count up to the end, which is the last that does.
        draw : Draw
            Languages, and what dropout takes.

        Returns
        -------
        Loss
            Parts: ``nats`` of a word, without smoothing, and ``right``, the share of words that are the likeliest ones.
        """
        log_p = networks.model(x, captions, draw.language, draw.dropped).float().log_softmax(2)  # (B, L, words)
        counted = written(captions)  # (B, L)
        share = counted / counted.sum()
        nats = -(log_p.gather(2, captions[:, :, None])[:, :, 0] * share).sum()
        total = (1 - self.smoothing) * nats - self.smoothing * (log_p.mean(2) * share).sum()
        right = ((log_p.argmax(2) == captions) * share).sum()
        return Loss(total, {"nats": nats, "right": right})


def written(captions: Tensor) -> Tensor:
    """Return which words of captions ``(B, L)`` are written, bool ``(B, L)``: those up to the first end, and it."""
    ends = captions == END
    return ends.cumsum(1) - ends.long() == 0
