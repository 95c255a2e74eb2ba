"""The softmax over values: a distribution, and symbols drawn from it by the inverse of its distribution function."""

import itertools

import pytest
import torch
from torch import distributions
from torch.nn.functional import cross_entropy

from gencore.autoregressive import Categorical
from gencore.autoregressive.likelihoods import draw_categorical, nucleus
from gencore.networks.symbols import Grid

BELOW_ONE = 1 - 2.0**-24  # the largest number that is drawn in float32


def logits_of(*shape, seed=0, dtype=torch.float32):
    return 2 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def evenly(count):
    """Uniform numbers that leave no gaps, so that frequencies are probabilities."""
    return (torch.arange(count) + 0.5) / count


@pytest.mark.parametrize("channels", [1, 3])
def test_log_prob_is_that_of_pytorch(channels):
    params = logits_of(4, channels * 5, 2, 3)
    symbols = torch.randint(5, (4, channels, 2, 3), generator=torch.Generator().manual_seed(1))
    found = Categorical().log_prob(params, symbols)
    assert found.shape == (4, 2, 3)
    by_value = params.view(4, channels, 5, 2, 3).movedim(2, 1)  # (B, levels, C, H, W)
    torch.testing.assert_close(found, -cross_entropy(by_value, symbols, reduction="none").sum(1))
    torch.testing.assert_close(found, distributions.Categorical(logits=by_value.movedim(1, -1)).log_prob(symbols).sum(1))


@pytest.mark.parametrize("channels", [1, 3])
def test_probabilities_sum_to_one_and_are_those_of_log_prob(channels):
    params = logits_of(2, channels * 4, 3, 3)
    p = Categorical().probabilities(params, channels)
    assert p.shape == (2, channels, 4, 3, 3)
    torch.testing.assert_close(p.sum(2), torch.ones(2, channels, 3, 3))
    for values in itertools.product(range(4), repeat=channels):
        symbols = torch.tensor(values)[None, :, None, None].expand(2, -1, 3, 3)
        together = torch.stack([p[:, channel, value] for channel, value in enumerate(values)]).prod(0)
        torch.testing.assert_close(Categorical().log_prob(params, symbols).exp(), together)


def test_the_first_channels_logits_come_first():
    params = torch.zeros(1, 12)
    for channel, value in enumerate((2, 0, 3)):
        params[0, 4 * channel + value] = 50
    drawn = Categorical().draw(params, torch.full((1, 3), 0.5))
    assert drawn.tolist() == [[2, 0, 3]] and drawn.dtype == torch.int64
    assert Categorical().log_prob(params[..., None, None], drawn[..., None, None]).item() == pytest.approx(0, abs=1e-6)
    assert Categorical().probabilities(params, 3)[0].argmax(1).tolist() == [2, 0, 3]


def test_what_a_place_needs():
    colours, grey = Grid(4, channels=3, levels=5), Grid(4, levels=7)
    assert [Categorical().numbers(colours), Categorical().draws(colours), Categorical().rounds(colours)] == [15, 3, 3]
    assert [Categorical().numbers(grey), Categorical().draws(grey), Categorical().rounds(grey)] == [7, 1, 1]


@pytest.mark.parametrize("temperature", [1.0, 0.5, 3.0])
def test_values_are_drawn_as_often_as_they_are_probable(temperature):
    """Exactly, if uniform numbers leave no gaps; and each channel by its own number."""
    count, params = 20_000, logits_of(1, 3 * 6)
    u = torch.stack([evenly(count), evenly(count).flip(0), evenly(count).roll(7)], 1)
    drawn = Categorical().draw(params.expand(count, -1), u, temperature)
    p = (params.view(3, 6) / temperature).softmax(1)
    for channel in range(3):
        frequencies = drawn[:, channel].bincount(minlength=6) / count
        torch.testing.assert_close(frequencies, p[channel], atol=1.1 / count, rtol=0)
        assert (drawn[u[:, channel].argsort(), channel].diff() >= 0).all(), "not the inverse of the distribution function"


def test_random_numbers_give_the_distribution():
    u = torch.rand(40_000, 1, generator=torch.Generator().manual_seed(0))
    p = torch.tensor([0.1, 0.2, 0.3, 0.4])
    frequencies = Categorical().draw(p.log().expand(len(u), -1), u)[:, 0].bincount(minlength=4) / len(u)
    torch.testing.assert_close(frequencies, p, atol=4 * (0.25 / len(u)) ** 0.5, rtol=0)


@pytest.mark.parametrize("scale", [1.0, 8.0, 1 / 3])
def test_at_an_edge_the_upper_value_is_drawn(scale):
    """An interval holds its lower end: [0, 1/4) is 0, [1/4, 1/2) is 1, whatever the weights add up to."""
    weights = scale * torch.tensor([1.0, 1.0, 2.0])
    u = torch.tensor([0.0, 0.25 - 2.0**-26, 0.25, 0.5 - 2.0**-25, 0.5, BELOW_ONE])
    assert draw_categorical(weights.expand(6, -1), u).tolist() == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("weights", [[0, 0.5, 0, 0.5, 0], [0.0, 0, 1, 0, 0], [0.3, 0, 0, 0, 0], [0, 0, 0, 0, 1e-30]])
