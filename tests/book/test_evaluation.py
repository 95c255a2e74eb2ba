"""The equations of the chapter on evaluation, each against an independent computation."""

import itertools
import math
from statistics import fmean

import numpy as np
import pytest
import torch
from scipy import linalg, stats

from gencore.metrics import density_coverage, frechet_distance, frechet_distance_of
from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "foundations/evaluation"


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def covariance(dimension, seed):
    rows = normal(3 * dimension, dimension, seed=seed)
    return rows.T @ rows / len(rows)


@equation("EV.1", r"d^2 = (\mu_1 - \mu_2)^2 + (\sigma_1 - \sigma_2)^2")
def test_frechet_distance_on_the_line():
    """(EV.1): the shortest way between sorted samples, which is the best plan on the line."""
    (frechet_1d,) = load(CHAPTER, "frechet_1d")
    quantiles = torch.from_numpy(stats.norm.ppf((np.arange(200_000) + 0.5) / 200_000))
    for mean1, sd1, mean2, sd2 in ((0, 1, 1, 1), (-1, 2, 3, 0.5), (0, 3, 0, 1)):
        way = ((mean1 + sd1 * quantiles) - (mean2 + sd2 * quantiles)).square().mean().item()
        assert frechet_1d(mean1, sd1, mean2, sd2) == pytest.approx(way, rel=1e-3)


@equation(
    "EV.2",
    r"""
    d^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\Sigma_1 + \operatorname{tr}\Sigma_2 - 2\sum_i s_i(R_2 R_1)
    """,
)
def test_frechet_distance():
    """(EV.2): by scipy's root of the product, and by gencore."""
    (frechet,) = load(CHAPTER, "frechet")
    mean1, mean2, cov1, cov2 = normal(5, seed=1), normal(5, seed=2), covariance(5, 3), covariance(5, 4)
    root_trace = np.trace(linalg.sqrtm((cov1 @ cov2).numpy())).real
    expected = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * root_trace
    assert frechet(mean1, cov1, mean2, cov2) == pytest.approx(expected.item(), rel=1e-10)
    assert frechet(mean1, cov1, mean2, cov2) == pytest.approx(frechet_distance(mean1, cov1, mean2, cov2), rel=1e-10)


def test_best_plan_arrives_and_is_the_shortest():
    """(EV.2): the plan turns one covariance into the other, and its mean squared way is the distance."""
    best_plan, frechet = load(CHAPTER, "best_plan", "frechet")
    mean1, mean2, cov1, cov2 = normal(4, seed=1), normal(4, seed=2), covariance(4, 3), covariance(4, 4)
    carry = best_plan(mean1, cov1, mean2, cov2)
    origin = carry(mean1[None])[0]
    matrix = (carry(mean1 + torch.eye(4, dtype=torch.float64)) - origin).T  # x - mean1 -> y - mean2
    torch.testing.assert_close(origin, mean2)
    torch.testing.assert_close(matrix @ cov1 @ matrix.T, cov2)
    moved = torch.eye(4, dtype=torch.float64) - matrix
    way = (mean1 - mean2).square().sum() + (moved @ cov1 @ moved.T).trace()
    assert way.item() == pytest.approx(frechet(mean1, cov1, mean2, cov2).item(), rel=1e-10)


@pytest.mark.parametrize("dimension, count", [(1, 300), (6, 400), (24, 800)])
@equation("EV.3", r"\mathbb E[\hat d^2] \approx \frac{2D}{N} + \frac{D(D+1)}{2N} = \frac{D(D+5)}{2N}")
def test_floor(dimension, count):
    """(EV.3), by simulation."""
    (floor_of_gaussians,) = load(CHAPTER, "floor_of_gaussians")
    pairs = normal(200, 2, count, dimension, seed=dimension)
    simulated = fmean(frechet_distance_of(a, b) for a, b in pairs)
    assert floor_of_gaussians(dimension, count) == pytest.approx(simulated, rel=0.15)


