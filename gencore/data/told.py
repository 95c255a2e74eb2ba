"""What a model is told of each picture: columns of whole numbers, taken from what is known of the data.

A recipe that tells has ``data``, ``told`` (names of conditions), ``mirror`` (whether half of the training pictures are shown
mirrored, of which the network is told by a last condition of two values) and ``conditions`` (how many values each has for the
network; that number itself means "not told").

A caption is a condition too, and the first one: a row of ``captions.length`` word numbers below ``captions.words``, a column
each. Not to be told is the empty caption, a row of ``gencore.data.wording.END``. A data set may word a picture in several ways,
such as emoji in two languages; which of them the network reads is drawn whenever it sees the picture.
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from gencore.data import wording
from gencore.data.emoji import Emoji
from gencore.data.image_set import ImageSet
from gencore.data.shapes import Shapes
from gencore.errors import InputError
from gencore.training import rng

Labels = tuple[Literal["class", "style"], ...]  # what every family can be told
Told = tuple[Literal["caption", "class", "style"], ...]  # and what those can that read

ASKED = 1_000  # scenes of shapes whose captions are asked for if nothing else is said: drawing all of them takes long


class Captions(Protocol):
    """How large captions are: such as a `gencore.networks.text.TextEncoder`."""

    words: int
    length: int


class Telling(Protocol):
    """A recipe that tells. One that may tell captions also has ``captions``, or None there."""

    data: Any
    told: Told
    mirror: bool

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has for the network, captions left out."""


def check_told(recipe: Telling, field: str = "network.conditions") -> None:
    """Make sure that a network is told what it can be told; ``field`` is where its recipe has the conditions.

    Raises
    ------
    InputError
        If it lacks a condition, or has one of which it would never hear; the message names the field.
    """
    told, known, mirror = recipe.told, recipe.conditions, recipe.mirror
    if ("caption" in told) != (recipe.captions is not None):
        raise InputError("told: 'caption' goes with a network that reads captions, and only with it")
    if "caption" in told[1:]:
        raise InputError(f"told {told}: 'caption' comes first, and once")
    asked = len(told) - ("caption" in told)
    if len(known) != asked + mirror or mirror and known[-1] != 2:
        raise InputError(f"{field} {known}: must be {asked} for told{', and 2' if mirror else ''}")


def caption_length(recipe: Telling) -> int:
    """Return how many of the columns are a caption's words: the first ones, or none."""
    return recipe.captions.length if "caption" in recipe.told else 0


def conditions(recipe: Telling, data: ImageSet) -> Tensor:
    """Return what the network is told about each image, int64 ``(N, K)``: a caption in its first wording, then the others.

    Raises
    ------
    InputError
        If the data have more values of a condition or other words than the network, or lack the condition.
    """
    columns = [] if not caption_length(recipe) else [wordings(recipe, data)[:, 0]]  # (N, L)
    for name, count in _counts(recipe):
        if name == "style" and "style" not in data.meta:
            raise InputError(f"told: {data.name} has no styles")
        column = data.labels if name == "class" else torch.tensor([recipe.data.styles.index(s) for s in data.meta["style"]])
        if len(column) and int(column.max()) >= count:
            raise InputError(f"network.conditions: {name} has {int(column.max()) + 1} values or more, the network {count}")
        columns.append(column[:, None])
    return torch.cat(columns, 1) if columns else torch.empty(len(data), 0, dtype=torch.int64)


def wordings(recipe: Telling, data: ImageSet) -> Tensor:
    """Return each picture's captions, int64 ``(N, P, L)``: ``P`` wordings, none if the network is told no caption.

    Raises
    ------
    InputError
        If the data have no captions, other words than the network, or one that is too long.
    """
    if not caption_length(recipe):
        return torch.empty(len(data), 0, 0, dtype=torch.int64)
    known = len(wording.vocabulary(recipe.data))
    if known != recipe.captions.words:
        raise InputError(f"network: reads {recipe.captions.words} words, but captions of {data.name} have {known}")
    return wording.captions_of(recipe.data, data, recipe.captions.length)


