r"""How data turn into noise: :math:`x_t = \alpha(t)\, x + \sigma(t)\, \varepsilon`, from data at t = 0 to noise at t = 1.

Four processes of the literature, which differ in the two factors alone: Ho et al. 2020, https://arxiv.org/abs/2006.11239,
in the continuous form of Song et al. 2021, https://arxiv.org/abs/2011.13456; Nichol & Dhariwal 2021,
https://arxiv.org/abs/2102.09672; Lipman et al. 2023, https://arxiv.org/abs/2210.02747; Karras et al. 2022,
https://arxiv.org/abs/2206.00364. Equation numbers (DD.n) are those of the chapter "Denoising diffusion", (OV.n) of "One
vector field".

A process is known by ``alpha(t)``, ``sigma(t)`` and their derivatives by t, ``alpha_rate(t)`` and ``sigma_rate(t)``, all of
the shape of ``t``. Everything else in this folder asks for no more.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.errors import InputError


@dataclass(frozen=True)
class Linear:
    """Noise is added at a rate that rises in a line; data fade so that unit variance stays (Ho et al. 2020).

    The 1,000 steps of the paper, from 0.0001 to 0.02, are the rates 0.1 and 20 a unit of time. At t = 1 a trace of the
    data is left: alpha is 0.0066.

    Attributes
    ----------
    first, last : float
        Rate of the noise's variance at t = 0 and t = 1.
    """

    first: float = 0.1
    last: float = 20.0

    def __post_init__(self) -> None:
        if not 0 < self.first <= self.last:
            raise InputError(f"first {self.first}, last {self.last}: rates must be positive and must not fall")

    def rate(self, t: Tensor) -> Tensor:
        """Return the rate beta(t) at which variance is added."""
        return self.first + t * (self.last - self.first)

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data."""
        return torch.exp(-0.5 * (self.first * t + 0.5 * t**2 * (self.last - self.first)))

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise."""
        return torch.sqrt(-torch.expm1(-(self.first * t + 0.5 * t**2 * (self.last - self.first))))

    def alpha_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `alpha`."""
        return -0.5 * self.rate(t) * self.alpha(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `sigma`; infinite at t = 0."""
        return 0.5 * self.rate(t) * self.alpha(t) ** 2 / self.sigma(t)


@dataclass(frozen=True)
class Cosine:
    """A quarter turn from data to noise (Nichol & Dhariwal 2021, without their offset at t = 0)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data; exactly 0 at t = 1."""
        return torch.sin(0.5 * math.pi * (1 - t))

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise."""
        return torch.sin(0.5 * math.pi * t)

    def alpha_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `alpha`."""
        return -0.5 * math.pi * torch.cos(0.5 * math.pi * (1 - t))

    def sigma_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `sigma`."""
        return 0.5 * math.pi * torch.cos(0.5 * math.pi * t)


@dataclass(frozen=True)
class Flow:
    """A straight line from data to noise, walked at constant speed (Lipman et al. 2023; Liu et al. 2023)."""

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data."""
        return 1 - t

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise."""
        return t

    def alpha_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `alpha`."""
        return -torch.ones_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `sigma`."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class EDM:
    """Data stay as they are, noise grows until it hides them (Karras et al. 2022, equation 5).

    Attributes
    ----------
    least, most : float
        Standard deviation of the noise at t = 0 and t = 1; the paper's sigma_min and sigma_max.
    rho : float
        How much of the time goes to small noise.
    """

    least: float = 0.002
    most: float = 80.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.least < self.most or self.rho <= 0:
            raise InputError(f"least {self.least}, most {self.most}, rho {self.rho}: all positive, and most above least")

    def alpha(self, t: Tensor) -> Tensor:
        """Return the factor of the data: always 1."""
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        """Return the factor of the noise."""
        low, high = self.least ** (1 / self.rho), self.most ** (1 / self.rho)
        return (low + t * (high - low)) ** self.rho

    def alpha_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `alpha`: always 0."""
        return torch.zeros_like(t)

    def sigma_rate(self, t: Tensor) -> Tensor:
        """Return the derivative of `sigma`."""
        low, high = self.least ** (1 / self.rho), self.most ** (1 / self.rho)
        return self.rho * (high - low) * (low + t * (high - low)) ** (self.rho - 1)


Process = Linear | Cosine | Flow | EDM


def beside(factor: Tensor, x: Tensor) -> Tensor:
    """Return a factor for each image, ``(B,)``, or for all, ``()``, in the shape that multiplies images ``(B, ...)``."""
    return factor.reshape(factor.shape + (1,) * (x.ndim - factor.ndim)) if factor.ndim else factor


def add_noise(process: Process, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return noised data, ``(B, ...)``.

    Parameters
    ----------
    process : Linear, Cosine, Flow or EDM
        The factors.
    x, eps : Tensor
        Data, and standard normal noise, ``(B, ...)`` each.
    t : Tensor
        Times in [0, 1], ``(B,)`` or ``()``.
    """
    return beside(process.alpha(t), x) * x + beside(process.sigma(t), x) * eps  # (DD.1)


def log_snr(process: Process, t: Tensor) -> Tensor:
    """Return *half* the logarithm of the signal-to-noise ratio, that of alpha over sigma; may be infinite at the ends.

    The book's lambda, of the shape of ``t``; the ratio itself is alpha^2 / sigma^2.
    """
    return process.alpha(t).log() - process.sigma(t).log()


def step_forward(process: Process, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Return what q(x_t | x_s) is made of, for s before t: the factor of ``x_s`` and the variance that is added.

    Both have the shape of ``t``; alpha(s) must not be 0.
    """
    ratio = process.alpha(t) / process.alpha(s)
    return ratio, process.sigma(t) ** 2 - ratio**2 * process.sigma(s) ** 2  # (DD.4)


def step_back(process: Process, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return what q(x_s | x_t, x) is made of, for s before t: a Gaussian. Neither sigma(t) nor alpha(s) may be 0.

    Returns
    -------
    of_noised, of_clean, variance : Tensor
        Its mean is ``of_noised * x_t + of_clean * x``; all of the shape of ``t``.
    """
    ratio, added = step_forward(process, s, t)
    share = process.sigma(s) ** 2 / process.sigma(t) ** 2
    return ratio * share, process.alpha(s) * added / process.sigma(t) ** 2, added * share  # (DD.5)
