"""Draw digits and emoji at many weights of guidance, on all times and on an interval, and measure what each weight costs.

    gencore train diffusion.recipes.flow_emoji
    python tools/guidance_study.py runs/guidance --emoji runs/flow_emoji
    python tools/guidance_study.py runs/guidance --emoji runs/flow_emoji --device cuda

The zoo has the record of `flow_emoji`, but not its weights; without a run of it, an error says how to train it.

Writes ``gencore/zoo/studies/guidance.csv``, a row for each set of pictures. Rows that the folder's own table holds are not
drawn again, so the run resumes; give another folder for other weights. There are three seeds; to draw one takes 4.8
core-minutes on one thread of an AMD EPYC. The table that ships was made on an H200 beside ten other runs: its
``core_seconds`` are those of the process that drove the GPU, and tell nothing of a CPU.

A set has half as many pictures as there are held-out ones, is asked for what one half of these show, and is compared with
that half; all sets of one seed start from the same noise. Rows whose ``real`` is 1 have the other half in the place of
samples.
"""

import argparse
import csv
import shutil
import sys
import time
from dataclasses import replace
from functools import cached_property
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import diffusion, zoo
from gencore.data import to_uint8
from gencore.diffusion.guidance import classifier_free
from gencore.diffusion.sampling import untold, with_mirrored
from gencore.errors import InputError
from gencore.metrics import (
    DigitFeatures,
    Features,
    SqueezeNetFeatures,
    density_coverage,
    frechet_distance_of,
    mmd2,
    precision_recall,
)
from gencore.training import rng
from gencore.training.device import keep_freed_memory
from tools import studies

ALWAYS = (0.0, 1.0)
# What is drawn, in this order: weights on all times, those that tell most first; then weights on a part of them.
SPANS = ((0.2, 0.7), (0.7, 1.0), (0.0, 0.2))
DIGITS = [(w, ALWAYS) for w in (1.0, 12.0, 3.0, 1.5, 6.0, 0.0)] + [(12.0, span) for span in SPANS]
EMOJI = [(w, ALWAYS) for w in (1.0, 6.0, 1.5, 3.0)] + [(6.0, span) for span in SPANS]
SEEDS = {"digits": 3, "emoji": 3}
PICTURES = {"digits": 500, "emoji": 204}  # in a set; half of the held-out ones
STEPS = 10
BEYOND = 1.1  # a value of a clean picture beyond it is out of range by more than a rounding of the network's
AT_ONCE = 100


@torch.inference_mode()
def draw(
    model: tuple, cond: Tensor, weight: float, interval: tuple[float, float], seed: int, device: str = "cpu"
) -> Tensor:
    """Return pictures ``(N, C, H, W)`` as the walk leaves them, not yet held to [-1, 1], for conditions ``(N, K)``."""
    recipe = model[1]
    cond = with_mirrored(recipe, cond, torch.zeros(len(cond), dtype=torch.int64))
    how, drawn = replace(recipe.sampling, steps=STEPS, guidance=weight, interval=interval), []
    for start in range(0, len(cond), AT_ONCE):
        told = cond[start : start + AT_ONCE].to(device)
        noise = rng.normal_per_image(len(told), (1, *recipe.network.shape), seed, start).to(device)
        denoise = classifier_free(diffusion.denoiser(model), told, untold(recipe, told), weight, interval)
        drawn.append(diffusion.walk(denoise, recipe.process, how, noise).cpu())
    return torch.cat(drawn)


def spread(features: Tensor, labels: Tensor) -> float:
    """Return the root mean squared distance of features from the mean of their class."""
    parts = [features[labels == label] for label in labels.unique()]
    parts = [(part - part.mean(0)).square().sum() / (len(part) - 1) for part in parts if len(part) > 1]
    return (sum(parts) / len(parts)).sqrt().item()


def nearest_labels(features: Tensor, known: Tensor, labels: Tensor) -> Tensor:
    """Return the label that most of the five nearest known pictures have; with a tie, the nearest one's."""
    found = labels[torch.cdist(features, known).topk(5, largest=False).indices]  # (N, 5)
    votes = torch.nn.functional.one_hot(found, int(labels.max()) + 1).sum(1).float()
    return (votes + 0.5 * torch.nn.functional.one_hot(found[:, 0], votes.shape[1])).argmax(1)


