"""Shapes: pictures of a few coloured objects, each with a caption that is true of it.

A procedural data set for conditional generation. A *scene* is a list of one to four objects on a plain light
background; it can be edited (`dataclasses.replace`), drawn at any resolution, described by a sentence from a small
grammar, and read back from the picture (`gencore.data.shapes_scorer`), so that "does the image show what the caption
says?" has an exact answer.

Coordinates are fractions of the picture's side: ``x`` grows to the right, ``y`` grows downwards, (0, 0) is the top
left corner. The objects' bounding boxes keep a distance of at least `GAP` from each other in x or in y, so no two
objects touch at any size from 16 px up.

The captions' grammar (EBNF; words are separated by one space)::

    caption     = clause , { "and" , clause } ;
    clause      = one , [ place | relation , one ] | several , [ relation , one ] ;
    one         = ( "a" | "an" ) , [ size ] , [ colour ] , shape ;
    several     = ( "two" | "three" | "four" ) , [ size ] , [ colour ] , shapes ;
    size        = "small" | "large" ;
    colour      = "red" | "orange" | "yellow" | "green" | "cyan" | "blue" | "purple" | "black" ;
    shape       = "circle" | "square" | "triangle" | "cross" | "ring" | "star" ;
    shapes      = "circles" | "squares" | "triangles" | "crosses" | "rings" | "stars" ;
    place       = "in" , "the" , "centre" | "at" , "the" , ( vertical , [ horizontal ] | horizontal ) ;
    vertical    = "top" | "bottom" ;
    horizontal  = "left" | "right" ;
    relation    = ( "left" | "right" ) , "of" | "above" | "below" ;

What a caption means:

- It lists *all* objects of the scene, and every noun phrase speaks of objects not yet mentioned.
- "a red circle at the top left": the object's centre lies in that ninth of the picture, of a grid of thirds; "at the
  top" is the ninth in the middle of the top row.
- "a red circle left of a blue square": the circle's centre is at least `RELATION_GAP` further left than the square's.
  The four relations compare one coordinate and leave the other free.
- "two red circles above a blue square": each of the two is above that one square.

Colours stay apart for readers with each of the three kinds of colour blindness (CIE76 difference of at least 21 for
every pair, the background included, under the simulation of Machado, Oliveira and Fernandes, 2009).
"""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor

from gencore.data.grammar import Words
from gencore.data.image_set import ImageSet, Split
from gencore.errors import InputError

Shape = Literal["circle", "square", "triangle", "cross", "ring", "star"]
Colour = Literal["red", "orange", "yellow", "green", "cyan", "blue", "purple", "black"]
Size = Literal["small", "large"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)

RGB: dict[Colour, tuple[int, int, int]] = {
    "red": (190, 20, 50), "orange": (255, 115, 0), "yellow": (255, 224, 58), "green": (15, 160, 100),
    "cyan": (60, 198, 255), "blue": (10, 40, 210), "purple": (168, 74, 180), "black": (20, 20, 20),
}  # fmt: skip
BACKGROUND = (245, 245, 245)

RADIUS: dict[Size, float] = {"small": 0.12, "large": 0.18}  # half the side of the box that the shape fills
GAP = 0.08  # between two objects' boxes
EDGE = 0.03  # between a box and the picture's edge
RELATION_GAP = 0.1  # "left of" means: at least this much further left
MAX_OBJECTS = 4
MIN_SIZE = 16  # pixels; below, shapes cannot be told apart and neighbours share pixels

PLACES = (
    ("at the top left", "at the top", "at the top right"),
    ("at the left", "in the centre", "at the right"),
    ("at the bottom left", "at the bottom", "at the bottom right"),
)
RELATIONS = ("left of", "right of", "above", "below")

# The (colour, shape) pairs that the train split never shows when a data set asks for a test of composition. Each of
# these colours and shapes is still seen in other pairs.
HELD_OUT_COMBINATIONS: tuple[tuple[Colour, Shape], ...] = (
    ("red", "star"), ("orange", "ring"), ("green", "square"),
    ("cyan", "cross"), ("blue", "circle"), ("purple", "triangle"),
)  # fmt: skip

