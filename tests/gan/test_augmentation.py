"""Each change by hand, and what all of them must leave alone."""

import pytest
import torch

from gencore.errors import InputError
from gencore.gan.augmentation import NUMBERS, Augmentation

COLOUR, SHIFT, HOLE = (Augmentation(**{"colour": 0.0, "shift": 0.0, "hole": 0.0} | each) for each in (
    dict(colour=1.0), dict(shift=0.25), dict(hole=0.5)
))


def numbers(colour=(0.5, 0.5, 0.5), shift=(0.5, 0.5), hole=(0.5, 0.5)):
    """What one picture takes; 0.5 changes no colour and shifts nothing."""
    return torch.tensor([[*colour, *shift, *hole]])


def pictures(count=3, channels=3, height=8, width=8):
    return 2 * torch.rand(count, channels, height, width, generator=torch.Generator().manual_seed(0)) - 1


def draw(count=3, seed=0):
    return torch.rand(count, NUMBERS, generator=torch.Generator().manual_seed(seed))


def test_no_strength_changes_nothing():
    assert torch.equal(Augmentation(colour=0, shift=0, hole=0)(pictures(), draw()), pictures())


def test_the_middle_of_all_numbers_changes_no_colour():
    torch.testing.assert_close(COLOUR(pictures(1), numbers()), pictures(1))


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("u", [0.0, 0.3, 0.9])
def test_colours_by_hand(strength, u):
    x, change = pictures(1), Augmentation(colour=strength, shift=0.0, hole=0.0)
    brighter = change(x, numbers(colour=(u, 0.5, 0.5)))
    torch.testing.assert_close(brighter, x + strength * (u - 0.5))  # up to a quarter of the range from -1 to 1
    grey = (x[:, :1] + x[:, 1:2] + x[:, 2:]) / 3  # of each place
    more_colourful = change(x, numbers(colour=(0.5, u, 0.5)))
    torch.testing.assert_close(more_colourful - grey, (1 + strength * (2 * u - 1)) * (x - grey))
    level = x.sum() / x.numel()  # of the whole picture
    stronger = change(x, numbers(colour=(0.5, 0.5, u)))
    torch.testing.assert_close(stronger - level, (1 + strength * (u - 0.5)) * (x - level))


def test_all_colours_together():
    x = pictures(1)
    grey = x.mean(1, keepdim=True)
    by_hand = 1.2 * (1.6 * (x - grey) + grey - x.mean()) + x.mean() - 0.4
    torch.testing.assert_close(COLOUR(x, numbers(colour=(0.1, 0.8, 0.7))), by_hand)


def test_grey_pictures_have_no_saturation():
    x = pictures(channels=1)
    torch.testing.assert_close(COLOUR(x, numbers(colour=(0.5, 0.1, 0.5)).expand(3, -1)), x)


TO_UP, TO_STAY, TO_DOWN = [1, 2, 3, 3], [0, 1, 2, 3], [0, 0, 1, 2]  # where four rows come from, the edge repeated


@pytest.mark.parametrize("down, rows", [(0.0, TO_UP), (0.32, TO_UP), (0.34, TO_STAY), (0.66, TO_STAY), (0.67, TO_DOWN)])
@pytest.mark.parametrize("right, columns", [(0.1, TO_UP), (0.5, TO_STAY), (0.99, TO_DOWN)])
def test_shifts_by_hand(down, rows, right, columns):
    x = torch.arange(16.0).view(1, 1, 4, 4)
    shifted = SHIFT(x, numbers(shift=(down, right)))
    assert torch.equal(shifted, x[:, :, rows][:, :, :, columns])


def test_a_shift_is_a_share_of_each_side():
    x = pictures(1, height=4, width=16)
    shifted = SHIFT(x, numbers(shift=(0.999, 0.999)))  # by 1 and by 4
    assert torch.equal(shifted[:, :, 1:, 4:], x[:, :, :-1, :-4])
    assert torch.equal(shifted[:, :, 0, 4:], x[:, :, 0, :-4]) and torch.equal(shifted[:, :, 1:, 0], x[:, :, :-1, 0])


