"""Put a finished GAN run into the zoo: half-precision weights, recipe, card, curve, pictures, checksums.

    python tools/publish.py runs/dcgan_digits dcgan_digits

The model is measured here, on 10,000 samples, with the protocol of ``gencore evaluate``; nothing is taken on trust.
"""

import argparse
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file

import gencore
from gencore import cli, gan, zoo
from gencore.data import to_uint8
from gencore.errors import InputError
from gencore.integrity import write_sums
from gencore.plots.grids import save_grid
from gencore.training import checkpoint
from gencore.training.device import describe_hardware

SAMPLES = 10_000


def publish(run: Path, name: str, hardware: str) -> Path:
    """Measure a run and write its folder of the zoo in one step.

    Raises
    ------
    InputError
        If the run has not ended.
    """
    networks, recipe = gan.load(run)
    newest = checkpoint.list_checkpoints(run)[-1]
    if int(newest.name) < recipe.images:
        raise InputError(f"{run}: has seen {int(newest.name):,} of {recipe.images:,} images; finish the run first")
    state = checkpoint.read_state(newest / "train_state.pt")
    replay = sorted((run / "replay").glob("*.png"))
    with tempfile.TemporaryDirectory(dir=zoo.ROOT) as scratch:
        part = Path(scratch)
        tensors = checkpoint.read_tensors(newest / "ema.safetensors")
        halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
        save_file(halves, part / "ema.safetensors")
        for file in ("recipe.json", "curve.csv"):
            shutil.copy(run / file, part / file)
        networks, _ = gan.load(part)  # what readers will load, rounding included
        save_grid(part / "samples.png", to_uint8(gan.sample(networks.generator, recipe.network.latent, 64, 0)), 8)
        _stack(replay, part / "replay.png")
        report = cli.measure(str(part), SAMPLES, seed=1)
        card = {
            "name": name,
            "recipe": f"gan.recipes.{name}",
            "metrics": report.to_dict(),
            "hardware": hardware,
            "wall_clock_seconds": round(state["seconds"], 1),
            "core_seconds": round(state["core_seconds"], 1),
            "images_seen": int(newest.name),
            "replay_images_seen": [int(path.stem) for path in replay],
            "parameters": sum(p.numel() for p in networks.generator.parameters()),
            "seed": recipe.seed,
            "versions": {"python": platform.python_version(), "torch": torch.__version__, "gencore": gencore.__version__},
            "git_commit": _git("rev-parse", "HEAD"),
        }
        checkpoint.write_json(part / "card.json", card)
        write_sums(part, sorted(path.name for path in part.iterdir()))
        target = zoo.ROOT / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(part, target)
    print(report)
    return target


def _stack(paths: list[Path], target: Path) -> None:
    """Put one-row pictures under each other."""
    rows = [Image.open(path) for path in paths]
    width, height = rows[0].size
    page = Image.new(rows[0].mode, (width, height * len(rows)))
    for number, row in enumerate(rows):
        page.paste(row, (0, number * height))
    page.save(target, optimize=True)


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=zoo.ROOT).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the finished run")
    parser.add_argument("name", help="name in the zoo, that of the recipe's function")
    parser.add_argument("--hardware", default=describe_hardware(torch.device("cpu")), help="where the run was made")
    options = parser.parse_args()
    print(publish(options.run, options.name, options.hardware))
