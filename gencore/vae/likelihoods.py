"""Distributions of a picture given the decoder's numbers: pixels are independent once the latent variables are known.

Each has ``per_channel`` (how many numbers the decoder returns for each channel of a pixel), ``log_prob``, ``location``
(the picture that is shown) and ``sample``. All compute in float32 at least, whatever autocast gave. Equation numbers (VA.n)
are those of the chapter "Variational autoencoders".
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from gencore.errors import InputError

HALF_BIN = 1 / 255  # 256 grey levels from -1 to 1 lie two of these apart


@dataclass(frozen=True)
class Bernoulli:
    """Black or white pixels, one logit each. Grey values in between are taken as shares of white."""

    per_channel: ClassVar[int] = 1

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | z) in nats, ``(B,)``, for logits and images ``(B, C, H, W)``, images in [-1, 1]."""
        log_probs = -binary_cross_entropy_with_logits(_at_least_float32(params), (x + 1) / 2, reduction="none")
        return log_probs.flatten(1).sum(1)

    def location(self, params: Tensor) -> Tensor:
        """Return each pixel's mean, in [-1, 1]."""
        return 2 * _at_least_float32(params).sigmoid() - 1

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a picture of -1 and 1."""
        return 2 * torch.bernoulli(_at_least_float32(params).sigmoid(), generator=generator) - 1


@dataclass(frozen=True)
class Gaussian:
    """Continuous pixels around the decoder's output, all with one standard deviation.

    Attributes
    ----------
    sigma : float
        The standard deviation, where images run from -1 to 1.
    """

    sigma: float = 0.2
    per_channel: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if not self.sigma > 0:
            raise InputError(f"sigma {self.sigma}: must be positive")

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Return the log-density of x given z in nats, ``(B,)``; it may be positive."""
        squared = ((x - _at_least_float32(params)) / self.sigma).square().flatten(1)  # (B, CHW)
        return -0.5 * squared.sum(1) - squared.shape[1] * (math.log(self.sigma) + 0.5 * math.log(2 * math.pi))

    def location(self, params: Tensor) -> Tensor:
        """Return the decoder's output within [-1, 1]."""
        return _at_least_float32(params).clamp(-1, 1)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a draw, noise included; it may leave [-1, 1]."""
        noise = torch.randn(params.shape, generator=generator, device=params.device)
        return _at_least_float32(params) + self.sigma * noise


@dataclass(frozen=True)
class DiscretisedLogistic:
    """256 grey levels: the logistic distribution's probability of each level's interval.

    Kingma et al. 2016, https://arxiv.org/abs/1606.04934, section 5.2 and appendix; Salimans et al. 2017,
    https://arxiv.org/abs/1701.05517, section 2.1. The lowest level's interval reaches down to minus infinity, the
    highest one's up to infinity. The decoder returns all locations first, then the logarithms of all scales.
    """

    per_channel: ClassVar[int] = 2

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        """Return log p(x | z) in nats, ``(B,)``, for images ``(B, C, H, W)`` whose values are levels in [-1, 1]."""
        location, log_scale = self.split(params)
        narrowness = torch.exp(-log_scale)
        above = (x + HALF_BIN - location) * narrowness
        below = (x - HALF_BIN - location) * narrowness
        # sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - e^(b - a)): no difference of nearly equal numbers
        inside = logsigmoid(above) + logsigmoid(-below) + torch.log(-torch.expm1(below - above))
        log_probs = inside.where(x < 1 - HALF_BIN, logsigmoid(-below)).where(x > -1 + HALF_BIN, logsigmoid(above))
        return log_probs.flatten(1).sum(1)  # (VA.12)

    def location(self, params: Tensor) -> Tensor:
        """Return the middle of each pixel's distribution, within [-1, 1]."""
        return self.split(params)[0].clamp(-1, 1)

    def sample(self, params: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Return a draw, rounded to the nearest level."""
        location, log_scale = self.split(params)
        u = torch.rand(location.shape, generator=generator, device=params.device).clamp(1e-6, 1 - 1e-6)
        x = location + log_scale.exp() * torch.logit(u)
        return ((x.clamp(-1, 1) + 1) / (2 * HALF_BIN)).round() * 2 * HALF_BIN - 1

    def split(self, params: Tensor) -> tuple[Tensor, Tensor]:
        """Return locations and logarithms of scales, each ``(B, C, H, W)``."""
        location, log_scale = _at_least_float32(params).chunk(2, dim=1)  # (B, C, H, W) each
        return location, log_scale.clamp(-7, 3)


def _at_least_float32(params: Tensor) -> Tensor:
    """Return what autocast made narrow in float32, anything else as it is."""
    return params.float() if params.dtype in (torch.bfloat16, torch.float16) else params
