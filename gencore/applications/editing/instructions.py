"""Editing by an instruction: Brooks et al. 2023, "InstructPix2Pix", on pictures of shapes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from gencore.applications.palette import Instruct, Networks, PaletteRecipe, Seen, mend
from gencore.data import to_float
from gencore.data.edits import encode_edits, find, parse_edit
from gencore.data.shapes_scorer import describe
from gencore.errors import InputError


def instruct(
    model: tuple[Networks, PaletteRecipe], images: Tensor, instructions: Sequence[str], seed: int = 0, first: int = 0
) -> Tensor:
    """Do what instructions say; picture ``i`` depends on its own pixels and words, on the seed and its number only.

    Parameters
    ----------
    model : tuple of Networks and PaletteRecipe
        A network trained for `Instruct`, such as the zoo's ``edit_codes``.
    images : Tensor
        uint8 ``(N, 3, S, S)``.
    instructions : sequence of str
        One for each, of the grammar of `gencore.data.edits`.
    seed, first : int
        Which series of noise, and number of the first picture in it.

    Returns
    -------
    Tensor
        float32 ``(N, 3, S, S)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If the model was trained for something else, pictures do not fit, or an instruction cannot be read.
    """
    _, recipe = model
    if not isinstance(recipe.task, Instruct):
        raise InputError(f"model: was trained for {type(recipe.task).__name__}; editing needs one trained for Instruct")
    size = recipe.data.size
    if images.shape[1:] != (3, size, size) or images.dtype != torch.uint8:
        raise InputError(f"images {tuple(images.shape)}, {images.dtype}: this model edits uint8 (N, 3, {size}, {size})")
    if len(images) != len(instructions):
        raise InputError(f"there are {len(images)} images and {len(instructions)} instructions; give each image one")
    words = encode_edits([parse_edit(text).words() for text in instructions])
    return mend(model, Seen(to_float(images), words=words), seed, first)


def check_instruction(image: Tensor, text: str) -> None:
    """Raise `InputError` unless an instruction names exactly one object of a picture of shapes, uint8 ``(3, S, S)``.

    Objects that cannot be told for sure are given the benefit of the doubt.
    """
    edit, things = parse_edit(text), describe(image)
    if edit.kind == "add" or not all(thing.certain and None not in (thing.shape, thing.colour, thing.size) for thing in things):
        return
    named = find(things, edit.what)
    if len(named) != 1:
        seen = ", ".join(f"a {thing.size} {thing.colour} {thing.shape}" for thing in things) or "no objects"
        raise InputError(f"instruction {text!r}: names {len(named)} objects; it must name one of what the picture shows: {seen}")
