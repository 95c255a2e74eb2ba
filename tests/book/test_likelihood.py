r"""The equations of the chapter on likelihood, held to independent computations."""

import math

import pytest
import torch
from torch.distributions import Categorical, LogNormal, MixtureSameFamily, Normal, kl_divergence
from torch.func import jacrev, vmap

from gencore.analytic.mixture import GaussianMixture
from gencore.data import toys
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "foundations/likelihood"

pytestmark = pytest.mark.usefixtures("double_precision")


@equation("LI.1", r"\mathrm{se}\big(\hat h_N\big) = \sqrt{\frac{v}{N}}")
def test_standard_error_is_the_spread_of_repeated_means():
    """(LI.1)."""
    (monte_carlo,) = load(CHAPTER, "monte_carlo")
    means, errors = monte_carlo(1 + 3 * torch.randn(20_000, 25))
    close(means.mean(), 1.0, atol=0.02)
    close(means.std(), 3 / math.sqrt(25), atol=0.01)
    close(errors.square().mean(), means.var(), rtol=0.03)


@equation("LI.2", r"P(x_1, \dots, x_D) = \prod_{i=1}^{D} P(x_i \mid x_1, \dots, x_{i-1})")
def test_chain_rule_gives_the_table_back():
    """(LI.2), with conditionals by brute force over the rows of a random table."""
    conditionals, product, draw = load(CHAPTER, "conditionals", "product", "draw_pixel_by_pixel")
    table = torch.rand(2, 3, 2, 2)
    table /= table.sum()
    parts = conditionals(table)
    close(product(parts), table)
    for a in range(2):
        for b in range(3):
            close(parts[1][a, b], table[a, b].sum() / table[a].sum())
            close(parts[3][a, b, 1], table[a, b, 1] / table[a, b, 1].sum())
    drawn = draw(parts, 40_000)
    place = drawn @ torch.tensor([12, 4, 2, 1])
    close(torch.bincount(place, minlength=24) / len(drawn), table.flatten(), atol=0.01)


@equation("LI.3", r"P(y \mid x) = \frac{P(x \mid y)\,P(y)}{P(x)}, \qquad P(x) = \sum_{y'} P(x \mid y')\,P(y')")
def test_bayes_rule_is_the_mixture_posterior():
    """(LI.3)."""
    (bayes,) = load(CHAPTER, "bayes")
    weights, means = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([[-1.0], [0.5], [2.0]])
    mixture = GaussianMixture(weights, means, 0.49 * torch.ones(3, 1, 1))
    x = torch.tensor([0.8])
    likelihood = Normal(means[:, 0], 0.7).log_prob(x).exp()
    close(bayes(weights, likelihood), mixture.posterior(x))


@equation("LI.4", r"\mathbb E[\log X] \;\le\; \log \mathbb E[X]")
def test_jensen_gap():
    """(LI.4): the gap of a log-normal number is half the variance of its logarithm; no gap is negative."""
    (jensen_gap,) = load(CHAPTER, "jensen_gap")
    close(jensen_gap((0.8 * torch.randn(2_000_000)).exp()), 0.32, atol=0.005)
    assert all(jensen_gap(torch.rand(7) + 0.01) > 0 for _ in range(100))


@equation(
    "LI.5",
    r"""
    \mathrm{KL}(p\,\|\,q) = \mathbb E_{x\sim p}\big[\log p(x) - \log q(x)\big] = \int p(x)
    \log\frac{p(x)}{q(x)}\,dx
    """,
)
def test_kl_is_that_of_torch_distributions():
    """(LI.5)."""
    (kl,) = load(CHAPTER, "kl")
    x = torch.linspace(-30, 30, 20_001)
    p, q = Normal(0.3, 1.2), Normal(-1.0, 2.0)
    close(kl(p.log_prob(x), q.log_prob(x), x), kl_divergence(p, q))
    close(kl(q.log_prob(x), p.log_prob(x), x), kl_divergence(q, p))


