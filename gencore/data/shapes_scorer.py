"""Read the shapes off a picture, and count how many of a caption's facts they bear out.

`describe` finds the objects of a `gencore.data.shapes` picture, drawn or generated, by explaining it: the pixels that
differ from the background fall into connected blobs, and each blob is compared with every shape at nine radii, three
amounts of blur and 49 positions a quarter of a pixel apart, in the two named colours that lie closest. The best
drawing by squared error names the object. Where two drawings explain a blob about equally well the scorer *abstains*:
it reports None. A blob that no drawing explains, or that is too faint, is reported as uncertain: it may be no object,
one, or several.

`score` evaluates a caption's facts on these objects in three-valued logic: a fact is True if it holds however the
uncertain readings turn out, False if it fails however they do, and None otherwise.

The facts of a caption:

===========  =======================================  =========================================
kind         example                                  stated for
===========  =======================================  =========================================
object       "a circle"                               every shape mentioned
colour       "a red circle"                           every coloured noun phrase
size         "a small red circle"                     every noun phrase with a size
count        "exactly two red circles"                every noun phrase
count        "exactly three objects"                  the whole picture
position     "a red circle at the top left"           every place
relation     "a red circle left of a blue square"     every relation; of several, each is meant
===========  =======================================  =========================================

Pictures above 32 px are first reduced to 32 px.

How reliable it is, measured on 500 scenes of up to four objects, each with its own caption and another one's: of the
4,907 facts that are true, the scorer wrongly denied / abstained on these shares, in per cent. Blur is a Gaussian's
standard deviation in pixels of the picture, noise one in fractions of its range.

=====  =========  ==========  ===========  ==========  ===========  ===========  ===========
size   clean      blur 0.5    blur 1       noise 0.05  noise 0.1    JPEG 75      JPEG 50
=====  =========  ==========  ===========  ==========  ===========  ===========  ===========
16     0 / 0.1    0.2 / 2.5   1.3 / 77     0 / 2.4     0 / 18       2.7 / 42     7.2 / 57
24     0 / 0      0 / 0       0.2 / 20     0 / 0       0 / 1.7      0.1 / 16     1.2 / 32
32     0 / 0      0 / 0       0 / 0.2      0 / 0       0 / 0        0 / 3.6      0.1 / 12
64     0 / 0      0 / 0       0 / 0        0 / 0       0 / 0        0 / 0        0 / 0.1
=====  =========  ==========  ===========  ==========  ===========  ===========  ===========

Of the 3,871 facts that are false, it affirmed at most 0.3 % anywhere in the table, and none from 32 px on. At 16 px
heavy blur, and JPEG, which halves the resolution of colour, leave too little of a small object to judge. One thread
reads about 650 pictures a second at 32 px.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from gencore.data.shapes import (
    BACKGROUND,
    COLOURS,
    MIN_SIZE,
    RELATION_GAP,
    RGB,
    SHAPES,
    SIZES,
    Clause,
    Colour,
    Description,
    Facts,
    SceneObject,
    Shape,
    Size,
    is_inside,
    lead,
    number_word,
    parse,
    place_of,
)
from gencore.errors import InputError

FactKind = Literal["object", "colour", "size", "count", "position", "relation"]

CLOSE_CALL = 0.02  # positions this near to a border between two answers get none


# Judging captions


@dataclass(frozen=True)
class Detected:
    """What was read off a picture about one object.

    Attributes
    ----------
    shape, colour, size : str or None
        None where the picture does not tell.
    x, y : float
        The centre, in fractions of the picture's side.
    certain : bool
        False for a mark that may be no object, one, or several; all its attributes are None.
    """

    shape: Shape | None
    colour: Colour | None
    size: Size | None
    x: float
    y: float
    certain: bool = True


class Fact(NamedTuple):
    """A fact that a caption states. `held`: True, False, or None where the scorer abstains."""

    text: str
    held: bool | None
    kind: FactKind


@dataclass(frozen=True)
class Score:
    """Which of a caption's facts hold."""

    facts: tuple[Fact, ...]

    @property
    def fraction(self) -> float:
        """The share of facts that are shown to hold; an abstention earns nothing."""
        return sum(fact.held is True for fact in self.facts) / len(self.facts)

    @property
    def decided(self) -> float:
        """The share of facts on which the scorer does not abstain."""
        return sum(fact.held is not None for fact in self.facts) / len(self.facts)


