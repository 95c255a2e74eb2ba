"""Likelihoods of diffusion models: held to densities and entropies that are known; probabilities sum to one."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from gencore.analytic import GaussianMixture, IdealDenoiser
from gencore.diffusion.likelihood import (
    LEVEL,
    bits_per_dimension,
    dequantise,
    log_density,
    log_levels,
    variational_bound,
)
from gencore.diffusion.process import EDM, Cosine, Flow, Linear
from gencore.diffusion.samplers import ancestral, even_times
from gencore.errors import InputError

LEVELS = 2 * torch.arange(256, dtype=torch.float64) / 255 - 1
PROCESSES = [Linear(), Cosine(), Flow(), EDM()]
named = pytest.mark.parametrize("process", PROCESSES, ids=lambda p: type(p).__name__)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mixture(d):
    """Two components that are neither round nor alike."""
    a = 0.4 * rand(2, d, d, seed=3)
    spread = a @ a.mT + 0.2 * torch.eye(d, dtype=torch.float64)
    return GaussianMixture(torch.tensor([0.3, 0.7], dtype=torch.float64), rand(2, d, seed=4), spread)


def exact(p, process):
    return lambda x_t, t: p.denoise(process.alpha(t), process.sigma(t), x_t)


def at(p, process, t):
    """The law of data at a time."""
    t = torch.as_tensor(t, dtype=torch.float64)
    return p.noised(process.alpha(t), process.sigma(t))


def every_draw(nodes=3):
    """Two independent standard normal numbers on a grid that integrates polynomials, and each pair's probability."""
    point, weight = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(nodes))
    weight = weight / weight.sum()
    return point.repeat_interleave(nodes)[:, None], point.repeat(nodes)[:, None], torch.outer(weight, weight).flatten()


@named
@pytest.mark.parametrize("d", [1, 2])
def test_density_is_that_of_the_mixture(process, d):
    """The error falls with the square of the steps, as Heun's must; without it, the mixture's density is left.

    At t = 1 the law is the noised mixture's own, which is not normal for all processes.
    """
    p, last, found = mixture(d), 0.05, []
    x = p.sample(6, torch.Generator().manual_seed(1))
    expected = at(p, process, last).log_prob(x)
    for steps in (40, 80, 160):
        times = even_times(steps, last=last)
        found.append(log_density(exact(p, process), process, times, x, prior=at(p, process, 1.0).log_prob))
    assert found[0].dtype == torch.float64 and found[0].shape == (6,)
    errors = [(each - expected).abs().mean().item() for each in found]
    assert errors[-1] < 0.005
    for more, less in pairwise(errors):
        assert 1.7 < math.log2(more / less) < 2.3
    torch.testing.assert_close((4 * found[2] - found[1]) / 3, expected, rtol=0, atol=1e-3)  # Richardson


@pytest.mark.parametrize("process", [Cosine(), Flow()], ids=lambda p: type(p).__name__)
def test_the_law_of_noise_is_normal_if_nothing_else_is_said(process):
    p, x, times = mixture(2), rand(6, 2, seed=1), even_times(50, last=0.05)
    plain = log_density(exact(p, process), process, times, x)
    law = at(p, process, 1.0)
    torch.testing.assert_close(plain, log_density(exact(p, process), process, times, x, prior=law.log_prob))


def test_the_law_of_noise_is_as_wide_as_the_noise():
    p, x, process, times = mixture(2), rand(6, 2, seed=1), EDM(), even_times(50)
    wide = GaussianMixture(torch.ones(1).double(), torch.zeros(1, 2).double(), 80**2 * torch.eye(2)[None].double())
    found = log_density(exact(p, process), process, times, x)
    torch.testing.assert_close(found, log_density(exact(p, process), process, times, x, prior=wide.log_prob))