def test_every_shift_is_as_likely():
    """Of a line from 0 to 15, the shift is what its middle lacks."""
    x = torch.arange(16.0).expand(900, 1, 16, 16)
    u = torch.zeros(900, NUMBERS)
    u[:, 4] = (torch.arange(900) + 0.5) / 900
    found = 8 - SHIFT(x, u)[:, 0, 0, 8]
    assert found.unique(return_counts=True)[0].tolist() == [-4, -3, -2, -1, 0, 1, 2, 3, 4]
    assert found.unique(return_counts=True)[1].tolist() == [100] * 9


@pytest.mark.parametrize(
    "height, width, middle, rows, columns",
    [
        (8, 8, (0.5, 0.5), (2, 6), (2, 6)),  # half of each side, round its middle
        (8, 8, (0.5, 0.49), (2, 6), (1, 5)),
        (8, 8, (0.0, 0.999), (0, 2), (5, 8)),  # cut off where the picture ends
        (8, 4, (0.5, 0.5), (2, 6), (1, 3)),
        (6, 7, (0.5, 0.0), (2, 5), (0, 2)),  # 3 of 6, and 4 of 7, since 3.5 is rounded
        (14, 14, (0.5, 0.5), (4, 11), (4, 11)),
    ],
)
def test_holes_by_hand(height, width, middle, rows, columns):
    expected = torch.ones(1, 3, height, width)
    expected[:, :, rows[0] : rows[1], columns[0] : columns[1]] = 0  # grey
    assert torch.equal(HOLE(torch.ones(1, 3, height, width), numbers(hole=middle)), expected)
    x = pictures(1, height=height, width=width)
    assert torch.equal(HOLE(x, numbers(hole=middle)), x * expected)


def test_gradients_pass():
    x, u = pictures(2, height=4, width=4).double().requires_grad_(), draw(2)
    assert torch.autograd.gradcheck(lambda x: Augmentation(shift=0.25)(x, u), (x,))
    (slope,) = torch.autograd.grad(HOLE(x, u).sum(), x)
    assert torch.equal(slope, HOLE(torch.ones_like(x), u))  # what lies under the hole is not asked for


def test_a_picture_depends_on_its_own_numbers_and_on_no_other_picture():
    change, x, u = Augmentation(), pictures(), draw()
    before, other_numbers, other_picture = change(x, u), u.clone(), x.clone()
    other_numbers[1], other_picture[1] = draw(seed=1)[1], -x[1]
    for after in (change(x, other_numbers), change(other_picture, u)):
        assert torch.equal(after[[0, 2]], before[[0, 2]]) and not torch.equal(after[1], before[1])
    for picture in range(3):
        alone = change(x[picture : picture + 1], u[picture : picture + 1])
        torch.testing.assert_close(alone[0], before[picture])
    for number in range(NUMBERS):  # each of the seven does something
        other_numbers = torch.where(torch.arange(NUMBERS) == number, (u + 0.5) % 1, u)
        assert not torch.equal(change(x, other_numbers), before), number


@pytest.mark.parametrize("last", [0.0, 0.9999])
def test_places_are_the_same_in_half_precision(last):
    """0.9999 is 1 in bfloat16, and would shift, or dig, beyond the picture's edge."""
    x = torch.arange(256.0).view(1, 1, 16, 16)  # whole numbers that bfloat16 can hold
    change, u = Augmentation(colour=0.0, shift=0.25, hole=0.25), numbers(shift=(last, last), hole=(last, last))
    changed = change(x.bfloat16(), u)
    assert changed.dtype == torch.bfloat16 and torch.equal(changed.float(), change(x, u))
    assert Augmentation()(x.bfloat16(), u).dtype == torch.bfloat16


@pytest.mark.parametrize("field", ["colour", "shift", "hole"])
@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_strengths_out_of_range_are_refused(field, value):
    with pytest.raises(InputError, match=f"augmentation.{field} is {value}; it lies between 0 and 1"):
        Augmentation(**{field: value})
