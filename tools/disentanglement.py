"""Train a VAE of discs at several prices and seeds, and measure how far its coordinates follow the known factors.

    python tools/disentanglement.py runs/disentanglement

Writes ``gencore/zoo/studies/disentanglement.csv``, a row for each model. Runs that the folder holds are resumed, or if
they have ended, only measured. Fifteen models of about 20 core-seconds each on one thread of an AMD EPYC.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import torch

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import vae
from gencore.data import to_float
from gencore.data.shapes import FACTORS, factors
from gencore.metrics import mutual_information_gap
from gencore.training import checkpoint, rng
from gencore.vae.recipes import VAERecipe, beta_shapes
from tools import studies

PRICES = (4.0, 16.0, 64.0)
SEEDS = 5
KNOWN = FACTORS[:4]  # all objects have one shape


def row(recipe: VAERecipe, folder: Path) -> dict[str, float]:
    """Train or resume one model and return its row; all but the seconds is measured on held-out pictures.

    ``mse`` is the mean squared error of a pixel's channel, ``rate`` the divergence from the prior in nats, ``loss``
    what training minimises, and each factor has its mutual information gap.
    """
    for _ in vae.train(recipe, folder, device="cpu"):
        pass
    state = checkpoint.read_state(checkpoint.list_checkpoints(folder)[-1] / "train_state.pt")
    model = vae.load(folder)
    heldout = recipe.data.load("heldout")
    x = to_float(heldout.images)
    eps = rng.normal((len(x), *model[0].model.latent_shapes[0]), 0, 0, "disentanglement")
    with torch.no_grad():
        loss = recipe.objective(model[0], x, None, vae.Draw((eps,)))
        params, (level,) = model[0].model(x, (eps,))
    gaps = mutual_information_gap(level.z, factors(heldout.meta["scene"])[:, : len(KNOWN)])
    found = {"beta": recipe.objective.beta, "seed": recipe.seed, "loss": loss.total.item()}
    found |= {"rate": loss.parts["kl"].item(), "mse": (params - x).square().mean().item()}
    found |= dict(zip(KNOWN, gaps.tolist(), strict=True))
    return found | {"core_seconds": state["core_seconds"]}


def main(folder: Path) -> None:
    """Fill the table, a row after each model, so that a look is possible at any time."""
    rows = []
    for beta in PRICES:
        for seed in range(SEEDS):
            recipe = beta_shapes()
            recipe = replace(recipe, objective=replace(recipe.objective, beta=beta), seed=seed)
            rows.append(row(recipe, folder / f"beta_{beta:g}_seed_{seed}"))
            studies.write("disentanglement", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the runs are kept")
    torch.set_num_threads(1)
    main(parser.parse_args().folder)
