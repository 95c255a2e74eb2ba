"""The zoo: one folder for each trained model, with weights, recipe, card, curve and pictures.

A folder holds ``ema.safetensors`` (eight bits or half precision), ``recipe.json``, ``card.json``, ``curve.csv`` and
``SHA256SUMS``; if it draws pictures, ``samples.png`` and, but for a first stage, whose prior gives noise,
``replay.png``; if it encodes them, ``reconstructions.png``: held-out images in rows, each above what became of them.
Replays in colour, and sheets of small pictures in colour, may have a palette, and sheets of more than 32 pixels a picture
are JPEG (``.jpg``) where the model itself can draw them again. Families load their models from such a folder; the zoo only finds and verifies it. Of models that are too large to ship there is the
record only, without weights; its card says so. The folder ``studies`` holds tables: results of experiments that train too
many models to ship.
"""

import csv
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from gencore.errors import InputError
from gencore.integrity import SUMS, check_file

ROOT = Path(__file__).parent
STUDIES = "studies"
COLUMNS = 16  # pictures in a row of a replay


def names() -> list[str]:
    """Return the names of all models in the zoo, sorted."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{SUMS}") if path.parent != ROOT / STUDIES)


def folder(name: str) -> Path:
    """Return a model's folder, after verifying every file in it.

    Parameters
    ----------
    name : str
        Such as ``"dcgan_digits"``.

    Raises
    ------
    InputError
        If there is no such model, or a file differs from what was shipped.
    """
    if name not in names():
        raise InputError(f"zoo: no model named {name!r}; there are: {', '.join(names())}")
    path = ROOT / name
    for line in (path / SUMS).read_text("utf-8").splitlines():
        check_file(path / line.split(maxsplit=1)[1])
    return path


def card(name: str) -> dict:
    """Return a model's card: how it was trained, what that cost, and what it reached."""
    return json.loads((folder(name) / "card.json").read_text("utf-8"))


def replay(name: str) -> tuple[list[int], Tensor]:
    """Return what a model drew as its training went on.

    Parameters
    ----------
    name : str
        Such as ``"dcgan_digits"``.

    Returns
    -------
    images_seen : list of int
        How many training images the network had seen, rising.
    pictures : Tensor
        uint8 ``(rows, 16, C, H, W)``: a row for each of these moments, a column for each latent, the same in every row.

    Raises
    ------
    InputError
        If there is no such model, it has no replay, or a file differs from what was shipped.
    """
    path, images_seen = folder(name) / "replay.png", card(name).get("replay_images_seen")
    if not path.is_file() or not images_seen:
        raise InputError(f"zoo: {name} was published without a replay")
    with Image.open(path) as image:
        plain = image.convert("RGB") if image.mode == "P" else image
        page = torch.from_numpy(np.array(plain))  # (rows H, 16 W) if grey, else with C at the end
    rows, size = len(images_seen), page.shape[1] // COLUMNS
    if page.shape[:2] != (rows * size, COLUMNS * size):
        raise InputError(f"{path}: expected {rows} rows of {COLUMNS} square pictures, got {tuple(page.shape)}")
    return images_seen, page.view(rows, size, COLUMNS, size, -1).permute(0, 2, 4, 1, 3)


def study(name: str) -> list[dict[str, float]]:
    """Return the rows of a study's table.

    Parameters
    ----------
    name : str
        Such as ``"disentanglement"``, which ``tools/disentanglement.py`` makes.

    Raises
    ------
    InputError
        If there is no such study, or its file differs from what was shipped.
    """
    path = ROOT / STUDIES / f"{name}.csv"
    if not path.is_file():
        there = ", ".join(sorted(each.stem for each in path.parent.glob("*.csv")))
        raise InputError(f"zoo: no study named {name!r}; there are: {there}")
    with open(check_file(path), newline="", encoding="utf-8") as file:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
