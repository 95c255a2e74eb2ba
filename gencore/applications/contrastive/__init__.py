"""Pictures and captions in one space (CLIP): which belongs to which, and how well."""

from gencore.applications.contrastive.loop import train
from gencore.applications.contrastive.objectives import Draw, InfoNCE, Networks
from gencore.applications.contrastive.recipes import ContrastiveRecipe
from gencore.applications.contrastive.scoring import choice, load, look, measure, read, retrieval, score, scorer

__all__ = [
    "ContrastiveRecipe",
    "Draw",
    "InfoNCE",
    "Networks",
    "choice",
    "load",
    "look",
    "measure",
    "read",
    "retrieval",
    "score",
    "scorer",
    "train",
]
