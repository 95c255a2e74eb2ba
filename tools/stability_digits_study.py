"""Train six pairs of an objective and a regulariser on small digits, three times each.

    python tools/stability_digits_study.py runs/stability_digits

Writes ``gencore/zoo/studies/stability_digits.csv``, a row for each training: the cell's number in `CELLS`, the learning
rate's in `RATES`, the seed, Fréchet distance to 1,000 held-out digits on features of the digit classifier (1,000
samples), share of the rarest digit among the samples, and how many digits come in at least 5 % of them. All have the
same DCGAN, whose discriminator has no batch normalisation, and see as many images. Tuning is the same for all: each
cell trains at two learning rates with the seed `TUNING`, and at the better of them with the seeds of `JUDGED`.
Trainings that the folder holds are not repeated. About twenty core-seconds each on one thread of an Intel Xeon.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import gan
from gencore.data import Digits, to_uint8
from gencore.gan import R1, GANRecipe, GradientPenalty, Hinge, LeastSquares, Relativistic, Wasserstein
from gencore.gan.recipes import Adam
from gencore.metrics import DigitFeatures, frechet_distance_of
from gencore.networks.dcgan import DCGAN
from tools import studies

NETWORK = DCGAN(size=14, channels=1, latent=64, width=32, discriminator_norm="none")
BASE = GANRecipe(data=Digits(size=14), network=NETWORK, images=32_000, batch_size=32, log_every=32_000, ema_half_life=5_000)
CELLS = {
    "non-saturating": BASE,
    "non-saturating, R1": replace(BASE, penalties=(R1(gamma=0.2, every=1),)),
    "least squares": replace(BASE, objective=LeastSquares()),
    "hinge, spectral norm": replace(BASE, objective=Hinge(), network=replace(NETWORK, spectral=True)),
    "Wasserstein, gradient penalty": replace(BASE, objective=Wasserstein(), penalties=(GradientPenalty(weight=1.0),)),
    "relativistic, R1": replace(BASE, objective=Relativistic(), penalties=(R1(gamma=0.2, every=1),)),
}
RATES = (3e-4, 1e-3)
TUNING, JUDGED, SAMPLES = 100, (0, 1, 2), 1_000
OFTEN = 0.05  # share from which on a digit is counted


def recipe(cell: int, rate: int, seed: int) -> GANRecipe:
    """Return one training of the table."""
    lr = RATES[rate]
    return replace(list(CELLS.values())[cell], seed=seed, optimiser=Adam(lr, lr))


def outcome(spec: GANRecipe, features: DigitFeatures, real: torch.Tensor) -> torch.Tensor:
    """Train a pair and return distance, share of the rarest digit and number of digits, float64 ``(3,)``."""
    for run in gan.train(spec, device="cpu"):
        pass
    drawn = to_uint8(gan.sample((run.averaged, spec), SAMPLES, seed=1))
    if not drawn.float().std() > 0:
        return torch.tensor([float("inf"), 0.0, 0.0], dtype=torch.float64)
    made = features(drawn)
    shares = torch.bincount(features.probabilities(made).argmax(1), minlength=10) / SAMPLES
    return torch.tensor([frechet_distance_of(made, real), shares.min(), (shares >= OFTEN).sum()], dtype=torch.float64)


def main(folder: Path) -> None:
    """Fill the table, training by training, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    features, rows = DigitFeatures(), []
    real = features(Digits(size=14).load("heldout").images)

    def judged(cell: int, rate: int, seed: int) -> float:
        """Add a training's row to the table, and return its distance."""
        path = folder / f"{cell}_{rate}_{seed}.pt"
        found = studies.kept(path, lambda: outcome(recipe(cell, rate, seed), features, real)).tolist()
        key = {"cell": cell, "rate": rate, "seed": seed}
        rows.append(key | dict(zip(("frechet", "rarest", "digits"), found, strict=True)))
        studies.write("stability_digits", rows)
        return found[0]

    for cell in range(len(CELLS)):
        tried = [judged(cell, rate, TUNING) for rate in range(len(RATES))]
        best = min(range(len(RATES)), key=tried.__getitem__)
        for seed in JUDGED:
            judged(cell, best, seed)


if __name__ == "__main__":
    studies.start(main, __doc__)
