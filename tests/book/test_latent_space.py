r"""The equations of the chapter on the latent space, held to independent computations."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch.distributions import Bernoulli, Chi2, MultivariateNormal, Normal, kl_divergence

from gencore.analytic import LinearGaussian
from gencore.metrics import mutual_information_gap
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "vae/latent-space"

pytestmark = pytest.mark.usefixtures("double_precision")


@equation("LS.1", r"\mathcal L_\beta = D + \beta R")
def test_loss_is_distortion_and_rate_at_its_price():
    """(LS.1), for the linear VAE by its closed form: noise and data enter by their second moments."""
    priced, linear_vae = load(CHAPTER, "priced", "LinearVAE")
    linear, sigmas = linear_vae(2), torch.tensor([0.3, 0.8])
    x, eps = torch.randn(200_000, 196), torch.randn(200_000, 2)
    with torch.no_grad():
        linear.log_std.copy_(sigmas.log())
        weight, code = linear.decoder.weight, linear.mean
        left_over = torch.eye(196) - weight @ code.weight
        offset = weight @ code.bias + linear.decoder.bias
        distortion = (left_over.square().sum() + (weight * sigmas).square().sum() + offset.square().sum()) / 2
        squares = code.weight.square().sum() + code.bias.square().sum() + sigmas.square().sum()
        rate = (squares - 2 - 2 * sigmas.log().sum()) / 2
        found = priced(*linear(x, eps), 3.0)
    close(found, distortion + 3.0 * rate, rtol=2e-3)


@equation(
    "LS.2",
    r"""
    R = \underbrace{\mathbb E_x\, \mathrm{KL}\big(q(z \mid x)\,\|\,q(z)\big)}_{I(x; z)} +
    \mathrm{KL}\big(q(z)\,\|\,p(z)\big)
    """,
)
def test_rate_is_information_and_distance_of_the_aggregate_from_the_prior():
    """(LS.2), for three pictures whose Gaussian codes mix to an aggregate: all terms by a fine grid, and by draws."""
    kl_from_prior, split_rate = load(CHAPTER, "kl_from_prior", "split_rate")
    means, stds = torch.tensor([[-1.2], [0.3], [1.9]]), torch.tensor([[0.4], [0.7], [0.25]])
    line = torch.linspace(-12, 12, 24_001)
    log_q = Normal(means, stds).log_prob(line)  # (3, G)
    aggregate = log_q.exp().mean(0)
    information = torch.trapezoid(log_q.exp() * (log_q - aggregate.log()), line).mean()
    inside = torch.special.xlogy(aggregate, aggregate) - aggregate * Normal(0.0, 1.0).log_prob(line)
    distance = torch.trapezoid(inside, line)
    close(kl_from_prior(means, stds.log()).sum(1).mean(), information + distance, atol=1e-6)
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    draws = [split_rate(means, stds.log(), means + stds * node) for node in nodes]
    found = torch.as_tensor(masses / math.sqrt(2 * math.pi)) @ torch.tensor(draws, dtype=torch.float64)
    close(found, torch.stack([information, distance]), atol=1e-3)


@equation("LS.3", r"\beta_1 \;\le\; \frac{D_2 - D_1}{R_1 - R_2} \;\le\; \beta_2")
def test_chords_between_optima_lie_between_the_prices():
    """(LS.3), on the exact optima of Gaussian data; as the prices meet, both ends do."""
    (water_filling,) = load(CHAPTER, "water_filling")
    eigenvalues = torch.tensor([5.0, 3.0, 1.4, 0.9, 0.2])
    for low, high in ((0.1, 0.5), (0.5, 2.0), (2.0, 2.001), (1.0, 4.0)):
        (first, rate), (second, less) = (water_filling(eigenvalues, price) for price in (low, high))
        ratio = (second.sum() - first.sum()) / 2 / (rate.sum() - less.sum())
        assert low < ratio < high


@equation(
    "LS.4",
    r"""
    d_i = \min(\lambda_i,\, \beta\sigma^2), \qquad R = \tfrac12 \sum_i \log\frac{\lambda_i}{d_i}, \qquad D =
    \frac{1}{2\sigma^2} \sum_i d_i + \text{const}
    """,
)
def test_water_filling_is_the_best_linear_vae():
    """(LS.4), by minimising over decoder, encoder and width of one cause a direction, started from several places."""
    (water_filling,) = load(CHAPTER, "water_filling")
    eigenvalues, price, variance = torch.tensor([5.0, 1.4, 0.5]), 2.0, 0.4
    errors, nats = water_filling(eigenvalues, price * variance)
    for value, error, rate in zip(eigenvalues.tolist(), errors.tolist(), nats.tolist(), strict=True):

        def terms(parameters, value=value):
            weight, code, log_std = parameters
            squared = (1 - weight * code) ** 2 * value + weight**2 * math.exp(2 * log_std)
            return squared, (code**2 * value + math.exp(2 * log_std) - 1 - 2 * log_std) / 2

        def loss(parameters):
            squared, rate = terms(parameters)
            return squared / (2 * variance) + price * rate

        starts = ([1.0, 0.5, -1.0], [0.3, 0.1, 0.0], [2.0, 1.0, -0.5])
        best = min((minimize(loss, start, method="BFGS", tol=1e-12) for start in starts), key=lambda found: found.fun)
        close(terms(best.x), (error, rate), atol=1e-4)


@equation(
    "LS.5",
    r"""
    \mathbb E\,\|z\|^2 = L, \qquad \mathrm{Var}\,\|z\|^2 = 2L, \qquad \mathbb E\,\Big\|\frac{z + z'}2\Big\|^2 =
    \frac L2
    """,
)
def test_moments_of_squared_norms():
    """(LS.5), by quadrature for one coordinate, and by the chi-squared distribution for all."""
    (straight,) = load(CHAPTER, "straight")
    nodes, masses = np.polynomial.hermite_e.hermegauss(30)
    z, p = torch.as_tensor(nodes), torch.as_tensor(masses / math.sqrt(2 * math.pi))
    mean = p @ z.square()
    close([mean, p @ z.pow(4) - mean**2], [1.0, 2.0])
    middle = straight(z[:, None], z[None, :], 0.5)
    close(p @ middle.square() @ p, 0.5)
    close([Chi2(16.0).mean, Chi2(16.0).variance], [16.0, 32.0])


@equation(
    "LS.6",
    r"s(t) = \frac{\sin((1 - t)\,\Omega)\; a + \sin(t\,\Omega)\; b}{\sin \Omega}, \qquad 0 \le t \le 1",
)
def test_spherical_interpolation_is_a_rotation():
    """(LS.6): between vectors of one length, by the matrix that turns their plane; between others, at the ends."""
    (on_sphere,) = load(CHAPTER, "on_sphere")
    plane = torch.linalg.qr(torch.randn(5, 2)).Q  # (5, 2)
    angle = 1.9
    a, b = (3.0 * plane @ torch.tensor([math.cos(v), math.sin(v)]) for v in (0.2, 0.2 + angle))
    for t in (0.0, 0.3, 0.5, 1.0):
        turned = 3.0 * plane @ torch.tensor([math.cos(0.2 + t * angle), math.sin(0.2 + t * angle)])
        close(on_sphere(a, b, t), turned)
    c = 2.5 * b
    close(on_sphere(a, c, 0.0), a)
    close(on_sphere(a, c, 1.0), c)
    close(on_sphere(torch.stack([a, b]), torch.stack([b, a]), 0.4)[1], on_sphere(a, b, 0.6))


def labelled():
    values = torch.randn(240)
    return values, torch.randn(240, 3) + values[:, None], torch.arange(240) % 3 * 4


def plain_contrast(values, codes):
    order = sorted(range(len(values)), key=values.tolist().__getitem__)
    quarter = len(values) // 4
    low, high = order[:quarter], order[-quarter:]
    return sum(codes[i] for i in high) / quarter - sum(codes[i] for i in low) / quarter


@equation("LS.7", r"v = \frac1{|A|} \sum_{x \in A} m(x) - \frac1{|B|} \sum_{x \in B} m(x)")
def test_attribute_vector_is_a_difference_of_means():
    """(LS.7), by sorting."""
    (contrast,) = load(CHAPTER, "contrast")
    values, codes, _ = labelled()
    close(contrast(values, codes), plain_contrast(values, codes))


@equation(
    "LS.8",
    r"""
    \bar v = \frac1K \sum_{k=1}^{K} v_k, \qquad v_k \text{ by (LS.7) from pictures of class } k \text{ alone.}
    """,
)
def test_balanced_vector_averages_within_classes():
    """(LS.8); what differs between classes alone leaves no trace in it."""
    balanced, contrast = load(CHAPTER, "balanced", "contrast")
    values, codes, labels = labelled()
    each = [plain_contrast(values[labels == k], codes[labels == k]) for k in (0, 4, 8)]
    close(balanced(values, codes, labels), sum(each) / 3)
    shift = labels[:, None] * torch.tensor([1.0, -2.0, 0.5])
    moved = values + 5.0 * labels
    close(balanced(moved, codes + shift, labels), balanced(values, codes, labels), atol=1e-9)
    assert (contrast(moved, codes + shift) - contrast(values, codes)).norm() > 1


@equation(
    "LS.9",
    r"""
    \log p(x \mid y) \;\ge\; \mathbb E_{q(z \mid x, y)}\big[\log p(x \mid z, y)\big] - \mathrm{KL}\big(q(z \mid x,
    y)\,\|\,p(z)\big)
    """,
)
def test_conditional_bound_and_its_gap():
    """(LS.9): with one cause, the bound by quadrature and log p(x | y) by a grid differ by KL(q || posterior)."""
    (network,) = load(CHAPTER, "VAE")
    model = network(1, classes=3, width=16)
    x = torch.randint(2, (4, 196)).double() * 2 - 1
    y = torch.tensor([0, 2, 1, 2])
    nodes, masses = np.polynomial.hermite_e.hermegauss(60)
    p = torch.as_tensor(masses / math.sqrt(2 * math.pi))
    line = torch.linspace(-10, 10, 8001)
    with torch.no_grad():
        terms = [model(x, y, torch.full((4, 1), node)) for node in nodes]
        bound = -(p @ torch.stack([distortion + rate for distortion, rate in terms]))
        mean, log_std = model.encode(x, y)
        for i in range(4):
            logits = model.decode(line[:, None], y[i].expand(8001))
            log_joint = Bernoulli(logits=logits).log_prob((x[i] + 1) / 2).sum(1) + Normal(0.0, 1.0).log_prob(line)
            log_p = torch.trapezoid(log_joint.exp(), line).log()
            log_q = Normal(mean[i], log_std[i].exp()).log_prob(line)
            gap = torch.trapezoid(log_q.exp() * (log_q - (log_joint - log_p)), line)
            assert gap > 0
            close(bound[i], log_p - gap, atol=1e-6)
        close(terms[0][1], kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)).sum(1))
        other = model(x, (y + 1) % 3, torch.zeros(4, 1))[0]
    assert (other - model(x, y, torch.zeros(4, 1))[0]).abs().min() > 1e-6


@equation(
    "LS.10",
    r"\mathrm{MIG}_k = \frac{1}{H(v_k)} \Big( I(z_{j_k}; v_k) - \max_{j \ne j_k} I(z_j; v_k) \Big)",
)
def test_mutual_information_gap_of_a_table():
    """(LS.10): one case by hand, and gencore's on noise."""
    gap, information = load(CHAPTER, "gap", "information")
    factor = torch.arange(400) % 4
    exact = factor + 0.001 * torch.rand(400)  # tells the factor
    half = (factor // 2) + 0.001 * torch.rand(400)  # tells one bit of its two
    close(information(exact, factor), math.log(4))
    close(information(half, factor, bins=2), math.log(2))
    close(gap(torch.stack([half, exact], 1), factor), (math.log(4) - information(half, factor)) / math.log(4))
    codes, factors = torch.randn(500, 3), torch.randint(5, (500, 2))
    codes[:, 1] += factors[:, 0]
    close(torch.stack([gap(codes, each) for each in factors.T]), mutual_information_gap(codes, factors))


@equation(
    "LS.11",
    r"""
    p'(x) = \int p(x \mid Q^\top z')\, p(z')\, dz' = \int p(x \mid z)\, p(z)\, dz = p(x)
    """,
)
def test_turned_causes_have_the_same_evidence():
    """(LS.11): in the linear model W becomes W Q^T; weights of draws average to the same evidence, draw by draw."""
    (log_weights,) = load(CHAPTER, "log_weights")
    p = LinearGaussian(torch.randn(4, 2), torch.randn(4), torch.rand(4) + 0.3)
    turn = torch.linalg.qr(torch.randn(2, 2)).Q
    turned = LinearGaussian(p.weight @ turn.T, p.bias, p.variances)
    x = p.bias + torch.randn(4)
    close(turned.log_prob(x[None]), p.log_prob(x[None]))

    def log_given_z(model):
        return lambda z: MultivariateNormal(z @ model.weight.T + model.bias, model.variances.diag()).log_prob(x)

    mean, log_std = p.posterior(x[None])[0].expand(100_000, 2), torch.zeros(100_000, 2)
    z = mean + torch.randn(100_000, 2)
    weights = log_weights(log_given_z(p), mean, log_std, z, turn)
    # the same, stated in the new causes: another decoder, another posterior
    new = z @ turn.T
    posterior = MultivariateNormal(mean @ turn.T, turn @ turn.T).log_prob(new)
    close(weights, log_given_z(turned)(new) + Normal(0.0, 1.0).log_prob(new).sum(1) - posterior)
    close(weights.logsumexp(0) - math.log(len(z)), p.log_prob(x[None])[0], atol=0.02)