def test_what_is_impossible_is_never_drawn(weights):
    """Nor at the ends: 0 itself is a number that is drawn."""
    weights = torch.tensor(weights)
    u = torch.cat([torch.tensor([0.0, 2.0**-24, 0.5 - 2.0**-25, 0.5, 0.5 + 2.0**-24, BELOW_ONE]), evenly(1000)])
    drawn = draw_categorical(weights.expand(len(u), -1), u)
    assert set(drawn.tolist()) == set(weights.nonzero()[:, 0].tolist())


def test_impossible_logits_are_never_drawn():
    params = torch.tensor([[-torch.inf, 1.0, -torch.inf, 1.0, -torch.inf]])
    assert [Categorical().draw(params, torch.tensor([[u]])).item() for u in (0.0, 0.49, 0.51, BELOW_ONE)] == [1, 1, 3, 3]


def test_cold_takes_the_likeliest():
    params = logits_of(50, 2 * 6)
    for u in (0.0, 0.7, BELOW_ONE):
        drawn = Categorical().draw(params, torch.full((50, 2), u), temperature=0)
        assert torch.equal(drawn, params.view(50, 2, 6).argmax(2))
        assert torch.equal(Categorical().draw(params, torch.full((50, 2), u), temperature=1e-4), drawn)  # its limit


def test_the_nucleus_is_the_smallest_set_that_reaches_its_probability():
    """All subsets are tried; those kept stay as they are."""
    p = logits_of(20, 5).softmax(1)
    sets = [kept for size in range(1, 6) for kept in itertools.combinations(range(5), size)]
    for top_p in (0.01, 0.3, 0.5, 0.8, 0.95, 0.999):
        for row, found in zip(p, nucleus(p, top_p), strict=True):
            enough = [kept for kept in sets if row[list(kept)].sum() >= top_p]
            smallest = max(enough, key=lambda kept: (-len(kept), row[list(kept)].sum()))  # noqa: B023
            assert torch.equal(found, torch.where(torch.tensor([i in smallest for i in range(5)]), row, 0.0))


def test_a_nucleus_that_is_reached_exactly_takes_no_more():
    p = torch.tensor([[0.125, 0.5, 0.125, 0.25]])
    assert nucleus(p, 0.5).tolist() == [[0, 0.5, 0, 0]]
    assert nucleus(p, 0.75).tolist() == [[0, 0.5, 0, 0.25]]
    assert nucleus(p, 0.51).tolist() == [[0, 0.5, 0, 0.25]]


def test_draws_from_the_nucleus():
    """In their old proportions, after the temperature has been applied."""
    count, p = 1000, torch.tensor([0.1, 0.4, 0.2, 0.3])
    u = evenly(count)[:, None]
    drawn = Categorical().draw(p.log().expand(count, -1), u, top_p=0.6)[:, 0]
    torch.testing.assert_close(drawn.bincount(minlength=4) / count, torch.tensor([0, 4 / 7, 0, 3 / 7]), atol=2e-3, rtol=0)
    warm = Categorical().draw(p.log().expand(count, -1), u, temperature=1e4, top_p=0.6)[:, 0]  # all alike: three are needed
    assert len(warm.unique()) == 3
    everything, plainly = (Categorical().draw(p.log().expand(count, -1), u, **how) for how in (dict(top_p=1.0), {}))
    assert torch.equal(everything, plainly) and len(plainly.unique()) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_what_autocast_made_narrow_is_computed_in_float32(dtype):
    params = logits_of(3, 8, 2, 2).to(dtype)
    symbols = torch.randint(4, (3, 2, 2, 2), generator=torch.Generator().manual_seed(1))
    for found, exact in (
        (Categorical().log_prob(params, symbols), Categorical().log_prob(params.float(), symbols)),
        (Categorical().probabilities(params, 2), Categorical().probabilities(params.float(), 2)),
    ):
        assert found.dtype == torch.float32 and torch.equal(found, exact)
    many = torch.stack([evenly(999), evenly(999)], 1)
    place = params[:1, :, 0, 0].expand(999, -1)
    narrow, wide = (Categorical().draw(each, many, 0.7) for each in (place, place.float()))
    assert torch.equal(narrow, wide)


def test_float64_stays():
    params, symbols = logits_of(1, 4, 1, 1, dtype=torch.float64), torch.ones(1, 1, 1, 1, dtype=torch.int64)
    assert Categorical().log_prob(params, symbols).dtype == Categorical().probabilities(params).dtype == torch.float64
