"""The mixture of discretised logistics: it sums to one, is the paper's formula, and draws follow it."""

import math
from dataclasses import replace

import pytest
import torch

from gencore.autoregressive.likelihoods import LogisticMixture
from gencore.errors import InputError
from gencore.networks.symbols import Grid

EXTREMES = [(0.0, 0.0), (-3.0, -7.0), (1.0, -20.0), (0.5001, -5.0), (40.0, -7.0), (-1.0, 20.0), (-1e4, 3.0)]


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uniforms(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def params_of_one(logits, *kinds):
    """Parameters ``(1, P)`` of a place: each kind has a number for each component."""
    return torch.tensor([sum(map(list, (logits, *kinds)), [])], dtype=torch.float64)


def all_log_probs(mixture, params, channels):
    """The log-probability of each of a place's possible symbols, and these, ``(N, C)``."""
    symbols = torch.cartesian_prod(*[torch.arange(mixture.levels)] * channels).view(-1, channels)
    log_p = mixture.log_prob(params[:, :, None, None].expand(len(symbols), -1, 1, 1), symbols[:, :, None, None])
    return log_p[:, 0, 0], symbols


@pytest.mark.parametrize(("location", "log_scale"), EXTREMES)
@pytest.mark.parametrize("levels", [2, 5, 256])
def test_probabilities_of_all_levels_sum_to_one(location, log_scale, levels):
    params = params_of_one([0.3, -0.5], [location, 0.2], [log_scale, -2.0])
    log_p, _ = all_log_probs(LogisticMixture(2, levels), params, 1)
    assert log_p.isfinite().all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("location", "log_scale"), EXTREMES)
def test_probabilities_of_all_colours_sum_to_one(location, log_scale):
    middles = [[location, 0.2], [-0.4, location], [0.1, -0.1]]
    scales = [[log_scale, -1.0], [-2.0, log_scale], [-0.5, -1.5]]
    params = params_of_one([0.3, -0.5], *middles, *scales, [2.0, -0.3], [0.7, -1.0], [-0.2, 9.0])
    log_p, colours = all_log_probs(LogisticMixture(2, 4), params, 3)
    assert len(colours) == 64 and log_p.isfinite().all()
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-9)


def naive(params, symbols, components, levels):
    """Section 2.2 of the paper, place by place and component by component: differences of sigmoids."""
    numbers = [params[k : k + components] for k in range(0, len(params), components)]
    channels = len(symbols)
    pi, means, scales = numbers[0].softmax(0), numbers[1 : 1 + channels], numbers[1 + channels : 1 + 2 * channels]
    x = [2 * s / (levels - 1) - 1 for s in symbols.tolist()]
    total = 0
    for k in range(components):
        if channels == 3:
            alpha, beta, gamma = (math.tanh(c[k]) for c in numbers[7:])
            middles = [
                means[0][k],
                means[1][k] + alpha * x[0],
                means[2][k] + beta * x[0] + gamma * x[1],
            ]
        else:
            middles = [means[0][k]]
        p = pi[k]
        for value, middle, scale in zip(x, middles, scales, strict=True):
            upper = math.inf if value > 1 - 1e-9 else value + 1 / (levels - 1)
            lower = -math.inf if value < -1 + 1e-9 else value - 1 / (levels - 1)
            width = scale[k].exp()
            p = p * (torch.sigmoid((upper - middle) / width) - torch.sigmoid((lower - middle) / width))
        total = total + p
    return total.log()


@pytest.mark.parametrize(("channels", "levels"), [(1, 256), (3, 256), (1, 2), (3, 4)])
def test_log_prob_is_the_formula_of_the_paper(channels, levels):
    mixture = LogisticMixture(3, levels)
    grid = Grid(2, channels, levels)
    params = randn(4, mixture.numbers(grid), 2, 2)
    symbols = torch.randint(levels, (4, channels, 2, 2), generator=torch.Generator().manual_seed(1))
    symbols[0], symbols[1] = 0, levels - 1
    log_p = mixture.log_prob(params, symbols)
    assert log_p.shape == (4, 2, 2)
    for b in range(4):
        for r, c in ((0, 0), (0, 1), (1, 0), (1, 1)):
            expected = naive(params[b, :, r, c], symbols[b, :, r, c], 3, levels)
            torch.testing.assert_close(log_p[b, r, c], expected, rtol=1e-9, atol=1e-9)


