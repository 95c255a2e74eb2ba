"""The zoo: one folder for each trained model, with weights, recipe, card, curve and pictures.

A folder holds ``ema.safetensors`` (half precision), ``recipe.json``, ``card.json``, ``curve.csv``, ``samples.png``,
``replay.png`` and ``SHA256SUMS``. Families load their models from such a folder; the zoo only finds and verifies it.
"""

import json
from pathlib import Path

from gencore.errors import InputError
from gencore.integrity import SUMS, check_file

ROOT = Path(__file__).parent


def names() -> list[str]:
    """Return the names of all models in the zoo, sorted."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{SUMS}"))


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
