"""Put a finished run into the zoo: weights in eight bits, recipe, card, curve, pictures, checksums.

    python tools/publish.py runs/dcgan_digits gan.recipes.dcgan_digits

A run that had to be stopped is taken with ``--stopped``, and its card says how far it came. With ``--record-only`` all is
written but the weights, and the card says so: a record of a model that is too large to ship. With ``--without discriminator``
the weights of that network, which drawing does not need, are left out, and the card says that, too.

The model is measured here, as it will be loaded (rounding included): its pictures on 10,000 samples (or ``--samples``) with
the protocol of ``gencore evaluate``, if it draws any, and whatever else its family measures. Nothing is taken on trust.
"""

import argparse
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gencore
from gencore import cli, families, zoo
from gencore.data import to_uint8
from gencore.errors import InputError
from gencore.integrity import write_sums
from gencore.plots.grids import save_grid, tile, with_palette
from gencore.training import checkpoint, device as devices, eight_bits, recipe_io
from gencore.training.log import Curve
from gencore.training.run import REPLAY_SAMPLES

SAMPLES = 10_000
COLOURS = 256  # in a palette, of pictures in colour that are only looked at


def publish(
    run: Path,
    recipe_name: str,
    hardware: str,
    device: str = "cpu",
    stopped: bool = False,
    samples: int = SAMPLES,
    record_only: bool = False,
    without: tuple[str, ...] = (),
) -> dict:
    """Measure a run and write its folder of the zoo in one step, in place of an older one.

    Parameters
    ----------
    run : Path
        The run's folder.
    recipe_name : str
        Such as ``"gan.recipes.dcgan_digits"``; the last word becomes the name in the zoo.
    hardware : str
        Where the run was made.
    device : str
        What draws and judges the pictures.
    stopped : bool
        Whether the run may have ended early.
    samples : int
        How many pictures to judge.
    record_only : bool
        Whether to leave the weights out, once they are measured.
    without : tuple of str
        Networks to leave out, since drawing does not need them.

    Returns
    -------
    dict
        The card.

    Raises
    ------
    InputError
        If the run has not ended, or was made by another recipe than the named one is today.
    """
    recipes = families.recipes()
    if recipe_name not in recipes:
        raise InputError(f"no recipe {recipe_name!r}; there are: {', '.join(recipes)}")
    name = recipe_name.split(".")[-1]
    newest = (checkpoint.list_checkpoints(run) or [run / "0"])[-1]
    recipe = families.read(run)[1]
    if recipe != recipes[recipe_name]():
        raise InputError(f"{run}: its recipe.json is not what {recipe_name} says now; make them one first")
    if int(newest.name) < recipe.images and not stopped:
        raise InputError(f"{run}: has seen {int(newest.name):,} of {recipe.images:,} images; finish the run first")
    state = checkpoint.read_state(newest / "train_state.pt")
    card = {
        "name": name,
        "recipe": recipe_name,
        "hardware": hardware,
        "wall_clock_seconds": round(state["seconds"], 1),
        "core_seconds": round(state["core_seconds"], 1),
        "images_seen": int(newest.name),
        **({"stopped_before": recipe.images} if int(newest.name) < recipe.images else {}),
        "seed": recipe.seed,
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "gencore": gencore.__version__},
        "git_commit": _git("rev-parse", "HEAD"),
    }
    with tempfile.TemporaryDirectory() as scratch:
        part = Path(scratch)
        tensors = checkpoint.read_tensors(newest / "ema.safetensors")
        if without:
            card[checkpoint.LEFT_OUT] = list(without)
            checkpoint.write_json(part / "card.json", card)  # by which it is loaded below
            tensors = {key: value for key, value in tensors.items() if key.split(".")[0] not in without}
        save_file(eight_bits.shrink(tensors), part / "ema.safetensors")
        checkpoint.write_json(part / "recipe.json", recipe_io.to_dict(recipe))  # with fields that are younger than the run
        shutil.copy(run / "curve.csv", part / "curve.csv")
        Curve(part, int(newest.name))  # drops rows that are younger than the checkpoint
        card |= _judge(run, part, int(newest.name), device, samples, exact=record_only)
        if record_only:
            (part / "ema.safetensors").unlink()
            card["weights"] = checkpoint.NOT_SHIPPED
        checkpoint.write_json(part / "card.json", card)
        write_sums(part, sorted(path.name for path in part.iterdir()))
        target = zoo.ROOT / name
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(part, target)
    return card


