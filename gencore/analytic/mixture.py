r"""Mixtures of Gaussians: density, score, posterior, noised law and denoiser, all in closed form.

.. math:: p(x) = \sum_k \pi_k\, \mathcal N(x;\, \mu_k, \Sigma_k)

Everything is differentiable and runs in the precision of the parameters; take float64 where a test compares.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from gencore.errors import InputError


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    """A mixture of K Gaussians in D dimensions.

    Attributes
    ----------
    weights : Tensor
        ``(K,)``, positive, sum 1.
    means : Tensor
        ``(K, D)``.
    covariances : Tensor
        ``(K, D, D)``, symmetric, positive definite.

    Raises
    ------
    InputError
        If shapes do not fit, weights do not sum to 1, or a covariance is not positive definite.
    """

    weights: Tensor
    means: Tensor
    covariances: Tensor

    def __post_init__(self) -> None:
        if self.means.ndim != 2:
            raise InputError(f"means: shape {tuple(self.means.shape)} is not (K, D)")
        k, d = self.means.shape
        if self.weights.shape != (k,) or self.covariances.shape != (k, d, d):
            raise InputError(
                f"weights {tuple(self.weights.shape)} and covariances {tuple(self.covariances.shape)} do not fit means "
                f"{(k, d)}; expected {(k,)} and {(k, d, d)}"
            )
        if not torch.isclose(self.weights.sum(), self.weights.new_ones(())) or (self.weights <= 0).any():
            raise InputError("weights: must be positive and sum to 1")
        if not torch.allclose(self.covariances, self.covariances.mT):
            raise InputError("covariances: must be symmetric")
        if torch.linalg.cholesky_ex(self.covariances).info.any():
            raise InputError("covariances: must be positive definite")

    @cached_property
    def _factors(self) -> Tensor:
        """Lower triangular L with L L^T = Sigma, ``(K, D, D)``."""
        return torch.linalg.cholesky(self.covariances)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw points, ``(n, D)``."""
        return self.sample_labelled(n, generator)[0]

    def sample_labelled(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """Draw points ``(n, D)`` and the number of the component that each came from, int64 ``(n,)``."""
        component = torch.multinomial(self.weights.detach(), n, replacement=True, generator=generator)  # (n,)
        shape, like = (n, self.means.shape[1], 1), self.means
        eps = torch.randn(shape, generator=generator, dtype=like.dtype, device=like.device)  # (n, D, 1)
        return self.means[component] + (self._factors[component] @ eps).squeeze(-1), component

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density at points ``(..., D)``: ``(...)``, in nats."""
        return torch.logsumexp(self._joint(x)[0], dim=-1)

    def posterior(self, x: Tensor) -> Tensor:
        """Return the probability of each component given points ``(..., D)``: ``(..., K)``, sums to 1."""
        return torch.softmax(self._joint(x)[0], dim=-1)

    def score(self, x: Tensor) -> Tensor:
        r"""Return the gradient of the log-density at points ``(..., D)``: ``(..., D)``.

        .. math:: \nabla \log p(x) = \sum_k p(k \mid x)\, \Sigma_k^{-1} (\mu_k - x)
        """
        joint, whitened = self._joint(x)
        pulls = -torch.linalg.solve_triangular(self._factors.mT, whitened.unsqueeze(-1), upper=True)  # (..., K, D, 1)
        return (torch.softmax(joint, dim=-1).unsqueeze(-1) * pulls.squeeze(-1)).sum(-2)

    def noised(self, alpha: float | Tensor, sigma: float | Tensor) -> "GaussianMixture":
        r"""Return the law of :math:`\alpha x + \sigma \varepsilon` with standard normal noise, again a mixture.

        Parameters
        ----------
        alpha, sigma : float or scalar Tensor
            Factors of data and noise. ``sigma`` may be 0; both may not.
        """
        identity = torch.eye(self.means.shape[1], dtype=self.means.dtype, device=self.means.device)
        return GaussianMixture(self.weights, alpha * self.means, alpha**2 * self.covariances + sigma**2 * identity)

    def denoise(self, alpha: float | Tensor, sigma: float | Tensor, x_t: Tensor) -> Tensor:
        r"""Return the mean of x given noised points :math:`x_t = \alpha x + \sigma \varepsilon`: ``(..., D)``.

        .. math::
           E[x \mid x_t] = \sum_k p(k \mid x_t) \left(\mu_k
           + \alpha \Sigma_k (\alpha^2 \Sigma_k + \sigma^2 I)^{-1} (x_t - \alpha \mu_k)\right)

        No function of x_t has a smaller mean squared error. Unlike Tweedie's formula, this does not divide by alpha.

        Parameters
        ----------
        alpha, sigma : float or scalar Tensor
            Factors of data and noise, as for `noised`.
        x_t : Tensor
            Noised points, ``(..., D)``.
        """
        law = self.noised(alpha, sigma)
        joint, whitened = law._joint(x_t)
        pulled = torch.linalg.solve_triangular(law._factors.mT, whitened.unsqueeze(-1), upper=True)  # (..., K, D, 1)
        means = self.means + alpha * (self.covariances @ pulled).squeeze(-1)  # (..., K, D), of x in each component
        return (torch.softmax(joint, dim=-1).unsqueeze(-1) * means).sum(-2)

    def _joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log of weight times density of each component ``(..., K)``, and L^-1 (x - mu) ``(..., K, D)``."""
        from_means = x.unsqueeze(-2) - self.means  # (..., K, D)
        whitened = torch.linalg.solve_triangular(self._factors, from_means.unsqueeze(-1), upper=False).squeeze(-1)
        half_log_det = self._factors.diagonal(dim1=-2, dim2=-1).log().sum(-1)  # (K,)
        half_d_log_2pi = 0.5 * self.means.shape[1] * math.log(2 * math.pi)
        log_density = -0.5 * (whitened**2).sum(-1) - half_log_det - half_d_log_2pi
        return self.weights.log() + log_density, whitened
