"""Judge the emoji models by a second feature network, EfficientNet-Lite0, beside SqueezeNet: do both rank them alike?

    pip install -e ".[second-judge]"
    gencore train diffusion.recipes.flow_emoji
    python tools/second_judge.py runs/judges --flow-emoji runs/flow_emoji --device cuda

The zoo has the record of `flow_emoji`, but not its weights; without a run of it, an error says how to train it.

Writes ``gencore/zoo/studies/emoji_judges.csv``, a row for each judge: ``judge`` is 0 for SqueezeNet and 1 for
EfficientNet-Lite0. A column for each model is its kernel distance against the held-out emoji, as ``gencore evaluate``
finds it, and ``..._sd`` its spread over subsets: of one subset, not of the mean. ``floor`` is the distance of equally
many training pictures, picked at random, and ``copies`` that of the same pictures through `kl_emoji`, the first stage of
the latent models. Both judges see the same pictures.

Drawn pictures and features are kept in the folder, so that the script can be stopped at any time: a model's pictures
under the checksum of its weights, features under that of the pictures they belong to. About 20 core-minutes on one
thread of an AMD EPYC, 12 of them to draw.
"""

import argparse
import hashlib
import sys
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import cli, families, zoo
from gencore.data import Emoji, to_float, to_uint8
from gencore.errors import InputError
from gencore.integrity import sha256
from gencore.metrics import Features, SqueezeNetFeatures, evaluate
from gencore.metrics.second_features import EfficientNetFeatures
from gencore.training import checkpoint, rng
from gencore.training.device import keep_freed_memory
from tools import studies

MODELS = ("two_stage_emoji", "dcgan_emoji", "flow_emoji", "latent_emoji", "latent_emoji_long")
FIRST_STAGE = "kl_emoji"
COUNT, SEED = 2000, 1  # the seed of `gencore evaluate`


class Kept:
    """A feature network that looks at no set of images twice: what it saw lies in a folder."""

    def __init__(self, network: Features, folder: Path) -> None:
        self._network, self._folder = network, folder
        self.name, self.dimension, self.provenance = network.name, network.dimension, network.provenance

    def __call__(self, images: Tensor) -> Tensor:
        """Return features ``(N, D)`` on the CPU for images uint8 ``(N, C, H, W)``."""
        seen = hashlib.sha256(images.numpy().tobytes()).hexdigest()[:12]
        return studies.kept(self._folder / f"features_{self.dimension}_{seen}.pt", lambda: self._network(images))


def drawn(name: str, model: Path, count: int, device: str, folder: Path) -> Tensor:
    """Return a model's pictures, uint8 ``(count, 3, 32, 32)``, those that ``gencore evaluate`` draws."""
    newest = (checkpoint.list_checkpoints(model) or [model])[-1]
    weights = sha256(newest / "ema.safetensors")[:8]
    path = folder / f"{name}_{weights}_{SEED}_{count}.pt"
    return studies.kept(path, lambda: cli.draw(str(model), count, SEED, device))


@torch.inference_mode()
def copied(images: Tensor, device: str, folder: Path) -> Tensor:
    """Return what the first stage makes of pictures, uint8 ``(N, 3, 32, 32)``."""
    path = zoo.folder(FIRST_STAGE)

    def make() -> Tensor:
        (network,), _ = families.load(path, device)
        pieces = to_float(images).split(100)
        return torch.cat([to_uint8(network.decode(network.encode(x.to(device))[0]).clamp(-1, 1).cpu()) for x in pieces])

    return studies.kept(folder / f"copies_{sha256(path / 'ema.safetensors')[:8]}_{len(images)}.pt", make)


def main(folder: Path, device: str, count: int, flow_emoji: Path | None) -> None:
    """Draw, look and compare; the table is written once it is complete."""
    models = {name: flow_emoji if name == "flow_emoji" and flow_emoji else zoo.folder(name) for name in MODELS}
    for model in models.values():
        families.load(model)  # first: weights may be missing
    networks = SqueezeNetFeatures(device=device), EfficientNetFeatures(device)  # now: its package may be missing
    folder.mkdir(parents=True, exist_ok=True)
    judges = [Kept(network, folder) for network in networks]
    train, heldout = Emoji().load("train"), Emoji().load("heldout")
    train = train.subset(torch.randperm(len(train), generator=rng.generator(SEED, 0, "floor"))[:count])
    rows, floors = [{"judge": number, "samples": count} for number in range(len(judges))], {}
    for name in (*MODELS, "copies"):
        if name == "copies":
            pictures = copied(train.images, device, folder)
        else:
            pictures = drawn(name, models[name], count, device, folder)
        for row, judge in zip(rows, judges, strict=True):
            found = evaluate(pictures, train, heldout, judge).kernel
            row |= {name: found.value, f"{name}_sd": found.sd}
            floors[judge.name] = {"floor": found.floor, "floor_sd": found.floor_sd}  # the same beside every model
            print(f"{name}, {judge.name}: {found.value:.4f} ± {found.sd:.4f}, floor {found.floor:.4f}", flush=True)
    studies.write("emoji_judges", [row | floors[judge.name] for row, judge in zip(rows, judges, strict=True)])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where pictures and features are kept")
    parser.add_argument("--flow-emoji", type=Path, help="folder of a run of diffusion.recipes.flow_emoji")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--count", type=int, default=COUNT, help="how many pictures of each model, and of the floor")
    torch.set_num_threads(1)
    keep_freed_memory()
    arguments = parser.parse_args()
    try:
        main(arguments.folder, arguments.device, arguments.count, arguments.flow_emoji)
    except InputError as error:
        raise SystemExit(f"second_judge: {error}") from None
