"""Generative adversarial networks: objectives, one training loop, recipes."""

from gencore.gan.objectives import Draw, Networks, NonSaturating, Saturating
from gencore.gan.recipes import Recipe
from gencore.gan.sampling import load, sample
from gencore.gan.train import State, train

__all__ = ["Draw", "Networks", "NonSaturating", "Recipe", "Saturating", "State", "load", "sample", "train"]
