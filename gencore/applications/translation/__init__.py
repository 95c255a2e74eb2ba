"""Translating pictures into pictures: pix2pix on pairs, CycleGAN without them; objectives, two loops, recipes."""

from gencore.applications.translation.loop import train
from gencore.applications.translation.measures import heldout_pairs, measure
from gencore.applications.translation.objectives import CycleNetworks
from gencore.applications.translation.recipes import CycleRecipe, TranslationRecipe
from gencore.applications.translation.sampling import Networks, build, load, translate

__all__ = [
    "CycleNetworks",
    "CycleRecipe",
    "Networks",
    "TranslationRecipe",
    "build",
    "heldout_pairs",
    "load",
    "measure",
    "train",
    "translate",
]
