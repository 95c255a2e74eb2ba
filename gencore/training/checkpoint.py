"""Checkpoints: directories of safetensors, written whole or not at all, read without running code.

A run's folder holds ``recipe.json``, ``curve.csv`` and ``checkpoints/<images seen>/`` with

- ``weights.safetensors``: every network's weights as trained,
- ``ema.safetensors``: the averaged weights that one samples from,
- ``train_state.pt``: optimiser state and counters, read with ``weights_only=True``.
"""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.training import eight_bits, recipe_io

NOT_SHIPPED = "not shipped"  # "weights" in the card of a zoo model that is there as a record only
LEFT_OUT = "left_out"  # in a card: networks that drawing does not need, and whose weights do not ship
KEEP = 2  # checkpoints left on disk: the newest, and one more in case a disk fills up while writing


def write_json(path: Path, data: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of one."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", "utf-8")
    os.replace(part, path)


def open_run(folder: Path, recipe: Any) -> None:
    """Create a run's folder with its recipe, or check that an existing one holds the same recipe.

    Raises
    ------
    InputError
        If the folder holds another run, or files that are not a run's. Nothing is overwritten.
    """
    path = folder / "recipe.json"
    if path.exists():
        theirs = recipe_io.to_dict(recipe_io.read(type(recipe), path))  # fields that came later have their defaults
        ours = recipe_io.to_dict(recipe)
        if ours != theirs:
            field = _first_difference(theirs, ours)
            raise InputError(f"{path}: this run was started with another recipe (field '{field}'); choose another folder")
        return
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{folder}: not empty and not a run (no recipe.json); choose another folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json(path, recipe_io.to_dict(recipe))


def _first_difference(old: Any, new: Any, path: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**old, **new}:
            if old.get(key) != new.get(key):
                return _first_difference(old.get(key), new.get(key), f"{path}.{key}" if path else key)
    return path


def save(folder: Path, images_seen: int, networks: dict[str, nn.Module], ema: dict[str, nn.Module], state: dict) -> Path:
    """Write one checkpoint and drop those that are no longer needed.

    The files are written under another name and become a checkpoint by one rename, so a kill at any moment leaves the
    previous checkpoint or the new one.

    Parameters
    ----------
    folder : Path
        The run's folder.
    images_seen : int
        Names the checkpoint.
    networks, ema : dict of str to nn.Module
        Networks by name; keys in the files are ``name.parameter``.
    state : dict
        Tensors and plain values only.
    """
    target = folder / "checkpoints" / f"{images_seen:012d}"
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    save_file(flatten(networks), part / "weights.safetensors")
    save_file(flatten(ema), part / "ema.safetensors")
    torch.save(state, part / "train_state.pt")
    for file in part.iterdir():  # on disk before the rename says so
        with open(file, "rb") as handle:
            os.fsync(handle.fileno())
    if target.exists():
        shutil.rmtree(part)
    else:
        os.replace(part, target)
    for old in list_checkpoints(folder)[:-KEEP]:
        shutil.rmtree(old)
    return target


def load_model(folder: Path | str, kind: type, build: Callable[[Any], NamedTuple]) -> tuple[NamedTuple, Any]:
    """Load what is sampled from: the averaged networks of a zoo folder, or of the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        The folder; ``recipe.json`` lies in it.
    kind : type
        The family's recipe.
    build : callable
        Makes the family's networks for a recipe.

    Returns
    -------
    networks : NamedTuple of nn.Module
        In evaluation mode, float32, without gradients; None in place of one that the zoo's card says is left out.
    recipe
        The recipe they were trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe, or if only the model's record ships.
    """
    folder = Path(folder)
    recipe = recipe_io.read(kind, folder / "recipe.json")
    path = (list_checkpoints(folder) or [folder])[-1] / "ema.safetensors"
    card = _read_card(folder)
    if not path.is_file() and card.get("weights") == NOT_SHIPPED:
        name, command = card["name"], f"gencore train {card['recipe']}"
        raise InputError(f"{name}: only its record ships, not its weights; train it by: {command}")
    networks, left_out = build(recipe), card.get(LEFT_OUT, [])
    if unknown := set(left_out) - set(networks._fields):
        raise InputError(f"{folder / 'card.json'}: {LEFT_OUT} names {sorted(unknown)}; there are {networks._fields}")
    there = {name: network for name, network in networks._asdict().items() if name not in left_out}
    fill(there, read_tensors(path), path)
    for network in there.values():
        network.eval().requires_grad_(False)
    return networks._replace(**dict.fromkeys(left_out)), recipe


def _read_card(folder: Path) -> dict:
    """Return a zoo model's card; empty for a run, which has none."""
    path = folder / "card.json"
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); fetch the model again") from None


def list_checkpoints(folder: Path) -> list[Path]:
    """Return a run's complete checkpoints, oldest first."""
    root = Path(folder) / "checkpoints"
    return sorted(path for path in root.glob("*") if path.name.isdigit()) if root.is_dir() else []


def flatten(networks: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Return all networks' tensors on the CPU under keys ``name.parameter``."""
    return {
        f"{name}.{key}": tensor.detach().cpu().contiguous()
        for name, network in networks.items()
        for key, tensor in network.state_dict().items()
    }


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """Read a safetensors file, weights in eight bits included, with one clear error when it is missing or damaged."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: file is missing; is this the folder of a run or of a zoo model?")
    try:
        return eight_bits.grow(load_file(path))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}); fetch or train it again") from None


def read_state(path: Path | str) -> dict:
    """Read ``train_state.pt``; only tensors and plain values are accepted, never code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: file is missing; delete this checkpoint's folder to resume from the one before") from None
    except Exception as error:  # a damaged archive raises many kinds
        raise InputError(
            f"{path}: damaged ({type(error).__name__}); delete this checkpoint's folder to resume from the one before"
        ) from None


def fill(networks: dict[str, nn.Module], tensors: dict[str, Tensor], source: Path | str) -> None:
    """Copy tensors with keys ``name.parameter`` into networks, in the networks' own number format.

    Raises
    ------
    InputError
        If keys or shapes do not fit; the message names the first that does not.
    """
    wanted = {f"{name}.{key}": value for name, net in networks.items() for key, value in net.state_dict().items()}
    for key in {**wanted, **tensors}:
        if key not in tensors:
            raise InputError(f"{source}: lacks '{key}'; the weights belong to another recipe")
        if key not in wanted:
            raise InputError(f"{source}: holds '{key}', which the recipe's networks lack")
        if wanted[key].shape != tensors[key].shape:
            have, want = tuple(tensors[key].shape), tuple(wanted[key].shape)
            raise InputError(f"{source}: '{key}' has shape {have}, the recipe's network needs {want}")
    for name, network in networks.items():  # by `load_state_dict`, so that a network can follow what it is given
        network.load_state_dict({key: tensors[f"{name}.{key}"] for key in network.state_dict()})