_NUMBERS = {"a": 1, "an": 1, "two": 2, "three": 3, "four": 4}
_PLURALS = {shape + ("es" if shape.endswith("s") else "s"): shape for shape in SHAPES}
_PLURAL_OF = {shape: plural for plural, shape in _PLURALS.items()}

FACTORS = ("x", "y", "size", "colour", "shape")  # columns of `factors`

END = 0  # the token id that ends a caption and fills the rest of the row
VOCABULARY: tuple[str, ...] = (  # token ids are positions in it
    "<end>", *_NUMBERS, *SIZES, *COLOURS, *SHAPES, *_PLURALS,
    "and", "in", "at", "the", "centre", "top", "bottom", "left", "right", "of", "above", "below",
)  # fmt: skip
_IDS = {word: i for i, word in enumerate(VOCABULARY)}
CAPTION_LENGTH = 36  # tokens: the longest caption of four objects and its end

_COPY = 0.25  # how often an object repeats an earlier one, without which "two red circles" would be rare
_CLEARLY = 0.04  # a caption names a place only this far from its borders
_SUPERSAMPLES = 8  # per pixel and axis
_SEEDS = {"train": 20_231, "heldout": 77_003}


# Scenes


@dataclass(frozen=True)
class SceneObject:
    """One object; its centre (of the bounding box) at (`x`, `y`), in fractions of the picture's side."""

    shape: Shape
    colour: Colour
    size: Size
    x: float
    y: float

    def __post_init__(self) -> None:
        for field, allowed in (("shape", SHAPES), ("colour", COLOURS), ("size", SIZES)):
            value = getattr(self, field)
            if value not in allowed:
                raise InputError(f"the object's {field} is {value!r}; choose one of {', '.join(allowed)}")
        border = self.radius + EDGE
        if not (border <= self.x <= 1 - border and border <= self.y <= 1 - border):
            raise InputError(
                f"the {self.size} object's centre ({self.x:.3g}, {self.y:.3g}) is too near the picture's edge; "
                f"keep x and y between {border:.2f} and {1 - border:.2f}"
            )

    @property
    def radius(self) -> float:
        return RADIUS[self.size]


@dataclass(frozen=True)
class Scene:
    """One to four objects that keep their distance. Raises `InputError` if they do not."""

    objects: tuple[SceneObject, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.objects) <= MAX_OBJECTS:
            raise InputError(f"a scene has 1 to {MAX_OBJECTS} objects, this one has {len(self.objects)}")
        for a, b in itertools.combinations(self.objects, 2):
            if not _apart(a.x - b.x, a.y - b.y, a.radius + b.radius):
                raise InputError(f"the {a.colour} {a.shape} and the {b.colour} {b.shape} are too close; move one away")


def _uniforms(generator: torch.Generator) -> Iterator[float]:
    """Uniform numbers in [0, 1), drawn in blocks: single draws would take most of the time."""
    while True:
        yield from torch.rand(64, generator=generator, dtype=torch.float64).tolist()


