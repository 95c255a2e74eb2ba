"""Diffusion models: processes, one denoiser, objectives, samplers, guidance, one loop, recipes."""

from gencore.diffusion.denoiser import Denoise, Denoiser
from gencore.diffusion.few_step import Consistency, Denoisers, Progressive
from gencore.diffusion.loop import train
from gencore.diffusion.objectives import (
    Denoising,
    Draw,
    EDMWeight,
    LogisticNormalTimes,
    MinSNR,
    Networks,
    Simple,
    UniformTimes,
)
from gencore.diffusion.process import EDM, Cosine, Flow, Linear, Process, add_noise
from gencore.diffusion.recipes import DiffusionRecipe, DistillRecipe, Sampling
from gencore.diffusion.sampling import (
    conditions,
    denoiser,
    first_stage,
    load,
    measure,
    parameters,
    sample,
    start,
    teacher,
    walk,
)

__all__ = [
    "EDM",
    "Consistency",
    "Cosine",
    "Denoise",
    "Denoiser",
    "Denoisers",
    "Denoising",
    "DiffusionRecipe",
    "DistillRecipe",
    "Draw",
    "EDMWeight",
    "Flow",
    "Linear",
    "LogisticNormalTimes",
    "MinSNR",
    "Networks",
    "Process",
    "Progressive",
    "Sampling",
    "Simple",
    "UniformTimes",
    "add_noise",
    "conditions",
    "denoiser",
    "first_stage",
    "load",
    "measure",
    "parameters",
    "sample",
    "start",
    "teacher",
    "train",
    "walk",
]
