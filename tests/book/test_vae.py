r"""The equations of the chapter on variational autoencoders, held to independent computations."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from gencore.analytic import LinearGaussian
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "vae/vae"

pytestmark = pytest.mark.usefixtures("double_precision")


def horseshoe(*names):
    """Functions of sections 1 and 2, with the latent line that they add up over."""
    found = load(CHAPTER, *names)
    for function in found:
        function.__globals__["z_line"] = torch.linspace(-10, 10, 2001)
    return found


def model(latent=3):
    torch.manual_seed(1)
    (network,) = load(CHAPTER, "VAE")
    made = network(latent, width=16)
    nn.init.normal_(made.encoder[-1].weight, std=0.3)  # posteriors that differ from the prior
    return made


def black_and_white(n):
    return torch.randint(2, (n, 196), generator=torch.Generator().manual_seed(0)).double() * 2 - 1


@equation("VA.1", r"p(x) = \int p(x \mid z)\,p(z)\,dz")
def test_evidence_is_the_average_likelihood_over_the_prior():
    """(VA.1), by the trapezoid rule on a finer line; and for two causes, by a plain sum over a coarser grid."""
    (log_evidence, curve), width = horseshoe("log_evidence", "horseshoe"), 0.35
    x = torch.tensor([[0.0, -1.7], [1.3, -0.3], [0.4, 1.1]])
    z = torch.linspace(-9, 9, 9001)
    likelihood = MultivariateNormal(curve(z), width**2 * torch.eye(2)).log_prob(x[:, None]).exp()
    close(log_evidence(x).exp(), torch.trapezoid(likelihood * Normal(0.0, 1.0).log_prob(z).exp(), z), atol=1e-8)

    (grid_evidence,), network, pictures = load(CHAPTER, "grid_evidence"), model(2), black_and_white(4)
    line = torch.linspace(-6, 6, 61)
    with torch.no_grad():
        total = torch.zeros(4)
        for a in line:
            for b in line:
                z = torch.stack([a, b])
                given_z = Bernoulli(logits=network.decoder(z)).log_prob((pictures + 1) / 2).sum(1)
                total += (given_z + Normal(0.0, 1.0).log_prob(z).sum()).exp() * 0.2**2
        found, log_posterior, _ = grid_evidence(network, pictures, 101)
    close(found, total.log(), atol=1e-4)
    close(log_posterior.exp().sum(1), torch.ones(4), atol=1e-9)


@equation(
    "VA.2",
    r"""
    \log p(x) = \underbrace{\mathbb E_{q}\big[\log p(x, z) - \log q(z \mid x)\big]}_{\mathrm{ELBO}(x)} +
    \underbrace{\mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big)}_{\text{gap}}
    """,
)
def test_elbo_and_gap_add_up_to_the_evidence():
    """(VA.2): the two are computed apart; the bound is also what sampling gives."""
    bound_and_gap, log_evidence, curve = horseshoe("bound_and_gap", "log_evidence", "horseshoe")
    x, mean, std = torch.tensor([1.0, 0.2]), torch.tensor([0.9, -1.0]), torch.tensor([0.3, 0.7])
    elbo, gap = bound_and_gap(x, mean, std)
    close(elbo + gap, log_evidence(x[None]).expand(2))
    assert (gap > 0).all()
    z = mean + std * torch.randn(200_000, 2)
    given_z = MultivariateNormal(curve(z), 0.35**2 * torch.eye(2)).log_prob(x)
    terms = given_z + Normal(0.0, 1.0).log_prob(z) - Normal(mean, std).log_prob(z)
    assert ((terms.mean(0) - elbo).abs() < 5 * terms.std(0) / len(z) ** 0.5).all()


@equation(
    "VA.3",
    r"""
    \mathrm{ELBO}(x) = \mathbb E_{q}\big[\log p(x \mid z)\big] - \mathrm{KL}\big(q(z \mid
    x)\,\|\,p(z)\big)
    """,
)
def test_elbo_is_reconstruction_minus_divergence_from_the_prior():
    """(VA.3): the divergence by torch.distributions, the reconstruction by quadrature."""
    bound_and_gap, curve = horseshoe("bound_and_gap", "horseshoe")
    x, mean, std = torch.tensor([1.0, 0.2]), torch.tensor([0.9]), torch.tensor([0.3])
    nodes, masses = np.polynomial.hermite_e.hermegauss(120)
    z, masses = mean + std * torch.as_tensor(nodes), torch.as_tensor(masses / math.sqrt(2 * math.pi))
    reconstruction = masses @ MultivariateNormal(curve(z), 0.35**2 * torch.eye(2)).log_prob(x)
    divergence = kl_divergence(Normal(mean, std), Normal(0.0, 1.0))
    close(bound_and_gap(x, mean, std)[0], reconstruction - divergence, atol=1e-8)


def linear(seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(4, 2, generator=generator)
    return LinearGaussian(weight, torch.randn(4, generator=generator), torch.rand(4, generator=generator) + 0.2)


def joint(p):
    """Covariance of (z, x), from the map that makes both out of independent noise."""
    top = torch.cat([torch.eye(2), torch.zeros(2, 4)], 1)
    bottom = torch.cat([p.weight, p.variances.sqrt().diag()], 1)
    whole = torch.cat([top, bottom])
    return whole @ whole.T


@equation("VA.4", r"p(x) = \mathcal N\big(x;\; b,\; WW^\top + \Psi\big)")
def test_evidence_of_the_linear_model_is_gaussian():
    """(VA.4): the covariance is a block of that of (z, x)."""
    p, x = linear(), torch.randn(5, 4)
    close(p.covariance, joint(p)[2:, 2:])
    close(p.log_prob(x), MultivariateNormal(p.bias, joint(p)[2:, 2:]).log_prob(x))


@equation(
    "VA.5",
    r"""
    p(z \mid x) = \mathcal N\big(z;\; P^{-1} W^\top \Psi^{-1} (x - b),\; P^{-1}\big), \qquad P = I +
    W^\top \Psi^{-1} W
    """,
)
def test_posterior_of_the_linear_model_by_conditioning():
    """(VA.5), by the formula for conditional Gaussians, which inverts the other matrix."""
    p, x = linear(), torch.randn(5, 4)
    whole = joint(p)
    gain = whole[:2, 2:] @ torch.linalg.inv(whole[2:, 2:])
    mean, covariance = p.posterior(x)
    close(mean, (x - p.bias) @ gain.T)
    close(covariance, whole[:2, :2] - gain @ whole[2:, :2])


@equation(
    "VA.6",
    r"""
    \min_{q\ \text{diagonal}} \mathrm{KL}\big(q(z \mid x)\,\|\,p(z \mid x)\big) =
    \tfrac12\Big(\sum_{i=1}^{L} \log P_{ii} - \log\det P\Big)
    """,
)
def test_least_gap_of_independent_causes():
    """(VA.6), by minimising the divergence over all variances."""
    (least_gap,) = load(CHAPTER, "least_gap")
    a = torch.randn(3, 3)
    precision = a @ a.T + torch.eye(3)
    posterior = MultivariateNormal(torch.zeros(3), precision_matrix=precision)
    log_variances = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.LBFGS([log_variances], max_iter=200, tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def value():
        optimiser.zero_grad()
        loss = kl_divergence(MultivariateNormal(torch.zeros(3), log_variances.exp().diag()), posterior)
        loss.backward()
        return loss

    optimiser.step(value)
    close(least_gap(precision), value().detach(), atol=1e-8)
    close(least_gap(torch.tensor([2.0, 3.0]).diag()), 0.0)


@equation(
    "VA.7",
    r"""
    z = m + s \odot \varepsilon, \quad \varepsilon \sim \mathcal N(0, I), \qquad \nabla_m \mathbb
    E[f(z)] = \mathbb E\big[\nabla f(m + s \odot \varepsilon)\big]
    """,
)
def test_reparameterised_gradient_is_unbiased():
    """(VA.7): z is mean plus std times noise; its gradient averages to that of the exact average of a cubic."""
    network, x, eps = model(), black_and_white(5), torch.randn(5, 3)
    logits, mean, log_std = network(x, eps)
    close(logits, network.decoder(mean + log_std.exp() * eps))

    (estimates,) = load(CHAPTER, "estimates")
    slope = estimates(3, 50_000, torch.Generator().manual_seed(0))["reparameterised"]
    eps = torch.randn(50_000, 3, generator=torch.Generator().manual_seed(0))
    mean = torch.zeros(3, requires_grad=True)
    value = -0.5 * (mean + eps).square().sum(1)
    close(slope.mean(), torch.autograd.grad(value.mean(), mean)[0][0])


@equation(
    "VA.8",
    r"""
    \nabla_m \mathbb E_{z \sim q}[f(z)] = \int f(z)\, \nabla_m q(z)\, dz = \mathbb E_{z \sim
    q}\big[f(z)\, \nabla_m \log q(z)\big], \qquad \nabla_m \log q(z) = \frac{\varepsilon}{s}
    """,
)
def test_score_function_estimate_is_value_times_the_score():
    """(VA.8): the score by differentiating the log-density, for the estimate with and without a baseline."""
    (estimates,) = load(CHAPTER, "estimates")
    found = estimates(3, 1000, torch.Generator().manual_seed(0))
    z = torch.randn(1000, 3, generator=torch.Generator().manual_seed(0))
    mean = torch.zeros(1000, 3, requires_grad=True)
    score = torch.autograd.grad(Normal(mean, 1.0).log_prob(z).sum(), mean)[0][:, 0]
    value = -0.5 * z.square().sum(1)
    close(found["score function"], value * score)
    close(found["with baseline"], (value + 1.5) * score)


@equation(
    "VA.9",
    r"""
    \mathrm{Var}_\text{reparam.} = 1, \qquad \mathrm{Var}_\text{score} = \frac{(L+2)(L+4)}{4}, \qquad
    \mathrm{Var}_\text{score, baseline} = \frac{L+4}{2}
    """,
)
def test_variances_by_quadrature():
    """(VA.9) for one and two causes, exactly: polynomials of low degree."""
    (variances,) = load(CHAPTER, "variances")
    nodes, masses = np.polynomial.hermite_e.hermegauss(12)
    nodes, masses = torch.as_tensor(nodes), torch.as_tensor(masses / math.sqrt(2 * math.pi))
    for latent in (1, 2):
        eps = torch.cartesian_prod(*[nodes] * latent).view(-1, latent)
        weight = torch.cartesian_prod(*[masses] * latent).view(-1, latent).prod(1)
        value = -0.5 * eps.square().sum(1)
        baseline = weight @ value
        draws = {"reparameterised": -eps[:, 0], "score function": value * eps[:, 0],
                 "with baseline": (value - baseline) * eps[:, 0]}
        for name, draw in draws.items():
            close(weight @ draw.square() - (weight @ draw) ** 2, variances(latent)[name])


@equation(
    "VA.10",
    r"""
    \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big) = \tfrac12 \sum_{i=1}^{L} \big(m_i^2 + s_i^2 - 1 - \log
    s_i^2\big)
    """,
)
def test_divergence_from_the_prior_is_that_of_torch():
    """(VA.10), cause by cause."""
    (kl_from_prior,) = load(CHAPTER, "kl_from_prior")
    mean, log_std = torch.randn(6, 3), torch.randn(6, 3) / 2
    close(kl_from_prior(mean, log_std), kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0)))


def plain_terms(network, x, eps):
    """Reconstruction (B,) and divergence of each cause (B, L)."""
    logits, mean, log_std = network(x, eps)
    reconstruction = -Bernoulli(logits=logits).log_prob((x + 1) / 2).sum(1)
    return reconstruction, kl_divergence(Normal(mean, log_std.exp()), Normal(0.0, 1.0))


@equation(
    "VA.11",
    r"""
    \mathcal L = \frac1B \sum_{b=1}^{B} \Big(-\log p(x_b \mid z_b) + \beta\, \mathrm{KL}\big(q(z \mid
    x_b)\,\|\,p(z)\big)\Big)
    """,
)
def test_loss_is_reconstruction_plus_price_times_divergence():
    """(VA.11), by torch.distributions."""
    (loss_of,), network, x, eps = load(CHAPTER, "loss_of"), model(), black_and_white(5), torch.randn(5, 3)
    reconstruction, kl = plain_terms(network, x, eps)
    close(loss_of(network, x, eps), (reconstruction + kl.sum(1)).mean())
    close(loss_of(network, x, eps, beta=0.3), (reconstruction + 0.3 * kl.sum(1)).mean())


@equation(
    "VA.12",
    r"""
    P(x \mid z) = \sigma\!\Big(\frac{x + \Delta/2 - \mu}{s}\Big) - \sigma\!\Big(\frac{x - \Delta/2 -
    \mu}{s}\Big)
    """,
)
def test_levels_by_the_distribution_function():
    """(VA.12), level by level, by the integral of the logistic density."""
    (plain,) = load(CHAPTER, "plain")
    levels, location, scale = 2 * torch.arange(256) / 255 - 1, 0.2, 0.15
    found = plain(levels, location, scale)
    close(found.sum(), 1.0)
    for i in (3, 120, 200):
        at = torch.linspace(levels[i] - 1 / 255, levels[i] + 1 / 255, 2001)
        density = 1 / (4 * scale * torch.cosh((at - location) / (2 * scale)) ** 2)
        close(found[i], torch.trapezoid(density, at), atol=1e-9)
    far = torch.linspace(1 - 1 / 255, 9, 200_001)
    close(found[-1], torch.trapezoid(1 / (4 * scale * torch.cosh((far - location) / (2 * scale)) ** 2), far), atol=1e-8)


@equation(
    "VA.13",
    r"""
    \mathcal L_K(x) = \mathbb E\Big[\log \frac1K \sum_{k=1}^{K} w_k\Big], \qquad w_k = \frac{p(x \mid
    z_k)\,p(z_k)}{q(z_k \mid x)}, \quad z_k \sim q(z \mid x)
    """,
)
def test_importance_weighted_bound():
    """(VA.13): weights by torch.distributions, one by one; the bound by plain loops; its limits."""
    log_weights, bound = load(CHAPTER, "log_weights", "bound")
    network, x, eps = model(), black_and_white(3), torch.randn(4, 3, 3)
    with torch.no_grad():
        mean, log_std = network.encode(x)
        found = log_weights(network, x, mean, log_std, eps)
        for k in range(4):
            z = mean + log_std.exp() * eps[k]
            given_z = Bernoulli(logits=network.decoder(z)).log_prob((x + 1) / 2).sum(1)
            prior, guess = Normal(0.0, 1.0).log_prob(z).sum(1), Normal(mean, log_std.exp()).log_prob(z).sum(1)
            close(found[k], given_z + prior - guess)
    pairs = [math.log((math.exp(a) + math.exp(b)) / 2) for a, b in
             [(found[i, n].item(), found[i + 1, n].item()) for i in (0, 2) for n in range(3)]]
    assert bound(found, 2) == pytest.approx(sum(pairs) / 6)
    assert bound(found, 1) == pytest.approx(found.mean().item())
    assert bound(found, 1) < bound(found, 2) < bound(found, 4)


@equation(
    "VA.14",
    r"""
    \frac{1}{s'^2} = 1 + \Lambda = 1 + \beta\Big(\frac1{s^2} - 1\Big), \qquad m' =
    \beta\,\frac{s'^2}{s^2}\, m
    """,
)
def test_untempering_gives_the_posterior_of_a_linear_model():
    """(VA.14): the guess that is best at a price, by adding precisions; then its untempered form is the posterior."""
    (untempered,) = load(CHAPTER, "untempered")
    p, x = LinearGaussian(torch.tensor([[0.8], [-1.1]]), torch.zeros(2), torch.tensor([0.5, 0.9])), torch.randn(5, 2)
    true_mean, true_covariance = p.posterior(x)
    for price in (0.1, 0.7, 1.0, 3.0):
        tempered = LinearGaussian(p.weight, p.bias, price * p.variances)  # p(x | z) to the power of 1 / price
        mean, covariance = tempered.posterior(x)
        found_mean, found_log_std = untempered(mean, covariance[0].log().expand_as(mean) / 2, price)
        close(found_mean, true_mean)
        close((2 * found_log_std).exp(), true_covariance[0].expand_as(mean))


@equation("VA.15", r"w_i = u_i \sqrt{\max(\lambda_i - \sigma^2,\, 0)}, \qquad i = 1, \dots, L")
def test_columns_below_the_noise_vanish():
    """(VA.15): at the stated W the likelihood is stationary and no nearby W does better, noise held fixed."""
    x, sigma = torch.randn(200, 4) @ torch.diag(torch.tensor([2.0, 1.3, 0.6, 0.3])) @ torch.randn(4, 4), 1.5
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    assert values.min() < sigma**2 < values.max()
    weight = (vectors * (values - sigma**2).clamp(min=0).sqrt()).requires_grad_()

    def likelihood(weight):
        return LinearGaussian(weight, torch.zeros(4), torch.full((4,), sigma**2)).log_prob(x).mean()

    best = likelihood(weight)
    close(torch.autograd.grad(best, weight)[0], torch.zeros(4, 4), atol=1e-9)
    for seed in range(20):
        step = 0.1 * torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))
        assert likelihood(weight + step) < best


@equation("VA.16", r"A_i = \mathrm{Var}_x\big(\mathbb E_{q(z \mid x)}[z_i]\big)")
def test_active_units_are_variances_of_means():
    """(VA.16): a cause whose mean never moves counts nothing, whatever it is."""
    (active_units,) = load(CHAPTER, "active_units")
    means = torch.stack([torch.full((1000,), 5.0), 0.3 * torch.randn(1000)], 1)
    found = active_units(means)
    close(found[0], 0.0)
    close(found[1], (means[:, 1] - means[:, 1].mean()).square().sum() / 999)


@equation("VA.17", r"\sum_{i=1}^{L} \max\big(\lambda,\, \overline{\mathrm{KL}}_i\big)")
def test_free_bits_charge_at_least_so_much_for_each_cause():
    """(VA.17), cause by cause."""
    (loss_of,), network, x, eps = load(CHAPTER, "loss_of"), model(), black_and_white(5), torch.randn(5, 3)
    reconstruction, kl = plain_terms(network, x, eps)
    free = kl.mean(0).sort().values[1].item() + 1e-3
    charged = sum(max(free, nats.item()) for nats in kl.mean(0))
    assert charged > kl.mean(0).sum() + 1e-3
    close(loss_of(network, x, eps, free=free), reconstruction.mean() + charged)


def test_the_chain_sees_only_pixels_before():
    """The logit of pixel i does not change with pixel j unless j comes before i."""
    (chained,) = load(CHAPTER, "Chained")
    network, z = chained(2, width=8), torch.randn(1, 2)
    nn.init.normal_(network.before)
    x = black_and_white(1).requires_grad_()
    slopes = torch.autograd.functional.jacobian(lambda x: network.decode(z, x)[0], x)[:, 0]  # (196, 196)
    before = torch.ones(196, 196, dtype=torch.bool).tril(-1)
    assert (slopes[~before] == 0).all() and (slopes[before] != 0).all()
