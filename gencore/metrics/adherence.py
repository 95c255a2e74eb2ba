"""Does a picture show what its caption says? On pictures of shapes the answer is exact, fact by fact.

A caption states facts of six kinds (`gencore.data.shapes_scorer`): that there is such an object, its colour, its size, how
many there are, where one lies, and how it lies to another. The scorer reads the objects off the picture and says of each fact
that it holds, that it fails, or nothing. What it leaves open counts as not shown, and is counted for itself.

A caption of the data set is new where no training picture has it. Two kinds are asked for: those that speak only of pairs of
colour and shape that training shows, and those that speak of at least one that it never shows (Shapes with
``held_out_combinations``): whether a model composes what it knows, or only repeats it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

from torch import Tensor

from gencore.data.shapes import HELD_OUT_COMBINATIONS, Shapes
from gencore.data.shapes_scorer import FactKind, score_all
from gencore.errors import InputError

WHOLE = "caption"  # the name of what is counted beside the kinds of facts: that all facts of a caption hold
GROUPS = "seen pairs", "never seen pairs"
ASKED = 500  # captions of each group, if nothing else is said


@dataclass(frozen=True)
class Share:
    """How often something is shown.

    Attributes
    ----------
    held, failed, open : int
        How often it holds, how often it does not, and how often the picture does not tell.
    """

    held: int
    failed: int
    open: int

    @property
    def total(self) -> int:
        """How often it was asked."""
        return self.held + self.failed + self.open

    @property
    def value(self) -> float:
        """The share that is shown, in [0, 1]; what is left open is not shown."""
        return self.held / self.total

    @property
    def error(self) -> float:
        """The binomial standard error of the share: ``sqrt(p (1 - p) / n)``, as if all answers were independent."""
        return (self.value * (1 - self.value) / self.total) ** 0.5


def adherence(images: Tensor, captions: Sequence[str]) -> dict[str, Share]:
    """Count which facts of their captions pictures of shapes show.

    Parameters
    ----------
    images : Tensor
        ``(N, 3, S, S)``, uint8 or float in [-1, 1].
    captions : sequence of str
        One for each picture, in the grammar of `gencore.data.shapes`.

    Returns
    -------
    dict of str to Share
        For each kind of fact that the captions state, in the order of `FactKind`, and last for ``"caption"``: all facts of a
        picture's caption at once.

    Raises
    ------
    InputError
        If there are none, not as many captions as pictures, or pictures or captions that cannot be read.
    """
    if not len(images):
        raise InputError("images: there are none to judge")
    found: dict[str, list[bool | None]] = {kind: [] for kind in (*get_args(FactKind), WHOLE)}
    for score in score_all(images, captions):
        for fact in score.facts:
            found[fact.kind].append(fact.held)
        answers = [fact.held for fact in score.facts]
        found[WHOLE].append(False if False in answers else None if None in answers else True)
    return {
        name: Share(answers.count(True), answers.count(False), answers.count(None))
        for name, answers in found.items()
        if answers
    }


def new_captions(data: Shapes, count: int = ASKED) -> dict[str, tuple[str, ...]]:
    """Return captions of held-out scenes to ask a model for.

    Parameters
    ----------
    data : Shapes
        What the model learned from.
    count : int
        How many of each group.

    Returns
    -------
    dict of str to tuple of str
        ``"seen pairs"``: captions whose pairs of colour and shape training shows; and, if the data hold pairs back, ``"never
        seen pairs"``: captions with at least one that it does not.
    """
    groups = {}
    for name, held_out in zip(GROUPS, (False, True), strict=True):
        if held_out and not data.held_out_combinations:
            continue
        scenes = replace(data, size=16, heldout_images=4 * count, held_out_combinations=held_out).load("heldout")
        pairs = [{(thing.colour, thing.shape) for thing in scene.objects} for scene in scenes.meta["scene"]]
        withheld = set(HELD_OUT_COMBINATIONS) if data.held_out_combinations else set()
        fitting = [text for text, each in zip(scenes.captions, pairs, strict=True) if bool(each & withheld) == held_out]
        groups[name] = tuple(fitting[:count])
    return groups


def measure_adherence(
    data: Shapes, draw: Callable[[tuple[str, ...]], Tensor], count: int = ASKED
) -> list[dict[str, str | int | float]]:
    """Ask a model for new captions, and return what a card says of the answers.

    Parameters
    ----------
    data : Shapes
        What the model learned from.
    draw : callable
        Draws a picture for each caption, ``(N, 3, S, S)``.
    count : int
        Captions of each group.

    Returns
    -------
    list of dict
        For each group and kind of fact ``{"name": ..., "on": ..., "samples": ..., "value": ...}``: the share that is shown,
        its standard error and the share left open. First comes the share of captions that are shown in full.
    """
    found = []
    for group, captions in new_captions(data, count).items():
        shares = adherence(draw(captions), captions)
        for kind in (WHOLE, *(name for name in shares if name != WHOLE)):
            share, name = shares[kind], "captions shown in full" if kind == WHOLE else f"{kind} facts shown"
            values = {name: share.value, f"standard error of: {name}": share.error, f"{name}, left open": share.open / share.total}
            on = f"shapes/new captions of {group}"
            found += [{"name": key, "on": on, "samples": share.total, "value": value} for key, value in values.items()]
    return found