def _all(values: Iterable[bool | None]) -> bool | None:
    values = list(values)
    return False if False in values else None if None in values else True


def _any(values: Iterable[bool | None]) -> bool | None:
    values = list(values)
    return True if True in values else None if None in values else False


def _matches(what: Description, thing: SceneObject | Detected) -> bool | None:
    if not _certain(thing):
        return None
    said = ((what.shape, thing.shape), (what.colour, thing.colour), (what.size, thing.size))
    return _all(None if seen is None else seen == wanted for wanted, seen in said if wanted is not None)


def _certain(thing: SceneObject | Detected) -> bool:
    return isinstance(thing, SceneObject) or thing.certain


def _between(matches: Sequence[bool | None], certain: Sequence[bool], low: int, high: float) -> bool | None:
    """Whether the number of matches is in low ... high; an uncertain mark may hide any number."""
    least = sum(m is True and c for m, c in zip(matches, certain, strict=True))
    most = sum(m is not False for m in matches) if all(certain) else math.inf
    if low <= least and most <= high:
        return True
    return False if least > high or most < low else None


def _at(thing: SceneObject | Detected, place: str) -> bool | None:
    # Near a border there are up to four candidates: the answer is sure if all or none of them is the place asked for.
    near = (-CLOSE_CALL, CLOSE_CALL)
    answers = {place_of(thing.x + dx, thing.y + dy) == place for dx, dy in itertools.product(near, near)}
    return None if len(answers) == 2 or not _certain(thing) else answers.pop()


def _related(a: SceneObject | Detected, b: SceneObject | Detected, relation: str) -> bool | None:
    spare = lead(relation, a, b) - RELATION_GAP
    return None if abs(spare) < CLOSE_CALL or not (_certain(a) and _certain(b)) else spare > 0


def _relation_holds(clause: Clause, matches: Sequence[bool | None], objects: Sequence[SceneObject | Detected]) -> bool | None:
    """Whether, of the objects that match, as many as the clause speaks of stand so to one and the same other object."""
    answers = []
    for j, landmark in enumerate(objects):
        rest = [(m, thing) for i, (m, thing) in enumerate(zip(matches, objects, strict=True)) if i != j]
        related = [_all((m, _related(thing, landmark, clause.relation))) for m, thing in rest]
        enough = _between(related, [_certain(thing) for _, thing in rest], clause.count, math.inf)
        answers.append(_all((_matches(clause.other, landmark), enough)))
    return _any(answers)


def judge(caption: str | Facts, objects: Sequence[SceneObject | Detected]) -> Score:
    """Which of a caption's facts hold of some objects: those of a scene, or those read off a picture.

    Raises
    ------
    InputError
        If the caption is not one of the grammar.
    """
    said = parse(caption) if isinstance(caption, str) else caption
    certain = [_certain(thing) for thing in objects]

    def exists(what: Description) -> bool | None:
        return _any(_matches(what, thing) for thing in objects)

    facts: dict[str, Fact] = {}  # by text: a fact that follows from two clauses counts once

    def state(kind: FactKind, text: str, held: bool | None) -> None:
        facts.setdefault(text, Fact(text, held, kind))

    for what, low in said.mentions():
        state("object", Description(what.shape).words(), exists(Description(what.shape)))
        if what.colour:
            coloured = Description(what.shape, what.colour)
            state("colour", coloured.words(), exists(coloured))
        if what.size:
            state("size", what.words(), exists(what))
        low, high = said.bounds(what)
        matches = [_matches(what, thing) for thing in objects]
        amount = f"exactly {number_word(low)}" if low == high else f"{number_word(low)} to {number_word(high)}"
        state("count", f"{amount} {what.noun(high)}", _between(matches, certain, low, high))
    total = said.total()
    text = f"exactly {number_word(total)} object{'s' if total > 1 else ''}"
    state("count", text, _between([True] * len(objects), certain, total, total))
    for clause in said.clauses:
        matches = [_matches(clause.what, thing) for thing in objects]
        if clause.place:
            held = _any(_all((m, _at(thing, clause.place))) for m, thing in zip(matches, objects, strict=True))
            state("position", clause.words(), held)
        if clause.relation:
            state("relation", clause.words(), _relation_holds(clause, matches, objects))
    return Score(tuple(facts.values()))


# Reading pictures