def sample_scene(
    generator: torch.Generator,
    objects: int = 3,
    *,
    without: Sequence[tuple[Colour, Shape]] = (),
    including: Sequence[tuple[Colour, Shape]] = (),
) -> Scene:
    """Draw a scene.

    The number of objects is uniform on 1 ... `objects`; colours, shapes and sizes are uniform, except that one object
    in four repeats an earlier one, and that crowded scenes have fewer large ones, for want of room.

    Parameters
    ----------
    generator : torch.Generator
        The source of randomness (on the CPU).
    objects : int
        The largest number of objects, 1 to 4.
    without : sequence of (colour, shape)
        Pairs that must not appear.
    including : sequence of (colour, shape)
        Unless empty, at least one object is one of these pairs.

    Raises
    ------
    InputError
        If `objects` is not 1 to 4, or the two lists of pairs leave nothing to draw.
    """
    _check_objects(objects)
    pairs = [(c, s) for c in COLOURS for s in SHAPES if (c, s) not in without]
    wanted = [pair for pair in including if pair in pairs]
    if including and not wanted or not pairs:
        raise InputError("without excludes every (colour, shape) that the scene may or must include; leave some")
    draw = _uniforms(generator)

    def choose(options: Sequence):
        return options[int(next(draw) * len(options))]

    count = 1 + int(next(draw) * objects)
    while True:
        kinds = []
        for i in range(count):
            if i and next(draw) < _COPY:
                kinds.append(choose(kinds))
            else:
                kinds.append((*choose(wanted if wanted and i == 0 else pairs), choose(SIZES)))
        for _ in range(100):  # then other sizes: four large objects hardly ever find room
            if centres := _place([RADIUS[size] for _, _, size in kinds], draw):
                things = (SceneObject(s, c, size, *xy) for (c, s, size), xy in zip(kinds, centres, strict=True))
                return Scene(tuple(things))


def _place(radii: Sequence[float], draw: Iterator[float]) -> list[tuple[float, float]] | None:
    """Centres for boxes, one after the other; None if one finds no room in ten tries."""
    placed: list[tuple[float, float]] = []
    for i, radius in enumerate(radii):
        border = radius + EDGE
        for _ in range(10):
            x, y = border + (1 - 2 * border) * next(draw), border + (1 - 2 * border) * next(draw)
            if all(_apart(x - u, y - v, radius + r) for (u, v), r in zip(placed, radii[:i], strict=True)):
                placed.append((x, y))
                break
        else:
            return None
    return placed


def _apart(dx: float, dy: float, radii: float) -> bool:
    return max(abs(dx), abs(dy)) >= radii + GAP - 1e-9  # so that objects exactly that far apart pass


def _check_objects(objects: int) -> None:
    if not 1 <= objects <= MAX_OBJECTS:
        raise InputError(f"objects is {objects}; choose the largest number of objects, 1 to {MAX_OBJECTS}")


# Drawing


def is_inside(shape: Shape, u: Tensor, v: Tensor) -> Tensor:
    """Whether points lie inside a shape: bool, of the broadcast shape of `u` and `v`.

    Parameters
    ----------
    shape : Shape
        Which.
    u, v : Tensor
        Coordinates relative to the shape's centre in units of its radius (v downwards); every shape lies in [-1, 1]².
    """
    match shape:
        case "circle":
            return u.square() + v.square() <= 1
        case "square":
            return (u.abs() <= 0.88) & (v.abs() <= 0.88)  # nearly the circle's area
        case "triangle":
            return (u.abs() <= (v + 1) / 1.9) & (v <= 0.9)
        case "cross":
            a, b = u.abs(), v.abs()
            return ((a <= 0.34) & (b <= 1)) | ((a <= 1) & (b <= 0.34))
        case "ring":
            squared = u.square() + v.square()
            return (squared <= 1) & (squared >= 0.55**2)
        case "star":  # five points; fold the plane into one tenth of a turn, where the outline is one straight line
            tenth = math.pi / 5
            angle = torch.atan2(u, -v).remainder(2 * tenth)
            angle = torch.minimum(angle, 2 * tenth - angle)  # 0 at a tip, a tenth of a turn at a notch
            notch = 0.45
            r = torch.hypot(u, v)
            along, across = r * torch.cos(angle), r * torch.sin(angle)
            notch_along, notch_across = notch * math.cos(tenth), notch * math.sin(tenth)
            return (1 - along) * notch_across >= across * (1 - notch_along)


