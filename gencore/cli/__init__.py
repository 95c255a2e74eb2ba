"""The command ``gencore``: train a recipe, draw samples, evaluate a model, list what there is."""

import dataclasses
import importlib
import inspect
import json
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

# Said before torch is imported: each process of a training shares the machine with others.
USAGE = """usage: gencore COMMAND ...

  gencore list                              recipes to train and models in the zoo
  gencore train RECIPE [--folder DIR] ...   train a recipe (each of its fields is a flag; try --help)
  gencore sample NAME --out FILE.png        draw pictures with a model of the zoo, or from a run's folder
  gencore evaluate NAME                     measure such a model against held-out data

  gencore draw "two small red circles above a blue square" --out FILE.png
  gencore restyle PHOTO --out FILE.png      paint a picture in another style
  gencore upscale PHOTO --out FILE.png      make a picture larger
  gencore inpaint PHOTO --mask MASK --out FILE.png   fill what the mask covers
  gencore edit PICTURE "make the star large" --out FILE.png   change a picture of shapes as you say
  gencore translate PICTURE --out FILE.png  draw a picture in another way, such as from its edges
  gencore caption PICTURE                   say what a picture shows

Example: gencore sample dcgan_digits --out digits.png
'gencore COMMAND --help' explains each command.
"""

# Commands of applications, each with the module here whose `run` takes the arguments.
APPLICATIONS = {
    "draw": "text_to_image",
    "restyle": "style_transfer",
    "upscale": "super_resolution",
    "inpaint": "inpainting",
    "edit": "editing",
    "translate": "translation",
    "caption": "captioning",
}
MOST_ON_A_SHEET = 10_000  # pictures in one PNG
MOST_TO_JUDGE = 100_000
REAL_SHAPES = 5_000  # training scenes of shapes that samples are judged beside
AT_ONCE = 100  # pictures drawn between two movements of the progress bar