@equation("LI.6", r"\mathrm{JSD}(p, q) = \tfrac12\,\mathrm{KL}(p\,\|\,m) + \tfrac12\,\mathrm{KL}(q\,\|\,m)")
def test_jsd_is_entropy_of_the_mixture_minus_mean_entropy():
    """(LI.6), by H(m) - (H(p) + H(q)) / 2; symmetric, and log 2 for densities that do not meet."""
    (jsd,) = load(CHAPTER, "jsd")
    x = torch.linspace(-40, 40, 40_001)
    p, q = Normal(0.3, 1.2), Normal(-1.0, 2.0)
    m = (p.log_prob(x).exp() + q.log_prob(x).exp()) / 2
    expected = torch.trapezoid(-torch.xlogy(m, m), x) - (p.entropy() + q.entropy()) / 2
    close(jsd(p.log_prob(x), q.log_prob(x), x), expected)
    close(jsd(q.log_prob(x), p.log_prob(x), x), expected)
    close(jsd(Normal(-20.0, 1.0).log_prob(x), Normal(20.0, 1.0).log_prob(x), x), math.log(2))


@equation("LI.7", r"\mu = \sum_k \pi_k \mu_k, \qquad \sigma^2 = \sum_k \pi_k\big(\sigma_k^2 + \mu_k^2\big) - \mu^2")
def test_matched_moments_minimise_the_forward_divergence():
    """(LI.7), against torch.distributions and against neighbours."""
    match_moments, kl = load(CHAPTER, "match_moments", "kl")
    weights, means, stds = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([-1.0, 0.5, 3.0]), torch.tensor([0.4, 1.0, 0.7])
    p = MixtureSameFamily(Categorical(weights), Normal(means, stds))
    mean, std = match_moments(weights, means, stds)
    close(mean, p.mean)
    close(std, p.stddev)
    x = torch.linspace(-15, 15, 8001)
    best = kl(p.log_prob(x), Normal(mean, std).log_prob(x), x)
    for shift, stretch in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert kl(p.log_prob(x), Normal(mean + shift, std + stretch).log_prob(x), x) > best


@equation(
    "LI.8",
    r"""
    \mathrm{KL}(p\,\|\,q_\theta) = \underbrace{\mathbb E_{x\sim p}\big[-\log
    q_\theta(x)\big]}_{\text{cross-entropy}} - \underbrace{\mathbb E_{x\sim p}\big[-\log p(x)\big]}_{\text{entropy
    } H(p)}
    """,
)
def test_kl_is_cross_entropy_minus_entropy():
    """(LI.8)."""
    kl_from_entropies, cross_entropy = load(CHAPTER, "kl_from_entropies", "cross_entropy")
    x = torch.linspace(-30, 30, 20_001)
    p, q = Normal(0.3, 1.2), Normal(-1.0, 2.0)
    close(kl_from_entropies(p.log_prob(x), q.log_prob(x), x), kl_divergence(p, q))
    close(cross_entropy(p.log_prob(x), p.log_prob(x), x), p.entropy())


@equation("LI.9", r"\log p(x) = \log p_z\big(f(x)\big) + \log\Big|\det \frac{\partial f}{\partial x}(x)\Big|")
def test_change_of_variables_on_the_line():
    """(LI.9), against torch.distributions, for an increasing and a decreasing function."""
    pushed_log_prob, to_noise = load(CHAPTER, "pushed_log_prob", "to_noise")
    x = torch.linspace(0.05, 8, 100)
    close(pushed_log_prob(lambda x: (x.log() - 0.3) / 0.7, x), LogNormal(0.3, 0.7).log_prob(x))
    close(pushed_log_prob(lambda x: (1 - x) / 2, x), Normal(1.0, 2.0).log_prob(x))
    mixture = toys.two_gaussians(3.0, 0.8, 0.3, dtype=torch.float64)
    x = torch.linspace(-4, 4, 100)
    close(pushed_log_prob(lambda x: to_noise(x, mixture), x), mixture.log_prob(x[:, None]), atol=1e-7)


