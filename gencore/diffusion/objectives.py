"""What a denoiser minimises: squared error at random times, weighted in one of three ways.

Ho et al. 2020, https://arxiv.org/abs/2006.11239, equation 14; min-SNR: Hang et al. 2023,
https://arxiv.org/abs/2303.09556; Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1; times from a
logistic-normal law: Esser et al. 2024, https://arxiv.org/abs/2403.03206, section 3.1. Equation numbers (DD.n) are those of
the chapter "Denoising diffusion".
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.diffusion.denoiser import DATA_STD, Denoiser, Prediction, scale_of_error, target
from gencore.diffusion.process import Process, add_noise, log_snr
from gencore.errors import InputError
from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The networks of this family: one, ``model(x_t, t, cond)``."""

    model: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation: standard normal ``eps (B, C, H, W)``, and ``u (B,)`` uniform in [0, 1)."""

    eps: Tensor
    u: Tensor


INSIDE = 1e-5, 1 - 1e-5  # at the ends themselves, some predictions and weights divide by zero


@dataclass(frozen=True)
class UniformTimes:
    """All times alike."""

    def __call__(self, u: Tensor) -> Tensor:
        """Return times in (0, 1) for uniform numbers: the numbers themselves, kept off the ends."""
        return u.clamp(*INSIDE)


@dataclass(frozen=True)
class LogisticNormalTimes:
    """The logit of the time is normal: most times lie in the middle, where there is most to learn (Esser et al. 2024).

    Attributes
    ----------
    mean, std : float
        Of the logit. A negative mean favours little noise.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise InputError(f"std {self.std}: must be positive")

    def __call__(self, u: Tensor) -> Tensor:
        """Return times in (0, 1) for uniform numbers."""
        inner = u.double().clamp(1e-6, 1 - 1e-6)  # or else infinite at 0; two draws in a million lie outside
        logit = self.mean + self.std * torch.special.ndtri(inner)
        return torch.sigmoid(logit).to(u).clamp(*INSIDE)


@dataclass(frozen=True)
class Simple:
    """Each error of the network's output counts the same (Ho et al. 2020, equation 14)."""

    def __call__(self, prediction: Prediction, process: Process, t: Tensor) -> Tensor:
        """Return the weight of the squared error of the output, ``(B,)``."""
        return torch.ones_like(t)  # (DD.12)


@dataclass(frozen=True)
class MinSNR:
    """Errors of the clean picture count as the signal-to-noise ratio, but no more than ``most`` (Hang et al. 2023).

    Attributes
    ----------
    most : float
        The paper's gamma.
    """

    most: float = 5.0

    def __post_init__(self) -> None:
        if self.most <= 0:
            raise InputError(f"most {self.most}: must be positive")

    def __call__(self, prediction: Prediction, process: Process, t: Tensor) -> Tensor:
        """Return the weight of the squared error of the output, ``(B,)``."""
        snr = torch.exp(2 * log_snr(process, t))
        return snr.clamp(max=self.most) * scale_of_error(prediction, process, t) ** 2


@dataclass(frozen=True)
class EDMWeight:
    """Errors of the clean picture count so that a preconditioned network's output counts the same at all times."""

    def __call__(self, prediction: Prediction, process: Process, t: Tensor) -> Tensor:
        """Return the weight of the squared error of the output, ``(B,)``."""
        ratio = process.sigma(t) / process.alpha(t)  # the paper's sigma, since its data are not scaled
        return (ratio**2 + DATA_STD**2) / (ratio * DATA_STD) ** 2 * scale_of_error(prediction, process, t) ** 2


@dataclass(frozen=True)
class Denoising:
    """Mean squared error of the network's output, at times drawn by one law and weighted by another.

    Attributes
    ----------
    times : UniformTimes or LogisticNormalTimes
        Where the network is asked.
    weight : Simple, MinSNR or EDMWeight
        How much an error counts there.
    """

    times: UniformTimes | LogisticNormalTimes = UniformTimes()
    weight: Simple | MinSNR | EDMWeight = Simple()

    def __call__(self, denoiser: Denoiser, x: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the mean weighted squared error of a pixel's channel.

        Parameters
        ----------
        denoiser : Denoiser
            The network and what it predicts.
        x : Tensor
            Images ``(B, C, H, W)`` in [-1, 1], or codes.
        cond : Tensor or None
            Conditions, int64 ``(B, K)``.
        draw : Draw
            Noise and times.

        Returns
        -------
        Loss
            Parts: ``squared_error`` of the output, without weights.
        """
        process, prediction = denoiser.process, denoiser.prediction
        t = self.times(draw.u)  # (B,)
        output = denoiser.output(add_noise(process, x, draw.eps, t), t, cond)
        squared = (output - target(prediction, process, x, draw.eps, t)).square().flatten(1).mean(1)  # (B,)
        return Loss((self.weight(prediction, process, t) * squared).mean(), {"squared_error": squared.mean()})