_WORKING_SIZE = 32  # pixels a side: larger pictures are reduced to it
_NEAR = 0.25  # a pixel this near to the nominal background (in RGB, channels 0 to 1) belongs to it
_MIN_BACKGROUND = 0.3  # the share of such pixels in a readable picture; scenes leave more than half of it free
_NOISY = 0.04  # standard deviation of the background above which the picture is smoothed to find its blobs
_MASK = 0.4  # pixels that are covered this much belong to a blob ...
_FAINT = 0.2  # ... and this much, away from all blobs, to an uncertain mark
_DIRT = 0.004  # marks of a smaller area (picture = 1) are ignored; the smallest object has 0.019
_REACH = 2  # pixels beyond its mask that a blob's soft edge may cover

_RADII = (0.09, 0.105, 0.12, 0.135, 0.15, 0.165, 0.18, 0.2, 0.22)
_BLURS = (0.0, 0.6, 1.1)  # pixels
_OFFSETS = torch.linspace(-0.75, 0.75, 7)  # pixels, in x and in y
_STRENGTH = (0.85, 1.08)  # how much of its colour's contrast an object may have
_BETWEEN = 4  # position of the radius that is neither small nor large

_UNEXPLAINED = 0.25  # relative squared error, less what noise explains, above which a blob is uncertain
_RIVAL = 0.002  # an attribute is uncertain if another value's error is not larger by at least this ...
_RIVAL_SHARE = 0.2  # ... plus this share of the least error
_COLOUR_RATIO = 0.7  # the colour is uncertain if the nearest name is not nearer than this many times the second
_COLOUR_DISTANCE = 0.35  # ... or further than this

_BACKGROUND = torch.tensor(BACKGROUND) / 255
_CONTRASTS = torch.tensor([RGB[colour] for colour in COLOURS]) / 255 - _BACKGROUND  # (8, 3)


class _Templates(NamedTuple):
    """Drawings of every shape, sorted by shape, then radius, as coverages between 0 and 1 on a square window.

    The window's central pixel is where the shape's centre of mass should be, up to `_OFFSETS`.
    """

    pixels: Tensor  # (K, W * W)
    energy: Tensor  # (K,), sum of squares
    centre: Tensor  # (K, 2), of the bounding box, in pixels relative to the window's central pixel
    reach: int  # W = 2 * reach + 1


@functools.lru_cache(maxsize=4)
def _templates(size: int) -> _Templates:
    reach = math.ceil(1.27 * max(_RADII) * size + 2.5)  # 1.27: the triangle's box is not centred on its mass
    window, samples, n = 2 * reach + 1, 6, len(_OFFSETS)
    coordinate = (torch.arange(window * samples) + 0.5) / samples - reach - 0.5  # pixels
    grid = torch.linspace(-1, 1, 201)
    pixels, centre = [], []
    for shape in SHAPES:
        mass = is_inside(shape, grid, grid[:, None]).float()
        sunk = ((mass * grid[:, None]).sum() / mass.sum()).item()  # how far the centre of mass is below the box's
        for r in _RADII:
            x, y = _OFFSETS, _OFFSETS - sunk * r * size
            u = ((coordinate - x[:, None]) / (r * size))[None, :, None, :]
            v = ((coordinate - y[:, None]) / (r * size))[:, None, :, None]
            drawn = is_inside(shape, u, v).float().view(n * n, 1, window * samples, window * samples)
            drawn = F.avg_pool2d(drawn, samples)  # (49, 1, W, W)
            pixels += [_blur(drawn, sigma).flatten(1) for sigma in _BLURS]
            centre += [torch.stack((x.repeat(n), y.repeat_interleave(n)), 1)] * len(_BLURS)
    stacked = torch.cat(pixels)
    return _Templates(stacked, stacked.square().sum(1), torch.cat(centre), reach)


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (N, 1, H, W), zero outside."""
    if sigma == 0:
        return images
    kernel = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    return F.conv2d(F.conv2d(images, kernel.view(1, 1, 1, 9), padding=(0, 4)), kernel.view(1, 1, 9, 1), padding=(4, 0))


def describe_all(images: Tensor) -> list[tuple[Detected, ...]]:
    """Read the objects off pictures.

    Parameters
    ----------
    images : Tensor
        (N, 3, S, S), S at least 16; uint8, or float in [-1, 1] (values outside are clamped).

    Returns
    -------
    list of tuple of Detected
        For each picture its objects, larger ones first. A picture without the light background is one uncertain mark.

    Raises
    ------
    InputError
        If the pictures are not of this form or not finite.
    """
    _check(images)
    return [objects for part in images.split(256) if len(part) for objects in _describe_part(part)]


def describe(image: Tensor) -> tuple[Detected, ...]:
    """Read the objects off one picture (3, S, S). See `describe_all`."""
    if image.ndim != 3:
        raise InputError(f"the image has shape {tuple(image.shape)}; give (3, size, size), or use describe_all")
    return describe_all(image[None])[0]


def score_all(images: Tensor, captions: Sequence[str]) -> list[Score]:
    """For each picture (N, 3, S, S), which of its caption's facts does it show?"""
    if len(images) != len(captions):
        raise InputError(f"there are {len(images)} images and {len(captions)} captions; give each image one")
    return [judge(text, objects) for text, objects in zip(captions, describe_all(images), strict=True)]


