"""Exact answers: models whose densities, scores, noised laws and denoisers have formulas, to hold networks against."""

from gencore.analytic.ideal_denoiser import IdealDenoiser
from gencore.analytic.linear_gaussian import LinearGaussian, gaussian_kl
from gencore.analytic.mixture import GaussianMixture

__all__ = ["GaussianMixture", "IdealDenoiser", "LinearGaussian", "gaussian_kl"]
