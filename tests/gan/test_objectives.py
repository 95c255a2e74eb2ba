"""The objectives against exact answers on 1-D Gaussians, where the optimal discriminator is known."""

import math

import pytest
import torch
from torch import nn

from gencore.gan.objectives import (
    Draw,
    Hinge,
    LeastSquares,
    Networks,
    NonSaturating,
    Relativistic,
    Saturating,
    Wasserstein,
    ask,
    discriminator_loss,
)
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


OBJECTIVES = [NonSaturating(), Saturating(), LeastSquares(), Hinge(), Wasserstein(), Relativistic()]
of_each = pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda each: type(each).__name__)


@of_each
def test_the_discriminator_loss_gives_the_generator_no_gradient(objective):
    networks = game()
    z = QUANTILES[:100]
    objective.discriminator(networks, X[:100], None, Draw(z), networks.generator(z)).total.backward()
    assert all(p.grad is None for p in networks.generator.parameters())
    assert networks.discriminator.shift.grad is not None


ON_REAL, ON_FAKE = torch.tensor([2.0, -0.75]), torch.tensor([-1.5, 0.25])


def log_one_plus_exp(s):
    return math.log(1 + math.exp(s))


def evaluate(objective, player, x, fake, discriminator=nn.Identity(), cond=None):
    networks = Networks(nn.Identity(), discriminator)
    return getattr(objective, player)(networks, x, cond, Draw(fake), fake)


@pytest.mark.parametrize(
    "objective, total, parts",
    [
        # half the squares of 1 and -1.75, and of -1.5 and 0.25; of real only the first is nearer to 1 than to 0
        (LeastSquares(), (4.0625 + 2.3125) / 4, dict(real=4.0625 / 4, generated=2.3125 / 4, accuracy=0.75)),
        # to the margin lack 0 and 1.75, and 0 and 1.25
        (Hinge(), (1.75 + 1.25) / 2, dict(real=1.75 / 2, generated=1.25 / 2, accuracy=0.5)),
        (Wasserstein(), -1.25, dict(estimate=0.625 + 0.625)),
        # differences 3.5 and -1
        (
            Relativistic(),
            (log_one_plus_exp(-3.5) + log_one_plus_exp(1.0)) / 2,
            dict(discriminator=(log_one_plus_exp(-3.5) + log_one_plus_exp(1.0)) / 2, accuracy=0.5),
        ),
    ],
    ids=["LeastSquares", "Hinge", "Wasserstein", "Relativistic"],
)
def test_the_discriminator_loss_by_hand(objective, total, parts):
    """(ST.1), (ST.3), (ST.5), (ST.6)."""
    loss = evaluate(objective, "discriminator", ON_REAL, ON_FAKE)
    assert loss.total.item() == pytest.approx(total, rel=1e-6)
    assert {name: value.item() for name, value in loss.parts.items()} == pytest.approx(parts, rel=1e-6)


@pytest.mark.parametrize(
    "objective, total",
    [
        (NonSaturating(), (log_one_plus_exp(1.5) + log_one_plus_exp(-0.25)) / 2),
        (Saturating(), -(log_one_plus_exp(-1.5) + log_one_plus_exp(0.25)) / 2),
        (LeastSquares(), (2.5**2 + 0.75**2) / 4),
        (Hinge(), 0.625),
        (Wasserstein(), 0.625),
        (Relativistic(), (log_one_plus_exp(3.5) + log_one_plus_exp(-1.0)) / 2),
    ],
    ids=lambda each: type(each).__name__,
)
def test_the_generator_loss_by_hand(objective, total):
    """(ST.2), (ST.4), (ST.7)."""
    loss = evaluate(objective, "generator", ON_REAL, ON_FAKE)
    assert loss.total.item() == pytest.approx(total, rel=1e-6)
    assert loss.parts["generator"].item() == pytest.approx(total, rel=1e-6)


class Heights(nn.Module):
    """Four places, and a verdict on each: gradients say which verdicts a loss wants higher."""

    def __init__(self):
        super().__init__()
        self.verdicts = nn.Parameter(torch.tensor([0.3, 0.6, 0.4, 0.7]))  # within every margin, so that all of them count

    def forward(self, x):
        return self.verdicts[x.long()]


@of_each
def test_what_each_player_wants(objective):
    real, generated = torch.tensor([0.0, 1.0]), torch.tensor([2.0, 3.0])
    wants = {}
    for player in ("discriminator", "generator"):
        heights = Heights()
        evaluate(objective, player, real, generated, heights).total.backward()
        wants[player] = (-heights.verdicts.grad).sign().tolist()
    assert wants["discriminator"] == [1, 1, -1, -1]
    real_too = isinstance(objective, Relativistic)  # its generator is judged beside the real pictures
    assert wants["generator"] == ([-1, -1, 1, 1] if real_too else [0, 0, 1, 1])


class Changed(nn.Module):
    """A discriminator, and what is added to its verdict: a + b x + c x^2."""

    def __init__(self, discriminator):
        super().__init__()
        self.discriminator, self.change = discriminator, nn.Parameter(torch.zeros(3, dtype=torch.float64))

    def forward(self, x):
        return self.discriminator(x) + torch.stack([torch.ones_like(x), x, x**2], -1) @ self.change


