"""Draw emoji by each of three decoders in many ways, and measure what each way costs and how good its pictures are.

    python tools/steps_study.py runs/steps

Writes ``gencore/zoo/studies/steps.csv``, a row for each way: `tokens_emoji` (``model`` 0) and `next_scale_emoji` (2) at
several weights of guidance, the former also with several nuclei; `masked_emoji` (1) in 1 to 64 steps, at several
temperatures of its choice, and at several weights of guidance. A way has 408 pictures, as many as are held out; they are
asked for what training pictures show, and judged as `gencore evaluate` judges, the kernel distance in sets of 204. ``sd``
is the spread over such sets. ``core_seconds`` are for one picture among many, ``alone`` for one that is drawn by itself,
the least of three. Rows that begin with ``model`` 3 and 4 time `pixelcnn_digits` and `row_lstm_binarised`, which draw no
emoji.

Rows that the folder's own table holds are not drawn again. All together take a quarter of an hour on one thread;
the table that ships was made on an AMD EPYC with bf16, beside other work but for each model's usual way, timed alone.
"""

import csv
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import autoregressive, families, zoo
from gencore.autoregressive import AutoregressiveRecipe, Sampling
from gencore.data import Emoji, to_uint8
from gencore.metrics import SqueezeNetFeatures, kernel_distance, precision_recall
from tools import studies

MODELS = ("tokens_emoji", "masked_emoji", "next_scale_emoji", "pixelcnn_digits", "row_lstm_binarised")
STEPS, LONG = (12, 1, 4, 2, 8, 16), (32, 64)  # the last: one symbol a step
DISTURB = (50.0, 0.0, 12.0, 1.0, 2.0)
DISTURB_LONG = (0.0, 50.0)  # again at one symbol a step
GUIDANCE = (2.0, 1.0, 3.0, 1.5, 4.0)
TOP_P = (0.95, 1.0, 0.9, 0.8)
PICTURES, SET, SEED, AT_ONCE = 408, 204, 1, 51
KEYS = ("model", "steps", "disturb", "guidance", "top_p")


def ways(model: int, recipe: AutoregressiveRecipe) -> Iterator[Sampling]:
    """Yield how a model is asked to draw: first as its recipe says, then with one thing varied."""
    usual = recipe.sampling
    yield usual
    if model == 1:
        yield from (replace(usual, steps=steps) for steps in STEPS)
        yield from (replace(usual, disturb=disturb) for disturb in DISTURB)
        yield from (replace(usual, steps=steps) for steps in LONG)
    if model == 0:
        yield from (replace(usual, top_p=top_p) for top_p in TOP_P)
    if model < 3:
        yield from (replace(usual, guidance=guidance) for guidance in GUIDANCE)
    if model == 1:
        yield from (replace(usual, disturb=disturb, steps=max(LONG)) for disturb in DISTURB_LONG)


def key_of(model: int, recipe: AutoregressiveRecipe, how: Sampling) -> tuple[float, ...]:
    """Return what names a row: model and way. Steps are evaluations one after the other, guidance not counted."""
    network = recipe.network
    places = network.shape[-1] * network.shape[-2] if model < 3 else network.grid.size**2
    steps = {1: how.steps, 2: len(getattr(getattr(network, "writer", None), "scales", ()))}.get(model, places)
    return model, steps, how.disturb if model == 1 else 0.0, how.guidance, how.top_p


class Judge:
    """Measures pictures of emoji, against all that are held out."""

    def __init__(self) -> None:
        self.features = SqueezeNetFeatures()
        self.real = self.features(Emoji().load("heldout").images)

    def __call__(self, x: torch.Tensor) -> dict[str, float]:
        """Return the measures of pictures ``(N, 3, 32, 32)`` in [-1, 1]."""
        drawn = self.features(to_uint8(x))
        distance = kernel_distance(drawn, self.real, subset_size=SET)
        shares = precision_recall(drawn, self.real)
        return {"distance": distance.mean, "sd": distance.sd, "precision": shares.precision, "recall": shares.recall}


def seconds(model: tuple, count: int, how: Sampling) -> tuple[torch.Tensor, float]:
    """Draw pictures, and return them and the core-seconds that it took."""
    start = time.process_time()
    x = autoregressive.sample(model, count, SEED, batch_size=AT_ONCE, sampling=how)
    return x, time.process_time() - start


def main(folder: Path) -> None:
    """Fill the table, a row after each way, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    table, rows, judge = folder / "steps.csv", [], None
    if table.is_file():
        with open(table, newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    done = {tuple(row[key] for key in KEYS) for row in rows}
    models = {number: families.load(zoo.folder(name)) for number, name in enumerate(MODELS)}
    planned = {number: list(ways(number, model[1])) for number, model in models.items()}
    first = [(number, hows[0]) for number, hows in planned.items()]  # the usual ways, which every figure needs
    for number, how in first + [(number, how) for number, hows in planned.items() for how in hows]:
        model = models[number]
        key = key_of(number, model[1], how)
        if key in done:
            continue
        done.add(key)
        alone = min(seconds(model, 1, how)[1] for _ in range(3))
        found = dict.fromkeys(("distance", "sd", "precision", "recall", "core_seconds"), float("nan"))
        if number < 3:
            judge = judge or Judge()
            x, taken = seconds(model, PICTURES, how)
            found = judge(x) | {"core_seconds": taken / PICTURES}
        rows.append(dict(zip(KEYS, key, strict=True)) | found | {"alone": alone})
        studies.write("steps", rows, digits=4)
        shutil.copyfile(studies.FOLDER / "steps.csv", table)


if __name__ == "__main__":
    studies.start(main, __doc__)
