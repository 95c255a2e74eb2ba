"""Generative adversarial networks: objectives, one training loop, recipes."""

from gencore.gan.augmentation import Augmentation
from gencore.gan.loop import train
from gencore.gan.objectives import (
    Draw,
    Hinge,
    LeastSquares,
    Networks,
    NonSaturating,
    Relativistic,
    Saturating,
    Wasserstein,
)
from gencore.gan.penalties import R1, R2, Codes, GradientPenalty, PathLength
from gencore.gan.recipes import GANRecipe, Growth
from gencore.gan.sampling import build, first_stage, interpolate, load, parameters, sample
from gencore.gan.styles import mean_style, mix, path_length, truncate, walk_w, walk_z

__all__ = [
    "R1",
    "R2",
    "Augmentation",
    "Codes",
    "Draw",
    "GANRecipe",
    "GradientPenalty",
    "Growth",
    "Hinge",
    "LeastSquares",
    "Networks",
    "NonSaturating",
    "PathLength",
    "Relativistic",
    "Saturating",
    "Wasserstein",
    "build",
    "first_stage",
    "interpolate",
    "load",
    "mean_style",
    "mix",
    "parameters",
    "path_length",
    "sample",
    "train",
    "truncate",
    "walk_w",
    "walk_z",
]