def render_all(scenes: Sequence[Scene], size: int = 32) -> Tensor:
    """Draw scenes, antialiased by averaging 8 x 8 samples a pixel.

    Returns
    -------
    Tensor
        uint8 (N, 3, size, size).

    Raises
    ------
    InputError
        If `size` is below 16.
    """
    _check_size(size)
    background = torch.tensor(BACKGROUND, dtype=torch.float32)
    images = background.repeat(len(scenes), size, size, 1)  # (N, H, W, 3)
    pixels = images.view(-1, 3)
    groups: dict[tuple[Shape, Size], list[tuple[int, SceneObject]]] = {}
    for n, scene in enumerate(scenes):
        for thing in scene.objects:
            groups.setdefault((thing.shape, thing.size), []).append((n, thing))
    for (shape, word), members in groups.items():
        window = math.ceil(2 * RADIUS[word] * size) + 1  # pixels that a box can touch
        for start in range(0, len(members), 256):  # at most 256 windows of samples in memory at a time
            part = members[start : start + 256]
            number = torch.tensor([n for n, _ in part])
            centre = torch.tensor([(thing.x, thing.y) for _, thing in part], dtype=torch.float64) * size  # (M, 2)
            corner = (centre - RADIUS[word] * size).floor()  # (M, 2)
            colour = torch.tensor([RGB[thing.colour] for _, thing in part], dtype=torch.float32)
            samples = (torch.arange(window * _SUPERSAMPLES, dtype=torch.float64) + 0.5) / _SUPERSAMPLES
            # Objects that lie alike on their pixels look alike: each kind is drawn once.
            phases, which = (corner - centre).unique(dim=0, return_inverse=True)  # (P, 2), (M,)
            offset = (phases[:, :, None] + samples) / (RADIUS[word] * size)  # (P, 2, window * 8)
            u, v = offset.float()[:, 0, None, :], offset.float()[:, 1, :, None]
            inside = is_inside(shape, u, v).view(len(phases), window, _SUPERSAMPLES, window, _SUPERSAMPLES)
            share = (inside.sum((2, 4), dtype=torch.float32) / _SUPERSAMPLES**2)[which]  # (M, window, window)
            # Where the window leaves the picture its share is 0; clamping only keeps the address valid.
            reach = torch.arange(window)
            column = (corner[:, 0, None].long() + reach).clamp(0, size - 1)[:, None, :]
            row = (corner[:, 1, None].long() + reach).clamp(0, size - 1)[:, :, None]
            address = (number[:, None, None] * size + row) * size + column
            tint = share[..., None] * (colour - background)[:, None, None, :]  # (M, window, window, 3)
            # Objects do not overlap, so that adding is painting, even in a pixel that two of them share.
            pixels.index_add_(0, address.flatten(), tint.flatten(0, 2))
    return images.round().to(torch.uint8).permute(0, 3, 1, 2).contiguous()  # (N, 3, H, W)


def render(scene: Scene, size: int = 32) -> Tensor:
    """Draw one scene: uint8 (3, size, size). See `render_all`."""
    return render_all([scene], size)[0]


def _check_size(size: int) -> None:
    if size < MIN_SIZE:
        raise InputError(f"size is {size}; shapes need pictures of at least {MIN_SIZE} pixels a side")


# Captions


@dataclass(frozen=True)
class Description:
    """What a noun phrase says of an object. None: not said."""

    shape: Shape
    colour: Colour | None = None
    size: Size | None = None

    def noun(self, count: int = 1) -> str:
        """"red circle", "red circles"."""
        noun = self.shape if count == 1 else _PLURAL_OF[self.shape]
        return " ".join(word for word in (self.size, self.colour, noun) if word)

    def words(self, count: int = 1) -> str:
        """"a red circle", "two red circles"."""
        noun = self.noun(count)
        if count == 1:
            return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"
        return f"{number_word(count)} {noun}"

    def covers(self, other: "Description") -> bool:
        """Whether everything `other` fits also fits this one: "circle" covers "red circle"."""
        return all(mine in (None, its) for mine, its in self._pairs(other))

    def excludes(self, other: "Description") -> bool:
        """Whether no object fits both."""
        return any(None not in (mine, its) and mine != its for mine, its in self._pairs(other))

    def _pairs(self, other: "Description") -> tuple[tuple[str | None, str | None], ...]:
        return (self.shape, other.shape), (self.colour, other.colour), (self.size, other.size)


