"""Pictures to words: a captioner that looks at places of the picture before each word."""

from gencore.applications.captioning.loop import train
from gencore.applications.captioning.measuring import Returned, Truth, measure, names, there_and_back, truth
from gencore.applications.captioning.objectives import Draw, Networks, NextWord
from gencore.applications.captioning.recipes import CaptioningRecipe
from gencore.applications.captioning.telling import Search, Told, load, log_probability, looks, scorer, tell

__all__ = [
    "CaptioningRecipe",
    "Draw",
    "Networks",
    "NextWord",
    "Returned",
    "Search",
    "Told",
    "Truth",
    "load",
    "log_probability",
    "looks",
    "measure",
    "names",
    "scorer",
    "tell",
    "there_and_back",
    "train",
    "truth",
]
