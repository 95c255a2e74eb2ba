"""Networks as boxes and arrows: a box is as large as what it puts out, and each arrow says what flows along it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, copysign, sqrt
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.plots.curves import PALETTE
from gencore.plots.grids import _plain_figure

if TYPE_CHECKING:  # training saves grids without loading Matplotlib
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

OPERATORS = ("+", "−", "×")  # drawn as a small circle
GREY, DARK = "0.72", "0.25"

# all lengths are in inches
TALLEST, WIDEST, LEAST, CIRCLE = 0.9, 0.5, 0.1, 0.2  # sides of boxes
ARROW = 0.4  # least length of an arrow
SPACE = 0.06  # between a text and what stands beside it
LANE = 0.26  # from one arrow that runs above the boxes to the next


@dataclass(eq=False)
class _Box:
    row: int
    column: int
    width: float
    height: float
    text: "Text | None" = None
    x: float = 0.0  # of the centre
    y: float = 0.0
    top: float = 0.0  # where the row's lanes begin
    bottom: float = 0.0  # lower end of the name
    gaps: tuple[float, float] = (0.0, 0.0)  # centres of the gaps at the left and at the right of its column

    @property
    def is_operator(self) -> bool:
        return self.text.get_text() in OPERATORS


@dataclass(eq=False)
class _Arrow:
    source: _Box
    target: _Box
    colour: str
    text: "Text"
    lane: int | None = None  # above the boxes of a row
    bends_at_source: bool = False  # or, between rows, at the target

    @property
    def in_row(self) -> bool:
        return self.source.row == self.target.row

    @property
    def forward(self) -> int:
        """1 to the right, -1 to the left, 0 up or down."""
        return (self.target.column > self.source.column) - (self.target.column < self.source.column)


def output_shapes(module: nn.Module, *inputs: Tensor) -> dict[str, tuple[int, ...]]:
    """Run a module on a sample, and measure what its parts put out.

    Gradients, modes and running averages are left as they are.

    Parameters
    ----------
    module : Module
        The network.
    inputs : Tensor
        What its ``forward`` takes; the first axis of each is the batch.

    Returns
    -------
    dict of str to tuple of int
        Shapes without the batch axis, under the names of ``module.named_modules()``; ``""`` is the whole module. Parts
        that put out something else than a tensor are left out; of a part that is used twice, the last output counts.
    """
    shapes, hooks, modes = {}, [], [(part, part.training) for part in module.modules()]
    for name, part in module.named_modules():

        def note(_, __, output, name=name):
            if isinstance(output, Tensor):
                shapes[name] = tuple(output.shape[1:])

        hooks.append(part.register_forward_hook(note))
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
        for part, mode in modes:
            part.training = mode
    return shapes


def diagram(
    rows: Sequence[Sequence[str | None]],
    shapes: Mapping[str, Sequence[int]],
    paths: Iterable[Sequence[str]] | None = None,
    *,
    skips: Iterable[Sequence[str]] = (),
    labels: Mapping[str, str] | None = None,
) -> "Figure":
    """Draw a network.

    The height of a box grows with the root of the number of places (pixels, tokens, entries of a vector) of what it
    puts out, its width with the root of the number of channels: a map of 28×28 is as high as a vector of 784 numbers.
    Grey boxes are those at which paths begin or end. A box that no arrow leaves has its shape below its name.

    Parameters
    ----------
    rows : sequence of sequences of str
        Names of the boxes, row by row from the top, each from the left; None leaves a place empty.
    shapes : mapping of str to sequence of int
        What each box puts out, without the batch axis: ``(L,)`` a vector, ``(N, C)`` tokens, ``(C, H, W)`` a map.
        `output_shapes` measures them.
    paths : iterable of sequences of str, optional
        Each is followed by arrows from name to name; by default the rows, from left to right.
    skips : iterable of sequences of str
        The same in orange, for skip connections and conditions.
    labels : mapping of str to str, optional
        What stands below a box instead of its name; lines are broken at ``"\\n"``. Boxes labelled +, − or × become
        circles.

    Returns
    -------
    Figure
        A new figure that just holds the drawing; patches and texts of boxes bear the name as their ``gid``.

    Raises
    ------
    InputError
        If a name stands twice, is unknown or has no shape, if a shape has no or more than three axes or one that is not
        positive, or if a path leads nowhere or has no free way.
    """
    rows, labels = [list(row) for row in rows], labels or {}
    boxes = _boxes(rows, shapes)
    paths = [[name for name in row if name is not None] for row in rows] if paths is None else list(paths)
    edges = {pair: PALETTE[1] for pair in _pairs(skips, boxes)} | {pair: DARK for pair in _pairs(paths, boxes)}
    if unknown := set(labels) - set(boxes):
        raise InputError(f"labels: no box is named {', '.join(map(repr, sorted(unknown)))}")

    figure = _plain_figure()
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    sources, targets = {source for source, _ in edges}, {target for _, target in edges}
    for name, box in boxes.items():
        label = labels.get(name, name)
        if label in OPERATORS:
            box.width = box.height = CIRCLE
        elif name not in sources:
            label += "\n" + _written(shapes[name])
        align = dict(ha="center", va="center" if label in OPERATORS else "top")
        box.text = ax.text(0, 0, label, fontsize=9, math_fontfamily="dejavusans", gid=name, **align)
    arrows = [
        _Arrow(boxes[a], boxes[b], colour, ax.text(0, 0, _written(shapes[a]), fontsize=8, color=DARK))
        for (a, b), colour in edges.items()
    ]
    _choose_ways(boxes.values(), arrows)
    width, height = _place(boxes.values(), arrows, figure.dpi)
    figure.set_size_inches(width, height)
    ax.set(xlim=(0, width), ylim=(0, height))
    for name, box in boxes.items():
        _draw_box(ax, box, PALETTE[0] if name in sources & targets else GREY)
    for arrow in arrows:
        _draw_arrow(ax, arrow)
    return figure


def _boxes(rows: list[list[str | None]], shapes: Mapping[str, Sequence[int]]) -> dict[str, _Box]:
    places: dict[str, tuple[int, int]] = {}
    for row, names in enumerate(rows):
        for column, name in enumerate(names):
            if name in places:
                raise InputError(f"rows: {name!r} stands twice; give each box a name of its own, and labels")
            if name is not None:
                places[name] = row, column
    if not places:
        raise InputError("rows: there is nothing to draw")
    sizes = {name: _roots(name, shapes) for name in places}
    most_places, most_channels = (max(8.0, *found) for found in zip((8, 8), *sizes.values()))  # small ones stay small
    return {
        name: _Box(*places[name], max(LEAST, WIDEST * c / most_channels), max(LEAST, TALLEST * n / most_places))
        for name, (n, c) in sizes.items()
    }


def _roots(name: str, shapes: Mapping[str, Sequence[int]]) -> tuple[float, float]:
    """Return the roots of the numbers of places and of channels."""
    if name not in shapes:
        raise InputError(f"shapes: there is none for {name!r}; there are: {', '.join(shapes) or 'none'}")
    shape = tuple(shapes[name])
    if not 1 <= len(shape) <= 3 or any(int(n) != n or n < 1 for n in shape):
        raise InputError(f"shapes: {name!r} must have one to three positive axes, got {shape}")
    if len(shape) == 3:
        return sqrt(shape[1] * shape[2]), sqrt(shape[0])
    return sqrt(shape[0]), sqrt(shape[1]) if len(shape) == 2 else 1.0


def _written(shape: Sequence[int]) -> str:
    return "×".join(str(int(n)) for n in shape)


def _pairs(paths: Iterable[Sequence[str]], boxes: Mapping[str, _Box]) -> list[tuple[str, str]]:
    pairs = []
    for path in paths:
        if isinstance(path, str):
            raise InputError(f"path {path!r}: give a sequence of names")
        if unknown := [name for name in path if name not in boxes]:
            raise InputError(f"path {' → '.join(map(str, path))}: no box is named {unknown[0]!r}")
        if any(a == b for a, b in zip(path, path[1:])):
            raise InputError(f"path {' → '.join(path)}: leads from a box to itself")
        pairs += zip(path, path[1:])
    return pairs


def _choose_ways(boxes: Iterable[_Box], arrows: list[_Arrow]) -> None:
    """Lead arrows around boxes: above the row, short ones lowest, or, between rows, by the free one of two bends."""
    spans: dict[_Arrow, tuple[int, int, int]] = {}
    for arrow in sorted(arrows, key=lambda arrow: abs(arrow.source.column - arrow.target.column)):
        a, b = arrow.source, arrow.target
        left, right = sorted((a.column, b.column))
        blocked = {box.row for box in boxes if left < box.column < right}
        if arrow.in_row and a.row in blocked:
            crossed = {other.lane for other, (row, c, d) in spans.items() if row == a.row and c < right and left < d}
            arrow.lane = min(set(range(len(crossed) + 1)) - crossed)
            spans[arrow] = a.row, left, right
        elif a.row in blocked and b.row in blocked:
            ends = " → ".join(repr(box.text.get_gid()) for box in (a, b))
            raise InputError(f"path {ends}: other boxes are in the way in both rows; place one of them differently")
        arrow.bends_at_source = a.row in blocked


def _place(boxes: Iterable[_Box], arrows: list[_Arrow], dpi: float) -> tuple[float, float]:
    """Give every box its place, so that all texts have room; return the size of the drawing."""
    texts = {item: item.text.get_window_extent() for item in (*boxes, *arrows)}
    wide, high = ({item: getattr(e, side) / dpi for item, e in texts.items()} for side in ("width", "height"))

    columns = [0.0] * (1 + max(box.column for box in boxes))
    for box in boxes:
        columns[box.column] = max(columns[box.column], box.width, wide[box])
    gaps = [2 * SPACE] * len(columns)  # each at the right of its column, the last up to the margin
    for arrow in arrows:
        a, b, text = arrow.source, arrow.target, wide[arrow] + 2 * SPACE
        left = min(a.column, b.column)
        if not arrow.forward:
            gap, least = left, text - columns[left] / 2
        elif not arrow.in_row:  # the text stands between the columns, and so beside the names in them
            column = a.column if arrow.bends_at_source else b.column
            gap, least = column - (arrow.bends_at_source != (arrow.forward > 0)), text
        elif abs(a.column - b.column) == 1:  # from box to box, which may be narrower than their columns
            gap = left
            least = max(ARROW, text + SPACE) - (columns[a.column] - a.width + columns[b.column] - b.width) / 2
        else:
            continue
        gaps[gap] = max(gaps[gap], least)
    gaps[-1] -= SPACE
    for box in boxes:
        left = SPACE + sum(columns[: box.column]) + sum(gaps[: box.column])
        box.x, right = left + columns[box.column] / 2, left + columns[box.column]
        box.gaps = left - (gaps[box.column - 1] if box.column else 0) / 2, right + gaps[box.column] / 2

    text, bottom = max([0.0, *(high[arrow] for arrow in arrows)]), -SPACE
    for row in sorted({box.row for box in boxes}):
        inside = [box for box in boxes if box.row == row]
        lanes = 1 + max((a.lane for a in arrows if a.source.row == row and a.lane is not None), default=-1)
        above = max(text + 2 * SPACE, *(box.height / 2 for box in inside))
        y = bottom - above - LANE * lanes - (SPACE if lanes else 0)
        for box in inside:
            box.y, box.top = y, y + above
            box.bottom = y - box.height / 2 - (0 if box.is_operator else high[box] + SPACE)
        bottom = min(box.bottom for box in inside) - 2 * SPACE
        if any(not a.forward and min(a.source.row, a.target.row) <= row for a in arrows):
            bottom -= ARROW
    lowest = min(box.bottom for box in boxes) - SPACE
    for box in boxes:
        box.y, box.top, box.bottom = box.y - lowest, box.top - lowest, box.bottom - lowest
    return tuple(ceil(side * dpi) / dpi for side in (SPACE + sum(columns) + sum(gaps), -lowest))  # whole pixels


def _draw_box(ax: "Axes", box: _Box, colour: str) -> None:
    from matplotlib.patches import Circle, Rectangle

    if box.is_operator:
        ax.add_patch(Circle((box.x, box.y), box.width / 2, fc="white", ec=DARK, lw=1, gid=box.text.get_gid()))
        box.text.set_position((box.x, box.y))
        return
    corner = box.x - box.width / 2, box.y - box.height / 2
    ax.add_patch(Rectangle(corner, box.width, box.height, fc=colour, ec="none", gid=box.text.get_gid()))
    box.text.set_position((box.x, corner[1] - SPACE))


def _draw_arrow(ax: "Axes", arrow: _Arrow) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path

    a, b, forward, air = arrow.source, arrow.target, arrow.forward, SPACE / 2
    skip = arrow.colour != DARK
    start, end = a.x + forward * (a.width / 2 + air), b.x - forward * (b.width / 2 + air)
    if arrow.lane is not None:  # up, across, and down again
        y = a.top + LANE * arrow.lane + SPACE
        start, end = a.x + forward * a.width / 4, b.x - forward * b.width / 4
        points = [(start, a.y + a.height / 2), (start, y), (end, y), (end, b.y + b.height / 2 + air)]
        where = dict(position=((start + end) / 2, y + air), ha="center", va="bottom")
    elif not forward:
        upper, lower = (a, b) if a.y > b.y else (b, a)
        points = [(a.x, upper.bottom - air), (a.x, lower.y + lower.height / 2 + air)]
        where = dict(position=(a.x + SPACE, (points[0][1] + points[1][1]) / 2), ha="left", va="center")
        points = points if upper is a else points[::-1]
    elif arrow.in_row:
        y = a.y + (min(a.height, b.height) / 4 if skip else 0)  # skips and paths should not hide each other
        points = [(start, y), (end, y)]
        where = dict(position=((start + end) / 2, y + air), ha="center", va="bottom")
    else:
        x = a.gaps[forward > 0] if arrow.bends_at_source else b.gaps[forward < 0]
        y = b.y + (copysign(b.height / 4, a.y - b.y) if skip else 0)
        points = [(start, a.y), (x, a.y), (x, y), (end, y)]
        where = dict(position=(x, min(a.y, b.y) + LANE), ha="center", va="center")  # away from names, which stand low
        where["bbox"] = dict(fc="white", ec="none", pad=0.5)  # the arrow pauses for its text
    arrow.text.set(**where)
    look = dict(lw=1.8, mutation_scale=11) if skip else dict(lw=1.1, mutation_scale=9)
    ax.add_patch(FancyArrowPatch(path=Path(points), arrowstyle="-|>", color=arrow.colour, joinstyle="miter", **look))