def number_word(count: int) -> str:
    """"one" to "four"; digits beyond."""
    return ("one", "two", "three", "four")[count - 1] if 1 <= count <= 4 else str(count)


@dataclass(frozen=True)
class Clause:
    """One clause: some objects of a kind, perhaps the relation of each to another one; or the place of a single one."""

    count: int
    what: Description
    place: str | None = None
    relation: str | None = None
    other: Description | None = None

    def words(self) -> str:
        words = self.what.words(self.count)
        if self.place:
            words += f" {self.place}"
        if self.relation:
            words += f" {self.relation} {self.other.words()}"
        return words


@dataclass(frozen=True)
class Facts:
    """What a caption says, clause by clause. `words` is the inverse of `parse`."""

    clauses: tuple[Clause, ...]

    def words(self) -> str:
        return " and ".join(clause.words() for clause in self.clauses)

    def mentions(self) -> tuple[tuple[Description, int], ...]:
        """How many objects each noun phrase speaks of, in the order of the caption; equal phrases are added up."""
        counts: Counter[Description] = Counter()
        for clause in self.clauses:
            counts[clause.what] += clause.count
            if clause.other:
                counts[clause.other] += 1
        return tuple(counts.items())

    def total(self) -> int:
        """The number of objects."""
        return sum(count for _, count in self.mentions())

    def bounds(self, what: Description) -> tuple[int, int]:
        """The least and the largest number of objects that fit a description.

        They differ only for captions of mixed detail: of "a circle and a red circle", one or two circles are red.
        """
        mentions = self.mentions()
        least = sum(count for other, count in mentions if what.covers(other))
        return least, sum(count for other, count in mentions if not what.excludes(other))


def place_of(x: float, y: float, slack: float = 0.0) -> str | None:
    """The name of the ninth of the picture that a point lies in, or None if it is nearer than `slack` to a border."""
    if any(abs(value - border) < slack for value in (x, y) for border in (1 / 3, 2 / 3)):
        return None
    column, row = (min(max(int(3 * value), 0), 2) for value in (x, y))
    return PLACES[row][column]


def lead(relation: str, a: SceneObject, b: SceneObject) -> float:
    """By how much `a` is "left of", "right of", "above" or "below" `b`; anything with `x` and `y` will do."""
    return {"left of": b.x - a.x, "right of": a.x - b.x, "above": b.y - a.y, "below": a.y - b.y}[relation]


def describe_scene(scene: Scene, generator: torch.Generator, several_related: bool = False) -> Facts:
    """Choose what a caption says of a scene; always true, and always with each object's colour and shape.

    One caption in two gives all sizes; one single object in two is related to another one, and of the rest one in two
    gets its place, unless it is near the border between two.

    Parameters
    ----------
    scene : Scene
        What is described.
    generator : torch.Generator
        The source of randomness (on the CPU).
    several_related : bool
        Whether several equal objects are, half of the time, related to a single one, where all of them are clearly on
        one side of it.
    """
    draw = _uniforms(generator)
    with_size = next(draw) < 0.5
    kinds: dict[Description, list[SceneObject]] = {}
    for thing in scene.objects:
        kinds.setdefault(Description(thing.shape, thing.colour, thing.size if with_size else None), []).append(thing)
    order = sorted(kinds.items(), key=lambda _: next(draw))
    single = [(what, things[0]) for what, things in order if len(things) == 1]
    clauses = []
    for what, things in order:
        if len(things) > 1:
            relation = _relation_of_several(things, single[-1][1]) if several_related and single else None
            if relation and next(draw) < 0.5:
                clauses.append(Clause(len(things), what, relation=relation, other=single.pop()[0]))
            else:
                clauses.append(Clause(len(things), what))
    while single:
        what, thing = single.pop()
        place = place_of(thing.x, thing.y, slack=_CLEARLY)
        if single and next(draw) < 0.5:
            other, landmark = single.pop()
            # Along the axis in which two objects lie further apart, their boxes do not overlap: the relation is clear.
            relation = max(RELATIONS, key=lambda relation: lead(relation, thing, landmark))
            clauses.append(Clause(1, what, relation=relation, other=other))
        elif place and next(draw) < 0.5:
            clauses.append(Clause(1, what, place=place))
        else:
            clauses.append(Clause(1, what))
    return Facts(tuple(sorted(clauses, key=lambda _: next(draw))))