@equation("EV.4", r"\mathbb E[\hat d_N^2] \approx d_\infty^2 + \frac{c}{N}")
def test_extrapolation():
    """(EV.4): exact on distances that follow the law, and a least-squares line on others."""
    (extrapolate,) = load(CHAPTER, "extrapolate")
    sizes = [100, 200, 500, 1000]
    assert extrapolate(sizes, [3 + 50 / n for n in sizes]) == pytest.approx([3, 50])
    values = [3.4, 3.3, 3.0, 3.1]
    slope, intercept = np.polyfit([1 / n for n in sizes], values, 1)
    assert extrapolate(sizes, values) == pytest.approx([intercept, slope])


def third_order_moments(x):
    """Return the features of the cubic kernel: all products of three entries of (1, x / sqrt(D)), ``(N, (D + 1)^3)``."""
    x = torch.cat([torch.ones(len(x), 1, dtype=x.dtype), x / math.sqrt(x.shape[1])], 1)
    return torch.einsum("ni,nj,nk->nijk", x, x, x).flatten(1)


@equation(
    "EV.5",
    r"""
    \begin{aligned} \mathrm{MMD}^2 &= \|\mathbb E[\psi(a)] - \mathbb E[\psi(b)]\|^2 \\ &= \mathbb E[k(a, a')] +
    \mathbb E[k(b, b')] - 2\,\mathbb E[k(a, b)]. \end{aligned}
    """,
)
def test_kernel_distance_of_known_laws():
    """(EV.5): the squared distance between mean features, with the feature map written out."""
    (mmd2_of_laws,) = load(CHAPTER, "mmd2_of_laws")
    a, b = normal(5, 3, seed=1), normal(4, 3, seed=2) + 0.5
    weights_a, weights_b = normal(5, seed=3).softmax(0), normal(4, seed=4).softmax(0)
    gap = weights_a @ third_order_moments(a) - weights_b @ third_order_moments(b)
    assert mmd2_of_laws(a, weights_a, b, weights_b).item() == pytest.approx(gap.square().sum().item(), rel=1e-10)


@equation(
    "EV.6",
    r"""
    \begin{aligned} \widehat{\mathrm{MMD}}^2 ={}& \frac{1}{N(N-1)}\sum_{i\ne j} k(a_i, a_j) +
    \frac{1}{M(M-1)}\sum_{i\ne j} k(b_i, b_j) \\ &- \frac{2}{NM}\sum_{i,j} k(a_i, b_j). \end{aligned}
    """,
)
def test_kernel_distance_of_samples():
    """(EV.6), pair by pair."""
    (mmd2_of_samples,) = load(CHAPTER, "mmd2_of_samples")
    a, b = normal(6, 3, seed=1), normal(5, 3, seed=2) + 0.5

    def k(x, y):
        return (x @ y / 3 + 1).item() ** 3

    within_a = fmean(k(a[i], a[j]) for i in range(6) for j in range(6) if i != j)
    within_b = fmean(k(b[i], b[j]) for i in range(5) for j in range(5) if i != j)
    across = fmean(k(x, y) for x in a for y in b)
    assert mmd2_of_samples(a, b).item() == pytest.approx(within_a + within_b - 2 * across, rel=1e-10)


@equation("EV.7", r"\mathcal E = 2\,\mathbb E\|X - Y\| - \mathbb E\|X - X'\| - \mathbb E\|Y - Y'\|")
def test_energy_distance():
    """(EV.7), pair by pair."""
    (energy,) = load(CHAPTER, "energy")
    a, b = normal(7, 2, seed=1), normal(6, 2, seed=2) + 1

    def within(rows):
        return fmean((x - y).norm().item() for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j)

    across = fmean((x - y).norm().item() for x in a for y in b)
    assert energy(a, b).item() == pytest.approx(2 * across - within(a) - within(b), rel=1e-6)


