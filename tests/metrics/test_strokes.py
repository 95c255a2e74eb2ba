"""Slant and width: strokes whose numbers are known, a plain restatement, digits that are sheared and stretched."""

import math

import pytest
import torch

from gencore.data import Digits
from gencore.errors import InputError
from gencore.metrics import slant, width


def stroke(lean, thick, height=11, size=60):
    """A bar of so many pixels, pushed to the right by ``lean`` pixels a row upwards; fractions shade the pixels."""
    image = torch.zeros(size, size, dtype=torch.float64)
    for row in range(height):
        place = 20 + lean * (height - 1 - row)
        left, share = math.floor(place), place - math.floor(place)
        for column in range(left, left + thick):
            image[15 + row, column] += 255 * (1 - share)
            image[15 + row, column + 1] += 255 * share
    return image.round().to(torch.uint8)[None, None]


def plain(image):
    """Moments by loops over pixels, then the two numbers from their definitions."""
    pixels = [(r, c, v) for r, line in enumerate(image.tolist()) for c, v in enumerate(line)]
    total = sum(v for _, _, v in pixels)
    row, column = (sum(v * place[k] for *place, v in pixels) / total for k in (0, 1))
    down = sum(v * (r - row) ** 2 for r, _, v in pixels) / total
    across = sum(v * (c - column) ** 2 for _, c, v in pixels) / total
    both = sum(v * (r - row) * (c - column) for r, c, v in pixels) / total
    return -both / down, math.sqrt(across - both**2 / down)


@pytest.mark.parametrize("lean", [0, 1, -1, 2, -0.4])
@pytest.mark.parametrize("thick", [1, 2, 5])
def test_bars_lean_as_drawn(lean, thick):
    """The slant is the bar's. Its width is that of the bar, and of the shading where the bar lies between pixels."""
    if lean == -0.4:  # fifths of 255 are whole numbers: nothing is rounded
        shares = [(0.4 * row) % 1 for row in range(11)]
        shading = sum(share * (1 - share) for share in shares) / 11
    else:
        shading = 0
    image = stroke(lean, thick)
    assert slant(image).item() == pytest.approx(lean, abs=1e-9)
    assert width(image).item() == pytest.approx(math.sqrt((thick**2 - 1) / 12 + shading), abs=1e-6)


def test_equals_a_plain_restatement():
    images = Digits().load("heldout").images[:5]
    found = torch.stack([slant(images), width(images)], 1)
    for image, numbers in zip(images, found, strict=True):
        assert numbers.tolist() == pytest.approx(plain(image[0]), abs=1e-9)


def test_shear_and_stretch_of_digits():
    """A shear by whole pixels a row adds to the slant and leaves the width; doubled columns double both."""
    digits = Digits().load("heldout").images[:20]
    room = torch.nn.functional.pad(digits, (28, 28))  # (20, 1, 28, 84)
    sheared = torch.stack([room[:, :, row].roll(27 - row, -1) for row in range(28)], 2)
    torch.testing.assert_close(slant(sheared), slant(digits) + 1)
    torch.testing.assert_close(width(sheared), width(digits))
    doubled = digits.repeat_interleave(2, 3)
    torch.testing.assert_close(slant(doubled), 2 * slant(digits))
    # Each pixel has become two, half a pixel to each side of where its double stands.
    torch.testing.assert_close(width(doubled), (4 * width(digits).square() + 0.25).sqrt())


def test_place_mirror_and_brightness():
    digits = Digits().load("heldout").images[:20] // 2
    torch.testing.assert_close(slant(digits.flip(3)), -slant(digits))
    torch.testing.assert_close(width(digits.flip(3)), width(digits))
    moved = torch.nn.functional.pad(digits, (7, 0, 3, 5))
    torch.testing.assert_close(slant(moved), slant(digits))
    torch.testing.assert_close(width(moved), width(digits))
    torch.testing.assert_close(slant(2 * digits), slant(digits))
    torch.testing.assert_close(width(2 * digits), width(digits))


def test_no_height_no_slant():
    """Nothing drawn, and all in one row: no number, and no huge one by rounding."""
    images = torch.zeros(9, 1, 8, 8, dtype=torch.uint8)
    for row in range(8):
        images[1 + row, 0, row, 1:7] = torch.tensor([3, 71, 205, 90, 41, 7])
    for numbers in (slant(images), width(images)):
        assert numbers.isnan().all()
    images[:, 0, 2:4, 5] = 10
    for numbers in (slant(images), width(images)):
        assert numbers.isfinite().all()


@pytest.mark.parametrize("number", [slant, width])
def test_bad_input_is_named(number):
    with pytest.raises(InputError, match="images: 3 channels, but strokes"):
        number(torch.zeros(2, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(InputError, match="images: expected uint8"):
        number(torch.zeros(2, 1, 8, 8))
