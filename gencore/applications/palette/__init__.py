"""Palette: pictures from pictures by diffusion. Enlarging, filling holes, repairing, and editing by an instruction."""

from gencore.applications.palette.loop import train
from gencore.applications.palette.measures import measure
from gencore.applications.palette.objectives import Mending, Networks, seeing
from gencore.applications.palette.recipes import PaletteRecipe
from gencore.applications.palette.sampling import first_stage, guided, heldout, heldout_pairs, load, mend
from gencore.applications.palette.tasks import Damage, Holes, Instruct, Seen, Upscale, to_drawn, to_picture

__all__ = [
    "Damage",
    "Holes",
    "Instruct",
    "Mending",
    "Networks",
    "PaletteRecipe",
    "Seen",
    "Upscale",
    "first_stage",
    "guided",
    "heldout",
    "heldout_pairs",
    "load",
    "measure",
    "mend",
    "seeing",
    "to_drawn",
    "to_picture",
    "train",
]
