"""Draw digits in few evaluations, by solvers of the teacher and by every student, and measure how far they are from data.

    python tools/few_step_study.py runs/few_step

Writes ``gencore/zoo/studies/few_step.csv``: a row for each number of evaluations and seed; for each way to draw, its Fréchet
distance, recall and coverage on digit-classifier features, 1,000 drawn digits against the 1,000 held-out ones, or ``nan``
where that way is not made for that number. The noises are those of ``tools/sampler_study.py``, so that the two tables can be read
together. Features of drawn digits are kept in the folder under the weights' checksum: what is there is not drawn again.
2.4 core-milliseconds a digit and evaluation on one thread of an AMD EPYC, 7 core-minutes in all.
"""

import argparse
import math
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
from gencore.metrics import DigitFeatures, density_coverage, frechet_distance_of, precision_recall
from gencore.training.device import keep_freed_memory
from tools import studies

COUNT = 1000
EVALUATIONS = (1, 2, 4, 8)  # samplers.csv has more, 51 at most
HALVED = {1: "one_step_digits", 2: "two_step_digits", 4: "four_step_digits", 8: "progressive_digits"}
WAYS = {  # model and sampler for each number of evaluations; one evaluation each a step
    "ddim": ({n: "flow_digits" for n in EVALUATIONS}, "ddim"),  # on this process, also Euler's method
    "dpm_solver": ({n: "flow_digits" for n in (4, 8)}, "dpm_solver"),  # with one or two steps, the same as ddim
    "progressive": (HALVED, "ddim"),
    "distilled": ({n: "distilled_digits" for n in (1, 2, 4)}, "consistency"),
    "consistency": ({n: "consistency_digits" for n in (1, 2, 4)}, "consistency"),
}


class Study:
    """The judge, and where features lie."""

    def __init__(self, folder: Path, device: str) -> None:
        self.folder, self.device = folder, device
        self.features = DigitFeatures(device=device)
        self.heldout = self.features(Digits().load("heldout").images)

    def drawn(self, name: str, sampler: str, evaluations: int, seed: int) -> Tensor:
        """Return features of drawn digits, ``(COUNT, 64)``; all ways begin with the same noise."""
        weights = zoo.folder(name) / "ema.safetensors"
        path = self.folder / f"{name}_{sha256(weights)[:8]}_{sampler}_{evaluations}_{seed}.pt"

        def draw() -> Tensor:
            model = diffusion.load(weights.parent)
            model[0].model.to(self.device)
            return self.features(to_uint8(diffusion.sample(model, COUNT, seed, sampling=Sampling(sampler, steps=evaluations))))

        return studies.kept(path, draw)

    def row(self, evaluations: int, seed: int) -> dict[str, float]:
        """Return a row."""
        found = {"evaluations": evaluations, "seed": seed}
        for way, (models, sampler) in WAYS.items():
            found |= dict.fromkeys((way, f"{way}_recall", f"{way}_coverage"), math.nan)
            if evaluations in models:
                seen = self.drawn(models[evaluations], sampler, evaluations, seed)
                found[way] = frechet_distance_of(seen, self.heldout)
                found[f"{way}_recall"] = precision_recall(seen, self.heldout).recall
                found[f"{way}_coverage"] = density_coverage(seen, self.heldout).coverage
        return found


def main(folder: Path, device: str, seeds: int) -> None:
    """Fill the table, a row after each seed, so that a look is possible at any time."""
    folder.mkdir(parents=True, exist_ok=True)
    study, rows = Study(folder, device), []
    for evaluations in EVALUATIONS:
        for seed in range(seeds):
            rows.append(study.row(evaluations, seed))
            print(rows[-1], flush=True)
            studies.write("few_step", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where features are kept")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=3)
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments = parser.parse_args()
    main(arguments.folder, arguments.device, arguments.seeds)
