"""Compare what a cell printed and drew with what it printed and drew when the notebook was recorded.

Text is compared word by word and its numbers within a tolerance. Figures are compared as an eye would: at full
resolution, but a line may lie a pixel off and a colour may be a few grey levels off. The limits were measured; each
states what it separates.
"""

import base64
import io
import math
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

# Numbers as people print them: 3, -0.12, 1.5e-3, 12,345. A digit inside a word (conv2d, 0x7f) is text.
NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+\.\d*|\.\d+|\d+)(?:[eE][-+]?\d+)?")

FIGURE_TYPES = ("image/png", "image/jpeg")
SHIFT = 2  # pixels that a line may move
GREY = 16  # grey levels that a colour may be off besides; the palettes that tools/execute.py makes stay within it
RAMP = 24  # a pixel that many levels further off counts fully, so that a pale line counts like a black one
BLOCK = 16  # side in pixels of the squares in which such pixels are counted
SIZE = 0.03  # relative change in width or height that a figure may show (a label grows by a digit)


@dataclass(frozen=True)
class Tolerance:
    """How much may differ.

    Parameters
    ----------
    relative : float
        Relative difference that a printed number may show.
    last_place : int
        Units in the last printed decimal that it may differ in any case (0.003 and 0.004 differ by one).
    absolute : float
        Difference that never counts: numbers of that size are rounding errors.
    figure : float or None
        Largest `FigureDifference.score` that passes; None compares only the presence and size of figures.
    """

    relative: float
    last_place: int
    absolute: float
    figure: float | None


# Measured on eight kinds of figure (curves, scatter plots, heat maps, grids). The same figure scores at most 0.9 after
# 40 s of training on two threads instead of one, 3.3 with other font hinting, 2.4 with a palette of 256 colours.
# Another figure scores at least 7.4: a reversed hairline in pale grey 7.4, noise from another seed 8.7,
# a curve 5 % off 14, a reversed curve 34, one wrong digit among 64 of 28 x 28 pixels 30, other samples 45 and more.
# Not seen: a line that moves by two pixels, a dashed line for a solid one, one glyph for a similar one.
STRICT = Tolerance(relative=0.05, last_place=1, absolute=1e-6, figure=5.0)
LOOSE = Tolerance(relative=0.25, last_place=3, absolute=1e-5, figure=None)


@dataclass(frozen=True, eq=False)
class FigureDifference:
    """How a figure differs from the recorded one.

    Parameters
    ----------
    score : float
        Per cent of the pixels that the other figure does not explain, in the square of 16 x 16 pixels where they
        are most; infinite if the sizes differ.
    place : tuple of int
        Left and top of that square in pixels.
    panels : PIL.Image.Image
        The recorded figure, the new one, and where they differ, side by side.
    """

    score: float
    place: tuple[int, int]
    panels: Image.Image


def text_differences(recorded: str, now: str, tolerance: Tolerance | None, numbers: bool = True) -> list[str]:
    """Say in which lines two texts differ.

    Parameters
    ----------
    recorded, now : str
        The texts.
    tolerance : Tolerance or None
        How far numbers may be apart; None asks for equal texts.
    numbers : bool
        False compares only what stands between the numbers.

    Returns
    -------
    list of str
        One sentence a differing line; empty if the texts agree.
    """
    if recorded == now:
        return []
    old_lines, new_lines = recorded.splitlines(), now.splitlines()
    if len(old_lines) != len(new_lines):
        return [f"{len(old_lines)} lines were recorded, now there are {len(new_lines)}:\n{_indent(now)}"]
    differences = []
    for number, (old, new) in enumerate(zip(old_lines, new_lines), start=1):
        if old == new:
            continue
        if tolerance is None or _words(old) != _words(new):
            differences.append(f"line {number}: recorded {old.strip()!r}, now {new.strip()!r}")
        elif numbers:
            for a, b in zip(NUMBER.findall(old), NUMBER.findall(new)):
                if not _close(a, b, tolerance):
                    differences.append(f"line {number}: recorded {a}, now {b} ({_how_far(a, b)}) in {new.strip()!r}")
    if not differences and tolerance is None:
        differences.append("line ends differ")
    return differences