def test_all_signs_together_are_exact():
    """The mean over all four pairs of signs is the trace, for each step and hence for the whole way."""
    p, process, times, x = mixture(2), Flow(), even_times(10, last=0.1), rand(6, 2, seed=1)
    signs = torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)[:, None].expand(-1, 6, -1)
    traced = log_density(exact(p, process), process, times, x)
    torch.testing.assert_close(log_density(exact(p, process), process, times, x, signs), traced)
    singles = torch.stack([log_density(exact(p, process), process, times, x, signs[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(singles.mean(0), traced)
    assert ((singles - traced).abs().max(0).values > 0.05).any()  # one pair alone is off


def test_pictures_of_any_shape_and_format():
    p, process, times = mixture(4), Flow(), even_times(10, last=0.1)
    flat = rand(3, 4, seed=1)

    def denoise(x_t, t):
        return exact(p, process)(x_t.flatten(1).double(), t.double()).view_as(x_t).to(x_t)

    expected = log_density(exact(p, process), process, times, flat)
    with torch.inference_mode():
        found = log_density(denoise, process, times, flat.float().view(3, 1, 2, 2), torch.ones(1, 3, 1, 2, 2))
        traced = log_density(denoise, process, times, flat.float().view(3, 1, 2, 2))
    assert found.dtype == torch.float32 and found.isfinite().all() and not found.requires_grad
    torch.testing.assert_close(traced.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("times", "message"),
    [
        (torch.tensor([1.0, 0.5, 0.0]), "no noise"),
        (torch.tensor([0.1, 0.5, 1.0]), "fall"),
        (torch.tensor([1.0]), "fall"),
    ],
)
def test_times_that_lead_nowhere_are_refused(times, message):
    with pytest.raises(InputError, match=message):
        log_density(lambda x_t, t: x_t, Flow(), times, torch.zeros(1, 2))


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.37, 0.0, 0.5001, 1.0, 2.0])
@pytest.mark.parametrize("std", [1e-6, 1e-3, 0.03, 1.0, 100.0])
def test_levels_sum_to_one(mean, std):
    log_probs = log_levels(LEVELS, torch.tensor(mean).double(), torch.tensor(std).double())
    assert not log_probs.isnan().any()
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("mean", "std"), [(-1.02, 0.1), (-0.4, 0.2), (0.0, 1.0), (0.71, 0.02), (1.1, 0.05)])
def test_a_level_is_a_difference_of_distribution_functions(mean, std):
    """Plainly: at the upper edge minus at the lower one; the outermost intervals have no outer edge."""
    upper, lower = LEVELS + 1 / 255, LEVELS - 1 / 255
    upper[-1], lower[0] = math.inf, -math.inf
    law = Normal(torch.tensor(mean).double(), torch.tensor(std).double())
    probs = law.cdf(upper) - law.cdf(lower)
    some = probs > 1e-8  # where the difference is still exact
    assert some.sum() > 10
    torch.testing.assert_close(log_levels(LEVELS, law.mean, law.stddev)[some].exp(), probs[some], rtol=1e-6, atol=0)


def test_levels_far_from_the_mean_are_alike_on_both_sides():
    """Thousands of standard deviations away, in float32: finite, and the same left and right."""
    x, std = torch.tensor([-0.5, 0.5]) * 254 / 255 + torch.tensor([-1, 1]) / 510, torch.tensor(1e-4)
    found = log_levels(x, torch.zeros(2), std)
    assert found.dtype == torch.float32 and found.isfinite().all() and (found < -1e6).all()
    torch.testing.assert_close(found[0], found[1])


def test_levels_in_float32_are_as_good_as_in_float64():
    """A level's interval is then a ten-thousandth of the width, and its edges differ in the last digits."""
    x, mean, std = LEVELS.float(), torch.tensor(0.3), torch.tensor(80.0)
    found, expected = log_levels(x, mean, std), log_levels(x.double(), mean.double(), std.double())
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=0)


def test_dequantised_levels_lie_in_their_intervals():
    u = torch.rand(256, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    spread = dequantise(LEVELS, u)
    assert torch.equal(((spread + 1) / LEVEL).round().long(), torch.arange(256))
    assert spread.std() > 0 and (spread != LEVELS).all()
    half = torch.full((256,), 0.5, dtype=torch.float64)
    torch.testing.assert_close(dequantise(LEVELS, half), LEVELS)


def test_bits_of_a_model_that_knows_nothing():
    """Eight for each value, by the density of dequantised levels and by the probability of levels."""
    nats = 784 * torch.tensor(math.log(256 * 2 / 255))  # even over all 256 intervals
    assert bits_per_dimension(nats, 784).item() == pytest.approx(8)
    assert bits_per_dimension(784 * torch.tensor(math.log(256)), 784, width=1).item() == pytest.approx(8)


def test_dequantising_bounds_the_levels_from_below():
    """A density's mean over an interval, in logarithms, stays below that of the interval's probability (Jensen)."""
    law, u = Normal(0.1, 0.01), (torch.arange(1000, dtype=torch.float64)[:, None] + 0.5) / 1000
    some = LEVELS[138:144]  # about the mean
    density = bits_per_dimension(-law.log_prob(dequantise(some, u)).mean(0), 1)
    levels = bits_per_dimension(-log_levels(some, law.mean.double(), law.stddev.double()), 1, width=1)
    assert (density > levels).all() and (density < levels + 0.5).all()


@pytest.mark.parametrize("steps", [2, 5, 50])
@pytest.mark.parametrize("process", [Linear(), Cosine()], ids=lambda p: type(p).__name__)
def test_the_expected_bound_is_the_entropy_of_normal_data(process, steps):
    """With the exact denoiser, unit variance kept and variance "forward", each step of the sampler is the truth.

    The expectation is exact (polynomials of degree 2). Left is what `Linear` keeps of the data at t = 1: below 1e-8.
    """
    x, eps, probability = every_draw()
    bound = variational_bound(
        lambda x_t, t: process.alpha(t) * x_t, process, even_times(steps), x, lambda step: eps, "forward", "density"
    )
    entropy = 0.5 * math.log(2 * math.pi * math.e)
    assert (probability * bound.total).sum().item() == pytest.approx(entropy, abs=1e-8)


def test_in_grey_levels_the_bound_is_that_of_the_density_but_for_their_width():
    """Log of the width for each value, and what a density bends within a level: less than 1e-4 of it at this noise."""
    x, process, times, draws = LEVELS[20:236].view(36, 6), Cosine(), even_times(5), rand(5, 36, 6)
    found = {
        decoder: variational_bound(
            lambda x_t, t: process.alpha(t) * x_t, process, times, x, lambda step: draws[step], "forward", decoder
        ).total
        for decoder in ("levels", "density")
    }
    torch.testing.assert_close(found["levels"], found["density"] - 6 * math.log(2 / 255), rtol=0, atol=6e-4)


@pytest.mark.parametrize(("process", "bend"), [(Cosine(), 2), (Flow(), 2), (Linear(), 3), (EDM(), 2)])
def test_with_the_ideal_denoiser_the_bound_falls_to_the_entropy(process, bend):
    """Four grey levels, equally likely: log 4 nats. Twice the steps halve what is too much."""
    data = torch.tensor([-1.0, -51 / 255, 51 / 255, 1.0], dtype=torch.float64)[:, None]
    point, weight = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(60))
    x, eps = data.repeat_interleave(60, 0), point.repeat(4)[:, None]
    probability = (weight / weight.sum()).repeat(4) / 4
    above = []
    for steps in (100, 200, 400):
        times = even_times(steps, bend=bend)
        bound = variational_bound(exact(IdealDenoiser(data), process), process, times, x, lambda step: eps)
        above.append((probability * bound.total).sum().item() - math.log(4))
    assert 0 < above[2] < 0.05
    for more, less in pairwise(above):
        assert 0.45 < less / more < 0.53


