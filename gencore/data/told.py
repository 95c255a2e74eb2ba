"""What a model is told of each picture: a column of whole numbers for each condition, taken from what is known of the data.

A recipe that tells has ``data``, ``told`` (names of conditions), ``mirror`` (whether half of the training pictures are shown
mirrored, of which the network is told by a last condition of two values) and ``conditions`` (how many values each has for the
network; that number itself means "not told").
"""

import functools
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from gencore.data.emoji import Emoji
from gencore.data.image_set import ImageSet
from gencore.errors import InputError
from gencore.training import rng

Told = tuple[Literal["class", "style"], ...]


class Telling(Protocol):
    """A recipe that tells."""

    data: Any
    told: Told
    mirror: bool

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has for the network."""


def conditions(recipe: Telling, data: ImageSet) -> Tensor:
    """Return what the network is told about each image, int64 ``(N, len(recipe.told))``.

    Raises
    ------
    InputError
        If the data have more values of a condition than the network, or lack the condition.
    """
    columns = []
    for name, count in zip(recipe.told, recipe.conditions, strict=False):
        if name == "style" and "style" not in data.meta:
            raise InputError(f"told: {data.name} has no styles")
        column = data.labels if name == "class" else torch.tensor([recipe.data.styles.index(s) for s in data.meta["style"]])
        if len(column) and int(column.max()) >= count:
            raise InputError(f"network.conditions: {name} has {int(column.max()) + 1} values or more, the network {count}")
        columns.append(column)
    return torch.stack(columns, 1) if columns else torch.empty(len(data), 0, dtype=torch.int64)


def with_mirrored(recipe: Telling, cond: Tensor, mirrored: Tensor) -> Tensor:
    """Return conditions ``(B, K)`` with, if the recipe mirrors, one column more: which are ``mirrored (B,)``, 0 or 1."""
    return torch.cat([cond, mirrored[:, None]], 1) if recipe.mirror else cond


def untold(recipe: Telling, cond: Tensor) -> Tensor:
    """Return conditions ``(B, K)`` with "not told" in place of all but whether the picture is mirrored."""
    hidden = cond.clone()
    for column, count in enumerate(recipe.conditions[: len(recipe.told)]):
        hidden[:, column] = count
    return hidden


def asked_for(recipe: Telling, count: int, seed: int, first: int) -> Tensor:
    """Return the conditions of training pictures, chosen by the images' numbers."""
    if not recipe.told:
        return torch.empty(count, 0, dtype=torch.int64)
    table = _training_conditions(recipe)
    order = torch.randperm(len(table), generator=rng.generator(seed, 0, "conditions"))
    return table[order[torch.arange(first, first + count) % len(table)]]


def check_conditions(recipe: Telling, cond: Tensor, count: int) -> None:
    """Raise `InputError` unless conditions are int64 ``(count, len(recipe.told))`` of values that the network knows."""
    if cond.shape != (count, len(recipe.told)):
        raise InputError(f"cond {tuple(cond.shape)}: this model is told {(count, len(recipe.told))}: {recipe.told}")
    if ((cond < 0) | (cond > cond.new_tensor(recipe.conditions[: len(recipe.told)]))).any():
        raise InputError(f"cond: {recipe.told} have {recipe.conditions} values, from 0 on; that number is not told")


@functools.lru_cache(maxsize=1)  # many pictures are drawn in many calls, and the data take long to read
def _training_conditions(recipe: Telling) -> Tensor:
    data = recipe.data
    if isinstance(data, Emoji):  # the symbols are the same at every size, and at 32 pixels they ship
        data = replace(data, size=32)
    return conditions(recipe, data.load("train"))
