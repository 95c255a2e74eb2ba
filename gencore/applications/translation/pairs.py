"""What is to be translated into what: pictures in pairs, made once from a data set.

A *task* is a part of a recipe. It says how many channels a source has, what the networks are told, and gives the `Pairs` of
a split.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.data import Emoji, Split
from gencore.data.edges import Edges
from gencore.data.emoji import Style
from gencore.data.figures import Figures, draw_sticks
from gencore.errors import InputError


class Pairs(NamedTuple):
    """Sources, what they are to become, and what the networks are told.

    Attributes
    ----------
    source, target : Tensor
        uint8 ``(N, C, H, W)`` each.
    cond : Tensor
        int64 ``(N, K)``.
    group : Tensor
        int64 ``(N,)``: the category of each, for baselines.
    """

    source: Tensor
    target: Tensor
    cond: Tensor
    group: Tensor


@dataclass(frozen=True)
class Restyle:
    """A symbol in one drawing style into the same symbol in another; told is the style to draw in, if there are several.

    Attributes
    ----------
    sources, targets : tuple of {"noto", "twemoji", "fluent3d"}
        Styles to start from and to arrive at, each in each other one.
    """

    sources: tuple[Style, ...] = ("noto", "twemoji", "fluent3d")
    targets: tuple[Style, ...] = ("noto", "twemoji", "fluent3d")

    def __post_init__(self) -> None:
        if not self.sources or not self.targets or set(self.sources) == set(self.targets) and len(self.targets) == 1:
            raise InputError(f"sources {self.sources}, targets {self.targets}: there must be two different styles")

    def channels(self, data: Emoji) -> int:
        """Channels of a source."""
        return data.channels

    def conditions(self, data: Emoji) -> tuple[int, ...]:
        """How many values each condition has."""
        _check_emoji(self, data)
        if unknown := {*self.sources, *self.targets} - set(data.styles):
            raise InputError(f"task: needs the styles {sorted(unknown)}, which data.styles {data.styles} lack")
        return (len(self.targets),) if len(self.targets) > 1 else ()

    def directions(self) -> list[tuple[Style, Style]]:
        """Return each style with each other one, in the order in which the pairs come."""
        return [(a, b) for a in self.sources for b in self.targets if a != b]

    def pairs(self, data: Emoji, split: Split) -> Pairs:
        """Return the pairs of a split: all symbols in the first direction, then all in the second, ..."""
        images = data.load(split)
        count = len(images) // len(data.styles)
        place = {style: slice(n * count, (n + 1) * count) for n, style in enumerate(data.styles)}
        directions = self.directions()
        told = [self.targets.index(b) for _, b in directions]
        cond = torch.tensor(told).repeat_interleave(count)[:, None]
        return Pairs(
            torch.cat([images.images[place[a]] for a, _ in directions]),
            torch.cat([images.images[place[b]] for _, b in directions]),
            cond if self.conditions(data) else cond[:, :0],
            images.labels[:count].repeat(len(directions)),
        )


@dataclass(frozen=True)
class Colour:
    """A line drawing into the picture it was made from; told is the style to colour in, if there are several.

    Attributes
    ----------
    edges : Edges
        How lines are found.
    """

    edges: Edges = Edges()

    def channels(self, data: Emoji) -> int:
        """Channels of a source."""
        return 1

    def conditions(self, data: Emoji) -> tuple[int, ...]:
        """How many values each condition has."""
        _check_emoji(self, data)
        return (len(data.styles),) if len(data.styles) > 1 else ()

    def pairs(self, data: Emoji, split: Split) -> Pairs:
        """Return the pairs of a split, style after style."""
        images = data.load(split)
        style = torch.arange(len(data.styles)).repeat_interleave(len(images) // len(data.styles))
        cond = style[:, None] if self.conditions(data) else style[:, None][:, :0]
        return Pairs(self.edges(images.images), images.images, cond, images.labels)


@dataclass(frozen=True)
class Dress:
    """A stick figure into a dressed one; told are the colours of skin, hair, shirt and trousers."""

    def channels(self, data: Figures) -> int:
        """Channels of a source."""
        return data.channels

    def conditions(self, data: Figures) -> tuple[int, ...]:
        """How many values each condition has."""
        if not isinstance(data, Figures):
            raise InputError(f"task: Dress needs Figures, but data are {type(data).__name__}")
        return data.conditions

    def pairs(self, data: Figures, split: Split) -> Pairs:
        """Return the pairs of a split."""
        poses, outfits = data.people(split)
        images = data.load(split)
        return Pairs(draw_sticks(poses, data.size), images.images, outfits, images.labels)


Task = Restyle | Colour | Dress


def apart(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return sources of every second pair and targets of the others: no symbol is on both sides.

    Returns
    -------
    tuple of Tensor
        uint8 ``(ceil(N / 2), C, H, W)`` and ``(floor(N / 2), C, H, W)``.
    """
    return pairs.source[0::2], pairs.target[1::2]


def _check_emoji(task: Task, data: Emoji) -> None:
    if not isinstance(data, Emoji):
        raise InputError(f"task: {type(task).__name__} needs Emoji, but data are {type(data).__name__}")
