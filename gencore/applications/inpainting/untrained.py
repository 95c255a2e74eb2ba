"""Filling holes with models of the zoo that only learned to draw: diffusion by RePaint, autoregressive ones in their order."""

import torch
from torch import Tensor

from gencore import autoregressive, diffusion
from gencore.applications.inpainting.resampling import jumps, repaint
from gencore.autoregressive.recipes import AutoregressiveRecipe
from gencore.data import ImageSet, to_float
from gencore.data.told import check_conditions, untold, with_mirrored
from gencore.diffusion.guidance import classifier_free, conditional
from gencore.diffusion.recipes import DiffusionRecipe
from gencore.diffusion.samplers import even_times
from gencore.errors import InputError
from gencore.training import rng


@torch.inference_mode()
def repaint_pictures(
    model: tuple[diffusion.Networks, DiffusionRecipe],
    images: Tensor,
    hole: Tensor,
    seed: int,
    first: int = 0,
    steps: int = 50,
    length: int = 5,
    resamples: int = 5,
    cond: Tensor | None = None,
    guidance: float = 1.0,
) -> Tensor:
    """Fill holes with a diffusion model of pixels; picture ``i`` depends on its own pixels, on the seed and its number only.

    Parameters
    ----------
    model : tuple of Networks and DiffusionRecipe
        A model of pixels, such as the zoo's ``flow_emoji``.
    images : Tensor
        uint8 ``(N, C, S, S)``.
    hole : Tensor
        bool ``(S, S)`` or ``(N, 1, S, S)``, True where they are to be filled.
    seed, first : int
        Which series of noise, and number of the first picture in it.
    steps, length, resamples : int
        Steps of the walk, and its jumps, as in `gencore.applications.inpainting.resampling.jumps`.
    cond : Tensor, optional
        What each picture is to show, int64 ``(N, len(recipe.told))``; by default nothing is told.
    guidance : float
        Weight of classifier-free guidance, for models that are told something.

    Returns
    -------
    Tensor
        float32 ``(N, C, S, S)`` in [-1, 1], on the CPU; outside the hole the pictures' own pixels.

    Raises
    ------
    InputError
        If the model draws codes, or pictures, mask or conditions do not fit.
    """
    (network,), recipe = model
    if recipe.first_stage:
        raise InputError("model: draws codes, which have no holes; take one of pixels, such as flow_emoji")
    if images.shape[1:] != recipe.network.shape or images.dtype != torch.uint8:
        raise InputError(f"images {tuple(images.shape)}, {images.dtype}: this model fills uint8 (N, {recipe.network.shape})")
    count, device = len(images), next(network.parameters()).device
    hidden = untold(recipe, torch.zeros(count, len(recipe.told), dtype=torch.int64))
    cond = hidden if cond is None else cond
    check_conditions(recipe, cond, count)
    plainly = torch.zeros(count, dtype=torch.int64)  # not mirrored
    told, silent = (with_mirrored(recipe, each, plainly).to(device) for each in (cond, hidden))
    denoiser = diffusion.denoiser(model)
    guides = recipe.told and guidance != 1
    denoise = classifier_free(denoiser, told, silent, guidance) if guides else conditional(denoiser, told)
    streams = [rng.generator(seed, first + i, "image") for i in range(count)]

    def fresh() -> Tensor:
        return torch.stack([torch.randn(images.shape[1:], generator=stream) for stream in streams]).to(device)

    def held(x_t: Tensor, t: Tensor) -> Tensor:
        return denoise(x_t, t).clamp(-1, 1)

    x, hole = to_float(images).to(device), hole.to(device)
    times, walk = even_times(steps), jumps(steps, length, resamples)
    return repaint(held, recipe.process, times, x, hole, fresh, walk).clamp(-1, 1).cpu()


def complete(
    model: tuple[autoregressive.Networks, AutoregressiveRecipe], images: Tensor, hole: Tensor, seed: int, first: int = 0
) -> Tensor:
    """Fill holes with an autoregressive model of pixels, which draws them in its order and leaves what is known.

    Parameters
    ----------
    model : tuple of Networks and AutoregressiveRecipe
        A model whose symbols are pixels, such as the zoo's ``pixelcnn_digits``.
    images : Tensor
        uint8 ``(N, C, S, S)``; if the model has fewer levels, they are brought to its own.
    hole : Tensor
        bool, a place for each of the model's symbols: ``(S, S)``, or fewer where a symbol is a block of pixels. Only if what
        is known comes first in reading order (`is_prefix`) is the fill a draw from the conditional law: a pixel never looks
        at what is known below it.
    seed, first : int
        Which series of draws, and number of the first picture in it.

    Returns
    -------
    Tensor
        float32 ``(N, C, S, S)`` in [-1, 1].

    Raises
    ------
    InputError
        If the model's symbols are codes, or pictures or mask do not fit.
    """
    _, recipe = model
    if recipe.first_stage:
        raise InputError("model: its symbols are codes, not pixels; take one such as pixelcnn_digits")
    nothing = torch.zeros(len(images), dtype=torch.int64)
    symbols = autoregressive.sampling.to_symbols(model, ImageSet("given", images, nothing, ("",)), seed, first)
    return autoregressive.sample(model, len(images), seed, first, given=symbols, known=~hole)


def is_prefix(hole: Tensor) -> bool:
    """Whether all that is known comes before the hole, bool ``(H, W)``, row by row."""
    filled = hole.flatten().int()
    return bool((filled.diff() >= 0).all())
