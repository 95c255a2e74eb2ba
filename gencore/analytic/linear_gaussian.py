r"""Linear-Gaussian latent variable models: evidence, posterior, ELBO and best fit, all in closed form.

.. math:: z \sim \mathcal N(0, I), \qquad x = W z + b + \Psi^{1/2} \varepsilon

With equal noise variances this is probabilistic principal component analysis (Tipping & Bishop 1999,
https://doi.org/10.1111/1467-9868.00196), with free ones factor analysis. It is the variational autoencoder whose
decoder is linear and whose likelihood is Gaussian. Equation numbers (VA.n) are those of the chapter "Variational
autoencoders".

Everything is differentiable and runs in the precision of the parameters; take float64 where a test compares.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from gencore.errors import InputError


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """L independent standard normal numbers, mapped to D dimensions by a matrix, with independent noise added.

    Attributes
    ----------
    weight : Tensor
        W, ``(D, L)``.
    bias : Tensor
        b, ``(D,)``: the mean of x.
    variances : Tensor
        Diagonal of Psi, ``(D,)``: the noise's variances, positive.

    Raises
    ------
    InputError
        If shapes do not fit, or a variance is not positive.
    """

    weight: Tensor
    bias: Tensor
    variances: Tensor

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise InputError(f"weight: shape {tuple(self.weight.shape)} is not (D, L)")
        expected = (self.weight.shape[0],)
        for name in ("bias", "variances"):
            if (shape := tuple(getattr(self, name).shape)) != expected:
                raise InputError(f"{name}: shape {shape} does not fit weight; expected {expected}")
        if not (self.variances > 0).all():
            raise InputError("variances: must be positive")

    @classmethod
    def fit(cls, x: Tensor, latent: int) -> "LinearGaussian":
        """Return the model with equal noise variances that makes data most likely.

        Parameters
        ----------
        x : Tensor
            Data, ``(N, D)``.
        latent : int
            L, from 1 to D - 1.

        Raises
        ------
        InputError
            If ``latent`` is out of range, or the data leave no variance for the noise.
        """
        if not 1 <= latent < x.shape[1]:
            raise InputError(f"latent {latent}: must be from 1 to {x.shape[1] - 1}, below the data's dimension")
        values, vectors = torch.linalg.eigh(torch.cov(x.T, correction=0))
        values, vectors = values.flip(0), vectors.flip(1)  # largest first
        noise = values[latent:].mean()  # Tipping & Bishop 1999, equation 8
        weight = vectors[:, :latent] * (values[:latent] - noise).clamp(min=0).sqrt()  # equation 7, with R = I
        return cls(weight, x.mean(0), noise.expand(x.shape[1]))

    @property
    def covariance(self) -> Tensor:
        """Covariance of x, ``(D, D)``."""
        return self.weight @ self.weight.mT + torch.diag(self.variances)  # (VA.4)

    @cached_property
    def _precision(self) -> Tensor:
        """Inverse of the posterior's covariance, ``(L, L)``; it does not depend on x."""
        identity = torch.eye(self.weight.shape[1], dtype=self.weight.dtype, device=self.weight.device)
        return identity + self.weight.mT @ (self.weight / self.variances[:, None])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, ``(n, D)``."""
        return self.sample_with_latents(n, generator)[0]

    def sample_with_latents(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw points ``(n, D)`` and the latent vectors ``(n, L)`` that each came from."""
        like = dict(generator=generator, dtype=self.weight.dtype, device=self.weight.device)
        z, eps = (torch.randn(n, size, **like) for size in self.weight.mT.shape)
        return z @ self.weight.mT + self.bias + self.variances.sqrt() * eps, z

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density at points ``(..., D)``: ``(...)``, in nats."""
        return MultivariateNormal(self.bias, self.covariance).log_prob(x)

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean ``(..., L)`` and covariance ``(L, L)`` of z given points ``(..., D)``: a Gaussian too."""
        covariance = torch.linalg.inv(self._precision)
        return ((x - self.bias) / self.variances) @ self.weight @ covariance, covariance  # (VA.5)

    def elbo(self, x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return the evidence lower bound of a Gaussian q(z | x) at points ``(..., D)``: ``(...)``, in nats.

        Parameters
        ----------
        x : Tensor
            ``(..., D)``.
        mean, covariance : Tensor
            Moments of q, ``(..., L)`` and ``(..., L, L)``.
        """
        error = (x - self.bias - mean @ self.weight.mT).square()  # (..., D)
        spread = (self.weight @ covariance * self.weight).sum(-1)  # (..., D), diagonal of W C W^T
        log_likelihood = -0.5 * ((error + spread) / self.variances + (2 * math.pi * self.variances).log()).sum(-1)
        identity = torch.eye(self.weight.shape[1], dtype=x.dtype, device=x.device)
        return log_likelihood - gaussian_kl(mean, covariance, torch.zeros_like(mean), identity)

    def gap(self, x: Tensor, mean: Tensor, covariance: Tensor) -> Tensor:
        """Return KL(q(z | x) || p(z | x)) of a Gaussian q at points ``(..., D)``: ``(...)``, in nats.

        Equals ``log_prob(x) - elbo(x, mean, covariance)``, (VA.2), but is computed without either.
        """
        return gaussian_kl(mean, covariance, *self.posterior(x))


def gaussian_kl(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> Tensor:
    """Return KL(N(mean, covariance) || N(other_mean, other_covariance)) in nats.

    Parameters
    ----------
    mean, other_mean : Tensor
        ``(..., L)``.
    covariance, other_covariance : Tensor
        ``(..., L, L)``, positive definite.

    Returns
    -------
    Tensor
        ``(...)``.
    """
    precision = torch.linalg.inv(other_covariance)
    shift = other_mean - mean
    ratio = (precision * covariance).sum((-2, -1)) - mean.shape[-1]  # trace of the product of symmetric matrices
    squared = (shift.unsqueeze(-2) @ precision @ shift.unsqueeze(-1))[..., 0, 0]
    return 0.5 * (ratio + squared + torch.logdet(other_covariance) - torch.logdet(covariance))