def _relation_of_several(things: Sequence[SceneObject], landmark: SceneObject) -> str | None:
    """The relation in which all these stand to another object, if their boxes do not overlap its own in that axis."""
    spare = {name: min(lead(name, thing, landmark) - thing.radius for thing in things) for name in RELATIONS}
    relation = max(RELATIONS, key=spare.__getitem__)
    return relation if spare[relation] >= landmark.radius else None


def caption(scene: Scene, generator: torch.Generator, several_related: bool = False) -> str:
    """A random caption that is true of the scene (see `describe_scene` and the module's grammar)."""
    return describe_scene(scene, generator, several_related).words()


def _words(text: str) -> Words:
    return Words(text, VOCABULARY[1:], "the caption")


def parse(text: str) -> Facts:
    """Read a caption.

    Raises
    ------
    InputError
        If a word is unknown (the message lists the allowed ones) or stands where the grammar has no place for it.
    """
    words = _words(text)
    clauses = [_parse_clause(words)]
    while words.next():
        words.expect("and")
        clauses.append(_parse_clause(words))
    return Facts(tuple(clauses))


def _parse_clause(words: Words) -> Clause:
    count = _NUMBERS[words.expect(*_NUMBERS)]
    what = _parse_description(words, count)
    if count == 1 and words.take("in"):
        words.expect("the"), words.expect("centre")
        return Clause(1, what, place=PLACES[1][1])
    if count == 1 and words.take("at"):
        words.expect("the")
        first = words.expect("top", "bottom", "left", "right")
        second = words.take("left", "right") if first in ("top", "bottom") else None
        return Clause(1, what, place=" ".join(("at the", first, *([second] if second else ()))))
    relation = words.take("left", "right", "above", "below")
    if relation is None:
        return Clause(count, what)
    if relation in ("left", "right"):
        relation += " " + words.expect("of")
    words.expect("a", "an")
    return Clause(count, what, relation=relation, other=_parse_description(words, 1))


def _parse_description(words: Words, count: int) -> Description:
    size, colour = words.take(*SIZES), words.take(*COLOURS)
    noun = words.expect(*SHAPES) if count == 1 else words.expect(*_PLURALS)
    return Description(_PLURALS.get(noun, noun), colour, size)


def encode(captions: Sequence[str], length: int = CAPTION_LENGTH) -> Tensor:
    """Captions as token ids, for networks that read or write them.

    Returns
    -------
    Tensor
        int64 (N, length): positions in `VOCABULARY`, then `END` to the end of the row, at least once. The empty
        caption, which unconditional training needs, is a row of `END`.

    Raises
    ------
    InputError
        If a word is unknown or a caption too long.
    """
    ids = torch.full((len(captions), length), END)
    for row, text in zip(ids, captions, strict=True):
        words = _words(text).words
        if len(words) >= length:
            raise InputError(f"the caption {text!r} has {len(words)} words; length={length} allows {length - 1}")
        row[: len(words)] = torch.tensor([_IDS[word] for word in words], dtype=torch.int64)
    return ids


def decode(ids: Iterable[int] | Tensor) -> str:
    """The words of one row of token ids, up to the first `END`. They need not form a caption of the grammar."""
    words = itertools.takewhile(lambda i: i != END, (int(i) for i in ids))
    return " ".join(VOCABULARY[i] for i in words)


# The data set


