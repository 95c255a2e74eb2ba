"""Generative adversarial networks: objectives, one training loop, recipes."""

from gencore.gan.objectives import Draw, Networks, NonSaturating, Saturating
from gencore.gan.recipes import GANRecipe
from gencore.gan.sampling import interpolate, load, sample
from gencore.gan.train import State, train

__all__ = ["Draw", "Networks", "NonSaturating", "GANRecipe", "Saturating", "State", "interpolate", "load", "sample", "train"]