@equation("EV.8", r"\mathcal E = 2\int \big(P(t) - Q(t)\big)^2\,dt \qquad (D = 1)")
def test_energy_distance_by_distribution_functions():
    """(EV.8): scipy's energy distance is the root of it, for two laws on a few points."""
    (energy_by_cdf,) = load(CHAPTER, "energy_by_cdf")
    a, b = np.array([0.0, 1.0, 1.5]), np.array([0.5, 2.0])
    t = torch.linspace(-1, 3, 400_001, dtype=torch.float64)
    cdf_a, cdf_b = (torch.from_numpy(points <= t.numpy()[:, None]).double().mean(1) for points in (a, b))
    assert energy_by_cdf(cdf_a, cdf_b, t).item() == pytest.approx(stats.energy_distance(a, b) ** 2, rel=1e-4)


@equation(
    "EV.9",
    r"""
    \text{precision} = \frac1M \sum_{j=1}^M \big[\,\|b_j - a_i\| \le r_i \text{ for at least one } i\,\big]
    """,
)
def test_precision_by_balls():
    """(EV.9), with radii and balls checked point by point."""
    radii, share_in_balls = load(CHAPTER, "radii", "share_in_balls")
    centres, points = normal(20, 2, seed=1), 1.5 * normal(30, 2, seed=2)
    reach = [sorted((c - other).norm().item() for other in centres)[3] for c in centres]  # first is the point itself
    assert radii(centres).tolist() == pytest.approx(reach)
    inside = [any((x - c).norm().item() <= r for c, r in zip(centres, reach)) for x in points]
    assert 0 < sum(inside) < len(points)
    assert share_in_balls(points, centres) == sum(inside) / len(points)


@equation("EV.10", r"\text{density} = \frac{1}{kM} \sum_{j=1}^M \sum_{i=1}^N \big[\,\|b_j - a_i\| \le r_i\,\big]")
@equation(
    "EV.11",
    r"""
    \text{coverage} = \frac1N \sum_{i=1}^N \big[\,\|b_j - a_i\| \le r_i \text{ for at least one } j\,\big]
    """,
)
def test_density_and_coverage():
    """(EV.10) and (EV.11), ball by ball, and by gencore."""
    (density_and_coverage,) = load(CHAPTER, "density_and_coverage")
    centres, points = normal(20, 2, seed=1), 1.5 * normal(30, 2, seed=2)
    reach = [sorted((c - other).norm().item() for other in centres)[5] for c in centres]  # first is the point itself
    balls = [sum((x - c).norm().item() <= r for x in points) for c, r in zip(centres, reach)]
    density, coverage = density_and_coverage(points, centres)
    assert density == pytest.approx(sum(balls) / (5 * 30))
    assert 0 < coverage < 1 and coverage == pytest.approx(fmean(count > 0 for count in balls))
    assert (density, coverage) == pytest.approx(density_coverage(points, centres))


@pytest.mark.parametrize("real_count, count, neighbours", [(2, 1, 1), (4, 3, 2), (5, 2, 3)])
@equation("EV.12", r"\mathbb E[\text{coverage}] = 1 - \prod_{l=1}^{k} \frac{N-l}{N+M-l}")
def test_expected_coverage(real_count, count, neighbours):
    """(EV.12), by listing which points, in the order of their distance from a real one, are real."""
    (expected_coverage,) = load(CHAPTER, "expected_coverage")
    others = real_count - 1
    orders = list(itertools.combinations(range(others + count), others))  # places that real points take
    empty = sum(set(range(neighbours)) <= set(places) for places in orders)
    assert expected_coverage(real_count, count, neighbours) == pytest.approx(1 - empty / len(orders))