def factors(scenes: Sequence[Scene], bins: int = 10) -> Tensor:
    """Return what varies among pictures of one object: the known factors behind the pixels.

    Parameters
    ----------
    scenes : sequence of Scene
        Scenes of one object each.
    bins : int
        Into how many bins of equally many scenes the coordinates are cut.

    Returns
    -------
    Tensor
        int64 ``(N, 5)``, in the order of `FACTORS`: bins of x and y, and places in `SIZES`, `COLOURS` and `SHAPES`.

    Raises
    ------
    InputError
        If a scene has several objects.
    """
    if any(len(scene.objects) != 1 for scene in scenes):
        raise InputError("scenes: each must have one object; a scene of several has no single colour or place")
    things = [scene.objects[0] for scene in scenes]
    places = torch.tensor([(thing.x, thing.y) for thing in things], dtype=torch.float64)  # (N, 2)
    kinds = [(SIZES.index(t.size), COLOURS.index(t.colour), SHAPES.index(t.shape)) for t in things]
    cut = places.argsort(dim=0, stable=True).argsort(dim=0) * bins // len(places)
    return torch.cat([cut, torch.tensor(kinds)], 1)


@dataclass(frozen=True)
class Shapes:
    """Captioned pictures of coloured objects. The scenes do not depend on `size`, nor their beginning on `images`.

    Attributes
    ----------
    size : int
        Side of the pictures in pixels, at least 16.
    objects : int
        The largest number of objects in a picture, 1 to 4.
    images, heldout_images : int
        How many pictures the splits "train" and "heldout" have.
    held_out_combinations : bool
        A test of composition: the train split shows none of `HELD_OUT_COMBINATIONS`, such as a purple triangle, and
        every picture of the heldout split shows at least one. If False, both splits follow the same law.
    colours, shapes : tuple of str
        Those that objects may have; all by default.
    several_related : bool
        Whether captions also say how several equal objects stand to another one, "two red circles above a blue square".
        The scenes are the same.
    """

    size: int = 32
    objects: int = 3
    images: int = 10_000
    heldout_images: int = 1_000
    held_out_combinations: bool = False
    colours: tuple[Colour, ...] = COLOURS
    shapes: tuple[Shape, ...] = SHAPES
    several_related: bool = False
    channels: ClassVar[int] = 3

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_objects(self.objects)
        for field in ("images", "heldout_images"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; a data set needs at least 1 image")
        for field, known in (("colours", COLOURS), ("shapes", SHAPES)):
            if not getattr(self, field) or set(getattr(self, field)) - set(known):
                raise InputError(f"{field} is {getattr(self, field)}; choose among {', '.join(known)}")

    def load(self, split: Split) -> ImageSet:
        """Draw a split; the two are drawn from different seeds.

        Labels are the number of objects less one (classes "one", "two", ...), captions are true of their pictures,
        and ``meta["scene"]`` has the scenes.
        """
        if split not in _SEEDS:
            raise InputError(f"split is {split!r}; choose 'train' or 'heldout'")
        generator = torch.Generator().manual_seed(_SEEDS[split])
        pairs = HELD_OUT_COMBINATIONS if self.held_out_combinations else ()
        others = tuple((c, s) for c in COLOURS for s in SHAPES if c not in self.colours or s not in self.shapes)
        without, including = (pairs + others, ()) if split == "train" else (others, pairs)
        scenes, captions = [], []
        for _ in range(self.images if split == "train" else self.heldout_images):
            scenes.append(sample_scene(generator, self.objects, without=without, including=including))
            captions.append(caption(scenes[-1], generator, self.several_related))
        return ImageSet(
            f"shapes/{split}",
            render_all(scenes, self.size),  # (N, 3, size, size)
            torch.tensor([len(scene.objects) - 1 for scene in scenes]),
            tuple(number_word(count) for count in range(1, self.objects + 1)),
            tuple(captions),
            {"scene": tuple(scenes)},
        )


CAPTIONED = Shapes(images=100_000, held_out_combinations=True, several_related=True)
"""What networks learn words from, in every family: so many scenes that hardly any caption of three objects repeats."""
