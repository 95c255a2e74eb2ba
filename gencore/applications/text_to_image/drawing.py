"""From a prompt to pictures, by any model that is told captions."""

from dataclasses import replace
from typing import Any

from torch import Tensor

from gencore import autoregressive, diffusion
from gencore.applications.text_to_image.prompts import read_prompt
from gencore.applications.text_to_image.rerank import Scorer, best_of
from gencore.autoregressive import AutoregressiveRecipe
from gencore.data.told import ask
from gencore.diffusion import DiffusionRecipe
from gencore.errors import InputError

Model = tuple[Any, DiffusionRecipe | AutoregressiveRecipe]  # what a family's `load` returns


def told(recipe: DiffusionRecipe | AutoregressiveRecipe, prompt: str, style: str | None = None) -> Tensor:
    """Return what a model is told of one picture, int64 ``(1, K)``: the prompt, and the drawing style if one is named.

    Raises
    ------
    InputError
        If the model reads no captions, cannot read this one, or knows no such style.
    """
    if recipe.captions is None:
        raise InputError("model: it is told no captions; take one that reads, such as latent_shapes or text_emoji64")
    cond = ask(recipe, [read_prompt(recipe.data, prompt, recipe.captions.length).text])
    if style is None:
        return cond
    if "style" not in recipe.told:
        raise InputError(f"style {style!r}: this model draws in one style only; leave it out")
    if style not in recipe.data.styles:
        raise InputError(f"style {style!r}: choose one of {', '.join(recipe.data.styles)}")
    cond[:, recipe.captions.length - 1 + recipe.told.index("style")] = recipe.data.styles.index(style)
    return cond


def draw(
    model: Model,
    prompt: str,
    count: int,
    seed: int,
    first: int = 0,
    style: str | None = None,
    guidance: float | None = None,
    best: int = 1,
    scorer: Scorer | None = None,
) -> Tensor:
    """Draw pictures of what a prompt says.

    Parameters
    ----------
    model : tuple
        What `gencore.families.load` returns for a model that is told captions.
    prompt : str
        What is to be seen; see `read_prompt`.
    count, seed, first : int
        How many pictures, from which series, and the number of the first one. Picture ``i`` depends on ``(seed, i)`` and on
        what is asked for only.
    style : str, optional
        One of the data's drawing styles, for models that are told it; else the model chooses.
    guidance : float, optional
        Weight of classifier-free guidance; by default the recipe's.
    best, scorer : int and callable
        Each picture is the best of so many, by a scorer such as ``contrastive.scorer(model)``; 1 takes what comes, and needs
        none.

    Returns
    -------
    Tensor
        float32 ``(count, C, H, W)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If the model cannot be told this, or pictures are to be chosen without a scorer.
    """
    _, recipe = model
    if count < 1 or best < 1:
        raise InputError(f"count {count}, best {best}: must be 1 or more")
    if best > 1 and scorer is None:
        raise InputError(f"best {best}: needs a scorer to choose by")
    cond = told(recipe, prompt, style)
    family = autoregressive if isinstance(recipe, AutoregressiveRecipe) else diffusion
    how = recipe.sampling if guidance is None else replace(recipe.sampling, guidance=guidance)
    total = count * best
    images = family.sample(model, total, seed, first=first * best, cond=cond.expand(total, -1), sampling=how)
    if best == 1:
        return images
    text = read_prompt(recipe.data, prompt, recipe.captions.length).text
    return best_of(images.unflatten(0, (count, best)), [text] * count, scorer)[0]
