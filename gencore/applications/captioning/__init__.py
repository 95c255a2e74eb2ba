"""Pictures to words: a captioner that looks at places of the picture before each word."""

from gencore.applications.captioning.loop import train
from gencore.applications.captioning.objectives import Draw, Networks, NextWord
from gencore.applications.captioning.recipes import CaptioningRecipe
from gencore.applications.captioning.telling import Search, Told, load, log_probability, looks, tell

__all__ = [
    "CaptioningRecipe",
    "Draw",
    "Networks",
    "NextWord",
    "Search",
    "Told",
    "load",
    "log_probability",
    "looks",
    "tell",
    "train",
]
