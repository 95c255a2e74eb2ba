"""Toys: 1-D and 2-D densities with known ``log_prob`` and score, for seeing what a method does.

Each is a `gencore.analytic.mixture.GaussianMixture`, so its density, its score, and the law of its noised points are exact;
``toy.sample(n, generator)`` draws points ``(n, D)``. Curves such as the moons are chains of narrow Gaussians. All have
about zero mean and lie within a few units of the origin.
"""

import math

import torch
from torch import Tensor

from gencore.analytic.mixture import GaussianMixture
from gencore.errors import InputError


def gaussian(mean: float = 0.0, std: float = 1.0, dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """Return a single Gaussian on the line."""
    return _isotropic(torch.tensor([[mean]], dtype=dtype), std)


def two_gaussians(
    distance: float = 4.0, std: float = 0.5, left: float = 0.5, dtype: torch.dtype = torch.float32
) -> GaussianMixture:
    """Return two Gaussians on the line, ``distance`` apart around 0; the left one has weight ``left``."""
    means = torch.tensor([[-distance / 2], [distance / 2]], dtype=dtype)
    return _isotropic(means, std, torch.tensor([left, 1 - left], dtype=dtype))


def ring(count: int = 8, radius: float = 2.0, std: float = 0.15, dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """Return ``count`` Gaussians evenly on a circle: eight of them are the usual test of mode collapse."""
    angle = 2 * math.pi * torch.arange(count, dtype=dtype) / count
    return _isotropic(radius * torch.stack([angle.cos(), angle.sin()], dim=1), std)


def grid(side: int = 5, distance: float = 1.0, std: float = 0.1, dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """Return ``side`` x ``side`` Gaussians on a square grid around 0: 25 modes by default."""
    place = (torch.arange(side, dtype=dtype) - (side - 1) / 2) * distance
    return _isotropic(torch.cartesian_prod(place, place), std)


def moons(std: float = 0.1, links: int = 24, dtype: torch.dtype = torch.float32) -> GaussianMixture:
    """Return two interlocking half circles of radius 1, each a chain of ``links`` Gaussians."""
    angle = torch.linspace(0, math.pi, links, dtype=dtype)
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=1)
    return _isotropic(torch.cat([upper, -upper]), std)


def spiral(
    turns: float = 1.5, std: float = 0.08, links: int = 96, dtype: torch.dtype = torch.float32
) -> GaussianMixture:
    """Return an Archimedean spiral from radius 0.3 to 2, a chain of ``links`` Gaussians at equal steps along it."""
    fine = torch.linspace(0, 1, 100 * links, dtype=torch.float64)
    radius, angle = 0.3 + 1.7 * fine, 2 * math.pi * turns * fine
    curve = torch.stack([radius * angle.cos(), radius * angle.sin()], dim=1)  # (100 links, 2)
    length = torch.cat([fine.new_zeros(1), (curve[1:] - curve[:-1]).norm(dim=1).cumsum(0)])
    marks = torch.searchsorted(length, torch.linspace(0, length[-1].item(), links, dtype=torch.float64))
    return _isotropic(curve[marks.clamp(max=len(curve) - 1)].to(dtype), std)


def _isotropic(means: Tensor, std: float, weights: Tensor | None = None) -> GaussianMixture:
    """Return round Gaussians of one width around means ``(K, D)``, equally weighted unless said otherwise."""
    k, d = means.shape
    if k == 0 or std <= 0:
        raise InputError(f"a toy needs at least one Gaussian and a positive std, not {k} and {std}")
    weights = torch.full((k,), 1 / k, dtype=means.dtype) if weights is None else weights
    return GaussianMixture(weights, means, torch.eye(d, dtype=means.dtype).expand(k, d, d) * std**2)
