"""The four processes against their papers' formulas, and what holds for each: Gaussians composed and inverted by Bayes."""

import math
from itertools import pairwise

import pytest
import torch

from gencore.diffusion import EDM, Cosine, Flow, Linear, add_noise
from gencore.diffusion.process import beside, log_snr, step_back
from gencore.errors import InputError
from tests.diffusion.exact import INSIDE, derivative, each_preserving, each_process, number, rand


def test_linear_is_the_papers_thousand_steps():
    """Ho et al. 2020, section 4; the logarithm of a product of 1 - beta has squares that an integral of beta lacks."""
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    log_alpha = 0.5 * torch.log1p(-beta).cumsum(0)
    ours = Linear().alpha(torch.arange(1, 1001, dtype=torch.float64) / 1000).log()
    squares = 0.25 * (beta**2).cumsum(0)
    cubes = (beta**3).cumsum(0) / 4  # bounds all that follows
    rounding = 0.0199 / 16  # of a sum for an integral: at most half of last - first, times an eighth of a step
    assert ((ours - log_alpha - squares).abs() <= cubes + rounding).all()
    assert ours[-1].exp().item() == pytest.approx(0.0066, abs=5e-5)
    assert squares[-1] > 10 * (cubes[-1] + rounding), "or else the bound would say nothing"


def test_cosine_is_the_papers():
    """Nichol & Dhariwal 2021, equation 17 with s = 0."""
    alpha_bar = torch.cos(INSIDE * math.pi / 2) ** 2
    torch.testing.assert_close(Cosine().alpha(INSIDE), alpha_bar.sqrt())
    torch.testing.assert_close(Cosine().sigma(INSIDE), (1 - alpha_bar).sqrt())


def test_flow_is_a_straight_line():
    """Lipman et al. 2023, equations 20 and 21, with time turned round and sigma_min 0."""
    x, eps = rand(25, 2), rand(25, 2, seed=1)
    torch.testing.assert_close(add_noise(Flow(), x, eps, INSIDE), x + INSIDE[:, None] * (eps - x))