def reword(cond: Tensor, wordings: Tensor, u: Tensor) -> Tensor:
    """Return conditions ``(B, K)`` with one of each picture's wordings ``(B, P, L)``, by uniform numbers ``(B,)``."""
    count, length = wordings.shape[1:]
    if count < 2:
        return cond  # the first wording stands there already
    chosen = wordings[torch.arange(len(u), device=u.device), (u * count).long()]  # (B, L)
    return torch.cat([chosen, cond[:, length:]], 1)


def with_mirrored(recipe: Telling, cond: Tensor, mirrored: Tensor) -> Tensor:
    """Return conditions ``(B, K)`` with, if the recipe mirrors, one column more: which are ``mirrored (B,)``, 0 or 1."""
    return torch.cat([cond, mirrored[:, None]], 1) if recipe.mirror else cond


def untold(recipe: Telling, cond: Tensor) -> Tensor:
    """Return conditions ``(B, K)`` with "not told" in place of all but whether the picture is mirrored."""
    hidden, length = cond.clone(), caption_length(recipe)
    hidden[:, :length] = wording.END
    for column, (_, count) in enumerate(_counts(recipe), start=length):
        hidden[:, column] = count
    return hidden


def asked_for(recipe: Telling, count: int, seed: int, first: int) -> Tensor:
    """Return the conditions of training pictures, chosen by the images' numbers."""
    if not recipe.told:
        return torch.empty(count, 0, dtype=torch.int64)
    table = _training_conditions(recipe)
    order = torch.randperm(len(table), generator=rng.generator(seed, 0, "conditions"))
    return table[order[torch.arange(first, first + count) % len(table)]]


def ask(recipe: Telling, captions: Sequence[str]) -> Tensor:
    """Return conditions ``(N, K)`` that tell these captions, and nothing else.

    Raises
    ------
    InputError
        If the network is told no captions, or one has no room or, of shapes, an unknown word.
    """
    if not caption_length(recipe):
        raise InputError(f"captions: this model is told {recipe.told or 'nothing'}")
    ids = wording.encode(recipe.data, captions, recipe.captions.length)
    hidden = torch.tensor([count for _, count in _counts(recipe)], dtype=torch.int64)
    return torch.cat([ids, hidden.expand(len(ids), -1)], 1)


def check_conditions(recipe: Telling, cond: Tensor, count: int) -> None:
    """Raise `InputError` unless conditions are int64 ``(count, K)`` of words and values that the network knows."""
    length, counts = caption_length(recipe), [count for _, count in _counts(recipe)]
    if cond.shape != (count, length + len(counts)):
        words = f", of which a caption takes {length}" if length else ""
        raise InputError(f"cond {tuple(cond.shape)}: this model is told {(count, length + len(counts))}: {recipe.told}{words}")
    caption, rest = cond[:, :length], cond[:, length:]
    if length and ((caption < 0) | (caption >= recipe.captions.words)).any():
        raise InputError(f"cond: a caption's words are numbered from 0 to {recipe.captions.words - 1}")
    if ((rest < 0) | (rest > rest.new_tensor(counts))).any():
        raise InputError(f"cond: {recipe.told} have {recipe.conditions} values, from 0 on; that number is not told")


def _counts(recipe: Telling) -> list[tuple[str, int]]:
    """Return the conditions after the caption, and how many values the network knows of each."""
    return list(zip([name for name in recipe.told if name != "caption"], recipe.conditions, strict=False))


@functools.lru_cache(maxsize=1)  # many pictures are drawn in many calls, and the data take long to read
def _training_conditions(recipe: Telling) -> Tensor:
    data = recipe.data
    if isinstance(data, Emoji):  # the symbols are the same at every size, and at 32 pixels they ship
        data = replace(data, size=32)
    if isinstance(data, Shapes) and caption_length(recipe):  # so are the scenes
        data = replace(data, size=16, images=min(data.images, ASKED))
    return conditions(recipe, data.load("train"))
