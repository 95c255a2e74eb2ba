"""Play every objective with every regulariser on 25 Gaussians, and count the modes that are covered.

    python tools/stability_study.py runs/stability

Writes ``gencore/zoo/studies/stability.csv``, a row for each game: objective, regulariser, learning rate and seed as
numbers (their places in `OBJECTIVES`, `REGULARISERS` and `RATES`, and the seed), then modes covered of 25, share of
points that lie on a mode, energy distance to real points and whether the game was lost. All games have the same
networks, steps and points. ``stability_points.csv`` holds some points of each pair's first judged game, in hundredths,
for a picture. Tuning is the same for all: each pair plays at three learning rates with the seed of `TUNING`; the rate
with the smallest distance is its own, and only there it plays with the seeds of `JUDGED`. Games that the folder holds
are not played again. About eight core-seconds a game on one thread of an Intel Xeon.
"""

import sys
from pathlib import Path
from statistics import fmean

import torch

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore.data import toys
from gencore.gan import R1, GradientPenalty, Hinge, LeastSquares, NonSaturating, Relativistic, Wasserstein
from gencore.gan.points import PointGame, play, points
from gencore.metrics import energy_distance, modes_covered
from tools import studies

OBJECTIVES = (NonSaturating(), LeastSquares(), Hinge(), Wasserstein(), Relativistic())
REGULARISERS = {
    "none": {},
    "gradient penalty": {"penalties": (GradientPenalty(weight=1.0),)},
    "R1": {"penalties": (R1(gamma=0.2, every=1),)},
    "spectral norm": {"spectral": True},
}
RATES = (3e-4, 1e-3, 3e-3)
TUNING, JUDGED, STEPS = (100,), (0, 1, 2, 3, 4), 1_500
POINTS = 2_500  # drawn to judge a game
SHOWN = 300  # of them kept for the picture
LOST = 13  # a game is lost that covers fewer modes than half of 25, or leaves the finite numbers


def data() -> "toys.GaussianMixture":
    """Return the 25 Gaussians, ten standard deviations apart."""
    return toys.grid(5, distance=1.0, std=0.1)


def game(objective: int, regulariser: int, rate: int, seed: int) -> PointGame:
    """Return one game of the table."""
    options = list(REGULARISERS.values())[regulariser]
    lr = RATES[rate]
    return PointGame(OBJECTIVES[objective], seed=seed, generator_lr=lr, discriminator_lr=lr, steps=STEPS, **options)


def drawn_points(spec: PointGame) -> torch.Tensor:
    """Play a game and return points of its generator, ``(POINTS, 2)``."""
    return points(spec, play(spec, data()).generator, POINTS, seed=1)


def outcome(spec: PointGame) -> torch.Tensor:
    """Play a game and return modes covered, share on modes, energy distance, and whether it was lost, float64 ``(4,)``."""
    mixture, drawn = data(), drawn_points(spec)
    if not drawn.isfinite().all():
        return torch.tensor([0.0, 0.0, float("inf"), 1.0], dtype=torch.float64)
    modes = modes_covered(drawn, mixture)
    distance = energy_distance(drawn, mixture.sample(POINTS, torch.Generator().manual_seed(2)))
    return torch.tensor([modes.covered, modes.on_modes, distance, modes.covered < LOST], dtype=torch.float64)


def main(folder: Path) -> None:
    """Fill the table, game by game, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    rows, shown = [], []

    def judged(objective: int, regulariser: int, rate: int, seed: int) -> float:
        """Add a game's row to the table, and return its distance."""
        path = folder / f"{objective}_{regulariser}_{rate}_{seed}.pt"
        found = studies.kept(path, lambda: outcome(game(objective, regulariser, rate, seed))).tolist()
        names = ("modes", "on_modes", "distance", "lost")
        key = {"objective": objective, "regulariser": regulariser, "rate": rate, "seed": seed}
        rows.append(key | dict(zip(names, found, strict=True)))
        studies.write("stability", rows)
        return found[2]

    for objective in range(len(OBJECTIVES)):
        for regulariser in range(len(REGULARISERS)):
            tried = [fmean(judged(objective, regulariser, rate, seed) for seed in TUNING) for rate in range(len(RATES))]
            best = min(range(len(RATES)), key=tried.__getitem__)
            for seed in JUDGED:
                judged(objective, regulariser, best, seed)
            spec = game(objective, regulariser, best, JUDGED[0])
            picture = studies.kept(folder / f"points_{objective}_{regulariser}.pt", lambda: drawn_points(spec)[:SHOWN].clone())
            places = (100 * picture[picture.isfinite().all(1)]).round().tolist()
            shown += [{"objective": objective, "regulariser": regulariser, "x": x, "y": y} for x, y in places]
            studies.write("stability_points", shown)


if __name__ == "__main__":
    studies.start(main, __doc__)