@equation("EV.13", r"\mathrm{bpd} = -\frac{1}{D\log 2}\,\mathbb E_{x\sim p}\big[\log q(x)\big]")
def test_bits_per_dimension():
    """(EV.13): a fair coin costs one bit; by scipy's entropy for a model that is the truth."""
    (bits_per_dimension,) = load(CHAPTER, "bits_per_dimension")
    assert bits_per_dimension(torch.full((5,), 10 * math.log(0.5)), 10) == pytest.approx(1)
    shares = torch.tensor([0.5, 0.3, 0.2])
    data = torch.arange(3).repeat_interleave(torch.tensor([5, 3, 2]))
    assert bits_per_dimension(shares.log()[data], 2) == pytest.approx(stats.entropy([0.5, 0.3, 0.2], base=2) / 2)


@equation("EV.14", r"\mathrm{bpd}_{\text{mixture}} \le \mathrm{bpd}_q + \frac{\log_2 (1/\pi)}{D}")
def test_mixture_with_noise():
    """(EV.14): the bound holds for any model, and is reached where the noise is improbable."""
    bits_per_dimension, worst_rise = load(CHAPTER, "bits_per_dimension", "worst_rise")
    for gap in (0.0, 3.0, 50.0):  # by how many nats the model beats the noise
        model, noise = torch.full((4,), -20.0, dtype=torch.float64), torch.full((4,), -20.0 - gap, dtype=torch.float64)
        mixture = torch.logaddexp(model + math.log(0.01), noise + math.log(0.99))
        rise = bits_per_dimension(mixture, 30) - bits_per_dimension(model, 30)
        assert rise <= worst_rise(0.01, 30) + 1e-12
    assert rise == pytest.approx(worst_rise(0.01, 30), rel=1e-6)


@equation("EV.15", r"\mathrm{se} = \sqrt{\frac{\eta(1-\eta)}{n}}, \qquad n = \Big(\frac{1.96}{h}\Big)^2 \eta(1-\eta)")
def test_standard_error_and_answers_needed():
    """(EV.15), against scipy's binomial distribution."""
    standard_error, answers_needed = load(CHAPTER, "standard_error", "answers_needed")
    assert standard_error(0.3, 70) == pytest.approx(stats.binom(70, 0.3).std() / 70)
    n = answers_needed(0.6, 0.03)
    assert 1.96 * stats.binom(n, 0.6).std() / n <= 0.03 < 1.96 * stats.binom(n - 1, 0.6).std() / (n - 1)


@equation("EV.16", r"\operatorname{Var}(\hat\eta) = \frac{\eta(1-\eta)}{n}\,\big(1 + (m-1)\rho\big)")
def test_answers_of_the_same_people():
    """(EV.16): the spread of a beta-binomial distribution, one for each person."""
    (standard_error,) = load(CHAPTER, "standard_error")
    eta, rho, each, people = 0.55, 0.1, 20, 8
    person = stats.betabinom(each, eta * (1 / rho - 1), (1 - eta) * (1 / rho - 1))
    spread = math.sqrt(person.var() / people) / each
    assert standard_error(eta, people * each, each, rho) == pytest.approx(spread)


def test_power_is_that_of_the_binomial_test():
    (power,) = load(CHAPTER, "power")
    chance = sum(stats.binom.pmf(k, 50, 0.6) for k in range(51) if abs(k / 50 - 0.5) > 1.96 * math.sqrt(0.25 / 50))
    assert power(0.6, 50) == pytest.approx(chance)


def test_templates_are_a_density():
    """Probabilities of all black-and-white images of four pixels sum to one, and fitting raises the likelihood."""
    template_log_prob, fit_templates = load(CHAPTER, "template_log_prob", "fit_templates")
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    torch.manual_seed(0)
    data = torch.cat([images[[3, 12]].repeat(20, 1), images[:3]])

    def total(steps):
        torch.manual_seed(1)
        weights, templates = fit_templates(data, 3, steps)
        assert template_log_prob(images, weights, templates).logsumexp(1).exp().sum() == pytest.approx(1, abs=1e-5)
        return template_log_prob(data, weights, templates).logsumexp(1).mean()

    assert total(10) > total(1)
