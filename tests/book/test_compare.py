"""The measures by which notebooks are compared: what counts as the same, and what does not."""

import io
import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from PIL import Image

from tools.compare import LOOSE, STRICT, figure_difference, text_differences


@pytest.mark.parametrize(
    ("recorded", "now", "strictly", "loosely"),
    [
        ("loss 0.412", "loss 0.412", True, True),
        ("loss 0.412", "loss 0.430", True, True),
        ("loss 0.412", "loss 0.440", False, True),
        ("loss 0.412", "loss 0.612", False, False),
        ("loss 0.003", "loss 0.004", True, True),  # the last place is uncertain
        ("loss 0.003", "loss 0.0045", False, False),
        ("loss 0.3", "loss 0.39", False, True),  # as printed by .2g
        ("gap -0.001", "gap  0.000", True, True),
        ("gap 0.1", "gap -0.1", False, True),
        ("gap 0.5", "gap -0.5", False, False),
        ("10 classes", "9 classes", False, True),
        ("10 classes", "7 classes", False, False),
        ("1,234 images", "1,235 images", True, True),
        ("1,234 images", "1,434 images", False, True),
        ("rounding 3.1e-08", "rounding 8.8e-09", True, True),
        ("rate 1.0e-03", "rate 2.0e-03", False, False),
        ("a 0.5 b", "a 0.5 c", False, False),
        ("conv2d", "conv3d", False, False),
        ("version 1.2.3", "version 1.2.4", False, False),
        ("at 0x7f3a", "at 0x7f3b", False, False),
        ("nan", "0.5", False, False),
        ("0.5", "nan", False, False),
        ("0.5 0.5", "0.5", False, False),
        ("one\ntwo", "one", False, False),
    ],
)
def test_text(recorded, now, strictly, loosely):
    assert (not text_differences(recorded, now, STRICT)) == strictly
    assert (not text_differences(recorded, now, LOOSE)) == loosely
    assert (not text_differences(recorded, now, None)) == (recorded == now)


def test_text_between_the_numbers():
    assert not text_differences("loss 0.4", "loss 9.9", LOOSE, numbers=False)
    assert text_differences("loss 0.4", "gain 0.4", LOOSE, numbers=False)


def test_the_message_names_the_line_and_both_values():
    assert text_differences("a\nloss 0.40", "a\nloss 0.80", STRICT) == [
        "line 2: recorded 0.40, now 0.80 (100.0% off) in 'loss 0.80'"
    ]


def drawn(y, **how) -> bytes:
    how = {"color": "C0", "linewidth": 1.5} | how
    figure, ax = plt.subplots(figsize=(6, 3.5))
    ax.plot(np.linspace(0, 1, 200), y, **how)
    ax.set_ylim(-1, 1)
    return saved(figure)


def saved(figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, dpi=100, bbox_inches="tight")
    plt.close(figure)
    return file.getvalue()


def png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def noise(seed: int, side: int = 28) -> np.ndarray:
    """A grid of 4 x 4 images of noise, each pixel twice as large."""
    pixels = np.random.default_rng(seed).normal(128, 64, (4 * side, 4 * side)).clip(0, 255).astype(np.uint8)
    return np.kron(pixels, np.ones((2, 2), np.uint8))


X = np.linspace(0, 1, 200)
Y = np.exp(-4 * X) * np.cos(9 * X)


def one_image_swapped() -> bytes:
    pixels = noise(0)
    pixels[56:112, 112:168] = noise(1)[56:112, 112:168]
    return png(pixels)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: drawn(Y), lambda: drawn(Y)),
        (lambda: drawn(Y), lambda: drawn(1.01 * Y)),
        (lambda: drawn(Y), lambda: drawn(Y, antialiased=False)),
        (lambda: drawn(Y), lambda: drawn(Y + 0.004 * np.random.default_rng(0).normal(size=200))),
        (lambda: png(noise(0)), lambda: png((noise(0) + 3.0 * (noise(1) > 128)).clip(0, 255).astype(np.uint8))),
    ],
    ids=["drawn again", "1 % drift", "antialiasing", "noise of 0.2 % of the axis", "3 grey levels here and there"],
)
def test_the_same_figure_scores_far_below_the_limit(one, other):
    assert figure_difference(one(), other()).score < STRICT.figure / 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda: drawn(Y), lambda: drawn(Y[::-1])),
        (lambda: drawn(0.04 * X - 0.02), lambda: drawn(0.02 - 0.04 * X)),
        (lambda: drawn(Y, linewidth=0.5), lambda: drawn(Y[::-1], linewidth=0.5)),
        (lambda: drawn(Y), lambda: drawn(1.06 * Y)),
        (lambda: drawn(Y), lambda: drawn(Y, color="C1")),
        (lambda: drawn(Y), lambda: drawn(Y + 9)),
        (lambda: png(noise(0)), lambda: png(noise(1))),
        (lambda: png(noise(0)), one_image_swapped),
    ],
    ids="reversed, gentle slope reversed, thin and reversed, drift, colour, no curve, samples, one sample".split(", "),
)
def test_another_figure_scores_far_above_the_limit(one, other):
    a, b = one(), other()
    assert figure_difference(a, b).score > 2 * STRICT.figure
    assert figure_difference(b, a).score == pytest.approx(figure_difference(a, b).score)


def test_a_pale_hairline_is_seen():
    thin = dict(linewidth=0.5, color="0.8")
    assert figure_difference(drawn(Y, **thin), drawn(Y[::-1], **thin)).score > STRICT.figure


def test_figures_of_slightly_different_size_are_aligned():
    a = noise(0)
    wider = np.pad(a, ((0, 0), (4, 0)), constant_values=255)
    assert figure_difference(png(a), png(wider)).score == 0
    assert figure_difference(png(wider), png(a)).score == 0
    assert figure_difference(png(a), png(np.pad(noise(1), ((0, 0), (4, 0))))).score > STRICT.figure
    assert math.isinf(figure_difference(png(a), png(np.pad(a, ((0, 0), (20, 0))))).score)


def test_the_place_and_the_pictures():
    a = np.full((100, 120), 255, np.uint8)
    b = a.copy()
    b[40:60, 80:100] = 0
    result = figure_difference(png(a), png(b))
    left, top = result.place
    assert 78 <= left <= 84 and 38 <= top <= 44 and result.score == 100
    assert result.panels.size == (3 * 120 + 2 * 10, 100)
    marked = np.asarray(result.panels)[:, 260:]
    assert (marked[45:55, 85:95] == 0).all() and (marked[:30] == 255).all()


def test_transparency_is_white():
    clear = np.zeros((50, 50, 4), np.uint8)
    assert figure_difference(png(clear), png(np.full((50, 50), 255, np.uint8))).score == 0
