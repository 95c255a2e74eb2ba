"""How well a model mends: held-out pictures, beside what can be had without a network."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from gencore.applications.palette.objectives import Networks
from gencore.applications.palette.recipes import PaletteRecipe
from gencore.applications.palette.sampling import SERIES, heldout, mend
from gencore.applications.palette.tasks import Holes, Instruct, Seen
from gencore.data.edits import KINDS, score_edits
from gencore.metrics import PerceptualDistance, psnr

MOST = 100  # pictures that are mended to measure a model
MOST_EDITS = 400  # of pictures of shapes; half of them are about held-out combinations


def measure(model: tuple[Networks, PaletteRecipe]) -> list[dict]:
    """Measure what a card says: edits done and all else kept, or distances of mended pictures from the right ones."""
    _, recipe = model
    if isinstance(recipe.task, Instruct):
        return _measure_edits(model)
    x, seen = heldout(recipe, MOST)
    mended = mend(model, seen, SERIES)
    simple: tuple[tuple[str, Callable[[Seen], Tensor]], ...] = (("the picture as it was shown", _as_shown),)
    if isinstance(recipe.task, Holes):
        simple = (("holes filled with the mean colour", fill_mean), ("holes filled from their borders", fill_smoothly))
    rows = [("", mended), *((f", {name}", fill(seen)) for name, fill in simple)]
    perceptual, found = PerceptualDistance(), []
    where = " in the holes" if isinstance(recipe.task, Holes) else ""
    for name, picture in rows:
        found.append((f"peak signal-to-noise ratio{where}, dB{name}", _psnr(picture, x, seen.hole)))
        with torch.inference_mode():
            parts = [perceptual(a, b) for a, b in zip(picture.split(50), x.split(50), strict=True)]
        found.append((f"perceptual distance{name}", torch.cat(parts).mean().item()))
    on = f"{type(recipe.data).__name__.lower()}/heldout"
    return [{"name": name, "on": on, "samples": len(x), "value": value} for name, value in found]


def _measure_edits(model: tuple[Networks, PaletteRecipe]) -> list[dict]:
    _, recipe = model
    _, seen = heldout(recipe)
    seen = Seen(*(None if each is None else each[:MOST_EDITS] for each in seen))
    after = recipe.data.load("heldout").subset(torch.arange(len(seen.source)))
    scores = score_edits(mend(model, seen, SERIES), after.meta["scene"], after.meta["edit"])
    found = []
    for word, wanted in (("seen", False), ("held-out", True)):
        for kind, label in (("all edits", None), *((kind, number) for number, kind in enumerate(KINDS))):
            mine = [
                score
                for score, unseen, its in zip(scores, after.meta["unseen"], after.labels.tolist(), strict=True)
                if unseen == wanted and label in (None, its)
            ]
            if not mine:
                continue
            parts = {"done and all else kept": [score.right for score in mine]}
            if label is None:
                parts |= {"done": [score.done is True for score in mine], "all else kept": [score.kept is True for score in mine]}
            for name, hits in parts.items():
                found.append((f"{kind}, {word} combinations: {name}", len(mine), sum(hits) / len(hits)))
    return [{"name": name, "on": after.name, "samples": samples, "value": value} for name, samples, value in found]


def _psnr(picture: Tensor, x: Tensor, hole: Tensor | None) -> float:
    """Return the mean over pictures of the peak signal-to-noise ratio, in the hole if there is one, of at least a pixel."""
    if hole is None:
        return psnr(picture, x).mean().item()
    area = hole.flatten(1).sum(1)  # (B,)
    squared = (hole * (picture - x).square().mean(1, keepdim=True)).flatten(1).sum(1) / area
    return (10 * torch.log10(4 / squared[area > 0].clamp(min=1e-6))).mean().item()


def _as_shown(seen: Seen) -> Tensor:
    return seen.source


def fill_mean(seen: Seen) -> Tensor:
    """Return pictures ``(B, C, H, W)`` with the mean colour of what is known in their holes."""
    known, hole = seen.source[:, :-1], seen.hole
    mean = ((1 - hole) * known).flatten(2).sum(2) / (1 - hole).flatten(2).sum(2).clamp(min=1)  # (B, C)
    return torch.where(hole > 0, mean[:, :, None, None], known)


def fill_smoothly(seen: Seen, rounds: int = 300) -> Tensor:
    """Return pictures whose holes are filled smoothly from their borders: each pixel is the mean of its neighbours.

    An approximate solution of Laplace's equation, begun from the mean colour.
    """
    known, hole = seen.source[:, :-1], seen.hole
    filled = fill_mean(seen)
    weight = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], device=known.device) / 4
    kernel = weight.expand(known.shape[1], 1, 3, 3)
    for _ in range(rounds):
        padded = pad(filled, (1, 1, 1, 1), mode="replicate")
        spread = conv2d(padded, kernel, groups=known.shape[1])
        filled = torch.where(hole > 0, spread, known)
    return filled
