"""Generative adversarial networks: objectives, one training loop, recipes."""

from gencore.gan.loop import train
from gencore.gan.objectives import Draw, Networks, NonSaturating, Saturating
from gencore.gan.recipes import GANRecipe
from gencore.gan.sampling import build, interpolate, load, parameters, sample

__all__ = [
    "Draw",
    "GANRecipe",
    "Networks",
    "NonSaturating",
    "Saturating",
    "build",
    "interpolate",
    "load",
    "parameters",
    "sample",
    "train",
]
