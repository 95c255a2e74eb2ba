"""Draw digits by each sampler with few and with many evaluations of the network, and measure how far they are from data.

    python tools/sampler_study.py runs/samplers

Writes ``gencore/zoo/studies/samplers.csv``: a row for each number of evaluations and seed, a column for each sampler, which
is its Fréchet distance on digit-classifier features, 1,000 drawn digits against the 1,000 held-out ones. Features of drawn
digits are kept in the folder, 250 to a file, under the weights' checksum: what is there is not drawn again, so that the
script can be stopped at any time. 2.4 core-milliseconds a digit and evaluation on one thread of an AMD EPYC, which makes 68
core-minutes in all; the table in the zoo was made with ``--device cuda`` on an H200 that ten other runs used too.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import diffusion, zoo
from gencore.data import Digits, to_uint8
from gencore.diffusion import Sampling
from gencore.integrity import sha256
from gencore.metrics import DigitFeatures, frechet_distance_of
from gencore.training.device import keep_freed_memory
from tools import studies

MODEL = "flow_digits"
COUNT, PIECE = 1000, 250
EVALUATIONS = (3, 5, 7, 9, 13, 25, 51)
SAMPLERS = {
    "ancestral": Sampling("ancestral"),
    "ddim_half": Sampling("ddim", eta=0.5),
    "ddim": Sampling("ddim"),  # on this process, also Euler's method
    "heun": Sampling("heun"),
    "dpm_solver": Sampling("dpm_solver"),
}


def steps(name: str, evaluations: int) -> int:
    """Return how many steps cost an odd number of evaluations; Heun's cost two, but the last one."""
    return (evaluations + 1) // 2 if name == "heun" else evaluations


class Study:
    """The model, its judge, and where features lie."""

    def __init__(self, folder: Path, device: str) -> None:
        weights = zoo.folder(MODEL) / "ema.safetensors"
        self.folder = folder / sha256(weights)[:8]
        self.folder.mkdir(parents=True, exist_ok=True)
        self.model = diffusion.load(weights.parent)
        self.model[0].model.to(device)
        self.features = DigitFeatures(device=device)
        digits = Digits()
        self.heldout = self.features(digits.load("heldout").images)
        self.train = digits.load("train").images

    def drawn(self, name: str, evaluations: int, seed: int) -> Tensor:
        """Return features of drawn digits, ``(COUNT, 64)``; all samplers begin with the same noise."""
        how = SAMPLERS[name]
        how = Sampling(how.sampler, steps=steps(name, evaluations), eta=how.eta)
        pieces = []
        for first in range(0, COUNT, PIECE):
            path = self.folder / f"{name}_{evaluations}_{seed}_{first}.pt"

            def draw(first: int = first) -> Tensor:
                return self.features(to_uint8(diffusion.sample(self.model, PIECE, seed, first, sampling=how)))

            pieces.append(studies.kept(path, draw))
        return torch.cat(pieces)

    def row(self, evaluations: int, seed: int) -> dict[str, float]:
        """Return a row; ``floor`` is the distance of as many training digits."""
        found = {"evaluations": evaluations, "seed": seed}
        for name in SAMPLERS:
            found[name] = frechet_distance_of(self.drawn(name, evaluations, seed), self.heldout)
        real = self.features(self.train[COUNT * seed : COUNT * (seed + 1)])
        return found | {"floor": frechet_distance_of(real, self.heldout)}


def main(folder: Path, device: str, most: int, seeds: int) -> None:
    """Fill the table, a row after each seed, so that a look is possible at any time."""
    study, rows = Study(folder, device), []
    for evaluations in (each for each in EVALUATIONS if each <= most):
        for seed in range(seeds):
            rows.append(study.row(evaluations, seed))
            print(rows[-1], flush=True)
            studies.write("samplers", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where features are kept")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--most", type=int, default=max(EVALUATIONS), help="leave out larger numbers of evaluations")
    parser.add_argument("--seeds", type=int, default=3)
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments = parser.parse_args()
    main(arguments.folder, arguments.device, arguments.most, arguments.seeds)
