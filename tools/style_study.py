"""Paint some held-out photographs by every method, and measure what that gives and what it costs.

    python tools/style_study.py runs/style_study

Writes ``gencore/zoo/studies/style_transfer.csv``, a row for each method, averaged over three photographs and three paintings,
one of which the decoder for any style has never seen. ``style`` and ``content`` are the distances that all methods minimise,
on SqueezeNet; ``second_style`` is the first of them on EfficientNet-Lite0, which nothing here was trained with, and
``second_content`` the perceptual distance of the photograph on it: both need ``pip install "gencore[second-judge]"``.
``seconds`` are those of one core a picture, ``parameters`` what the method ships beside SqueezeNet. Some three core-minutes on
an AMD EPYC, most of them for the optimisation.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from gencore import zoo
from gencore.applications import style_transfer
from gencore.applications.style_transfer import Painted, StyleFeatures, Styles, content_distance, gram, grams, style_distance
from gencore.applications.style_transfer.gatys import gatys, match_colours
from gencore.applications.style_transfer.sampling import heldout_photographs
from gencore.metrics.second_features import SecondDistance
from tools import studies

PHOTOGRAPHS, PAINTINGS = (0, 3, 8), (1, 5, 6)  # among the held-out ones; and among those that ship
SIDE, PAINTING_SIDE = 128, 192  # shorter sides, in pixels
STEPS = (10, 30, 100)  # of the optimisation
METHODS = ("photograph", "colours", *(f"gatys {steps}" for steps in STEPS), "van_gogh half", "van_gogh", "any_style")


def main(folder: Path) -> None:
    """Paint what the folder does not hold yet, and write the table."""
    folder.mkdir(parents=True, exist_ok=True)
    photographs = heldout_photographs(SIDE)
    paintings = Styles(side=PAINTING_SIDE).whole()
    rows_of, any_style = (style_transfer.load(zoo.folder(name)) for name in ("van_gogh", "any_style"))
    objective = Painted()
    features, second = StyleFeatures(objective.layers.all), SecondDistance()
    found: dict[str, list[Tensor]] = {method: [] for method in METHODS}
    for i in PHOTOGRAPHS:
        for k in PAINTINGS:
            x, style = photographs[i], paintings[k]
            made = {
                "photograph": lambda: x,
                "colours": lambda: match_colours(x, style),
                "van_gogh half": lambda: style_transfer.paint(rows_of, x, k, 0.5),
                "van_gogh": lambda: style_transfer.paint(rows_of, x, k),
                "any_style": lambda: style_transfer.paint_like(any_style, x, style),
            }
            pictures = {name: studies.kept(folder / f"{name}_{i}_{k}.pt", timed(make)) for name, make in made.items()}
            stages = studies.kept(folder / f"gatys_{i}_{k}.pt", lambda: optimised(x, style, objective))
            pictures |= {f"gatys {steps}": stage for steps, stage in zip(STEPS, stages, strict=True)}
            for method, (seconds, picture) in ((name, untied(kept)) for name, kept in pictures.items()):
                found[method].append(measured(picture, x, style, objective, features, second, seconds))
    sizes = {"van_gogh half": rows_of, "van_gogh": rows_of, "any_style": any_style}
    rows = []
    for number, method in enumerate(METHODS):
        means = torch.stack(found[method]).mean(0).tolist()
        row = dict(zip(("style", "content", "second_style", "second_content", "seconds"), means, strict=True))
        count = sum(p.numel() for p in sizes[method][0].model.parameters()) if method in sizes else 0
        rows.append({"method": number, **row, "parameters": count})
    studies.write("style_transfer", rows)


def timed(make: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Return what paints and tells the seconds: the picture with one more row, filled with them."""

    def paint() -> Tensor:
        make()  # the first time, files are read
        started = time.process_time()
        return tied(make(), time.process_time() - started)

    return paint


def optimised(x: Tensor, style: Tensor, objective: Painted) -> Tensor:
    """Return the canvas after each number of steps, with the seconds until then."""
    started, stages = time.process_time(), []
    for canvas in gatys(x, style, objective, max(STEPS)):
        if canvas.step in STEPS:
            stages.append(tied(canvas.picture, time.process_time() - started))
    return torch.stack(stages)


def tied(picture: Tensor, seconds: float) -> Tensor:
    """Return a picture with one more row that holds the seconds, so that both are kept in one file."""
    return torch.cat([picture, torch.full_like(picture[:, :, :1], seconds)], 2)


def untied(kept: Tensor) -> tuple[float, Tensor]:
    """Return the seconds and the picture."""
    return kept[0, 0, -1, 0].item(), kept[:, :, :-1]


@torch.no_grad()
def measured(
    picture: Tensor, x: Tensor, style: Tensor, objective: Painted, features: StyleFeatures, second: SecondDistance, seconds: float
) -> Tensor:
    """Return style, content, both on the second network, and the seconds."""
    layers = objective.layers
    ours, wanted, plain = features(picture), grams(features(style), layers), features(x)
    seen, painted = ({n: gram(h) for n, h in enumerate(second._features(each))} for each in (picture, style))
    values = style_distance(grams(ours, layers), wanted), content_distance(ours[layers.content], plain[layers.content])
    values += style_distance(seen, painted), second(picture, x)
    return torch.cat([*values, torch.tensor([seconds])])


if __name__ == "__main__":
    studies.start(main, __doc__)
