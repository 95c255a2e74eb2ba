"""Diffusion models: processes, one denoiser, objectives, samplers, guidance, one loop, recipes."""

from gencore.diffusion.denoiser import Denoise, Denoiser
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
from gencore.diffusion.recipes import DiffusionRecipe, Sampling
from gencore.diffusion.sampling import conditions, denoiser, first_stage, load, parameters, sample, walk

__all__ = [
    "EDM",
    "Cosine",
    "Denoise",
    "Denoiser",
    "Denoising",
    "DiffusionRecipe",
    "Draw",
    "EDMWeight",
    "Flow",
    "Linear",
    "LogisticNormalTimes",
    "MinSNR",
    "Networks",
    "Process",
    "Sampling",
    "Simple",
    "UniformTimes",
    "add_noise",
    "conditions",
    "denoiser",
    "first_stage",
    "load",
    "parameters",
    "sample",
    "train",
    "walk",
]