def test_one_picture_costs_nothing():
    """Variance "posterior" is right for a single picture: only what `Linear` still shows of it at t = 1 is paid."""
    x, process = LEVELS[[0, 77, 200, 255]].view(1, 1, 2, 2), Linear()
    draws, times = rand(100, 1, 1, 2, 2), even_times(100, bend=3)
    bound = variational_bound(lambda x_t, t: x, process, times, x, lambda step: draws[step])
    left = process.alpha(times[0]) ** 2 / process.sigma(times[0]) ** 2
    torch.testing.assert_close(bound.prior, 0.5 * left * x.square().sum().view(1))
    torch.testing.assert_close(bound.steps, torch.zeros(99, 1, dtype=torch.float64), rtol=0, atol=1e-12)
    assert 0 <= bound.decoder < 1e-9
    paid = variational_bound(lambda x_t, t: x, process, times, x, lambda step: draws[step], "forward")
    assert paid.total > 1


@pytest.mark.parametrize("variance", ["posterior", "forward"])
@named
def test_the_bound_is_what_the_definition_says(process, variance):
    """Divergences by torch.distributions; q by Bayes' rule; moments of p from what the sampler does."""
    x, times = LEVELS[torch.tensor([[3, 99, 130], [7, 255, 0]])], even_times(4, bend=2)
    draws = rand(4, 2, 3, seed=5)

    def denoise(x_t, t):
        return torch.tanh(x_t + t)

    found = variational_bound(denoise, process, times, x, lambda step: draws[step], variance)
    assert found.prior.shape == found.decoder.shape == found.total.shape == (2,) and found.steps.shape == (3, 2)
    alpha, sigma = process.alpha(times), process.sigma(times)
    start = Normal(alpha[0] * x, sigma[0]), Normal(torch.zeros(2, 3).double(), sigma[0])
    torch.testing.assert_close(found.prior, kl_divergence(*start).sum(1))
    for i in range(4):
        x_t, pair = alpha[i] * x + sigma[i] * draws[i], times[i : i + 2]
        if i < 3:
            mean = ancestral(denoise, process, pair, x_t, lambda step: torch.zeros(2, 3), variance)
            ratio = alpha[i] / alpha[i + 1]
            added = sigma[i] ** 2 - (ratio * sigma[i + 1]) ** 2
            precision = 1 / sigma[i + 1] ** 2 + ratio**2 / added  # of x_s given x, and of x_t given x_s
            middle = (alpha[i + 1] * x / sigma[i + 1] ** 2 + ratio * x_t / added) / precision
            ours = ancestral(denoise, process, pair, x_t, lambda step: torch.ones(2, 3), variance) - mean
            q, p = Normal(middle, precision**-0.5), Normal(mean, ours)
            torch.testing.assert_close(found.steps[i], kl_divergence(q, p).sum(1))
        elif variance == "forward":
            ours = sigma[3]
    clean = denoise(x_t, times[3])
    torch.testing.assert_close(found.decoder, -log_levels(x, clean, ours).sum(1))
    density = variational_bound(denoise, process, times, x, lambda step: draws[step], variance, "density")
    torch.testing.assert_close(density.decoder, -Normal(clean, ours).log_prob(x).sum(1))
    torch.testing.assert_close(found.total, found.prior + found.steps.sum(0) + found.decoder)


@pytest.mark.parametrize("times", [torch.tensor([1.0, 0.5, 0.1]), torch.tensor([1.0, 0.0])])
def test_a_bound_needs_steps_down_to_the_data(times):
    with pytest.raises(InputError, match="down to 0"):
        variational_bound(lambda x_t, t: x_t, Flow(), times, torch.zeros(1, 2), lambda step: torch.zeros(1, 2))
