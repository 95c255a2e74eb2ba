"""Train small image transformers that see 0, 1 or 2 places around them by a convolution, on short pages and on long ones.

    python tools/near_study.py runs/near

Writes ``gencore/zoo/studies/near.csv``, a row for each moment of each model: nats of the first held-out digits, binarised,
squares of 2x2 as one symbol. Pages have 7x7 symbols (digits of 14x14 pixels) or 14x14 (28x28). All models see as many images,
and have nearly as many parameters: what the convolution costs, the stack gives. 12 squares of the width are one block (near
2), or two wider hidden layers and a narrow convolution (near 1). Models that the folder holds are not trained again. Five
core-seconds for each model of short pages, fifteen for long ones, on one thread of an AMD EPYC.
"""

import argparse
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import autoregressive
from gencore.autoregressive.recipes import AutoregressiveRecipe, transformer_binarised
from gencore.data import Digits
from gencore.networks.image_transformer import ImageTransformer
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer
from tools import studies

STACKS = {0: (3, 4), 1: (2, 6), 2: (2, 4)}  # near: blocks, and width of the hidden layers; equal parameters
NEARS = {7: (0, 1, 2), 14: (0, 1, 2)}  # by the side of the page
SEEDS, IMAGES, MOMENT = 3, 3_200, 400
BATCHES, JUDGED = {7: 32, 14: 16}, {7: 500, 14: 100}


def recipe(side: int, near: int, seed: int) -> AutoregressiveRecipe:
    """Return the recipe of one model; the weights are averaged over the last images only."""
    depth, ratio = STACKS[near]
    network = ImageTransformer(Grid(side, levels=16, named=True), Transformer(48, depth, 4, causal=True, mlp_ratio=ratio), near)
    return replace(
        transformer_binarised(),
        data=Digits(size=2 * side),
        network=network,
        images=IMAGES,
        batch_size=BATCHES[side],
        ema_half_life=200,
        precision="fp32",
        seed=seed,
        log_every=MOMENT,
        checkpoint_every=IMAGES,
    )


def rows_of(side: int, near: int, seed: int, folder: Path) -> list[dict[str, float]]:
    """Train one model, and return a row for each moment: held-out nats of the averaged weights."""
    heldout = Digits(size=2 * side).load("heldout").subset(torch.arange(JUDGED[side]))
    rows, spec, done = [], recipe(side, near, seed), folder / f"side_{side}_near_{near}_seed_{seed}.pt"

    def make() -> torch.Tensor:
        for run in autoregressive.train(spec, device="cpu"):
            nats = -autoregressive.log_likelihood((run.averaged, spec), heldout)
            rows.append([run.images_seen, nats.mean().item(), sum(p.numel() for p in run.averaged.model.parameters())])
        return torch.tensor(rows, dtype=torch.float64)

    names = ("images", "nats", "parameters")
    return [{"side": side, "near": near, "seed": seed} | dict(zip(names, row)) for row in studies.kept(done, make).tolist()]


def main(folder: Path) -> None:
    """Fill the table, model by model, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for side, nears in NEARS.items():
        for seed, near in product(range(SEEDS), nears):
            rows += rows_of(side, near, seed, folder)
            studies.write("near", rows, digits=6)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the models' rows are kept")
    torch.set_num_threads(1)
    main(parser.parse_args().folder)