def figure_difference(recorded: bytes, now: bytes) -> FigureDifference:
    """Compare two PNG or JPEG figures.

    A pixel is explained if its colour lies, within `GREY` levels, between the darkest and the lightest of the other
    figure's pixels at most `SHIFT` away; both figures must explain each other. Unexplained pixels are counted in each
    square of `BLOCK` pixels: a lone pixel is little, a line through the square is much. If the sizes differ a little,
    the smaller figure is slid over the larger and the best position counts.
    """
    a, b = _decode(recorded), _decode(now)
    extra = np.subtract(b.size, a.size)
    if any(abs(e) > SIZE * s for e, s in zip(extra, a.size)):
        return FigureDifference(math.inf, (0, 0), _side_by_side(a, b, None))
    best = None
    for dx in range(min(0, extra[0]), max(0, extra[0]) + 1):
        for dy in range(min(0, extra[1]), max(0, extra[1]) + 1):
            # the part that both show: a's pixel (x, y) lies on b's pixel (x + dx, y + dy)
            left, top = max(0, -dx), max(0, -dy)
            width, height = min(a.width - left, b.width - max(0, dx)), min(a.height - top, b.height - max(0, dy))
            part_a = a.crop((left, top, left + width, top + height))
            part_b = b.crop((left + dx, top + dy, left + dx + width, top + dy + height))
            unexplained = np.maximum(_unexplained(part_a, part_b), _unexplained(part_b, part_a))
            score, place = _worst_block(unexplained)
            if best is None or score < best[0]:
                best = score, place, unexplained
    score, place, unexplained = best
    return FigureDifference(score, place, _side_by_side(a, b, unexplained))


def output_differences(
    recorded: list, now: list, tolerance: Tolerance, exact_text: bool = False, numbers: bool = True
) -> tuple[list[str], list[FigureDifference]]:
    """Compare a cell's outputs with the recorded ones.

    Parameters
    ----------
    recorded, now : list of nbformat outputs
        Streams of one name must be merged already.
    tolerance : Tolerance
        What may differ.
    exact_text : bool
        True asks for equal text (cells that print source code).
    numbers : bool
        False compares only what stands between the numbers.

    Returns
    -------
    differences : list of str
        One text a difference; empty if the outputs agree.
    figures : list of FigureDifference
        Of the figures that differ too much.
    """
    kinds, new_kinds = [_kind(o) for o in recorded], [_kind(o) for o in now]
    if kinds != new_kinds:
        missing = f"recorded: {', '.join(kinds) or 'nothing'}; now: {', '.join(new_kinds) or 'nothing'}"
        if len(kinds) == len(new_kinds):
            return [f"the kinds of output differ ({missing})"], []
        fewer = len(kinds) < len(new_kinds)
        what = "an output is missing from the notebook" if fewer else "the notebook has an extra output"
        return [f"{what} ({missing})"], []
    differences, figures, count = [], [], 0
    for old, new in zip(recorded, now):
        for name, content in _contents(old).items():
            if name not in FIGURE_TYPES:
                allowed = None if exact_text else tolerance
                problems = text_differences(content, _contents(new)[name], allowed, numbers)
                differences += [f"{name}: {problem}" for problem in problems]
                continue
            count += 1
            a, b = base64.b64decode(content), base64.b64decode(_contents(new)[name])
            result = figure_difference(a, b)
            if math.isinf(result.score):
                size = "{0[0]} x {0[1]}".format
                message = f"figure {count}: size {size(_decode(a).size)} was recorded, now {size(_decode(b).size)}"
            elif tolerance.figure is not None and result.score > tolerance.figure:
                message = (
                    f"figure {count}: {result.score:.1f} % of the pixels differ (limit {tolerance.figure:g} %) "
                    f"in the square of {BLOCK} pixels at x = {result.place[0]}, y = {result.place[1]}"
                )
            else:
                continue
            differences.append(message)
            figures.append(result)
    return differences, figures


