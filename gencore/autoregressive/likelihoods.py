"""Distributions of one symbol, given the numbers that a network returns for its place.

Each has ``numbers(grid)`` (how many the network must return), ``log_prob``, ``probabilities`` (for coding) and ``draw``, which
turns uniform numbers into symbols by the inverse of the distribution function: what is drawn follows from them alone,
whoever computes the parameters. All compute in float32 at least, whatever autocast gave. Equation numbers (PC.n) are those of
the chapter "Masked convolutions".
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.networks.symbols import Grid


@dataclass(frozen=True)
class Categorical:
    """A probability for each value, by a softmax; the channels of a place have one each."""

    def numbers(self, grid: Grid) -> int:
        """Return how many numbers a place needs: a logit for each value of each channel."""
        return grid.levels * grid.channels

    def draws(self, grid: Grid) -> int:
        """Return how many uniform numbers it takes to draw a place."""
        return grid.channels

    def rounds(self, grid: Grid) -> int:
        """Return how often a place must be asked until it is written: each round settles one channel more."""
        return grid.channels

    def log_prob(self, params: Tensor, symbols: Tensor) -> Tensor:
        """Return the log-probability of each place in nats, ``(B, H, W)``.

        Parameters
        ----------
        params : Tensor
            ``(B, C * levels, H, W)``, the logits of the first channel first.
        symbols : Tensor
            int64 ``(B, C, H, W)``.
        """
        log_p = self._logits(params, symbols.shape[1]).log_softmax(2)  # (B, C, levels, H, W)
        return log_p.gather(2, symbols[:, :, None]).sum((1, 2))

    def probabilities(self, params: Tensor, channels: int = 1) -> Tensor:
        """Return each value's probability, ``(B, C, levels, ...)``, for logits ``(B, C * levels, ...)``."""
        return self._logits(params, channels).softmax(2)

    def draw(self, params: Tensor, u: Tensor, temperature: float = 1.0, top_p: float = 1.0) -> Tensor:
        """Return symbols, int64 ``(B, C)``, for logits ``(B, C * levels)`` and uniform numbers ``(B, C)``.

        Parameters
        ----------
        params, u : Tensor
            Logits of one place, and what decides.
        temperature : float
            Divides the logits; below 1 the likely becomes likelier. 0 takes the likeliest.
        top_p : float
            Only the likeliest values are drawn that together reach this probability (Holtzman et al. 2020,
            https://arxiv.org/abs/1904.09751, section 3.1).
        """
        logits = self._logits(params, u.shape[1])  # (B, C, levels)
        if temperature == 0:
            return logits.argmax(2)
        p = (logits / temperature).softmax(2)
        if top_p < 1:
            p = nucleus(p, top_p)
        return draw_categorical(p, u)

    def _logits(self, params: Tensor, channels: int) -> Tensor:
        return at_least_float32(params).unflatten(1, (channels, -1))  # (B, C, levels, ...)


def nucleus(p: Tensor, top_p: float) -> Tensor:
    """Return probabilities ``(..., levels)`` with all but the likeliest values, which together reach `top_p`, at zero."""
    falling, order = p.sort(dim=-1, descending=True)
    before = falling.cumsum(-1) - falling  # probability of all that are likelier
    kept = torch.where(before < top_p, falling, 0.0)
    return torch.zeros_like(p).scatter(-1, order, kept)


def draw_categorical(p: Tensor, u: Tensor) -> Tensor:
    """Return int64 ``(...)``: the values that uniform numbers ``(...)`` pick by weights ``(..., levels)``, of any sum."""
    edges = p.double().cumsum(-1)  # (..., levels)
    below = edges <= (u.double() * edges[..., -1])[..., None]
    return below.sum(-1).clamp(max=p.shape[-1] - 1)


def at_least_float32(params: Tensor) -> Tensor:
    """Return what autocast made narrow in float32, anything else as it is."""
    return params.float() if params.dtype in (torch.bfloat16, torch.float16) else params
