"""Style transfer: one picture at a time by optimisation, or by networks that paint like eight paintings, or like any."""

from gencore.applications.style_transfer.features import Layers, StyleFeatures, gram, vgg19_features
from gencore.applications.style_transfer.loop import train
from gencore.applications.style_transfer.objectives import (
    Brushes,
    Examples,
    Networks,
    Painted,
    content_distance,
    grams,
    style_distance,
    total_variation,
)
from gencore.applications.style_transfer.recipes import StyleRecipe
from gencore.applications.style_transfer.sampling import heldout_pairs, load, measure, paint, paint_like
from gencore.applications.style_transfer.styles import Styles, fit_side

__all__ = [
    "Brushes",
    "Examples",
    "Layers",
    "Networks",
    "Painted",
    "StyleFeatures",
    "StyleRecipe",
    "Styles",
    "content_distance",
    "fit_side",
    "gram",
    "grams",
    "heldout_pairs",
    "load",
    "measure",
    "paint",
    "paint_like",
    "style_distance",
    "total_variation",
    "train",
    "vgg19_features",
]
