"""The objectives against exact answers on 1-D Gaussians, where the optimal discriminator is known."""

import math

import pytest
import torch
from torch import nn

from gencore.gan.objectives import Draw, Networks, NonSaturating, Saturating, discriminator_loss
from tests.book.equations import equation

# Midpoint quantiles instead of random draws: averages over them are integrals, to about 1e-5.
COUNT = 200_001
QUANTILES = torch.special.ndtri((torch.arange(COUNT, dtype=torch.float64) + 0.5) / COUNT)
GRID = torch.linspace(-30, 30, 60_001, dtype=torch.float64)


def log_normal(x, mean, std):
    return -0.5 * ((x - mean) / std) ** 2 - torch.log(torch.as_tensor(std)) - 0.5 * math.log(2 * math.pi)


def kl(log_p, log_q):
    return torch.trapezoid(log_p.exp() * (log_p - log_q), GRID)


def jsd(log_p, log_q):
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return (kl(log_p, log_m) + kl(log_q, log_m)) / 2


class ShiftScale(nn.Module):
    """G(z) = mean + std * z."""

    def __init__(self, mean, std):
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean, dtype=torch.float64))
        self.std = nn.Parameter(torch.tensor(std, dtype=torch.float64))

    def forward(self, z):
        return self.mean + self.std * z


class OptimalDiscriminator(nn.Module):
    """s*(x) = log p(x) - log q(x), so that sigmoid(s*) = p / (p + q): (AG.2)."""

    def __init__(self, p, q, shift=0.0):
        super().__init__()
        self.p, self.q = p, q
        self.shift = nn.Parameter(torch.tensor(shift, dtype=torch.float64))

    def forward(self, x):
        return log_normal(x, *self.p) - log_normal(x, *self.q) + self.shift


P, Q = (0.5, 1.0), (-0.7, 1.6)
X = P[0] + P[1] * QUANTILES
FAKE = Q[0] + Q[1] * QUANTILES  # what the generator of `game` makes of the latents QUANTILES


def game(shift=0.0):
    return Networks(ShiftScale(*Q), OptimalDiscriminator(P, Q, shift))


@equation(
    "AG.1",
    r"""
    V(G, D) = \mathbb E_{x \sim p}\big[\log D(x)\big] + \mathbb E_{z}\big[\log\big(1 - D(G(z))\big)\big]
    """,
)
@equation("AG.3", r"V(G, D^*) = 2\,\mathrm{JSD}(p, q) - \log 4")
@equation("AG.4", r"\mathrm{JSD}(p, q) = \tfrac12 \mathrm{KL}(p\,\|\,m) + \tfrac12 \mathrm{KL}(q\,\|\,m)")
def test_value_at_the_optimal_discriminator_is_two_jsd_minus_log_four():
    """(AG.1), (AG.3), (AG.4)."""
    value = -discriminator_loss(game(), X, FAKE).total
    exact = 2 * jsd(log_normal(GRID, *P), log_normal(GRID, *Q)) - math.log(4)
    assert value.item() == pytest.approx(exact.item(), abs=1e-4)


@equation("AG.2", r"D^*(x) = \frac{p(x)}{p(x)+q(x)}, \qquad s^*(x) = \log p(x) - \log q(x)")
def test_optimal_discriminator_is_p_over_p_plus_q():
    """(AG.2): at s* the loss is stationary, and any other logit does worse."""
    logits = torch.sigmoid(game().discriminator(GRID))
    p, q = log_normal(GRID, *P).exp(), log_normal(GRID, *Q).exp()
    inner = slice(20_000, 40_001)  # where the densities are not zero in floating point
    assert torch.allclose(logits[inner], (p / (p + q))[inner], atol=1e-12)
    best = discriminator_loss(game(), X, FAKE).total
    assert discriminator_loss(game(0.1), X, FAKE).total > best
    assert discriminator_loss(game(-0.1), X, FAKE).total > best


def generator_gradient(objective):
    networks = game()
    loss = objective.generator(networks, X, None, Draw(QUANTILES), networks.generator(QUANTILES)).total
    return torch.stack(torch.autograd.grad(loss, list(networks.generator.parameters())))


def divergence_gradient(divergence):
    theta = torch.tensor(Q, dtype=torch.float64, requires_grad=True)
    value = divergence(log_normal(GRID, *P), log_normal(GRID, *theta))
    return torch.autograd.grad(value, theta)[0]


@equation("AG.5", r"L_{\mathrm{sat}}(\theta) = \mathbb E_{z}\big[\log\big(1 - D(G_\theta(z))\big)\big]")
def test_saturating_gradient_is_that_of_twice_the_jsd():
    """(AG.5) at D*."""
    expected = divergence_gradient(lambda log_p, log_q: 2 * jsd(log_p, log_q))
    assert torch.allclose(generator_gradient(Saturating()), expected, atol=1e-4)


@equation("AG.6", r"L_{\mathrm{ns}}(\theta) = -\,\mathbb E_{z}\big[\log D(G_\theta(z))\big]")
@equation(
    "AG.7",
    r"""
    \nabla L_{\mathrm{ns}} = \nabla\big[\mathrm{KL}(q_\theta\,\|\,p) - 2\,\mathrm{JSD}(p, q_\theta)\big] =
    \nabla\, 2\,\mathrm{KL}(m\,\|\,p)
    """,
)
def test_non_saturating_gradient_is_that_of_reverse_kl_minus_twice_the_jsd():
    """(AG.6), (AG.7): Arjovsky & Bottou 2017, theorem 2.5."""
    expected = divergence_gradient(lambda log_p, log_q: kl(log_q, log_p) - 2 * jsd(log_p, log_q))
    assert torch.allclose(generator_gradient(NonSaturating()), expected, atol=1e-4)

    def twice_kl_of_the_middle(log_p, log_q):
        return 2 * kl(torch.logaddexp(log_p, log_q) - math.log(2), log_p)

    assert torch.allclose(divergence_gradient(twice_kl_of_the_middle), expected, atol=1e-6)  # (AG.7), right side


def test_the_two_generator_losses_differ():
    assert not torch.allclose(generator_gradient(Saturating()), generator_gradient(NonSaturating()), atol=1e-2)


def test_logits_far_out_stay_finite():
    """softplus keeps what log(sigmoid) loses at +-1000."""
    networks = Networks(nn.Identity(), nn.Identity())
    x, z = torch.tensor([-1000.0]), torch.tensor([1000.0])
    loss = discriminator_loss(networks, x, z)
    assert loss.total.item() == pytest.approx(2000)


def test_accuracy_counts_right_verdicts():
    networks = Networks(nn.Identity(), nn.Identity())
    loss = discriminator_loss(networks, torch.tensor([1.0, -1.0]), torch.tensor([-1.0, -2.0]))
    assert loss.parts["accuracy"].item() == 0.75


@pytest.mark.parametrize("objective", [NonSaturating(), Saturating()])
def test_the_discriminator_loss_gives_the_generator_no_gradient(objective):
    networks = game()
    z = QUANTILES[:100]
    objective.discriminator(networks, X[:100], None, Draw(z), networks.generator(z)).total.backward()
    assert all(p.grad is None for p in networks.generator.parameters())
    assert networks.discriminator.shift.grad is not None