def score(image: Tensor, caption: str) -> Score:
    """Which of a caption's facts does a picture (3, S, S) show?"""
    return judge(caption, describe(image))


def _check(images: Tensor) -> None:
    form = images.ndim == 4 and images.shape[1] == 3 and images.shape[2] == images.shape[3] >= MIN_SIZE
    if not form or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise InputError(
            f"the images are {images.dtype} of shape {tuple(images.shape)}; "
            f"the scorer reads uint8 or float (N, 3, size, size) with a size of at least {MIN_SIZE}"
        )
    if images.is_floating_point() and not images.isfinite().all():
        raise InputError("the images contain NaN or infinity; check the model that made them")


def _describe_part(images: Tensor) -> list[tuple[Detected, ...]]:
    pixels = images.detach().cpu()
    pixels = pixels.float() / 255 if pixels.dtype == torch.uint8 else (pixels.float().clamp(-1, 1) + 1) / 2
    if pixels.shape[-1] > _WORKING_SIZE:
        pixels = F.interpolate(pixels, size=(_WORKING_SIZE,) * 2, mode="bilinear", antialias=True)
    near = ((pixels - _BACKGROUND.view(3, 1, 1)).square().sum(1, keepdim=True) < _NEAR**2).float()  # (N, 1, S, S)
    count = near.sum((2, 3)).clamp(min=1)  # (N, 1)
    readable = near.mean((1, 2, 3)) >= _MIN_BACKGROUND  # (N,)
    contrast = pixels - ((pixels * near).sum((2, 3)) / count)[:, :, None, None]  # (N, 3, S, S)
    noise = ((contrast.square() * near).sum((1, 2, 3)) / (3 * count[:, 0])).sqrt()  # (N,)
    cover, colour = _cover(contrast, noise)  # (N, 1, S, S) each
    cover = cover * readable[:, None, None, None]

    blobs = _blobs(cover, cover >= _MASK)  # (N, 1, S, S)
    readings = {(r.picture, r.blob): [r] for r in _explain(contrast, noise, cover, blobs)}
    faint = _blobs(cover, (cover >= _FAINT) & (_dilated(blobs) == 0))

    # Objects of different colours may touch in a generated picture: take the unexplained blobs apart by colour, and
    # believe the parts if all of them are objects.
    unexplained = torch.zeros(len(blobs), cover.shape[-1] ** 2 + 1, dtype=torch.bool)
    for (picture, blob), [reading] in readings.items():
        unexplained[picture, blob] = not reading.detected.certain
    doubtful = unexplained.gather(1, blobs.flatten(1)).view_as(blobs)
    some = doubtful.any(dim=(1, 2, 3)).nonzero()[:, 0]
    parts = _blobs(cover[some], doubtful[some] & (colour[some] == torch.arange(len(COLOURS)).view(1, -1, 1, 1)))
    by_parent: dict[tuple[int, int], list[_Reading]] = {}
    for part in _explain(contrast[some], noise[some], cover[some], parts):
        picture = some[part.picture].item()
        parent = blobs[picture].flatten()[part.blob - 1].item()
        by_parent.setdefault((picture, parent), []).append(part._replace(picture=picture))
    for key, several in by_parent.items():
        if len(several) > 1 and all(part.detected.certain for part in several):
            readings[key] = several

    described: list[list[_Reading]] = [[] for _ in pixels]
    for r in itertools.chain(*readings.values(), _marks(cover, faint)):
        described[r.picture].append(r)
    unreadable = (Detected(None, None, None, 0.5, 0.5, certain=False),)
    return [
        tuple(r.detected for r in sorted(several, key=lambda r: -r.area)) if ok else unreadable
        for several, ok in zip(described, readable.tolist(), strict=True)
    ]


