"""Exact answers: models whose densities, scores and noised laws have formulas, to hold networks against."""

from gencore.analytic.mixture import GaussianMixture

__all__ = ["GaussianMixture"]