class Judge:
    """What is measured on one kind of pictures; everything is held against the held-out ones."""

    def __init__(self, recipe: diffusion.DiffusionRecipe, device: str = "cpu") -> None:
        self.recipe = recipe
        self.train, self.heldout = recipe.data.load("train"), recipe.data.load("heldout")
        self.digits = "style" not in self.train.meta
        self.kind = "digits" if self.digits else "emoji"
        self.features: Features = DigitFeatures(device=device) if self.digits else SqueezeNetFeatures(device=device)
        half = torch.randperm(len(self.heldout), generator=rng.generator(0, 0, "half"))[: PICTURES[self.kind]]
        self.cond, self.known = diffusion.conditions(recipe, self.heldout)[half], diffusion.conditions(recipe, self.train)
        self.real = self.features(self.heldout.images[half])
        other = torch.ones(len(self.heldout), dtype=torch.bool)
        other[half] = False
        self.other = self.heldout.images[other] / 127.5 - 1, diffusion.conditions(recipe, self.heldout)[other]

    @cached_property
    def around(self) -> Tensor:
        """Features of all training pictures."""
        return self.features(self.train.images)

    def agreement(self, features: Tensor, cond: Tensor) -> list[float]:
        """Return for each condition the share of pictures that show what was asked for; not known: not a number.

        Digits are named by the digit classifier, emoji by their five nearest training pictures.
        """
        if self.digits:
            seen = self.features.probabilities(features).argmax(1)
            return [(seen == cond[:, 0]).double().mean().item(), float("nan")]
        seen = [nearest_labels(features, self.around, self.known[:, column]) for column in range(2)]
        return [(each == cond[:, column]).double().mean().item() for column, each in enumerate(seen)]

    def __call__(self, x: Tensor, cond: Tensor) -> dict[str, float]:
        """Return the measures of pictures ``(N, C, H, W)`` that were asked to show ``cond (N, K)``."""
        images = to_uint8(x.clamp(-1, 1))
        features = self.features(images)
        named = dict(zip(("agreement", "style"), self.agreement(features, cond), strict=True))
        shares = precision_recall(features, self.real)._asdict() | density_coverage(features, self.real)._asdict()
        if self.digits:
            distance = frechet_distance_of(features, self.real)
        else:
            distance = mmd2(features, self.real)
        most, least = x.clamp(-1, 1).amax(1), x.clamp(-1, 1).amin(1)  # over the colours
        painted = least < 0.8  # all that is not white
        looks = {
            "light": (x.clamp(-1, 1).mean().item() + 1) / 2,  # of digits: how much of the page is ink
            "saturation": ((most - least) / (most + 1).clamp(min=0.05))[painted].mean().item(),  # 0 if grey, 1 if pure
            "beyond": (x.abs() > BEYOND).double().mean().item(),
        }
        return named | shares | {"distance": distance, "spread": spread(features, cond[:, 0])} | looks


def main(folder: Path, models: dict[str, Path | None], device: str = "cpu") -> None:
    """Fill the table, a row after each set, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    table = folder / "guidance.csv"
    rows = []
    if table.is_file():
        with open(table, newline="", encoding="utf-8") as file:
            rows = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    keys = ("emoji", "real", "weight", "first", "last", "seed")
    done = {tuple(row[key] for key in keys) for row in rows}

    def add(key: tuple, found: dict[str, float], seconds: float) -> None:
        rows.append(dict(zip(keys, key, strict=True)) | found | {"core_seconds": seconds})
        studies.write("guidance", rows)
        shutil.copyfile(studies.FOLDER / "guidance.csv", table)

    judges = {}
    for kind, name in (("digits", "guided_digits"), ("emoji", "flow_emoji")):
        model = diffusion.load(models[kind] or zoo.folder(name))
        model[0].model.to(device)
        judges[kind] = model, Judge(model[1], device)
    for seed, (number, (kind, (model, judge))) in product(range(max(SEEDS.values())), enumerate(judges.items())):
        if seed < SEEDS[kind]:
            if (number, 1, 1, *ALWAYS, 0) not in done and seed == 0:
                add((number, 1, 1, *ALWAYS, 0), judge(*judge.other), 0.0)
            for weight, span in DIGITS if kind == "digits" else EMOJI:
                key = (number, 0, weight, *span, seed)
                if key not in done:
                    start = time.process_time()
                    x = draw(model, judge.cond, weight, span, seed, device)
                    add(key, judge(x, judge.cond), time.process_time() - start)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the table is kept while it grows")
    parser.add_argument("--digits", type=Path, help="a run's folder instead of the zoo's guided_digits")
    parser.add_argument("--emoji", type=Path, help="folder of a run of diffusion.recipes.flow_emoji")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        main(arguments.folder, {"digits": arguments.digits, "emoji": arguments.emoji}, arguments.device)
    except InputError as error:
        raise SystemExit(f"guidance_study: {error}") from None
