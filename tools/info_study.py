"""Train InfoGAN on digits with several seeds, and ask what its codes have come to mean.

    python tools/info_study.py runs/info

Writes ``gencore/zoo/studies/info.csv``, a row for each seed of the recipe ``info_digits``: ``purity``, the share of
drawn digits whose class, by the digit classifier, is the one that its code stands for (each code is matched with a
digit of its own, so that the share is as large as it can be); ``slant_1``, ``slant_2``, ``width_1`` and ``width_2``,
rank correlations of the two numbers with the measured slant and width, each code's digits ranked by themselves and
averaged over codes; and ``class_nats`` and ``number_nats``, what reading the codes cost at the end of training. 2,000
digits are drawn. Trainings that the folder holds are resumed or not repeated: ``runs/info/0`` is what
``tools/publish.py`` can publish. Two core-minutes each on an AMD EPYC with bf16.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import spearmanr

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import gan
from gencore.data import to_uint8
from gencore.gan.recipes import info_digits
from gencore.metrics import DigitFeatures
from gencore.metrics.strokes import slant, width
from gencore.training import rng
from gencore.training.log import read_curve
from tools import studies

SEEDS, SAMPLES = (0, 1, 2, 3, 4), 2_000


def meanings(folder: Path, features: DigitFeatures) -> dict[str, float]:
    """Return what the codes of a trained model mean, as the columns of the table say."""
    model = (generator, _), recipe = gan.load(folder)
    drawn = to_uint8(gan.sample(model, SAMPLES, seed=1))
    z = rng.normal_per_image(SAMPLES, (recipe.network.latent,), 1)  # those that `sample` takes
    category, numbers = generator.codes(z)
    code, digit = category.argmax(1), features.probabilities(features(drawn)).argmax(1)
    table = torch.zeros(recipe.network.classes, 10)
    table.index_put_((code, digit), torch.ones(SAMPLES), accumulate=True)
    rows, columns = linear_sum_assignment(table.numpy(), maximize=True)
    found = {"purity": table[rows, columns].sum().item() / SAMPLES}
    for name, measured in (("slant", slant(drawn)), ("width", width(drawn))):
        for place in range(recipe.network.continuous):
            ranks = []
            for each in range(recipe.network.classes):
                chosen = (code == each) & measured.isfinite()
                ranks.append(spearmanr(numbers[chosen, place], measured[chosen]).statistic)
            found[f"{name}_{place + 1}"] = float(torch.tensor(ranks).nan_to_num().mean())
    last = read_curve(folder / "curve.csv")[-1]
    return found | {name: last[name] for name in ("class_nats", "number_nats")}


def main(folder: Path) -> None:
    """Fill the table, seed by seed, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    features, rows = DigitFeatures(), []
    for seed in SEEDS:
        for _ in gan.train(replace(info_digits(), seed=seed), folder / str(seed), device="cpu"):
            pass
        rows.append({"seed": seed} | meanings(folder / str(seed), features))
        studies.write("info", rows)


if __name__ == "__main__":
    studies.start(main, __doc__)
