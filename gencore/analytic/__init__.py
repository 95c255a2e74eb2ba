"""Exact answers: models whose densities, scores and noised laws have formulas, to hold networks against."""

from gencore.analytic.linear_gaussian import LinearGaussian, gaussian_kl
from gencore.analytic.mixture import GaussianMixture

__all__ = ["GaussianMixture", "LinearGaussian", "gaussian_kl"]