def test_edm_is_the_papers():
    """Karras et al. 2022, equation 5, for 18 steps; theirs begins with the most noise."""
    i = torch.arange(18, dtype=torch.float64)
    sigma = (80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7
    torch.testing.assert_close(EDM().sigma(1 - i / 17), sigma)
    assert (EDM().alpha(INSIDE) == 1).all()
    assert EDM().sigma(number(0.0)).item() == pytest.approx(0.002)
    torch.testing.assert_close(EDM(1.0, 3.0, 1.0).sigma(INSIDE), 1 + 2 * INSIDE)


@each_preserving
def test_variance_is_preserved(process):
    t = torch.cat([INSIDE, torch.tensor([0.0, 1.0])])
    torch.testing.assert_close(process.alpha(t) ** 2 + process.sigma(t) ** 2, torch.ones_like(t))


@each_process
def test_from_data_to_noise(process):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert (log_snr(process, t).diff() < 0).all()
    torch.testing.assert_close(log_snr(process, INSIDE), (process.alpha(INSIDE) / process.sigma(INSIDE)).log())
    assert process.alpha(t[0]) == 1 and process.sigma(t[0]) < 0.0021


@pytest.mark.parametrize("process", [Cosine(), Flow()])
def test_at_the_ends_nothing_is_left_of_the_other(process):
    for dtype in (torch.float32, torch.float64):
        zero, one = torch.tensor([0.0, 1.0], dtype=dtype)
        assert process.alpha(one) == 0 and process.sigma(zero) == 0
        assert log_snr(process, one) == -torch.inf and log_snr(process, zero) == torch.inf


@each_process
def test_the_rates_are_the_derivatives(process):
    torch.testing.assert_close(process.sigma_rate(INSIDE), derivative(process.sigma, INSIDE))
    if not isinstance(process, EDM):
        torch.testing.assert_close(process.alpha_rate(INSIDE), derivative(process.alpha, INSIDE))
    step = 1e-6
    by_difference = (process.alpha(INSIDE + step) - process.alpha(INSIDE - step)) / (2 * step)
    torch.testing.assert_close(process.alpha_rate(INSIDE), by_difference, rtol=1e-6, atol=1e-8)


@each_process
def test_the_rates_at_the_ends(process):
    ends = number([0.0, 1.0])
    alpha, sigma = process.alpha_rate(ends), process.sigma_rate(ends)
    assert alpha.isfinite().all() and sigma[1].isfinite()
    assert sigma[0].isinf() == isinstance(process, Linear)


@each_process
def test_moments_of_noised_data(process):
    """Over the two signs of the noise, whose mean is 0 and whose variance is 1; each image has its own time."""
    x, eps = rand(25, 3, 2, 2), torch.ones(25, 3, 2, 2, dtype=torch.float64)
    high, low = add_noise(process, x, eps, INSIDE), add_noise(process, x, -eps, INSIDE)
    for i, t in enumerate(INSIDE):
        torch.testing.assert_close((high[i] + low[i]) / 2, process.alpha(t) * x[i])
        torch.testing.assert_close(((high[i] - low[i]) / 2) ** 2, (process.sigma(t) ** 2).expand(3, 2, 2))
    t = INSIDE[7]
    torch.testing.assert_close(add_noise(process, x, eps, t), add_noise(process, x, eps, t.expand(25)))


def one_step(process, s, t):
    """Factor and added variance of q(x_t | x_s), found from the rates by integration, not from `step_back`.

    From s to t, d log(mean) = alpha_rate / alpha dt, and the variance grows by what a stochastic equation with these rates
    adds (Song et al. 2021, equation 29): 2 sigma sigma_rate - 2 sigma^2 alpha_rate / alpha.
    """
    nodes = torch.linspace(0, 1, 2001, dtype=torch.float64)
    u = s + (t - s) * nodes
    weight = torch.ones_like(u)
    weight[1:-1:2], weight[2:-1:2] = 4, 2  # Simpson's rule
    weight = weight * (t - s) / 6000
    fade = process.alpha_rate(u) / process.alpha(u)
    left = process.alpha(t) / process.alpha(u)  # what is left at t of what was added at u
    growth = 2 * process.sigma(u) * process.sigma_rate(u) - 2 * process.sigma(u) ** 2 * fade
    return (weight * fade).sum().exp(), (weight * growth * left**2).sum()


@each_process
def test_composed_one_step_kernels_equal_the_marginal(process):
    times = torch.linspace(0.05, 0.95, 10, dtype=torch.float64)
    factor, variance = process.alpha(times[0]), process.sigma(times[0]) ** 2
    for s, t in pairwise(times):
        ratio, added = one_step(process, s, t)
        factor, variance = ratio * factor, ratio**2 * variance + added
        torch.testing.assert_close(factor, process.alpha(t), rtol=1e-6, atol=0)
        torch.testing.assert_close(variance, process.sigma(t) ** 2, rtol=1e-6, atol=0)


@each_process
def test_a_step_back_is_bayes_rule(process):
    """(DD.6): precisions of N(x_s; alpha x, sigma^2) and of N(x_t; ratio x_s, added), as a law of x_s, add up."""
    for s, t in [(0.05, 0.1), (0.3, 0.31), (0.2, 0.9), (0.5, 0.95)]:
        s, t = number(s), number(t)
        ratio, added = one_step(process, s, t)
        prior = 1 / process.sigma(s) ** 2
        variance = 1 / (prior + ratio**2 / added)
        found = step_back(process, t, s)
        expected = variance * ratio / added, variance * prior * process.alpha(s), variance
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@each_process
def test_steps_back_from_the_marginal_give_the_marginal(process):
    """Also from the very end, and to the very beginning."""
    times = torch.linspace(0, 1, 11, dtype=torch.float64)
    for s, t in [*pairwise(times), (times[0], times[-1]), (times[3], times[7])]:
        of_noised, of_clean, variance = step_back(process, t, s)
        torch.testing.assert_close(of_noised * process.alpha(t) + of_clean, process.alpha(s))
        torch.testing.assert_close(of_noised**2 * process.sigma(t) ** 2 + variance, process.sigma(s) ** 2)


def test_a_factor_stands_beside_images():
    assert beside(torch.ones(4), torch.zeros(4, 3, 2, 2)).shape == (4, 1, 1, 1)
    assert beside(torch.ones(4), torch.zeros(4)).shape == (4,)
    assert beside(torch.ones(()), torch.zeros(4, 3)).shape == ()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Linear(first=0.0), "first 0.0"),
        (lambda: Linear(first=2.0, last=1.0), "last 1.0"),
        (lambda: EDM(least=0.0), "least 0.0"),
        (lambda: EDM(least=2.0, most=1.0), "most 1.0"),
        (lambda: EDM(rho=0.0), "rho 0.0"),
    ],
)
def test_what_is_no_process_is_refused(make, field):
    with pytest.raises(InputError, match=field):
        make()
