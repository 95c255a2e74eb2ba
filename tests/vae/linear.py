"""A VAE whose evidence, posterior and bound have formulas: the linear-Gaussian model with a linear encoder."""

import torch
from torch import nn

from gencore.analytic import LinearGaussian
from gencore.networks.vae import Level
from gencore.vae import Gaussian

SIGMA = 0.6


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class LinearVAE(nn.Module):
    """Images of D x 1 pixels from L latent numbers; the encoder is given by its mean's matrix and its log_std.

    Parameters
    ----------
    exact : bool
        Whether the encoder is the posterior itself, which is possible because the columns of W are orthogonal.
    """

    def __init__(self, d=4, latent=2, exact=False):
        super().__init__()
        weight = torch.linalg.qr(rand(d, latent))[0] * torch.linspace(0.7, 1.6, latent, dtype=torch.float64)
        variances = torch.full((d,), SIGMA**2, dtype=torch.float64)
        self.exact = LinearGaussian(weight, rand(d, seed=1), variances)
        self.likelihood = Gaussian(SIGMA)
        covariance = self.exact.posterior(self.exact.bias)[1]
        slope, log_std = weight.mT @ (1 / variances[:, None] * torch.eye(d)), covariance.diagonal().log() / 2
        self.slope = nn.Parameter(covariance @ slope if exact else rand(latent, d, seed=2) / 2)
        self.log_std = nn.Parameter(log_std if exact else rand(latent, seed=3) / 2)
        self.weight = nn.Parameter(weight)
        self.calls = 0

    latent_shapes = property(lambda self: ((self.weight.shape[1],),))

    def encode(self, x):
        self.calls += 1
        mean = (x.flatten(1) - self.exact.bias) @ self.slope.mT
        return mean, self.log_std.expand_as(mean)

    def forward(self, x, eps, cond=None):
        draws = len(eps[0]) // len(x)
        mean, log_std = (each.repeat_interleave(draws, 0) for each in self.encode(x))
        z, zeros = mean + log_std.exp() * eps[0], torch.zeros_like(mean)
        return self.generate((z,)), (Level(z, mean, log_std, zeros, zeros),)

    def generate(self, eps, cond=None):
        return (eps[0] @ self.weight.mT + self.exact.bias)[:, None, :, None]  # (B, 1, D, 1)

    def moments(self, x):
        """Mean and covariance of q(z | x)."""
        mean, log_std = self.encode(x)
        return mean, torch.diag_embed((2 * log_std).exp())

    def images(self, n, seed=4):
        return self.exact.sample(n, torch.Generator().manual_seed(seed))[:, None, :, None]

    def design(self, n):
        """Noise for n images whose mean is exactly 0 and whose covariance is exactly I: 2 L rows each."""
        latent = self.weight.shape[1]
        corners = latent**0.5 * torch.eye(latent, dtype=torch.float64)
        return torch.cat([corners, -corners]).repeat(n, 1)
