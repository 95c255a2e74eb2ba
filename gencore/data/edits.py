"""Edits: a picture of shapes, an instruction such as "make the red circle green", and the picture that it asks for.

Pairs of this kind are what Brooks et al. 2023 train on ("InstructPix2Pix", https://arxiv.org/abs/2211.09800); theirs are
made by other networks, these are drawn, so that each is right and the result of an edit can be scored exactly.

The instructions' grammar (EBNF; nouns and places are those of `gencore.data.shapes`)::

    instruction = "add" , ( "a" | "an" ) , [ size ] , [ colour ] , shape , place
                | "remove" , one
                | "make" , one , ( colour | size )
                | "turn" , one , "into" , ( "a" | "an" ) , shape
                | "move" , one , "to" , "the" , ( "centre" | vertical , [ horizontal ] | horizontal ) ;
    one         = "the" , [ size ] , [ colour ] , shape ;

What an instruction means: ``one`` names exactly one object of the scene; that object changes as asked, and nothing else
does. An object that is made larger, painted or turned into another shape keeps its centre. Instructions that are drawn here
name size, colour and shape of what is added.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, NamedTuple, get_args

import torch
from torch import Tensor

from gencore.data import shapes
from gencore.data.grammar import Words
from gencore.data.image_set import ImageSet, Split, check_split
from gencore.data.shapes import (
    COLOURS,
    HELD_OUT_COMBINATIONS,
    MAX_OBJECTS,
    PLACES,
    SHAPES,
    SIZES,
    Colour,
    Description,
    Scene,
    SceneObject,
    Shape,
    place_of,
    render_all,
    sample_scene,
)
from gencore.data.shapes_scorer import CLOSE_CALL, Detected, describe_all
from gencore.errors import InputError

EditKind = Literal["add", "remove", "recolour", "resize", "reshape", "move"]
KINDS: tuple[EditKind, ...] = get_args(EditKind)

END = 0  # the token that ends an instruction and fills the rest of the row
WORDS: tuple[str, ...] = (  # token ids are positions in it
    "<end>", "add", "remove", "make", "turn", "move", "into", "to", "a", "an", "the", *SIZES, *COLOURS, *SHAPES,
    "at", "in", "centre", "top", "bottom", "left", "right",
)  # fmt: skip
INSTRUCTION_LENGTH = 10  # tokens: the longest instruction has nine words, and there is an end
TOLERANCE = 0.05  # by how much, in sides of the picture, an object may lie elsewhere and count as unmoved

_IDS = {word: i for i, word in enumerate(WORDS)}
_SIDES = ("top", "bottom", "left", "right")
_ALL_PLACES = tuple(itertools.chain(*PLACES))
_GRID = 256  # centres lie on multiples of a 256th of the side: many objects then look alike, and are drawn once
_CLEARLY = 0.04  # what is added or moved to a place lies this far inside it
_PER_SCENE = 4  # instructions for each scene
_SEEDS = {"train": 41_011, "heldout": 59_009}


@dataclass(frozen=True)
class Edit:
    """One instruction. `words` is the inverse of `parse_edit`.

    Attributes
    ----------
    kind : {"add", "remove", "recolour", "resize", "reshape", "move"}
        What is asked for.
    what : Description
        The object that it is about, or what is to be added.
    to : str, optional
        The new colour, size or shape; the place, as in ``PLACES``, of what is added or moved; None for "remove".
    """

    kind: EditKind
    what: Description
    to: str | None = None

    def words(self) -> str:
        """Return the instruction."""
        the = f"the {self.what.noun()}"
        match self.kind:
            case "add":
                return f"add {self.what.words()} {self.to}"
            case "remove":
                return f"remove {the}"
            case "reshape":
                return f"turn {the} into {Description(self.to).words()}"
            case "move":
                return f"move {the} to {self.to.split(maxsplit=1)[1]}"  # "at the top": "to the top"
        return f"make {the} {self.to}"


def parse_edit(text: str) -> Edit:
    """Read an instruction.

    Raises
    ------
    InputError
        If a word is unknown (the message lists the allowed ones) or stands where the grammar has no place for it.
    """
    words = _words(text)
    verb = words.expect("add", "remove", "make", "turn", "move")
    words.expect(*(("a", "an") if verb == "add" else ("the",)))
    size, colour = words.take(*SIZES), words.take(*COLOURS)
    what = Description(words.expect(*SHAPES), colour, size)
    match verb:
        case "add":
            preposition = words.expect("at", "in")
            edit = Edit("add", what, _parse_place(words, ("centre",) if preposition == "in" else _SIDES))
        case "remove":
            edit = Edit("remove", what)
        case "make":
            to = words.expect(*COLOURS, *SIZES)
            edit = Edit("recolour" if to in COLOURS else "resize", what, to)
        case "turn":
            words.expect("into"), words.expect("a", "an")
            edit = Edit("reshape", what, words.expect(*SHAPES))
        case _:
            words.expect("to")
            edit = Edit("move", what, _parse_place(words, ("centre", *_SIDES)))
    words.end()
    return edit


def encode_edits(instructions: Sequence[str]) -> Tensor:
    """Return instructions as rows of tokens, int64 ``(N, INSTRUCTION_LENGTH)``: positions in `WORDS`, then `END`.

    The empty instruction, which asks for nothing, is a row of `END`.

    Raises
    ------
    InputError
        If a word is unknown, or there are too many.
    """
    rows = []
    for text in instructions:
        words = _words(text).words
        if len(words) >= INSTRUCTION_LENGTH:
            raise InputError(f"instruction {text!r}: has {len(words)} words; there is room for {INSTRUCTION_LENGTH - 1}")
        rows.append([_IDS[word] for word in words] + [END] * (INSTRUCTION_LENGTH - len(words)))
    return torch.tensor(rows, dtype=torch.int64).view(-1, INSTRUCTION_LENGTH)


def find(scene: Scene | Sequence[SceneObject | Detected], what: Description) -> list[int]:
    """Return the places in a scene of all objects that fit a description."""
    things = scene.objects if isinstance(scene, Scene) else scene
    return [
        place
        for place, thing in enumerate(things)
        if thing.shape == what.shape and what.colour in (None, thing.colour) and what.size in (None, thing.size)
    ]


def draw_edit(
    scene: Scene, draw: Iterator[float], kind: EditKind | None = None, without: Sequence[tuple[Colour, Shape]] = ()
) -> tuple[Edit, Scene] | None:
    """Draw an instruction for a scene, and the scene that it asks for.

    Parameters
    ----------
    scene : Scene
        The scene.
    draw : iterator of float
        Uniform numbers in [0, 1).
    kind : str, optional
        What is to be asked for; any kind by default, all equally likely where they are possible.
    without : sequence of (colour, shape)
        Pairs that must not come into being.

    Returns
    -------
    tuple of Edit and Scene, or None
        None if this kind of edit finds no object that can be named, or no room.
    """
    kinds = list(KINDS) if kind is None else [kind]
    while kinds:
        found = _MAKERS[kinds.pop(int(next(draw) * len(kinds)))](scene, draw, without)
        if found:
            return found
    return None


class EditScore(NamedTuple):
    """What a picture shows of an edit: True, False, or None where the picture does not tell.

    Attributes
    ----------
    done : bool or None
        Whether what was asked for has happened.
    kept : bool or None
        Whether all else is there, as it was, where it was, and nothing is there besides.
    """

    done: bool | None
    kept: bool | None

    @property
    def right(self) -> bool:
        """Whether both are sure."""
        return self.done is True and self.kept is True


def score_edits(images: Tensor, scenes: Sequence[Scene], edits: Sequence[Edit]) -> list[EditScore]:
    """Score edited pictures.

    Parameters
    ----------
    images : Tensor
        The results, ``(N, 3, S, S)``, S at least 16; uint8, or float in [-1, 1].
    scenes : sequence of Scene
        What the pictures showed before.
    edits : sequence of Edit
        What was asked for.

    Raises
    ------
    InputError
        If the numbers differ, or an instruction names no object or several.
    """
    if not len(images) == len(scenes) == len(edits):
        raise InputError(f"there are {len(images)} images, {len(scenes)} scenes and {len(edits)} edits; give as many of each")
    return [judge_edit(*each) for each in zip(describe_all(images), scenes, edits, strict=True)]


def judge_edit(things: Sequence[SceneObject | Detected], scene: Scene, edit: Edit) -> EditScore:
    """Score an edit by what was read off the result, or by the objects of a scene."""
    subject = None
    if edit.kind != "add":
        named = find(scene, edit.what)
        if len(named) != 1:
            raise InputError(f"instruction {edit.words()!r}: names {len(named)} objects of the scene; it must name one")
        subject = scene.objects[named[0]]
    left, kept = list(things), True
    for thing in scene.objects:
        if thing is not subject:
            nearest = min(left, key=lambda other: _distance(other, thing), default=None)
            if nearest is None or _distance(nearest, thing) > TOLERANCE:
                kept = False
                continue
            left.remove(nearest)
            kept = _and(kept, _alike(nearest, thing.shape, thing.colour, thing.size))
    # What is left is what the edit was about, and nothing else.
    if edit.kind == "remove":
        there = [other for other in left if _distance(other, subject) <= subject.radius]
        done = not there if all(map(_certain, there)) else None
        return EditScore(done, kept if len(left) == len(there) else False)
    wanted = _wanted(edit, subject)
    done: bool | None = False
    for other in left:
        if edit.kind in ("add", "move"):
            placed = _lies(other, edit.to)
        else:
            placed = _distance(other, subject) <= TOLERANCE
        verdict = _and(placed, _alike(other, *wanted))
        done = verdict if done is False else done or verdict
    return EditScore(done, kept if len(left) <= 1 else False)


class EditPairs(NamedTuple):
    """Pictures before and after, and what was asked for.

    Attributes
    ----------
    before : Tensor
        uint8 ``(M, 3, S, S)``.
    place : Tensor
        int64 ``(N,)``: which of them each instruction is about.
    after : ImageSet
        N edited pictures with instructions as captions; labels are kinds of edits, ``meta`` has ``"edit"``, ``"scene"``
        (before), ``"edited"`` (the scene after) and ``"unseen"`` (whether the edit is about a held-out combination).
    words : Tensor
        The instructions as tokens, int64 ``(N, INSTRUCTION_LENGTH)``.
    """

    before: Tensor
    place: Tensor
    after: ImageSet
    words: Tensor


@dataclass(frozen=True)
class Edits:
    """Instructions to change pictures of coloured objects, with the pictures before and after.

    Attributes
    ----------
    size : int
        Side of the pictures in pixels, at least 16.
    objects : int
        The largest number of objects in a picture before it is edited, 1 to 4.
    pairs, heldout_pairs : int
        How many instructions the splits "train" and "heldout" have.
    held_out_combinations : bool
        A test of composition: the train split shows none of `HELD_OUT_COMBINATIONS`, neither before nor after, and every
        second instruction of the heldout split is about one: it names such an object, or asks for one.
    """

    size: int = 32
    objects: int = 3
    pairs: int = 100_000
    heldout_pairs: int = 1_200
    held_out_combinations: bool = True
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        shapes.Shapes(self.size, self.objects)  # which refuses what cannot be drawn
        for field in ("pairs", "heldout_pairs"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; a data set needs at least 1")

    def load(self, split: Split) -> ImageSet:
        """Return the edited pictures of a split; see `EditPairs`."""
        return self.load_pairs(split).after

    def load_pairs(self, split: Split) -> EditPairs:
        """Draw a split; the two are drawn from different seeds."""
        check_split(split)
        draw = _uniforms(torch.Generator().manual_seed(_SEEDS[split]))
        generator = torch.Generator().manual_seed(_SEEDS[split] + 1)
        held_out = HELD_OUT_COMBINATIONS if self.held_out_combinations else ()
        count, per_scene = (self.pairs, _PER_SCENE) if split == "train" else (self.heldout_pairs, 1)
        scenes: list[Scene] = []
        place: list[int] = []
        edits: list[Edit] = []
        edited: list[Scene] = []
        unseen: list[bool] = []
        while len(edits) < count:
            composed = bool(held_out) and split == "heldout" and len(edits) % 2 == 1
            # Half of what is about a held-out combination finds one in the scene, the rest asks for one.
            including = held_out if composed and next(draw) < 0.5 else ()
            scene = _on_grid(sample_scene(generator, self.objects, without=() if including else held_out, including=including))
            for _ in range(per_scene if scene else 0):
                found = draw_edit(scene, draw, without=() if composed else held_out)
                if found is None or len(edits) == count or composed and not _about(scene, found[1], held_out):
                    continue
                if not scenes or scenes[-1] is not scene:
                    scenes.append(scene)
                place.append(len(scenes) - 1)
                edits.append(found[0]), edited.append(found[1]), unseen.append(composed)
        texts = tuple(edit.words() for edit in edits)
        after = ImageSet(
            f"edits/{split}",
            render_all(edited, self.size),
            torch.tensor([KINDS.index(edit.kind) for edit in edits]),
            KINDS,
            texts,
            {
                "edit": tuple(edits),
                "scene": tuple(scenes[i] for i in place),
                "edited": tuple(edited),
                "unseen": tuple(unseen),
            },
        )
        return EditPairs(render_all(scenes, self.size), torch.tensor(place), after, encode_edits(texts))


# Drawing edits


def _uniforms(generator: torch.Generator) -> Iterator[float]:
    """Uniform numbers in [0, 1), drawn in blocks: single draws would take most of the time."""
    while True:
        yield from torch.rand(4096, generator=generator, dtype=torch.float64).tolist()


def _choose(draw: Iterator[float], options: Sequence):
    return options[int(next(draw) * len(options))]


def _on_grid(scene: Scene) -> Scene | None:
    """Return the scene with centres on the grid; None if objects then come too close."""
    return _scene([_moved(thing, thing.x, thing.y) for thing in scene.objects])


def _moved(thing: SceneObject, x: float, y: float) -> SceneObject | None:
    """Return the object with its centre at the point of the grid next to this one; None if that is too near the edge."""
    try:
        return replace(thing, x=round(x * _GRID) / _GRID, y=round(y * _GRID) / _GRID)
    except InputError:
        return None


def _scene(things: Sequence[SceneObject | None]) -> Scene | None:
    """Return the scene of these objects; None if one is missing, or two are too close."""
    try:
        return None if None in things else Scene(tuple(things))
    except InputError:
        return None


def _about(before: Scene, after: Scene, pairs: Sequence[tuple[Colour, Shape]]) -> bool:
    """Whether what differs between two scenes is, before or after, one of these combinations."""
    changed = set(before.objects) ^ set(after.objects)
    return any((thing.colour, thing.shape) in pairs for thing in changed)


def _name(scene: Scene, draw: Iterator[float]) -> tuple[int, Description] | None:
    """Choose an object and words that fit it alone; None if the one chosen has a twin."""
    place = int(next(draw) * len(scene.objects))
    thing = scene.objects[place]
    names = [
        what
        for colour, size in itertools.product((None, thing.colour), (None, thing.size))
        if find(scene, what := Description(thing.shape, colour, size)) == [place]
    ]
    return (place, _choose(draw, names)) if names else None


def _spot(draw: Iterator[float], name: str, radius: float) -> tuple[float, float]:
    """Draw a point that lies clearly within a ninth of the picture, and not too near the edge for this radius."""
    row = next(number for number, names in enumerate(PLACES) if name in names)
    column, border = PLACES[row].index(name), radius + shapes.EDGE
    point = []
    for ninth in (column, row):
        low, high = max(ninth / 3 + _CLEARLY, border), min((ninth + 1) / 3 - _CLEARLY, 1 - border)
        point.append(low + (high - low) * next(draw))
    return point[0], point[1]


def _add(scene: Scene, draw: Iterator[float], without: Sequence[tuple[Colour, Shape]]) -> tuple[Edit, Scene] | None:
    colour, shape, size = _choose(draw, COLOURS), _choose(draw, SHAPES), _choose(draw, SIZES)
    if len(scene.objects) == MAX_OBJECTS or (colour, shape) in without:
        return None
    new = SceneObject(shape, colour, size, 0.5, 0.5)
    for _ in range(10):
        place = _choose(draw, _ALL_PLACES)
        after = _scene([*scene.objects, _moved(new, *_spot(draw, place, new.radius))])
        if after:
            return Edit("add", Description(shape, colour, size), place), after
    return None


def _remove(scene: Scene, draw: Iterator[float], without: Sequence[tuple[Colour, Shape]]) -> tuple[Edit, Scene] | None:
    named = _name(scene, draw)
    if named is None or len(scene.objects) == 1:
        return None
    place, what = named
    return Edit("remove", what), Scene(scene.objects[:place] + scene.objects[place + 1 :])


def _change(
    kind: EditKind, field: str, options: Sequence[str]
) -> Callable[[Scene, Iterator[float], Sequence[tuple[Colour, Shape]]], tuple[Edit, Scene] | None]:
    """Return what draws an edit that gives one attribute of an object another value."""

    def make(scene: Scene, draw: Iterator[float], without: Sequence[tuple[Colour, Shape]]) -> tuple[Edit, Scene] | None:
        named = _name(scene, draw)
        if named is None:
            return None
        place, what = named
        thing = scene.objects[place]
        to = _choose(draw, [value for value in options if value != getattr(thing, field)])
        try:
            new = replace(thing, **{field: to})
        except InputError:  # larger, and too near the edge
            return None
        after = _scene([*scene.objects[:place], new, *scene.objects[place + 1 :]])
        return (Edit(kind, what, to), after) if after and (new.colour, new.shape) not in without else None

    return make


def _move(scene: Scene, draw: Iterator[float], without: Sequence[tuple[Colour, Shape]]) -> tuple[Edit, Scene] | None:
    named = _name(scene, draw)
    if named is None:
        return None
    place, what = named
    thing = scene.objects[place]
    for _ in range(10):
        to = _choose(draw, _ALL_PLACES)
        # From a border's other side a ninth may be a hair's breadth away: a move leads further than any tolerance.
        spot = _spot(draw, to, thing.radius)
        far = max(abs(spot[0] - thing.x), abs(spot[1] - thing.y)) > 2 * TOLERANCE
        new = _moved(thing, *spot)
        after = _scene([*scene.objects[:place], new, *scene.objects[place + 1 :]])
        if after and far and to != place_of(thing.x, thing.y):
            return Edit("move", what, to), after
    return None


_MAKERS: dict[EditKind, Callable] = {
    "add": _add,
    "remove": _remove,
    "recolour": _change("recolour", "colour", COLOURS),
    "resize": _change("resize", "size", SIZES),
    "reshape": _change("reshape", "shape", SHAPES),
    "move": _move,
}


# Reading and scoring edits


def _words(text: str) -> Words:
    return Words(text, WORDS[1:], "the instruction")


def _parse_place(words: Words, options: Sequence[str]) -> str:
    """Read "the top left", or "the centre", whose first word is one of these."""
    words.expect("the")
    first = words.expect(*options)
    if first == "centre":
        return PLACES[1][1]
    second = words.take("left", "right") if first in ("top", "bottom") else None
    return " ".join(("at the", first, *([second] if second else ())))


def _wanted(edit: Edit, subject: SceneObject | None) -> tuple[str | None, str | None, str | None]:
    """Return the shape, colour and size that the edited object is to have; None where any will do."""
    if subject is None:
        return edit.what.shape, edit.what.colour, edit.what.size
    # Not by a changed object: larger, it might be refused for being too near the edge, which is for the picture to tell.
    return (
        edit.to if edit.kind == "reshape" else subject.shape,
        edit.to if edit.kind == "recolour" else subject.colour,
        edit.to if edit.kind == "resize" else subject.size,
    )


def _distance(a: SceneObject | Detected, b: SceneObject | Detected) -> float:
    return max(abs(a.x - b.x), abs(a.y - b.y))


def _certain(thing: SceneObject | Detected) -> bool:
    return isinstance(thing, SceneObject) or thing.certain


def _and(a: bool | None, b: bool | None) -> bool | None:
    return False if False in (a, b) else None if None in (a, b) else True


def _alike(thing: SceneObject | Detected, shape: str | None, colour: str | None, size: str | None) -> bool | None:
    """Whether an object has these attributes; None where the picture does not tell."""
    verdict: bool | None = True if _certain(thing) else None
    for seen, wanted in ((thing.shape, shape), (thing.colour, colour), (thing.size, size)):
        if wanted is not None:
            verdict = _and(verdict, None if seen is None else seen == wanted)
    return verdict


def _lies(thing: SceneObject | Detected, place: str) -> bool | None:
    """Whether an object lies in a ninth of the picture; None if it is too near a border to tell."""
    near = (-CLOSE_CALL, CLOSE_CALL)
    answers = {place_of(thing.x + dx, thing.y + dy) == place for dx, dy in itertools.product(near, near)}
    return None if len(answers) == 2 else answers.pop()
