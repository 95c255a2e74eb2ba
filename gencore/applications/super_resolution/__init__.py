"""Super-resolution: a larger picture from a small one. Objectives, one loop, recipes, and one judge for all that enlarge."""

from gencore.applications.super_resolution.examples import Crops, turn
from gencore.applications.super_resolution.loop import train
from gencore.applications.super_resolution.objectives import Networks, PixelError
from gencore.applications.super_resolution.recipes import SuperResolutionRecipe
from gencore.applications.super_resolution.sampling import (
    heldout_pairs,
    judge,
    judge_each,
    load,
    lower,
    luminance,
    measure,
    photos_of,
    teacher,
    upscale,
)

__all__ = [
    "Crops",
    "Networks",
    "PixelError",
    "SuperResolutionRecipe",
    "heldout_pairs",
    "judge",
    "judge_each",
    "load",
    "lower",
    "luminance",
    "measure",
    "photos_of",
    "teacher",
    "train",
    "turn",
    "upscale",
]