def probability(x):
    """D* = p / (p + q): (AG.2)."""
    return torch.sigmoid(log_normal(x, *P) - log_normal(x, *Q))


def side(x):
    """1 where p is larger than q, else -1."""
    return (log_normal(x, *P) - log_normal(x, *Q)).sign()


def assert_nothing_is_better(objective, best):
    discriminator = Changed(best)
    least = evaluate(objective, "discriminator", X, FAKE, discriminator).total.item()
    for change in torch.eye(3, dtype=torch.float64):
        for size in (-0.1, 0.1):
            discriminator.change.data = size * change
            assert evaluate(objective, "discriminator", X, FAKE, discriminator).total.item() > least + 1e-4


def test_least_squares_are_least_at_p_over_p_plus_q():
    """With D* in (ST.1): half of p q^2 / (p + q)^2 and of q p^2 / (p + q)^2 add up to half of p q / (p + q)."""
    p, q = log_normal(GRID, *P).exp(), log_normal(GRID, *Q).exp()
    discriminator = Changed(probability)
    loss = evaluate(LeastSquares(), "discriminator", X, FAKE, discriminator).total
    exact = torch.trapezoid((p * q / (p + q)).nan_to_num(), GRID) / 2
    assert loss.item() == pytest.approx(exact.item(), abs=1e-5)
    (slope,) = torch.autograd.grad(loss, discriminator.change)
    assert torch.allclose(slope, torch.zeros(3, dtype=torch.float64), atol=1e-3)
    assert_nothing_is_better(LeastSquares(), probability)


def test_the_hinge_is_least_at_the_sign_of_p_minus_q():
    """There (ST.3) is 2 P(p < q) + 2 Q(p > q), twice what the two laws have in common."""
    p, q = log_normal(GRID, *P).exp(), log_normal(GRID, *Q).exp()
    exact = 2 * torch.trapezoid(torch.minimum(p, q), GRID)
    assert evaluate(Hinge(), "discriminator", X, FAKE, side).total.item() == pytest.approx(exact.item(), abs=1e-4)
    assert_nothing_is_better(Hinge(), side)


def test_a_slope_of_one_measures_the_distance_of_shifted_gaussians():
    """(ST.5): in one dimension, the Wasserstein distance is the mean distance of equal quantiles."""
    shifted = X - 1.25
    assert (X - shifted).abs().mean().item() == pytest.approx(1.25)
    for slope in (1.0, -1.0, 0.3):
        found = evaluate(Wasserstein(), "discriminator", X, shifted, lambda x, slope=slope: slope * x)
        assert found.parts["estimate"].item() == pytest.approx(slope * 1.25, abs=1e-5)
    distance = (X - FAKE).abs().mean().item()  # of Gaussians of different widths: a bent critic says more than a line
    line, bent = (evaluate(Wasserstein(), "discriminator", X, FAKE, f) for f in (nn.Identity(), lambda x: -(x - 2.5).abs()))
    assert line.parts["estimate"].item() == pytest.approx(P[0] - Q[0], abs=1e-5)
    assert P[0] - Q[0] < bent.parts["estimate"].item()
    assert bent.parts["estimate"].item() == pytest.approx(distance, abs=1e-4)


def test_players_who_look_at_pairs_swap_roles_when_data_are_swapped():
    """(ST.6), (ST.7)."""
    objective = Relativistic()
    one, other = (evaluate(objective, "discriminator", *data).total for data in ((ON_REAL, ON_FAKE), (ON_FAKE, ON_REAL)))
    assert evaluate(objective, "generator", ON_FAKE, ON_REAL).total == one != other
    assert evaluate(objective, "generator", ON_REAL, ON_FAKE).total == other


def test_equal_laws_cannot_be_told_apart_in_pairs():
    """(ST.6): log 2 at a constant verdict; by Jensen's inequality, no other verdict does better."""
    again = X[torch.randperm(COUNT, generator=torch.Generator().manual_seed(0))]
    constant = evaluate(Relativistic(), "discriminator", X, again, lambda x: 0 * x + 5)
    assert constant.total.item() == pytest.approx(math.log(2))
    for verdict in (lambda x: 0.1 * x, lambda x: x**2, lambda x: -x):
        assert evaluate(Relativistic(), "discriminator", X, again, verdict).total > math.log(2) + 1e-4


class Told(nn.Module):
    """A verdict that is nothing without what it is told."""

    def forward(self, x, cond):
        return x * cond[:, 0]


@of_each
@pytest.mark.parametrize("player", ["discriminator", "generator"])
def test_what_is_told_reaches_the_discriminator_with_each_picture(objective, player):
    cond = torch.tensor([[2], [-3]])
    told = evaluate(objective, player, ON_REAL, ON_FAKE, Told(), cond)
    assert torch.equal(told.total, evaluate(objective, player, ON_REAL * cond[:, 0], ON_FAKE * cond[:, 0]).total)
    assert not torch.equal(told.total, evaluate(objective, player, ON_REAL, ON_FAKE).total)


def test_only_who_is_told_something_is_given_conditions():
    assert torch.equal(ask(Told(), ON_REAL, torch.tensor([[2], [-3]])), torch.tensor([4.0, 2.25]))
    assert torch.equal(ask(nn.ReLU(), ON_REAL, None), torch.tensor([2.0, 0.0]))