def _cover(contrast: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """How far each pixel has gone from the background towards the colour whose line it is nearest to; and which."""
    kernel = torch.tensor([1.0, 2.0, 1.0]) / 4
    padded = F.pad(contrast.flatten(0, 1)[:, None], (1, 1, 1, 1), mode="replicate")  # (3N, 1, S + 2, S + 2)
    smooth = F.conv2d(padded, (kernel[:, None] * kernel).view(1, 1, 3, 3)).view_as(contrast)
    contrast = torch.where((noise > _NOISY).view(-1, 1, 1, 1), smooth, contrast)
    energy = _CONTRASTS.square().sum(1).view(-1, 1, 1)
    dot = torch.einsum("nchw,kc->nkhw", contrast, _CONTRASTS)  # (N, 8, S, S)
    cover = (dot / energy).clamp(0, 1.1)
    error = cover * (cover * energy - 2 * dot)  # the squared distance, less what is the same for all colours
    colour = error.argmin(1, keepdim=True)  # (N, 1, S, S)
    return cover.gather(1, colour), colour


def _blobs(cover: Tensor, masks: Tensor) -> Tensor:
    """Number the connected components of each mask, pixels touching at corners included, and drop the dirt.

    Returns int64 (N, 1, S, S): 0 outside; a component's number is the largest of its pixels' positions, from 1 on.
    """
    n, _, size, _ = masks.shape
    masks = masks.float()
    number = torch.arange(1.0, size * size + 1).view(1, 1, size, size) * masks
    while True:  # the largest number floods its component
        flooded = F.max_pool2d(number, 3, stride=1, padding=1) * masks
        if torch.equal(flooded, number):
            break
        number = flooded
    number = number.amax(1, keepdim=True).long()  # (N, 1, S, S)
    area = torch.zeros(n, size * size + 1).scatter_add_(1, number.flatten(1), cover.flatten(1))
    return number * (area.gather(1, number.flatten(1)) >= _DIRT * size * size).view_as(number)


def _dilated(blobs: Tensor) -> Tensor:
    """The pixels that each blob's soft edge may cover: `_REACH` pixels beyond its mask, and not another blob's."""
    realm = blobs.float()
    for _ in range(_REACH):
        realm = torch.where(realm > 0, realm, F.max_pool2d(realm, 3, stride=1, padding=1))
    return realm.long()


class _Reading(NamedTuple):
    picture: int
    blob: int
    area: float  # pixels
    detected: Detected


class _Moments(NamedTuple):
    picture: Tensor  # (M,)
    blob: Tensor  # (M,)
    area: Tensor  # (M,), pixels
    centre: Tensor  # (M, 2), x and y in pixels


def _moments(cover: Tensor, blobs: Tensor) -> _Moments:
    numbers = cover.shape[-1] ** 2 + 1
    picture, _, y, x = blobs.nonzero(as_tuple=True)
    keys, index = (picture * numbers + blobs[picture, 0, y, x]).unique(return_inverse=True)
    weight = cover[picture, 0, y, x]
    sums = torch.zeros(len(keys), 3).index_add_(0, index, torch.stack((weight, weight * x, weight * y), 1))
    return _Moments(keys // numbers, keys % numbers, sums[:, 0], sums[:, 1:] / sums[:, :1])


def _marks(cover: Tensor, blobs: Tensor) -> list[_Reading]:
    """The blobs as uncertain marks."""
    m, size = _moments(cover, blobs), cover.shape[-1]
    rows = zip(m.picture.tolist(), m.blob.tolist(), m.area.tolist(), ((m.centre + 0.5) / size).tolist(), strict=True)
    return [_Reading(p, b, area, Detected(None, None, None, x, y, certain=False)) for p, b, area, (x, y) in rows]


def _explain(contrast: Tensor, noise: Tensor, cover: Tensor, blobs: Tensor) -> list[_Reading]:
    """Fit every template to every blob."""
    m, size = _moments(cover, blobs), cover.shape[-1]
    if not len(m.picture):
        return []
    templates = _templates(size)
    reach = templates.reach
    middle = m.centre.round().long()  # (M, 2)
    # Cut out a window around each blob, and of it only the blob's own pixels.
    span = torch.arange(2 * reach + 1)
    address = m.picture[:, None, None], (middle[:, 1, None] + span)[:, :, None], (middle[:, 0, None] + span)[:, None, :]
    own = F.pad(_dilated(blobs)[:, 0], (reach,) * 4)[address] == m.blob[:, None, None]  # (M, W, W)
    window = F.pad(contrast, (reach,) * 4).permute(0, 2, 3, 1)[address] * own[..., None]  # (M, W, W, 3)
    window, own = window.flatten(1, 2), own.flatten(1)  # (M, W * W, 3), (M, W * W)

    direction = F.normalize(window.sum(1), dim=1) @ F.normalize(_CONTRASTS, dim=1).T  # (M, 8)
    candidates = direction.topk(2, dim=1).indices  # (M, 2)
    energy = window.square().sum((1, 2))  # (M,)
    fits = [
        _fit(w, _CONTRASTS[c], templates) for w, c in zip(window.split(128), candidates.split(128), strict=True)
    ]
    error, best = (torch.cat(tensors) for tensors in zip(*fits, strict=True))  # (M, 2, 6, 9) each
    error = 1 + error / energy[:, None, None, None]
    least, winner = error.flatten(1).min(dim=1)  # (M,)
    template = best.flatten(1).gather(1, winner[:, None])[:, 0]
    rank, shape, radius = torch.unravel_index(winner, error.shape[1:])
    colour = candidates.gather(1, rank[:, None])[:, 0]
    misfit = least - 3 * noise[m.picture].square() * own.sum(1) / energy  # what noise does not explain

    # An attribute is certain if the best drawing that differs in it is clearly worse.
    enough = least + _RIVAL + _RIVAL_SHARE * least
    shaped = error.amin((1, 3)).kthvalue(2, dim=1).values > enough
    named = error.amin((2, 3)).amax(1) > enough
    by_radius = error.amin((1, 2))  # (M, 9)
    small, large = by_radius[:, :_BETWEEN].amin(1), by_radius[:, _BETWEEN + 1 :].amin(1)
    sized = (torch.maximum(small, large) > enough) & (radius != _BETWEEN)
    # ... and the colour only if the one that is seen, by least squares under the best drawing, bears that name.
    seen = torch.einsum("mp,mpc->mc", templates.pixels[template], window) / templates.energy[template, None]
    distance = (seen[:, None] - _CONTRASTS).norm(dim=2).sort(dim=1)
    named &= (distance.indices[:, 0] == colour) & (distance.values[:, 0] < _COLOUR_DISTANCE)
    named &= distance.values[:, 0] < _COLOUR_RATIO * distance.values[:, 1]
    centre = (middle + templates.centre[template] + 0.5) / size
    shape, colour = shape.where(shaped, -1), colour.where(named, -1)
    size_word = (radius > _BETWEEN).long().where(sized, -1)
    columns = (m.picture, m.blob, m.area, misfit < _UNEXPLAINED, shape, colour, size_word, centre)
    return [
        _Reading(p, b, area, Detected(_pick(SHAPES, s), _pick(COLOURS, c), _pick(SIZES, z), x, y))
        if certain
        else _Reading(p, b, area, Detected(None, None, None, x, y, certain=False))
        for p, b, area, certain, s, c, z, (x, y) in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _pick(words: tuple[str, ...], index: int) -> str | None:
    return None if index < 0 else words[index]


def _fit(window: Tensor, contrasts: Tensor, templates: _Templates) -> tuple[Tensor, Tensor]:
    """The least squared error of each shape and radius, less the window's energy, and its template.

    Parameters
    ----------
    window : Tensor
        (M, W * W, 3).
    contrasts : Tensor
        (M, 2, 3), colours to draw with, relative to the background.

    Returns
    -------
    error, template : Tensor
        (M, 2, 6, 9) each.
    """
    dot = torch.einsum("mpc,mkc->mkp", window, contrasts) @ templates.pixels.T  # (M, 2, K)
    energy = contrasts.square().sum(2, keepdim=True) * templates.energy  # (M, 2, K)
    strength = (dot / energy).clamp(*_STRENGTH)
    error = strength * (strength * energy - 2 * dot)
    groups = len(SHAPES), len(_RADII)
    least, index = error.unflatten(2, (*groups, -1)).min(dim=4)
    first = torch.arange(math.prod(groups)).view(groups) * (error.shape[2] // math.prod(groups))
    return least, index + first
