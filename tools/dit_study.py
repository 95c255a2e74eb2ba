"""Train diffusion transformers of several patches and widths, and U-Nets beside them, and measure the held-out loss.

    python tools/dit_study.py --device cuda --workers 14

Writes ``gencore/zoo/studies/dit.csv``, a row for each training; rows that stand are not trained again. ``patch`` 0 is a
U-Net. ``loss`` is what training minimises, and ``frechet`` the Fréchet distance of 1,000 samples to the held-out
digits on digit-classifier features; both are those of the averaged weights. ``--limit 2`` tries the first two.
"""

import argparse
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import diffusion, zoo
from gencore.data import to_float, to_uint8
from gencore.diffusion.objectives import Draw
from gencore.diffusion.recipes import DiffusionRecipe, flow_digits
from gencore.metrics.features import DigitFeatures
from gencore.metrics.frechet import frechet_distance_of
from gencore.networks.denoising import DenoisingUNet
from gencore.networks.dit import DiT
from gencore.training import rng
from tools import studies

TRANSFORMERS = [(patch, width) for patch in (7, 4, 2) for width in (32, 64, 128)]
UNETS = [(0, width) for width in (16, 32, 64)]
SHORT, LONG = 48_000, 192_000  # training images
BATCH = 128
SEEDS = 3
RATES = (1e-3, 2e-3, 4e-3)  # the middle one is that of all rows; the others have one seed, short
DEPTH = 4
COLUMNS = ("patch", "width", "images", "lr", "seed", "parameters", "loss", "frechet")


def cells() -> list[tuple[int, int, int, float, int]]:
    """Return patch, width, images, learning rate and seed of each training, the longest first."""
    sizes = TRANSFORMERS + UNETS
    main = [(*size, images, RATES[1], seed) for size, images, seed in product(sizes, (LONG, SHORT), range(SEEDS))]
    others = [(*size, SHORT, lr, 0) for size, lr in product(sizes, (RATES[0], RATES[2]))]
    return sorted(main + others, key=lambda cell: (-cell[2], cell[0]))


def recipe_of(patch: int, width: int, images: int, lr: float, seed: int) -> DiffusionRecipe:
    """Return `flow_digits` with another network, length and rate; the moving average spans the same share of a run."""
    recipe = flow_digits()
    if patch:
        network = DiT(size=28, patch=patch, width=width, depth=DEPTH, heads=4)
    else:
        network = DenoisingUNet(28, replace(recipe.network.unet, width=width, embedding=2 * width))
    optimiser = replace(recipe.optimiser, lr=lr)
    once = dict(images=images, log_every=images, checkpoint_every=images, ema_half_life=images // 20)
    return replace(recipe, network=network, optimiser=optimiser, seed=seed, batch_size=BATCH, **once)


def row(cell: tuple[int, int, int, float, int], device: str) -> dict[str, float]:
    """Train one network and return its row."""
    torch.set_num_threads(1)
    recipe = recipe_of(*cell)
    for run in diffusion.train(recipe, None, device):
        pass
    (network,) = run.averaged
    heldout = recipe.data.load("heldout")
    x = to_float(heldout.images).repeat(4, 1, 1, 1)  # four times and noises for each picture
    eps, u = rng.normal(x.shape, 0, 0, "dit study"), (torch.arange(len(x)) + 0.5) / len(x)
    u = u[torch.randperm(len(x), generator=torch.Generator().manual_seed(0))]
    total = 0.0
    with torch.no_grad():
        for part in zip(*(each.to(device).split(500) for each in (x, eps, u)), strict=True):
            nothing = torch.zeros(len(part[0]), 0, dtype=torch.int64, device=device)
            denoiser = diffusion.Denoiser(network, recipe.process, recipe.prediction)
            total += recipe.objective(denoiser, part[0], nothing, Draw(*part[1:])).total.item() * len(part[0])
    features = DigitFeatures(device=device)
    drawn = to_uint8(diffusion.sample((run.averaged, recipe), len(heldout), 0, batch_size=500))
    distance = frechet_distance_of(features(drawn), features(heldout.images))
    values = (*cell, sum(p.numel() for p in network.parameters()), total / len(x), distance)
    return dict(zip(COLUMNS, values, strict=True))


def main(device: str, workers: int, limit: int | None) -> None:
    """Fill the table, in several processes, a row as soon as it is known."""
    rows = zoo.study("dit") if (studies.FOLDER / "dit.csv").exists() else []
    done = {tuple(each[name] for name in COLUMNS[:5]) for each in rows}
    missing = [cell for cell in cells() if cell not in done][:limit]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        for future in as_completed([pool.submit(row, cell, device) for cell in missing]):
            rows.append(future.result())
            studies.write("dit", sorted(rows, key=lambda each: [each[name] for name in COLUMNS[:5]]), digits=7)
            print(f"{len(rows)}: {rows[-1]}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="where to train")
    parser.add_argument("--workers", type=int, default=14, help="trainings at a time")
    parser.add_argument("--limit", type=int, help="train no more than this many")
    asked = parser.parse_args()
    main(asked.device, asked.workers, asked.limit)