def _judge(run: Path, part: Path, images_seen: int, device: str, samples: int, exact: bool) -> dict:
    """Measure the model in the new folder, draw its pictures if it draws any, and return what the card says of both."""
    family, recipe = families.read(part)
    model = families.load(part, device)
    found = {"parameters": families.parameters(family, model)}
    measures = family.measure(model) if hasattr(family, "measure") else []
    if hasattr(family, "heldout_pairs"):
        images, made = family.heldout_pairs(model, 32)
        rows = zip(images.split(16), to_uint8(made).split(16), strict=True)
        _sheet(part / "reconstructions", torch.cat([each for pair in rows for each in pair]), 16, exact)
    if not families.draws(family, recipe):
        return {"metrics": measures, **found}
    _sheet(part / "samples", to_uint8(family.sample(model, 64, 0)), 8, exact)
    end = run / "replay" / f"{images_seen:012d}.png"
    if not end.exists():  # of a run that was stopped between two pictures
        save_grid(end, to_uint8(family.sample(model, REPLAY_SAMPLES, recipe.seed)), REPLAY_SAMPLES)
    replay = sorted(path for path in (run / "replay").glob("*.png") if int(path.stem) <= images_seen)
    _stack(replay, part / "replay.png")
    report = cli.measure(str(part), samples, seed=1, device=device)
    print(report)
    found |= {"measures": measures} if measures else {}
    return {"metrics": report.to_dict(), "replay_images_seen": [int(path.stem) for path in replay], **found}


def _sheet(target: Path, images: Tensor, columns: int, exact: bool) -> None:
    """Write pictures as one small file: those in colour with a palette, or larger ones, where that shows bands, as JPEG.

    Where the weights do not ship, larger pictures stay exact: nobody can draw them again.
    """
    colour, large = images.shape[1] == 3, images.shape[2] > 32
    if colour and large and not exact:
        Image.fromarray(tile(images, columns)).save(target.with_suffix(".jpg"), quality=90, optimize=True)
    else:
        save_grid(target.with_suffix(".png"), images, columns, colours=COLOURS if colour and not large else None)


def _stack(paths: list[Path], target: Path) -> None:
    """Put one-row pictures under each other."""
    rows = [Image.open(path) for path in paths]
    width, height = rows[0].size
    page = Image.new(rows[0].mode, (width, height * len(rows)))
    for number, row in enumerate(rows):
        page.paste(row, (0, number * height))
    if page.mode != "L":
        page = with_palette(page, COLOURS)
    page.save(target, optimize=True)


def _git(*arguments: str) -> str:
    root = Path(gencore.__file__).parent
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, cwd=root).stdout.strip()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of the finished run")
    parser.add_argument("recipe", help="such as gan.recipes.dcgan_digits")
    parser.add_argument("--hardware", default=devices.describe_hardware(torch.device("cpu")), help="where the run was made")
    parser.add_argument("--device", default="cpu", help="what draws and judges the pictures")
    parser.add_argument("--stopped", action="store_true", help="take a run that has not come to its end")
    parser.add_argument("--samples", type=int, default=SAMPLES, help="how many pictures to judge")
    parser.add_argument("--record-only", action="store_true", help="write all but the weights")
    parser.add_argument("--without", nargs="*", default=(), help="networks to leave out, such as discriminator")
    options = parser.parse_args()
    try:
        publish(
            options.run,
            options.recipe,
            options.hardware,
            options.device,
            options.stopped,
            options.samples,
            options.record_only,
            tuple(options.without),
        )
    except InputError as error:
        raise SystemExit(f"publish: {error}") from None
