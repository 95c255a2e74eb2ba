"""Draw the book's mark, ``static/logo.svg``: 12 x 12 pixels, pure noise on the left, a ring on the right.

Run it from anywhere: ``python book/web/draw_logo.py``.
"""

import math
import random
from pathlib import Path

N = 12  # pixels a side
RING = 0.62  # radius of the ring, in half-widths of the image
WIDTH = 0.17  # its softness
INK, PAPER = (18, 32, 58), (255, 196, 84)  # the colours of values 0 and 1


def ring(row: int, column: int) -> float:
    """Return the clean picture's value in [0, 1] at a pixel."""
    y, x = ((2 * i + 1) / N - 1 for i in (row, column))
    return math.exp(-(((math.hypot(x, y) - RING) / WIDTH) ** 2))


def main() -> None:
    draw = random.Random(3)
    squares = []
    for row in range(N):
        for column in range(N):
            noise = draw.random()
            t = max(0.0, 1 - column / (0.6 * N))  # 1 is noise, 0 is the picture
            value = t * noise + (1 - t) * ring(row, column)
            colour = "".join(f"{round(a + value * (b - a)):02x}" for a, b in zip(INK, PAPER))
            squares.append(f'<path fill="#{colour}" d="M{column} {row}h1v1h-1z"/>')
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {N} {N}" width="96" height="96">\n'
        f'<clipPath id="plate"><rect width="{N}" height="{N}" rx="2"/></clipPath>\n'
        '<g clip-path="url(#plate)" shape-rendering="crispEdges">\n' + "\n".join(squares) + "\n</g>\n</svg>\n"
    )
    (Path(__file__).parent / "static" / "logo.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
