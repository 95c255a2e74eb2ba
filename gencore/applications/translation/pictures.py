"""A picture of the reader's own, whatever its shape, translated by a model that was trained on small squares."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d, interpolate, pad

from gencore.applications.translation.pairs import Colour, Restyle
from gencore.applications.translation.recipes import CycleRecipe, TranslationRecipe
from gencore.applications.translation.sampling import Model, translate
from gencore.data import to_uint8
from gencore.data.edges import LINE, PAPER
from gencore.errors import InputError

INK = 0.5  # darkness, from 0 to 1, from which a pixel of a line drawing belongs to a line


class Way(NamedTuple):
    """One way that a model can go.

    Attributes
    ----------
    told : int, optional
        Value of the condition, if the model is told where to go.
    back : bool
        Whether it is a cycle's way back.
    lines : bool
        Whether it starts from a line drawing.
    """

    told: int | None
    back: bool
    lines: bool


def ways(recipe: TranslationRecipe | CycleRecipe) -> dict[str, Way]:
    """Return the ways from a picture that a model can go, by the names of the styles in which it ends, or ``"lines"``."""
    task, styles = recipe.task, recipe.data.styles if hasattr(recipe.data, "styles") else ()
    if isinstance(task, Restyle):
        told = len(task.targets) > 1
        found = {style: Way(number if told else None, False, False) for number, style in enumerate(task.targets)}
        if isinstance(recipe, CycleRecipe):
            found[task.sources[0]] = Way(None, True, False)
        return found
    if isinstance(task, Colour):
        told = len(styles) > 1
        found = {style: Way(number if told else None, False, True) for number, style in enumerate(styles)}
        return found | ({"lines": Way(None, True, False)} if isinstance(recipe, CycleRecipe) else {})
    return {}


def on_square(picture: Tensor, size: int) -> Tensor:
    """Return a picture in the middle of a white square, reduced or enlarged without distortion.

    Parameters
    ----------
    picture : Tensor
        uint8 ``(C, H, W)``, any size.
    size : int
        Side of the square.

    Returns
    -------
    Tensor
        uint8 ``(C, size, size)``.
    """
    x = _squared(picture).float()[None] / 127.5 - 1
    if x.shape[-1] != size:
        x = interpolate(x, size=(size, size), mode="bilinear", align_corners=False, antialias=True)
    return to_uint8(x[0])


def drawn_lines(picture: Tensor, size: int) -> Tensor:
    """Return a dark drawing on light paper as lines of one sort, however thin they were.

    Parameters
    ----------
    picture : Tensor
        uint8 ``(3, H, W)``, any size.
    size : int
        Side of the result.

    Returns
    -------
    Tensor
        uint8 ``(1, size, size)``, 0 on 255.
    """
    darkness = 1 - _squared(picture).float().mean(0, keepdim=True)[None] / 255  # (1, 1, S, S)
    # The darkest point of each area: a mean would lose a thin line of a large drawing.
    smaller = darkness.shape[-1] < size
    dark = interpolate(darkness, size=(size, size)) if smaller else adaptive_max_pool2d(darkness, size)
    return torch.where(dark[0] >= INK, LINE, PAPER).to(torch.uint8)


def translate_picture(
    model: Model, picture: Tensor, to: str, drawn: bool = False, seed: int | None = None
) -> tuple[Tensor, Tensor]:
    """Translate a picture of any size.

    Parameters
    ----------
    model : tuple of networks and recipe
        What `load` returns.
    picture : Tensor
        uint8 ``(3, H, W)``.
    to : str
        Where to: one of the model's `ways`.
    drawn : bool
        Whether the picture is a line drawing already, for a model that starts from lines; by default they are found in it.
    seed : int, optional
        Which series of dropout; by default nothing is dropped.

    Returns
    -------
    tuple of Tensor
        What the model was shown, and what it made: uint8 ``(C, size, size)`` each.

    Raises
    ------
    InputError
        If the model does not go there, or ``drawn`` is asked of one that starts from pictures.
    """
    recipe = model[1]
    known = ways(recipe)
    if not known:
        raise InputError("model: dresses stick figures, and translates no pictures; choose another one")
    if to not in known:
        raise InputError(f"to {to!r}: this model translates to {', '.join(known)}")
    way, size = known[to], recipe.data.size
    if drawn and not way.lines:
        raise InputError("drawn: this way starts from a picture, not from a line drawing; leave it out")
    if drawn:
        shown = drawn_lines(picture, size)
    else:
        shown = on_square(picture, size)
        shown = recipe.task.edges(shown[None])[0] if way.lines else shown
    told = None if way.told is None else torch.tensor([[way.told]])
    return shown, to_uint8(translate(model, shown[None], told, seed, back=way.back)[0])


def _squared(picture: Tensor) -> Tensor:
    """Return a picture with white on both sides, or above and below, that makes it a square."""
    height, width = picture.shape[1:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    return pad(picture, (left, side - width - left, top, side - height - top), value=PAPER)