def test_probabilities_are_those_of_log_prob():
    mixture, params = LogisticMixture(4, 16), randn(3, 12, 2, 5)
    p = mixture.probabilities(params)
    assert p.shape == (3, 1, 16, 2, 5)
    for level in (0, 7, 15):
        log_p = mixture.log_prob(params, torch.full((3, 1, 2, 5), level))
        torch.testing.assert_close(p[:, 0, level].log(), log_p)
    torch.testing.assert_close(mixture.probabilities(params[:, :, 1, 2]), p[..., 1, 2])
    with pytest.raises(InputError, match="one channel"):
        mixture.probabilities(randn(3, 40), 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_at_extremes(dtype):
    for location, log_scale in EXTREMES:
        for levels in (2, 256):
            params = params_of_one([0.0, 90.0], [location, 0.2], [log_scale, -2.0]).to(dtype)[:, :, None, None]
            params = params.expand(levels, -1, -1, -1).clone().requires_grad_()
            log_p = LogisticMixture(2, levels).log_prob(params, torch.arange(levels).view(-1, 1, 1, 1))
            log_p.sum().backward()
            assert log_p.isfinite().all() and params.grad.isfinite().all()
            assert params.grad.any()


@pytest.mark.parametrize("location", [0.3, -3e4])
def test_single_precision_is_near_double(location):
    """A narrow interval of a wide distribution is where a difference would lose its digits, the more so far out."""
    params = params_of_one([0.1], [location], [3.0])[:, :, None, None].expand(256, -1, -1, -1)
    symbols = torch.arange(256).view(-1, 1, 1, 1)
    exact = LogisticMixture(1).log_prob(params, symbols)
    single = LogisticMixture(1).log_prob(params.float(), symbols)
    torch.testing.assert_close(single.double(), exact, rtol=5e-6, atol=2e-5)
    assert LogisticMixture(1).log_prob(params.bfloat16(), symbols).dtype == torch.float32


def test_scales_are_cut():
    for given, cut in ((-20.0, -7.0), (20.0, 3.0)):
        p = [LogisticMixture(1).probabilities(params_of_one([0.0], [0.1], [log_scale])) for log_scale in (given, cut)]
        assert torch.equal(*p)


@pytest.mark.parametrize(("channels", "levels"), [(1, 8), (3, 3)])
def test_draws_follow_the_probabilities(channels, levels):
    mixture, count = LogisticMixture(2, levels), 60_000
    grid = Grid(2, channels, levels)
    params = randn(1, mixture.numbers(grid), seed=3)
    log_p, symbols = all_log_probs(mixture, params, channels)
    u = uniforms(count, mixture.draws(grid))
    drawn = mixture.draw(params.expand(count, -1), u)
    assert drawn.shape == (count, channels) and drawn.dtype == torch.int64
    index = torch.zeros(count, dtype=torch.int64)
    for channel in range(channels):
        index = index * levels + drawn[:, channel]
    expected = count * log_p.exp()
    observed = torch.bincount(index, minlength=len(symbols))
    degrees = len(symbols) - 1
    chi_square = ((observed - expected) ** 2 / expected).sum()
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)
    assert torch.equal(drawn[:50], mixture.draw(params.expand(50, -1), u[:50]))


def test_a_temperature_sharpens_components_and_scales():
    """At temperature T, draws are those of logits over T and scales times T; at 0, the likeliest middle."""
    mixture, count = LogisticMixture(2, 8), 2000
    params, u = params_of_one([0.4, 0.0], [-0.5, 0.6], [-1.5, -1.0]), uniforms(count, 2)
    sharper = params_of_one([0.8, 0.0], [-0.5, 0.6], [-1.5 + math.log(0.5), -1.0 + math.log(0.5)])
    many = params.expand(count, -1)
    assert torch.equal(mixture.draw(many, u, temperature=0.5), mixture.draw(sharper.expand(count, -1), u))
    assert not torch.equal(mixture.draw(many, u, temperature=0.5), mixture.draw(many, u))
    assert mixture.draw(many, u, temperature=0.0).unique().tolist() == [2]  # levels -1, -0.71, -0.43, ...
    extremes = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1 - 1e-16, 0.5]], dtype=torch.float64)
    assert mixture.draw(many[:3], extremes)[:2].flatten().tolist() == [0, 7]


def test_channels_are_tied_by_coefficients_only():
    """One component without coefficients: colours are independent. With them, green and blue follow, by their sign."""
    mixture = LogisticMixture(1, 4)

    def joint(*coefficients):
        params = params_of_one([0.0], [0.1], [-0.2], [0.3], [-1.0], [-1.2], [-0.9], *[[c] for c in coefficients])
        return all_log_probs(mixture, params, 3)[0].exp().view(4, 4, 4)  # red, green, blue

    def correlation(p, first, second):
        p = p.sum(3 - first - second)
        levels = torch.arange(4.0, dtype=torch.float64)
        means = (p.sum(1) * levels).sum(), (p.sum(0) * levels).sum()
        return ((levels[:, None] - means[0]) * (levels - means[1]) * p).sum().item()

    free = joint(0.0, 0.0, 0.0)
    product = free.sum((1, 2))[:, None, None] * free.sum((0, 2))[:, None] * free.sum((0, 1))
    torch.testing.assert_close(free, product)
    for sign in (1, -1):
        red_green, red_blue, green_blue = joint(sign, 0.0, 0.0), joint(0.0, sign, 0.0), joint(0.0, 0.0, sign)
        assert sign * correlation(red_green, 0, 1) > 0.1 and abs(correlation(red_green, 0, 2)) < 1e-9
        assert sign * correlation(red_blue, 0, 2) > 0.1 and abs(correlation(red_blue, 0, 1)) < 1e-9
        assert sign * correlation(green_blue, 1, 2) > 0.1 and abs(correlation(green_blue, 0, 2)) < 1e-9


def test_numbers_of_a_place():
    assert LogisticMixture(5).numbers(Grid(levels=256)) == 15
    assert LogisticMixture(10).numbers(Grid(channels=3, levels=256)) == 100  # the paper's
    assert [LogisticMixture().draws(Grid(channels=c)) for c in (1, 3)] == [2, 4]


def test_what_does_not_fit_is_refused():
    grid = Grid(levels=256)
    for wrong in (replace(grid, levels=16), replace(grid, channels=2), replace(grid, named=True)):
        with pytest.raises(InputError, match="this mixture is for amounts of 256 levels"):
            LogisticMixture().numbers(wrong)
    with pytest.raises(InputError, match="components 0"):
        LogisticMixture(0)
    with pytest.raises(InputError, match="levels 1"):
        LogisticMixture(levels=1)
    with pytest.raises(InputError, match="top_p 0.9"):
        LogisticMixture().draw(randn(2, 15), uniforms(2, 2), top_p=0.9)