def moved(module, scale=0.5):
    """Give every parameter a random value, so that no layer is the identity."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    return module


@equation(
    "LI.10",
    r"""
    y_1 = x_1, \quad y_2 = x_2\, e^{a(x_1)} + b(x_1), \quad \log\Big|\det\frac{\partial y}{\partial x}\Big| =
    \textstyle\sum_i a_i(x_1)
    """,
)
@pytest.mark.parametrize("kept", [0, 1])
def test_coupling_layer(kept):
    """(LI.10): log-determinant by autograd, inverse by going there and back, and the kept coordinate kept."""
    (coupling,) = load(CHAPTER, "Coupling")
    layer, x = moved(coupling(kept=kept)), torch.randn(20, 2)
    y, log_det = layer(x)
    jacobian = vmap(jacrev(lambda point: layer(point[None])[0][0]))(x)
    close(log_det, torch.linalg.slogdet(jacobian).logabsdet)
    assert log_det.abs().min() > 1e-3
    close(layer.inverse(y), x)
    close(y[:, kept], x[:, kept], atol=0.0)


def test_density_of_a_flow():
    """(LI.9) in the plane: normal density at the image times the determinant that autograd finds; integral 1."""
    (flow_class,) = load(CHAPTER, "Flow")
    flow, x = moved(flow_class(layers=4), 0.15), torch.randn(20, 2)
    image = vmap(lambda point: flow(point[None])[0][0])(x)
    jacobian = vmap(jacrev(lambda point: flow(point[None])[0][0]))(x)
    expected = -image.square().sum(1) / 2 - math.log(2 * math.pi) + torch.linalg.det(jacobian).abs().log()
    close(flow.log_prob(x), expected)
    side = torch.linspace(-15, 15, 1001)
    with torch.no_grad():
        mass = flow.log_prob(torch.cartesian_prod(side, side)).exp().sum() * (side[1] - side[0]) ** 2
    close(mass, 1.0, atol=1e-3)


@equation(
    "LI.11",
    r"""
    \mathbb E_{u\sim\mathcal U[0,1)^D}\big[\log q(l + u)\big] \;\le\; \log \int_{[0,1)^D} q(l+u)\,du = \log Q(l)
    """,
)
def test_dequantisation_bounds_the_mass_of_a_level():
    """(LI.11): the right side against the distribution function, the left against E[(l + u - m)^2] by hand."""
    (dequantised,) = load(CHAPTER, "dequantised")
    q, levels = Normal(1.3, 0.9), torch.arange(4.0)
    bound, log_mass = dequantised(q.log_prob, levels, points=2000)
    close(log_mass, (q.cdf(levels + 1) - q.cdf(levels)).log(), atol=1e-6)
    square = (levels + 0.5 - 1.3) ** 2 + 1 / 12  # mean of (l + u - m)^2 over u: uniform noise has variance 1/12
    close(bound, -square / (2 * 0.81) - math.log(0.9) - math.log(2 * math.pi) / 2, atol=1e-6)
    assert (bound < log_mass - 1e-3).all()


@equation("LI.12", r"\text{bits per dimension} = -\frac{\mathbb E\big[\log q(l + u)\big]}{D \log 2}")
def test_bits_per_dimension_do_not_depend_on_the_unit():
    """(LI.12): the same model in units of one level, and of values in [-1, 1]."""
    (bits_per_dimension,) = load(CHAPTER, "bits_per_dimension")
    v = 255 * torch.rand(10, 12)  # levels plus noise
    in_levels = -Normal(100.0, 40.0).log_prob(v).sum(1).mean()
    in_unit = -Normal(100 / 127.5 - 1, 40 / 127.5).log_prob(v / 127.5 - 1).sum(1).mean()
    close(bits_per_dimension(in_levels, 12, level=1.0), in_levels / 12 / math.log(2))
    close(bits_per_dimension(in_unit, 12), in_levels / 12 / math.log(2))


@equation(
    "LI.13",
    r"""
    \nabla_x \log p(x) = \frac{\sum_k \pi_k \nabla \mathcal N_k(x)}{p(x)} = \sum_k P(k \mid x)\; \frac{\mu_k -
    x}{\sigma_k^2}
    """,
)
def test_score_of_a_mixture():
    """(LI.13), against autograd and against gencore."""
    (mixture_score,) = load(CHAPTER, "mixture_score")
    ring = toys.ring(5, 2.0, 0.7, dtype=torch.float64)
    weights = torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25])
    mixture = GaussianMixture(weights, ring.means, ring.covariances)
    x = torch.randn(50, 2).requires_grad_()
    (expected,) = torch.autograd.grad(mixture.log_prob(x).sum(), x)
    found = mixture_score(x.detach(), weights, ring.means, 0.7)
    close(found, expected)
    close(found, mixture.score(x.detach()))


@equation(
    "LI.14",
    r"""
    x \;\leftarrow\; x + \eta\,\nabla_x \log p(x) + \sqrt{2\eta}\,\varepsilon, \qquad \varepsilon \sim \mathcal
    N(0, I)
    """,
)
def test_a_langevin_step():
    """(LI.14): mean and variance of one step."""
    (langevin,) = load(CHAPTER, "langevin")
    x = torch.full((400_000, 1), 0.7)
    after = langevin(lambda x: torch.cos(x), x, 0.3, 1)
    close(after.mean(), 0.7 + 0.3 * math.cos(0.7), atol=0.005)
    close(after.var(), 0.6, atol=0.01)


@equation("LI.15", r"v_\eta = \frac{\sigma^2}{1 - \eta/(2\sigma^2)}")
def test_langevin_variance_is_what_a_step_keeps():
    """(LI.15): the fixed point of v -> (1 - step / std^2)^2 v + 2 step, and what sampling shows."""
    langevin_variance, langevin = load(CHAPTER, "langevin_variance", "langevin")
    v = 1.0
    for _ in range(500):
        v = (1 - 0.8 / 1.44) ** 2 * v + 2 * 0.8
    close(langevin_variance(0.8, 1.2), v)
    drawn = langevin(toys.gaussian(std=1.2, dtype=torch.float64).score, torch.zeros(100_000, 1), 0.8, 40)
    close(drawn.var(), v, rtol=0.02)


@equation("LI.16", r"p_s(x) = \sum_k \pi_k\,\mathcal N\big(x;\, \mu_k,\, \Sigma_k + s^2 I\big)")
def test_annealing_follows_the_noised_mixture():
    """(LI.16): its density against a numerical convolution; weights and variance of the samples."""
    (annealed_langevin,) = load(CHAPTER, "annealed_langevin")
    p = toys.two_gaussians(8.0, 0.5, 0.8, dtype=torch.float64)
    x, shift = torch.linspace(-7, 7, 15), torch.linspace(-6, 6, 4001)
    log_product = p.log_prob((x[:, None] - shift)[..., None]) + Normal(0.0, 0.9).log_prob(shift)  # (15, 4001)
    convolved = torch.trapezoid(log_product.exp(), shift)
    close(p.noised(1.0, 0.9).log_prob(x[:, None]).exp(), convolved)

    levels = [5 * (0.4 / 5) ** (i / 19) for i in range(20)]
    stages = list(annealed_langevin(p, 5 * torch.randn(4000, 1), levels, steps=20))
    assert [s for s, _ in stages] == levels
    left = stages[-1][1] < 0
    close(left.double().mean(), 0.8, atol=0.03)
    close(stages[-1][1][left].var(), 0.5**2 + 0.4**2, rtol=0.2)