def main() -> None:
    """Run the command line; errors in the input are one line on stderr and exit status 2."""
    from gencore.errors import InputError
    from gencore.training.loss import NonFiniteLoss

    commands = {"list": list_all, "train": train, "sample": sample, "evaluate": evaluate}
    command, arguments = (sys.argv[1:2] or ["--help"])[0], sys.argv[2:]
    if command in ("-h", "--help"):
        print(USAGE, end="")
        return
    if command not in commands and command not in APPLICATIONS:
        print(f"gencore: no command {command!r}\n\n{USAGE}", end="", file=sys.stderr)
        raise SystemExit(2)
    try:
        if command in APPLICATIONS:
            importlib.import_module(f"gencore.cli.{APPLICATIONS[command]}").run(arguments)
        else:
            commands[command](arguments)
    except (InputError, NonFiniteLoss) as error:
        print(f"gencore: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:  # the reader of our output, such as head, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def list_all(arguments: list[str]) -> None:
    """Print recipes and zoo models, a line each."""
    from gencore import families, zoo
    from gencore.training import checkpoint

    if arguments:
        print("usage: gencore list")
        return
    print("Recipes (gencore train NAME):")
    for name, function in families.recipes().items():
        print(f"  {name:34s} {inspect.getdoc(function).splitlines()[0]}")
    print("\nModels in the zoo (gencore sample NAME --out FILE.png), with parameters, data, score and cost:")
    for name in zoo.names():
        card, (family, recipe) = zoo.card(name), families.read(zoo.folder(name))
        note = "" if families.draws(family, recipe) else "   draws no pictures"
        note += "   only its record ships" if card.get("weights") == checkpoint.NOT_SHIPPED else ""
        data = type(recipe.data).__name__.lower()
        print(f"  {name:22s} {card['parameters']:>9,} {data:7s} {_score(card):50s} {_cost(card)}{note}")


def _score(card: dict) -> str:
    """Return the number that a card's model is known by: a distance of its pictures, or what its family measures first."""
    measured = card["metrics"]
    if isinstance(measured, dict):
        measured = [measured["frechet"] or measured["kernel"]]  # no Fréchet distance: too few held-out images
    return f"{measured[0]['name']} {measured[0]['value']:.3g}"


def _cost(card: dict) -> str:
    """Return what a card's model cost: images, minutes, and of what."""
    unit, field = ("core-minutes", "core_seconds") if "CPU" in card["hardware"] else ("minutes", "wall_clock_seconds")
    return f"{card['images_seen']:>10,} images in {card[field] / 60:4.1f} {unit}, {card['hardware']}"


def train(arguments: list[str]) -> None:
    """Train a recipe to the end, resuming what the folder holds."""
    import tyro
    from tqdm import tqdm

    from gencore import families
    from gencore.errors import InputError
    from gencore.training import device as devices, distributed
    from gencore.training.log import Extra

    known = families.recipes()
    name = arguments[0] if arguments and not arguments[0].startswith("-") else None
    if name is None:
        print("usage: gencore train RECIPE [--folder DIR] [--FIELD VALUE ...]")
        print("'gencore train RECIPE --help' lists the fields.\n\nRecipes:")
        print("\n".join(f"  {each}" for each in known))
        raise SystemExit(0 if arguments else 2)
    if name not in known:
        raise InputError(f"no recipe {name!r}; there are: {', '.join(known)}")
    default = known[name]()

    @dataclasses.dataclass
    class Train:
        folder: Path = Path("runs") / name.split(".")[-1]
        """Where checkpoints and the curve go. A run found there is resumed."""
        device: str = "auto"
        """auto, cpu or cuda."""
        log: Extra = "none"
        """A further place for the curve."""
        compile: bool = False
        """Compile the networks first: faster on a GPU, slower to start."""
        recipe: Annotated[type(default), tyro.conf.arg(name="")] = default
        """What to train; every field can be changed."""

    options = tyro.cli(Train, args=arguments[1:], prog=f"gencore train {name}", description=inspect.getdoc(known[name]))
    devices.keep_freed_memory()
    signal.signal(signal.SIGTERM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
    family = families.families()[name.split(".")[0]]
    state = None
    run = family.train(
        options.recipe,
        options.folder,
        options.device,
        options.log,
        options.compile,
        **families.passed_in_training(family, options.recipe),
    )
    quiet = distributed.rank() != 0 or int(os.environ.get("RANK", 0)) != 0
    try:
        with tqdm(total=options.recipe.images, unit="img", disable=True if quiet else None, dynamic_ncols=True) as bar:
            for state in run:
                bar.n = min(state.images_seen, options.recipe.images)
                bar.set_postfix({key: f"{value:.3g}" for key, value in state.losses.items()})
    except KeyboardInterrupt:
        print(f"\nstopped; the same command resumes from the last checkpoint in {options.folder}", file=sys.stderr)
        raise SystemExit(130) from None
    finally:
        distributed.stop()
    if quiet:
        return
    if state is None:
        print(f"{options.folder}: already trained to {options.recipe.images:,} images")
    else:
        minutes, core_minutes = state.seconds / 60, state.core_seconds / 60
        print(f"{options.folder}: {state.images_seen:,} images in {minutes:.1f} minutes ({core_minutes:.1f} core-minutes)")


def sample(arguments: list[str]) -> None:
    """Draw pictures into one PNG."""
    import tyro

    from gencore.cli.pictures import check_place, told_of_troubles
    from gencore.errors import InputError
    from gencore.plots.grids import save_grid
    from gencore.training import distributed

    @dataclasses.dataclass
    class Sample:
        name: tyro.conf.Positional[str]
        """A model of the zoo, or the folder of a run."""
        out: Path
        """PNG to write."""
        count: int = 64
        """How many pictures."""
        columns: int = 8
        """How many in a row."""
        seed: int = 0
        """Which series of pictures; the same seed gives the same ones."""
        device: str = "auto"
        """auto, cpu or cuda. Under torchrun all processes draw, each a part."""
        overwrite: bool = False
        """Replace the file if it exists."""

    options = tyro.cli(Sample, args=arguments, prog="gencore sample", description="Draw pictures into one PNG.")
    check_place(options.out, options.overwrite, (".png",))  # before the drawing, which may take long
    if not 1 <= options.count <= MOST_ON_A_SHEET:
        raise InputError(f"--count {options.count}: must be from 1 to {MOST_ON_A_SHEET:,}, so that the PNG can be opened")
    if options.columns < 1:
        raise InputError(f"--columns {options.columns}: must be at least 1")
    images = draw(options.name, options.count, options.seed, options.device)
    if distributed.rank() == 0:
        with told_of_troubles(options.out):
            save_grid(options.out, images, options.columns)
    if distributed.rank() == 0:
        print(f"{options.out}: {options.count:,} pictures from {options.name}, seed {options.seed}")
    distributed.stop()


def evaluate(arguments: list[str]) -> None:
    """Measure a model against held-out data and print the report."""
    import tyro

    from gencore import families
    from gencore.errors import InputError
    from gencore.training import device as devices, distributed

    @dataclasses.dataclass
    class Evaluate:
        name: tyro.conf.Positional[str]
        """A model of the zoo, or the folder of a run."""
        count: int = 10_000
        """How many pictures to draw and judge."""
        seed: int = 1
        """Which series of pictures."""
        device: str = "auto"
        """auto, cpu or cuda. Under torchrun all processes draw and compute features, each a part."""
        json: bool = False
        """Print JSON instead of a table."""

    options = tyro.cli(Evaluate, args=arguments, prog="gencore evaluate", description="Measure against held-out data.")
    if not 1 <= options.count <= MOST_TO_JUDGE:
        raise InputError(f"--count {options.count}: must be from 1 to {MOST_TO_JUDGE:,}")
    folder = find(options.name)
    family, recipe = families.read(folder)
    distributed.start(devices.pick_device(options.device))
    draws = families.draws(family, recipe)
    report = measure(options.name, options.count, options.seed, options.device) if draws else None
    first = distributed.rank() == 0
    distributed.stop()
    if not first:
        return
    measures = family.measure(families.load(folder)) if hasattr(family, "measure") else []
    if options.json:
        print(json.dumps({**(report.to_dict() if report else {}), **({"measures": measures} if measures else {})}, indent=1))
        return
    if report:
        print(report)
    for each in measures:
        print(f"{each['name']} on {each['samples']:,} images of {each['on']}: {each['value']:.4g}")


def find(name: str) -> Path:
    """Return the folder of a zoo model or of a run."""
    from gencore import zoo

    return Path(name) if Path(name).is_dir() else zoo.folder(name.split(".")[-1])


def draw(name: str, count: int, seed: int, device: str = "cpu"):
    """Draw images, uint8 ``(count, C, H, W)``, with the model of that name, behind a progress bar.

    Under ``torchrun`` each process draws its share, and all return all.
    """
    import torch
    from tqdm import tqdm

    from gencore import families
    from gencore.data import to_uint8
    from gencore.errors import InputError
    from gencore.training import device as devices, distributed

    folder = find(name)
    family, recipe = families.read(folder)
    if not families.draws(family, recipe):
        raise InputError(f"{name}: draws no pictures; name a generator ('gencore list' shows them)")
    chosen = devices.pick_device(device)
    distributed.start(chosen)
    model, mine = families.load(folder, chosen), distributed.share(count)
    drawn = torch.empty(len(mine), recipe.data.channels, recipe.data.size, recipe.data.size, dtype=torch.uint8)
    quiet = True if distributed.rank() else None
    with tqdm(total=len(mine), unit="img", disable=quiet, dynamic_ncols=True) as bar:
        for piece in range(0, len(mine), AT_ONCE):
            size = min(AT_ONCE, len(mine) - piece)
            drawn[piece : piece + size] = to_uint8(family.sample(model, size, seed, mine.start + piece))
            bar.update(size)
    return distributed.gather(drawn, count)


def measure(name: str, count: int, seed: int, device: str = "cpu"):
    """Return the report on ``count`` samples of the model of that name."""
    from gencore import families
    from gencore.data import Shapes
    from gencore.metrics import DigitFeatures, SqueezeNetFeatures
    from gencore.metrics.report import evaluate as report_on
    from gencore.training import device as devices

    samples, data = draw(name, count, seed, device), families.read(find(name))[1].data
    if isinstance(data, Shapes):  # the first scenes are those of any number of them, and to draw all may take a minute
        data = dataclasses.replace(data, images=min(data.images, REAL_SHAPES))
    features = (DigitFeatures if data.channels == 1 else SqueezeNetFeatures)(device=devices.pick_device(device))
    return report_on(samples, data.load("train"), data.load("heldout"), features)
