"""The families by their doors: which there are, what they can train, and which one reads a folder.

A family is a package of gencore, or of `gencore.applications`, with a module ``recipes``; it is known here by that alone.
Its doors are functions of the package:

- ``train(recipe, folder, device, log, compile)`` yields the run;
- ``load(folder)`` returns the *model*, a pair ``(networks, recipe)``;
- ``sample(model, count, seed, first=0)`` returns images, float ``(count, C, H, W)`` in [-1, 1], if the family draws any;
  image ``i`` of a series depends on the seed and on ``i`` only;

and where there is something to say,

- ``first_stage(recipe)``: name of the zoo's model whose network `train` and `load` are to be given as ``first_stage``,
  or None;
- ``teacher(recipe)``: name of the zoo's model that `train` is to be given as ``teacher``, or None;
- ``start(recipe)``: name of the zoo's model that `train` is to be given as ``start``, to begin with its weights, or None;
- ``draws(recipe)``: whether models of this recipe draw pictures, if some of the family's do not;
- ``measure(model)``: what a card says beside the judgement on pictures, a list of
  ``{"name": ..., "on": ..., "samples": ..., "value": ...}``;
- ``heldout_pairs(model, count)``: held-out images, uint8, and what the model makes of them, if it encodes images;
- ``parameters(model)``: how many parameters it takes to draw, if not all.
"""

import functools
import importlib
import importlib.util
import inspect
import operator
import pkgutil
import typing
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

import gencore
from gencore import applications, zoo
from gencore.training import recipe_io


def families() -> dict[str, ModuleType]:
    """Return every family's package by its name, such as ``"gan"``."""
    houses = gencore, applications
    rooms = [(house.__name__, room.name) for house in houses for room in pkgutil.iter_modules(house.__path__) if room.ispkg]
    named = [(house, name) for house, name in rooms if importlib.util.find_spec(f"{house}.{name}.recipes")]
    return {name: importlib.import_module(f"{house}.{name}") for house, name in named}


def recipes() -> dict[str, Callable[[], Any]]:
    """Return every recipe function by its name, such as ``"gan.recipes.dcgan_digits"``."""
    return {
        f"{family}.recipes.{name}": function
        for family, package in families().items()
        for name, function in _functions(package)
    }


def read(folder: Path | str) -> tuple[ModuleType, Any]:
    """Return the family that reads a folder, and the recipe that lies in it.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder. The ``"type"`` in its ``recipe.json`` says whose it is.

    Raises
    ------
    InputError
        If there is no recipe, or none that a family knows.
    """
    kinds = {
        typing.get_type_hints(function)["return"]: family
        for family in families().values()
        for _, function in _functions(family)
    }
    recipe = recipe_io.read(functools.reduce(operator.or_, kinds), Path(folder) / "recipe.json")
    return kinds[type(recipe)], recipe


def passed_in(family: ModuleType, recipe: Any) -> dict[str, Any]:
    """Return what else `train` and `load` are to be given: the first stage that the recipe names, from the zoo."""
    name = family.first_stage(recipe) if hasattr(family, "first_stage") else None
    return {"first_stage": load(zoo.folder(name))[0].model} if name else {}


def passed_in_training(family: ModuleType, recipe: Any) -> dict[str, Any]:
    """Return what else `train` is to be given: what `load` is given too, and the teacher and the start that a recipe names."""
    given = passed_in(family, recipe)
    for role in ("teacher", "start"):
        name = getattr(family, role)(recipe) if hasattr(family, role) else None
        given |= {role: load(zoo.folder(name))} if name else {}
    return given


def load(folder: Path | str, device: torch.device | str = "cpu") -> tuple[Any, Any]:
    """Return the model that lies in a folder, whatever its family, with its networks on a device."""
    family, recipe = read(folder)
    networks, recipe = family.load(folder, **passed_in(family, recipe))
    return type(networks)(*(None if network is None else network.to(device) for network in networks)), recipe


def draws(family: ModuleType, recipe: Any) -> bool:
    """Whether models of this recipe draw pictures."""
    return hasattr(family, "sample") and (not hasattr(family, "draws") or family.draws(recipe))


def parameters(family: ModuleType, model: tuple[Any, Any]) -> int:
    """Return how many parameters it takes to draw, or all those of a model that draws nothing."""
    if hasattr(family, "parameters"):
        return family.parameters(model)
    return sum(p.numel() for network in model[0] for p in network.parameters())


def _functions(family: ModuleType) -> list[tuple[str, Callable[[], Any]]]:
    """Return the recipe functions that a family defines."""
    module = importlib.import_module(f"{family.__name__}.recipes")
    found = inspect.getmembers(module, inspect.isfunction)
    return [(name, each) for name, each in found if each.__module__ == module.__name__ and not name.startswith("_")]