def _kind(output) -> str:
    if output["output_type"] == "stream":
        return output["name"]
    return " + ".join(sorted(_contents(output)))


def _contents(output) -> dict[str, str]:
    if output["output_type"] == "stream":
        return {output["name"]: _joined(output["text"])}
    if output["output_type"] == "error":
        return {"error": f"{output['ename']}: {output['evalue']}"}
    data = {name: _joined(content) for name, content in output["data"].items()}
    if any(name in FIGURE_TYPES for name in data):
        data.pop("text/plain", None)  # "<Figure size 640x480 with 1 Axes>": the figure itself is compared
    return data


def _joined(text: str | list[str] | dict) -> str:
    return "".join(text) if isinstance(text, list) else text if isinstance(text, str) else repr(text)


def _words(line: str) -> str:
    # a sign that comes or goes moves columns: runs of blanks count as one
    return " ".join(NUMBER.sub(" # ", line).split())


def _close(a: str, b: str, tolerance: Tolerance) -> bool:
    x, y = _value(a), _value(b)
    # 1 and 2 count or name something; 0.1 and 0.2 were rounded: only there is the last place uncertain
    place = min(_last_place(a), _last_place(b))
    rounding = tolerance.last_place * place * 1.001 if place < 1 else 0
    return abs(x - y) <= max(tolerance.relative * max(abs(x), abs(y)), rounding, tolerance.absolute)


def _value(number: str) -> float:
    return float(number.replace(",", ""))


def _last_place(number: str) -> float:
    digits, _, exponent = number.lower().replace(",", "").partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


def _how_far(a: str, b: str) -> str:
    x, y = _value(a), _value(b)
    return f"{abs(x - y) / abs(x):.1%} off" if x else f"{y:g} off"


def _indent(text: str, lines: int = 12) -> str:
    shown = text.splitlines()
    more = [f"... and {len(shown) - lines} more lines"] if len(shown) > lines else []
    return "\n".join("    " + line for line in shown[:lines] + more)


def _decode(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data)).convert("RGBA")
    page = Image.new("RGBA", image.size, "white")
    page.alpha_composite(image)
    return page.convert("RGB")


def _unexplained(image: Image.Image, other: Image.Image) -> np.ndarray:
    """Return how far each pixel lies outside the other figure's range nearby, from 0 to 1, (H, W)."""
    window = 2 * SHIFT + 1
    value = np.asarray(image, np.int16)  # (H, W, 3)
    low = np.asarray(other.filter(ImageFilter.MinFilter(window)), np.int16) - GREY
    high = np.asarray(other.filter(ImageFilter.MaxFilter(window)), np.int16) + GREY
    return np.clip(np.maximum(low - value, value - high).max(axis=2) / RAMP, 0, 1)


def _worst_block(unexplained: np.ndarray) -> tuple[float, tuple[int, int]]:
    height, width = (min(BLOCK, side) for side in unexplained.shape)
    total = np.zeros(np.add(unexplained.shape, 1))  # summed-area table: each block's sum from four corners
    total[1:, 1:] = unexplained.cumsum(0).cumsum(1)
    blocks = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(blocks.argmax(), blocks.shape)
    return float(100 * blocks[top, left] / (height * width)), (int(left), int(top))


def _side_by_side(a: Image.Image, b: Image.Image, unexplained: np.ndarray | None) -> Image.Image:
    panels = [a, b]
    if unexplained is not None:
        strength = 255 * (1 - unexplained)
        panels.append(Image.fromarray(strength.astype(np.uint8)).convert("RGB"))
    gap = 10
    page = Image.new(
        "RGB", (sum(p.width for p in panels) + gap * (len(panels) - 1), max(p.height for p in panels)), "#808080"
    )
    left = 0
    for panel in panels:
        page.paste(panel, (left, 0))
        left += panel.width + gap
    return page
