"""Pixels become symbols, and symbols the same pixels."""

import pytest
import torch

from gencore.autoregressive import Pixels
from gencore.data import to_float
from gencore.errors import InputError

each_kind = pytest.mark.parametrize(
    ("levels", "block", "channels"),
    [(2, 1, 1), (2, 1, 3), (2, 2, 1), (2, 2, 3), (2, 3, 1), (2, 4, 1)]
    + [(4, 1, 1), (4, 2, 3), (16, 2, 1), (256, 1, 1), (256, 1, 3)],
)


def whole_numbers(below, *shape):
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(below))


@each_kind
def test_symbols_come_back(levels, block, channels):
    pixels = Pixels(levels, block)
    symbols = whole_numbers(pixels.values, 6, channels, 4, 3)
    symbols[0, 0, 0, :2] = torch.tensor([0, pixels.values - 1])
    x = pixels.read(symbols)
    assert x.shape == (6, channels, 4 * block, 3 * block) and x.dtype == torch.float32
    assert (x[0, 0, :block, :block] == -1).all() and (x[0, 0, :block, block : 2 * block] == 1).all()
    assert x.abs().max() <= 1 and len(x.unique()) <= levels
    assert pixels.write(x).dtype == torch.int64 and torch.equal(pixels.write(x), symbols)


@each_kind
def test_pixels_come_back(levels, block, channels):
    pixels, x = Pixels(levels, block), whole_numbers(levels, 6, channels, 4 * block, 3 * block) * (2 / (levels - 1)) - 1
    torch.testing.assert_close(pixels.read(pixels.write(x)), x, atol=1e-6, rtol=0)


def test_each_byte_is_a_level():
    images = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(Pixels().write(to_float(images)), images.long())


def test_a_level_counts_by_its_place_in_the_square():
    """Row by row, the first counts once; no channel looks at another."""
    for levels, block in ((2, 2), (3, 2), (2, 3)):
        level = whole_numbers(levels, 2, 3, 2 * block, 3 * block)
        found = Pixels(levels, block).write(level * (2 / (levels - 1)) - 1)
        expected = torch.zeros_like(found)
        for row in range(2 * block):
            for column in range(3 * block):
                worth = levels ** (row % block * block + column % block)
                expected[:, :, row // block, column // block] += worth * level[:, :, row, column]
        assert torch.equal(found, expected)
    square = torch.tensor([[1.0, -1.0], [-1.0, -1.0]])
    rolled = [square.roll(by, (0, 1))[None, None] for by in ((0, 0), (0, 1), (1, 0), (1, 1))]
    assert [Pixels(2, 2).write(x).item() for x in rolled] == [1, 2, 4, 8]


def test_a_pixel_gets_the_nearest_level():
    x = torch.tensor([-1.0, -0.7, -0.6, -0.1, 0.1, 0.6, 0.7, 1.0])[None, None, None]
    assert Pixels(4).write(x).flatten().tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert Pixels(2).write(x).flatten().tolist() == [0, 0, 0, 0, 1, 1, 1, 1]


def test_how_many_values():
    found = [Pixels(*sizes).values for sizes in ((), (2,), (2, 2), (4, 2), (2, 4))]
    assert found == [256, 2, 16, 256, 65_536]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((1,), "^levels 1:"),
        ((0,), "^levels 0:"),
        ((257,), "^levels 257:"),
        ((2, 0), "^block 0:"),
        ((2, -1), "^block -1:"),
        ((256, 2), "^block 2:.*at most 65,536"),
        ((3, 4), "^block 4:.*at most 65,536"),
        ((2, 5), "^block 5:"),
        ((2, 200), "^block 200:"),  # more symbols than can be printed
        ((2, 10**9), "^block 1000000000:"),  # nor counted
    ],
)
def test_what_is_no_alphabet_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        Pixels(*fields)
