"""Draw the pictures of the front page and the README into ``static/``, from the zoo and from the chapters' own outputs.

    python book/web/draw_front.py

- ``drawn.png``: how two models of the zoo came to draw, from their replays.
- ``front-*.png`` and ``front-*.jpeg``: figures of chapters, as their notebooks hold them.
- ``map.svg``: which chapter needs which, from the links in the chapters' "You need" lines.
"""

import base64
import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from gencore import zoo
from tools.notebooks import ROOT, read_notebook, toc_notebooks

STATIC = Path(__file__).parent / "static"
COLUMNS = 16  # random vectors in a replay
SHOWN = {"flow_digits": 5, "latent_emoji64": 11}  # how many of them stand in `drawn.png`
TILE = 64  # pixels a side of every picture of `drawn.png`
FIGURES = {  # name on the front page: chapter and cell
    "families": ("foundations/generative-models", "four"),
    "attention": ("foundations/attention-and-conditioning", "maps-figure"),
    "mixing": ("gan/style-based", "mixing-grid"),
    "latent": ("diffusion/latent-diffusion", "remember"),
    "styles": ("vae/latent-space", "styles-figure"),
    "tokens": ("autoregressive/discrete-tokens", "first-figure"),
    "paintings": ("applications/style-transfer", "wall-figure"),
    "larger": ("applications/super-resolution", "showpiece"),
    "words": ("applications/text-to-image", "first-look-code"),
    "sketches": ("applications/inpainting-and-editing", "sdedit-drawings"),
    "coloured": ("applications/image-translation", "showpiece"),
}
BOX, GAP, LINE = (150, 44), (46, 20), 15  # of the map, in pixels: size of a box, space between, height of a text line


def replay(name: str) -> np.ndarray:
    """Return a model's replay, ``(rows * TILE, shown * TILE, 3)``: a row is a moment of training, a column a vector."""
    sheet = np.array(Image.open(zoo.folder(name) / "replay.png").convert("RGB"))
    side = sheet.shape[1] // COLUMNS
    rows = sheet.reshape(-1, side, COLUMNS, side, 3).swapaxes(1, 2)[:, : SHOWN[name]]  # (rows, shown, side, side, 3)
    rows = rows.repeat(TILE // side, 2).repeat(TILE // side, 3)  # small pictures are enlarged
    margin = (TILE - rows.shape[2]) // 2
    ground = 0 if rows[-1].mean() < 128 else 255  # digits stand on black, emoji on white
    padding = ((0, 0), (0, 0), (margin, margin), (margin, margin), (0, 0))
    tiles = np.pad(rows, padding, constant_values=ground)
    return tiles[1:].swapaxes(1, 2).reshape(-1, SHOWN[name] * TILE, 3)  # the first row is grey like the second


def drawn() -> Image.Image:
    """Return the replays of digits and emoji beside each other, from the first steps above to pictures below."""
    left, right = map(replay, SHOWN)
    between = np.full((len(left), TILE // 2, 3), 255, np.uint8)
    page = Image.fromarray(np.concatenate([left, between, right], axis=1).astype(np.uint8))
    return page.quantize(192, dither=Image.Dither.NONE)


def figure(chapter: str, cell_id: str) -> tuple[str, bytes]:
    """Return the picture that a cell of a chapter shows: its format, ``"png"`` or ``"jpeg"``, and the file."""
    cells = read_notebook(ROOT / "notebooks" / f"{chapter}.ipynb").cells
    outputs = next(cell.outputs for cell in cells if cell.id == cell_id)
    shown = ((kind, o.data[f"image/{kind}"]) for o in outputs for kind in ("png", "jpeg") if f"image/{kind}" in o.get("data", {}))
    kind, text = next(shown)
    return kind, base64.b64decode(text)


def needs(path: Path) -> list[str]:
    """Return the names of the chapters that a chapter's "You need" line links to."""
    text = "\n".join(cell.source for cell in read_notebook(path).cells if cell.cell_type == "markdown")
    line = re.search(r"\*\*You need\*\*(.*)", text)
    return re.findall(r"\]\((?:[\w./-]*/)?([\w-]+)\.ipynb", line[1]) if line else []


def title(path: Path) -> str:
    """Return a chapter's title."""
    return re.search(r"^# (.+)$", read_notebook(path).cells[0].source, re.MULTILINE)[1]


def chapter_map() -> str:
    """Return the map as SVG: chapters as boxes, one column to the right of all that they need.

    Raises
    ------
    ValueError
        If a chapter needs one that comes after it in the table of contents, or one that is not there.
    """
    column: dict[str, int] = {}
    place: dict[str, tuple[int, int]] = {}
    titles: dict[str, str] = {}
    arrows: list[tuple[str, str]] = []
    for path in toc_notebooks():
        name, before = path.stem, needs(path)
        if missing := [other for other in before if other not in column]:
            raise ValueError(f"{name}: needs {', '.join(missing)}, which does not come before it")
        column[name] = 1 + max((column[other] for other in before), default=-1)
        place[name] = (column[name], sum(1 for other in column if column[other] == column[name]) - 1)
        titles[name] = title(path).partition(":")[0]
        arrows += [(other, name) for other in before]
    step_x, step_y = BOX[0] + GAP[0], BOX[1] + GAP[1]
    width = (1 + max(col for col, _ in place.values())) * step_x - GAP[0] + 2
    height = (1 + max(row for _, row in place.values())) * step_y - GAP[1] + 2
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        'font-family="system-ui, sans-serif" font-size="12.5" text-anchor="middle">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#56708f"/></marker></defs>',
    ]
    for start, end in arrows:
        x0, y0 = place[start][0] * step_x + BOX[0] + 1, place[start][1] * step_y + BOX[1] / 2 + 1
        x1, y1 = place[end][0] * step_x + 1, place[end][1] * step_y + BOX[1] / 2 + 1
        bend = GAP[0] * 0.8
        parts.append(
            f'<path d="M{x0:g} {y0:g}C{x0 + bend:g} {y0:g} {x1 - bend:g} {y1:g} {x1:g} {y1:g}" fill="none" '
            'stroke="#56708f" stroke-width="1.5" marker-end="url(#tip)"/>'
        )
    for name, (col, row) in place.items():
        x, y = col * step_x + 1, row * step_y + 1
        parts.append(f'<rect x="{x}" y="{y}" width="{BOX[0]}" height="{BOX[1]}" rx="7" fill="#eaf2fa" stroke="#0072b2"/>')
        lines = _wrapped(titles[name])
        top = y + BOX[1] / 2 - LINE * (len(lines) - 1) / 2 + 4
        for number, text in enumerate(lines):
            parts.append(f'<text x="{x + BOX[0] / 2:g}" y="{top + number * LINE:g}" fill="#12203a">{escape(text)}</text>')
    return "\n".join([*parts, "</svg>\n"])


def _wrapped(text: str, width: int = 21) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def main() -> None:
    drawn().save(STATIC / "drawn.png", optimize=True)
    for name, (chapter, cell) in FIGURES.items():
        kind, picture = figure(chapter, cell)
        (STATIC / f"front-{name}.{kind}").write_bytes(picture)
    (STATIC / "map.svg").write_text(chapter_map(), "utf-8")


if __name__ == "__main__":
    main()
