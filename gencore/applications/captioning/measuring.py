"""How good captions are: whether they are true, how they compare with others' words, and whether they lead back."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from gencore.applications.captioning.recipes import Language
from gencore.applications.captioning.telling import Model, Search, tell
from gencore.data import Emoji, ImageSet, Shapes, wording
from gencore.data.shapes import HELD_OUT_COMBINATIONS, Facts, Scene, parse
from gencore.data.shapes_scorer import judge
from gencore.errors import InputError
from gencore.metrics.bleu import bleu

AT_MOST = 1_000  # pictures of shapes that a card is measured on, of each kind


class Truth(NamedTuple):
    """How much of some captions is so.

    Attributes
    ----------
    facts : float
        Share of the facts stated that hold; an unreadable caption states one, which does not.
    captions : float
        Share of captions of which every fact holds. Since a caption lists all objects, it leaves nothing out either.
    by_kind : dict of str to tuple of float and int
        Share that holds of each kind of fact, and how many were stated.
    """

    facts: float
    captions: float
    by_kind: dict[str, tuple[float, int]]


def truth(captions: Sequence[str], scenes: Sequence[Scene]) -> Truth:
    """Judge captions of shapes by the scenes themselves.

    Raises
    ------
    InputError
        If there are not as many captions as scenes, or none.
    """
    if len(captions) != len(scenes) or not captions:
        raise InputError(f"there are {len(captions)} captions and {len(scenes)} scenes; give each scene one")
    found: list[tuple[str, bool]] = []
    whole = 0
    for text, scene in zip(captions, scenes, strict=True):
        said = _read(text)
        stated = [] if said is None else judge(said, scene.objects).facts
        facts = [(fact.kind, fact.held is True) for fact in stated] or [("grammar", False)]
        found += facts
        whole += all(held for _, held in facts)
    kinds = dict.fromkeys(kind for kind, _ in found)
    by_kind = {kind: [held for other, held in found if other == kind] for kind in kinds}
    return Truth(
        sum(held for _, held in found) / len(found),
        whole / len(captions),
        {kind: (sum(held) / len(held), len(held)) for kind, held in by_kind.items()},
    )


def _read(text: str) -> Facts | None:
    """Return what a caption says, or None if it is none of the grammar."""
    try:
        return parse(text)
    except InputError:
        return None


class Returned(NamedTuple):
    """What became of captions that were drawn, and the pictures told again.

    Attributes
    ----------
    pictures : Tensor
        What was drawn.
    texts : list of str
        What was said of it.
    same : list of bool
        Whether it speaks of the same objects: as many of each colour and shape. Sizes, places and relations are said of
        one scene in one caption and not in another, so they are left aside.
    """

    pictures: Tensor
    texts: list[str]
    same: list[bool]


def there_and_back(
    captions: Sequence[str], draw: Callable[[Sequence[str]], Tensor], say: Callable[[Tensor], Sequence[str]]
) -> Returned:
    """Draw captions of shapes, say what was drawn, and compare: a test of who draws and of who says.

    What comes back wrong, one of the two got wrong; what comes back right, both got right, or both wrong in the same
    way.

    Parameters
    ----------
    captions : sequence of str
        ``N`` captions of the grammar.
    draw : callable
        From captions to pictures ``(N, 3, H, W)``.
    say : callable
        From pictures to captions, such as ``lambda x: tell(model, x).texts``.

    Raises
    ------
    InputError
        If a caption is not of the grammar.
    """
    wanted = [_objects(parse(text)) for text in captions]
    pictures = draw(captions)
    texts = list(say(pictures))
    said = [None if (facts := _read(text)) is None else _objects(facts) for text in texts]
    return Returned(pictures, texts, [mine == theirs for mine, theirs in zip(wanted, said, strict=True)])


def _objects(facts: Facts) -> dict[tuple[str, str | None], int]:
    """Return how many objects of each shape and colour a caption speaks of."""
    counts: dict[tuple[str, str | None], int] = {}
    for what, count in facts.mentions():
        counts[what.shape, what.colour] = counts.get((what.shape, what.colour), 0) + count
    return counts


def names(
    model: Model, data: ImageSet, language: Language = "en", search: Search = Search(), images: Tensor | None = None
) -> dict[str, float]:
    """Compare what is said of emoji with their names.

    Parameters
    ----------
    model : tuple of Networks and CaptioningRecipe
        What `load` returns.
    data : ImageSet
        Emoji.
    language : {"en", "zh"}
        In which language.
    search : Search
        How words are chosen.
    images : Tensor, optional
        Other pictures of the same symbols, such as shifted ones.

    Returns
    -------
    dict of str to float
        ``name``: share that is named exactly; ``word``: share of the names' words that are said; ``BLEU-1``, of single
        words, for most names have fewer than four. All from 0 to 1.
    """
    texts = data.captions if language == "en" else data.meta["zh"]
    said = tell(model, data.images if images is None else images, language, search).texts
    mine, theirs = ([wording.split_words(text) for text in both] for both in (said, texts))
    right = [a == b for a, b in zip(mine, theirs, strict=True)]
    found = [len(set(a) & set(b)) for a, b in zip(mine, theirs, strict=True)]
    return {
        "name": sum(right) / len(right),
        "word": sum(found) / sum(len(set(words)) for words in theirs),
        "BLEU-1": bleu(mine, [[words] for words in theirs], 1),
    }


def measure(model: Model) -> list[dict]:
    """Measure what a card says.

    Of shapes, on held-out pictures of combinations that training shows and of others: facts and captions that are true,
    and BLEU with the one caption that each picture has. Of emoji, on held-out symbols, whose names nobody can know, and
    on those of training, moved by two pixels: see `names`.
    """
    recipe, rows = model[1], []
    if isinstance(recipe.data, Shapes):
        for name, data in _held_out(recipe.data).items():
            texts = tell(model, data.images).texts
            found = truth(texts, data.meta["scene"])
            rows.append(("facts that hold", name, len(data), found.facts))
            rows.append(("captions that hold", name, len(data), found.captions))
            rows += [(f"{kind} that holds", name, count, value) for kind, (value, count) in found.by_kind.items()]
            mine, theirs = ([wording.split_words(text) for text in each] for each in (texts, data.captions))
            rows.append(("BLEU-4", name, len(data), bleu(mine, [[words] for words in theirs])))
    elif isinstance(recipe.data, Emoji):
        for split in ("heldout", "train"):
            data = recipe.data.load(split)
            moved = data.images if split == "heldout" else moved_by(data.images, 2)
            name = data.name if split == "heldout" else f"{data.name}, moved"
            for language in recipe.languages:
                found = names(model, data, language, images=moved)
                rows += [(f"{what}, {language}", name, len(data), value) for what, value in found.items()]
    return [{"name": what, "on": on, "samples": count, "value": value} for what, on, count, value in rows]


def moved_by(images: Tensor, pixels: int) -> Tensor:
    """Return pictures, uint8 ``(N, C, H, W)``, moved down and to the right; what appears at the edge is white."""
    height, width = images.shape[2:]
    return pad(images, (pixels, 0, pixels, 0), value=255)[:, :, :height, :width]


def _held_out(data: Shapes) -> dict[str, ImageSet]:
    """Return held-out pictures of pairs of colour and shape that training shows, and those with another one."""
    count = min(data.heldout_images, AT_MOST)
    seen = replace(data, held_out_combinations=False, heldout_images=2 * count).load("heldout")
    pairs = [{(thing.colour, thing.shape) for thing in scene.objects} for scene in seen.meta["scene"]]
    usual = [not each & set(HELD_OUT_COMBINATIONS) for each in pairs]
    seen = seen.subset(torch.tensor(usual).nonzero()[:count, 0])
    if not data.held_out_combinations:
        return {"shapes/heldout": seen}
    never = replace(data, heldout_images=count).load("heldout")
    return {"shapes/heldout, combinations seen": seen, "shapes/heldout, combinations never seen": never}
