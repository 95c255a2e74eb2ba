"""Variational autoencoders: likelihoods, objectives, one loop, recipes; and autoencoders with discrete codes."""

from gencore.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian
from gencore.vae.loop import train
from gencore.vae.objectives import (
    ELBO,
    IWAE,
    Draw,
    Networks,
    VectorQuantised,
    kl_divergence,
    log_prior_minus_posterior,
    log_weights,
)
from gencore.vae.recipes import VAERecipe
from gencore.vae.sampling import (
    draws,
    first_stage,
    heldout_pairs,
    load,
    log_likelihood,
    measure,
    parameters,
    reconstruct,
    sample,
)

__all__ = [
    "ELBO",
    "IWAE",
    "Bernoulli",
    "DiscretisedLogistic",
    "Draw",
    "Gaussian",
    "Networks",
    "VAERecipe",
    "VectorQuantised",
    "draws",
    "first_stage",
    "heldout_pairs",
    "kl_divergence",
    "load",
    "log_likelihood",
    "log_prior_minus_posterior",
    "log_weights",
    "measure",
    "parameters",
    "reconstruct",
    "sample",
    "train",
]
