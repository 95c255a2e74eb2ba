"""The equations of the chapter on stability, held to sums by hand, brute force, small steps and finer decompositions."""

import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.func import jacrev

from gencore.gan import R1, R2, Draw, GradientPenalty, Hinge, LeastSquares, Networks, Relativistic, Wasserstein
from gencore.networks.spectral import SpectralNorm
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "gan/stability"
REAL, FAKE = [0.5, 3.0, -2.0], [-0.25, 2.0, 0.75]  # outputs of a discriminator


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def library(objective, player):
    """Return gencore's loss for these outputs; the data are the outputs, and the discriminator passes them on."""
    networks = Networks(nn.Identity(), nn.Identity())
    real, fake = (torch.tensor(values, dtype=torch.float64) for values in (REAL, FAKE))
    return getattr(objective, player)(networks, real, None, Draw(fake), fake).total.item()


def chapter(name):
    """Return the mean of the chapter's loss for these outputs."""
    (loss,) = load(CHAPTER, name)
    return loss(*(torch.tensor(values, dtype=torch.float64) for values in (REAL, FAKE))).mean().item()


def agree(expected, name, objective, player):
    assert chapter(name) == pytest.approx(expected, rel=1e-6)
    assert library(objective, player) == pytest.approx(expected, rel=1e-6)


@equation("ST.1", r"L_D = \tfrac12\,\mathbb E_p\big[(s(x)-1)^2\big] + \tfrac12\,\mathbb E_q\big[s(x)^2\big]")
def test_least_squares_discriminator():
    """(ST.1), in the chapter and in gencore."""
    expected = mean((s - 1) ** 2 for s in REAL) / 2 + mean(s**2 for s in FAKE) / 2
    agree(expected, "squares_d", LeastSquares(), "discriminator")


@equation("ST.2", r"L_G = \tfrac12\,\mathbb E_q\big[(s(x)-1)^2\big]")
def test_least_squares_generator():
    """(ST.2)."""
    agree(mean((s - 1) ** 2 for s in FAKE) / 2, "squares_g", LeastSquares(), "generator")


@equation("ST.3", r"L_D = \mathbb E_p\big[\max(0, 1-s(x))\big] + \mathbb E_q\big[\max(0, 1+s(x))\big]")
def test_hinge_discriminator():
    """(ST.3), with outputs on both sides of each margin."""
    expected = mean(max(0.0, 1 - s) for s in REAL) + mean(max(0.0, 1 + s) for s in FAKE)
    agree(expected, "hinge_d", Hinge(), "discriminator")


@equation("ST.4", r"L_G = -\,\mathbb E_q\big[s(x)\big]")
def test_generator_that_wants_high_outputs():
    """(ST.4), of two games."""
    agree(-mean(FAKE), "height_g", Hinge(), "generator")
    agree(-mean(FAKE), "height_g", Wasserstein(), "generator")


@equation("ST.5", r"\widehat W = \mathbb E_p\big[s(x)\big] - \mathbb E_q\big[s(x)\big]")
def test_critic_maximises_the_difference_of_means():
    """(ST.5), with its sign turned."""
    agree(-(mean(REAL) - mean(FAKE)), "wasserstein_d", Wasserstein(), "discriminator")


@equation("ST.6", r"L_D = \mathbb E_{x\sim p,\ \tilde x\sim q}\big[\log\big(1 + e^{s(\tilde x) - s(x)}\big)\big]")
def test_relativistic_discriminator():
    """(ST.6), pair by pair."""
    expected = mean(math.log(1 + math.exp(b - a)) for a, b in zip(REAL, FAKE))
    agree(expected, "relativistic_d", Relativistic(), "discriminator")


@equation("ST.7", r"L_G = \mathbb E_{x\sim p,\ \tilde x\sim q}\big[\log\big(1 + e^{s(x) - s(\tilde x)}\big)\big]")
def test_relativistic_generator():
    """(ST.7): the real points take part."""
    expected = mean(math.log(1 + math.exp(a - b)) for a, b in zip(REAL, FAKE))
    agree(expected, "relativistic_g", Relativistic(), "generator")


class Bowl(nn.Module):
    """s(x) = |x|^2 / 2 + <w, x>, whose gradient is x + w."""

    def __init__(self, w):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(w, dtype=torch.float64))

    def forward(self, x):
        return (x.square() / 2 + self.w * x).sum(-1)


X = torch.tensor([[1.0, 2.0], [-0.5, 0.25], [3.0, -1.0]], dtype=torch.float64)
Y = torch.tensor([[0.0, 1.0], [2.0, 2.0], [-1.0, 0.5]], dtype=torch.float64)
W = (0.5, -1.5)


def squared_slope(point):
    return sum((a + w) ** 2 for a, w in zip(point, W))


@equation(
    "ST.8",
    r"P = \lambda\,\mathbb E\big[(\|\nabla s(\bar x)\| - 1)^2\big], \qquad \bar x = x + u\,(\tilde x - x)",
)
def test_gradient_penalty_between_the_points():
    """(ST.8): with u given in gencore; in the chapter, where u is drawn, the mean over many draws."""
    shares = [0.25, 1.0, 0.0]
    between = [[a + u * (b - a) for a, b in zip(x, y)] for x, y, u in zip(X.tolist(), Y.tolist(), shares)]
    expected = 3.0 * mean((math.sqrt(squared_slope(point)) - 1) ** 2 for point in between)
    networks, draw = Networks(nn.Identity(), Bowl(W)), Draw(Y, between=torch.tensor(shares, dtype=torch.float64))
    assert GradientPenalty(weight=3.0).loss(networks, X, None, draw, Y).total.item() == pytest.approx(expected)

    (penalty,) = load(CHAPTER, "gradient_penalty")
    torch.manual_seed(0)
    copies = 20_000
    x, y = X[:, None].expand(-1, copies, -1), Y[:, None].expand(-1, copies, -1)  # (3, copies, 2)
    found = penalty(Bowl(W), x.float(), y.float(), 3.0)  # (3,)
    for row, (a, b) in zip(found.tolist(), zip(X, Y)):
        u = (torch.arange(10_000, dtype=torch.float64)[:, None] + 0.5) / 10_000
        length = (a + u * (b - a) + torch.tensor(W)).norm(dim=1)
        assert row == pytest.approx(3.0 * (length - 1).square().mean().item(), rel=0.03)


@equation("ST.9", r"R_1 = \frac\gamma2\,\mathbb E_p\big[\|\nabla s(x)\|^2\big]")
def test_r1_at_real_points_and_r2_at_generated_ones():
    """(ST.9); a lazy one weighs more."""
    expected = 0.8 / 2 * mean(squared_slope(point) for point in X.tolist())
    (penalty,) = load(CHAPTER, "r1")
    close(penalty(Bowl(W), X[None], None, 0.8), torch.tensor([expected], dtype=torch.float64), atol=1e-12)
    networks = Networks(nn.Identity(), Bowl(W))
    assert R1(gamma=0.8, every=1).loss(networks, X, None, Draw(Y), Y).total.item() == pytest.approx(expected)
    assert R1(gamma=0.8, every=4).loss(networks, X, None, Draw(Y), Y).total.item() == pytest.approx(4 * expected)
    at_generated = 0.8 / 2 * mean(squared_slope(point) for point in Y.tolist())
    assert R2(gamma=0.8, every=1).loss(networks, X, None, Draw(Y), Y).total.item() == pytest.approx(at_generated)


P = torch.tensor([0.5, 0.3, 0.15, 0.05], dtype=torch.float64)
Q = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)


def least(for_d, start=0.0):
    """Return the least loss of a discriminator with four outputs, found by gradient descent with falling steps."""
    s = torch.full((4,), start, dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.Adam([s], 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 3000)
    for _ in range(3000):
        loss = P @ for_d(s[:, None], s[None, :]) @ Q
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return loss.item()


@equation("ST.10", r"\min_s L_D = \frac14 - \frac18 \int \frac{(p-q)^2}{p+q}\,dx")
def test_what_least_squares_measures():
    """(ST.10) against brute force, and its two ends."""
    formula, for_d = load(CHAPTER, "least_squares_best", "squares_d")
    assert formula(P, Q).item() == pytest.approx(least(for_d), abs=1e-6)
    assert formula(P, P).item() == pytest.approx(1 / 4)


@equation("ST.11", r"\min_s L_D = 2\int \min(p, q)\,dx = 2 - 2\,\mathrm{TV}(p, q)")
def test_what_the_hinge_loss_measures():
    """(ST.11) against brute force, and twice the overlap."""
    formula, for_d = load(CHAPTER, "hinge_best", "hinge_d")
    assert formula(P, Q).item() == pytest.approx(least(for_d, start=0.1), abs=1e-3)
    assert formula(P, Q).item() == pytest.approx(2 * torch.minimum(P, Q).sum().item())


@equation("ST.12", r"\min_s L_D = \log 2 - \mathrm{JSD}(p \otimes q,\ q \otimes p)")
def test_what_the_relativistic_loss_measures():
    """(ST.12) against brute force."""
    formula, for_d = load(CHAPTER, "relativistic_best", "relativistic_d")
    assert formula(P, Q).item() == pytest.approx(least(for_d), abs=1e-6)
    assert formula(P, P).item() == pytest.approx(math.log(2))


@equation("ST.13", r"\mathbb E_p[s(x)] - \mathbb E_q[s(x)] \le K\,W_1(p, q)")
def test_no_critic_beats_the_wasserstein_distance():
    """(ST.13): random critics of slope K, on random points; the ratio comes near 1 for the best of them."""
    (w1_line,) = load(CHAPTER, "w1_line")
    torch.manual_seed(0)
    ratios = []
    for _ in range(400):
        x, y = torch.randn(6, dtype=torch.float64), torch.randn(6, dtype=torch.float64) + 1
        knots = torch.cat([x, y]).sort().values
        slopes = 3 * (2 * torch.rand(11, dtype=torch.float64).round() - 1)
        heights = torch.cat([slopes.new_zeros(1), (slopes * knots.diff()).cumsum(0)])

        def s(points):
            return heights[torch.searchsorted(knots, points)]

        ratios.append(((s(x) - s(y)).mean() / (3 * w1_line(x, y))).item())
    assert 0.9 < max(ratios) <= 1 + 1e-12


@equation(
    "ST.14",
    r"W_1(p, q) = \int |F_p - F_q|\,dx = \int_0^1 \big|F_p^{-1}(u) -"
    r" F_q^{-1}(u)\big|\,du",
)
def test_wasserstein_distance_on_the_line():
    """(ST.14): both sides against the cheapest of all ways to pair five points."""
    from itertools import permutations

    w1_line, w1_area = load(CHAPTER, "w1_line", "w1_area")
    torch.manual_seed(1)
    a, b = 2 * torch.randn(5, dtype=torch.float64), torch.rand(5, dtype=torch.float64)
    cheapest = min((a[list(order)] - b).abs().mean().item() for order in permutations(range(5)))
    assert w1_line(a, b).item() == pytest.approx(cheapest)
    x = torch.linspace(-8, 8, 400_001, dtype=torch.float64)
    shares = [(points[:, None] <= x).double().mean(0) for points in (a, b)]
    assert w1_area(*shares, x).item() == pytest.approx(cheapest, abs=1e-4)
    several = torch.stack([a, b]), torch.stack([b, b])
    close(w1_line(*several), torch.tensor([cheapest, 0.0], dtype=torch.float64))


@equation("ST.15", r"K^* = 1 + \frac{W_1}{2\lambda}")
@pytest.mark.parametrize("distance, weight", [(4.0, 1.0), (0.5, 10.0), (3.0, 0.2)])
def test_how_far_the_spring_gives(distance, weight):
    """(ST.15): no other slope is worth more."""
    (spring,) = load(CHAPTER, "spring")
    slope = torch.linspace(0, 20, 2_000_001, dtype=torch.float64)
    worth = slope * distance - weight * (slope - 1).square()
    assert spring(distance, weight) == pytest.approx(slope[worth.argmax()].item(), abs=1e-4)


def matrices():
    torch.manual_seed(2)
    return torch.randn(3, 6, 4, dtype=torch.float64)


@equation("ST.16", r"\bar A = \frac{A}{\sigma(A)}, \qquad \sigma(A) = \max_{v \ne 0} \frac{\|A v\|}{\|v\|}")
def test_spectral_normalisation():
    """(ST.16): the longest image of a unit vector has length 1, and the direction of the matrix is kept."""
    (spectral,) = load(CHAPTER, "spectral")
    W = matrices()
    normalised = spectral(W, steps=500)
    close(torch.linalg.svdvals(normalised)[:, 0], torch.ones(3, dtype=torch.float64), atol=1e-9)
    close(normalised * torch.linalg.svdvals(W)[:, 0, None, None], W, atol=1e-8)


@equation(
    "ST.17",
    r"v \leftarrow \frac{A^\top u}{\|A^\top u\|}, \qquad u \leftarrow \frac{A v}{\|A v\|}, \qquad \sigma(A)"
    r" \approx u^\top A v",
)
def test_power_iteration_step_by_step():
    """(ST.17): one step by hand, many steps to the singular vectors; gencore's takes the same step."""
    (power_iteration,) = load(CHAPTER, "power_iteration")
    W = matrices()
    start = torch.randn(3, 6, 1, dtype=torch.float64)
    u, v, sigma = power_iteration(W, start, 1)
    for k in range(3):
        by_hand = W[k].T @ start[k]
        by_hand = by_hand / by_hand.norm()
        close(v[k], by_hand)
        close(u[k], W[k] @ by_hand / (W[k] @ by_hand).norm())
        close(sigma[k], (W[k] @ by_hand).norm().reshape(1, 1))
    _, _, sigma = power_iteration(W, start, 500)
    close(sigma.flatten(), torch.linalg.svdvals(W)[:, 0])
    norm = SpectralNorm(W[0])
    norm.u.copy_(start[0, :, 0])
    norm.follow(W[0])
    close(norm.u, u[0, :, 0])
    close(norm.v, v[0, :, 0])


@equation("ST.18", r"\|s(x) - s(y)\| \le \sigma(A_1)\,\sigma(A_2)\cdots\sigma(A_L)\,\|x-y\|")
def test_slopes_multiply_along_the_layers():
    """(ST.18): the bound is the product of singular values, and chains of matched layers reach it."""
    bound, perceptrons, Layers = load(CHAPTER, "bound", "perceptrons", "Layers")
    torch.manual_seed(3)
    network = perceptrons(2, 3, 1)
    weights = [layer.weight for layer in network if isinstance(layer, Layers)]
    assert len(weights) == 3
    expected = math.prod(torch.linalg.svdvals(weight[1])[0].item() for weight in weights)
    assert bound(network)[1].item() == pytest.approx(expected, rel=1e-5)
    x, y = torch.randn(2, 2, 1000, 3)
    ratio = (network(x) - network(y)).abs()[..., 0] / (x - y).norm(dim=2)
    assert (ratio.amax(1) <= bound(network) * (1 + 1e-5)).all()
    with torch.no_grad():
        for weight in weights:  # positive numbers of rank one, so that nothing is lost where all values are positive
            weight.copy_(torch.full_like(weight, 0.3))
            network[0].bias.zero_(), network[2].bias.zero_()
    x, y = torch.full((2, 1, 3), 1.0), torch.full((2, 1, 3), 2.0)
    reached = (network(x) - network(y)).abs()[..., 0] / (x - y).norm(dim=2)
    close(reached[:, 0], bound(network), atol=0.0, rtol=1e-4)


@equation("ST.19", r"\dot\theta = \omega\,\psi, \qquad \dot\psi = -\omega\,\theta - \gamma\,\psi")
@pytest.mark.parametrize("name, omega", [("logistic", 0.5), ("least squares", 0.5), ("hinge", 1.0),
                                         ("Wasserstein", 1.0), ("relativistic", 0.5)])
def test_the_smallest_game_near_rest(name, omega):
    """(ST.19) by difference quotients, and the logistic game by its formula at a distance from rest."""
    field, losses = load(CHAPTER, "field", "LOSSES")
    middle = 0.5 if name == "least squares" else 0.0
    for theta, psi in ((1e-4, 0.0), (0.0, 1e-4), (2e-4, -1e-4)):
        state = torch.tensor([theta, psi], dtype=torch.float64)
        expected = torch.tensor([omega * psi, -omega * theta - 0.7 * psi], dtype=torch.float64)
        close(field(state, losses[name], middle, gamma=0.7), expected, atol=1e-7)
    if name == "logistic":
        state = torch.tensor([1.2, -0.8], dtype=torch.float64)
        sigmoid = torch.sigmoid(torch.tensor([0.96, -0.96], dtype=torch.float64))
        close(field(state, losses[name]), torch.stack([-0.8 * sigmoid[0], -1.2 * sigmoid[1]]))


@equation("ST.20", r"\mu_\pm = -\frac\gamma2 \pm \sqrt{\frac{\gamma^2}{4} - \omega^2}")
@pytest.mark.parametrize("omega, gamma", [(0.5, 0.0), (1.0, 0.6), (0.5, 3.0)])
def test_eigenvalues_at_rest(omega, gamma):
    """(ST.20) against a numerical decomposition, with and without oscillation."""
    (by_formula,) = load(CHAPTER, "by_formula")
    matrix = torch.tensor([[0.0, omega], [-omega, -gamma]], dtype=torch.float64)
    expected = sorted(torch.linalg.eigvals(matrix).tolist(), key=lambda mu: (mu.real, mu.imag))
    found = sorted(by_formula(omega, gamma).tolist(), key=lambda mu: (mu.real, mu.imag))
    assert found == pytest.approx(expected, abs=1e-9)


@equation("ST.21", r"|1 + h\mu| = \sqrt{1 + h^2\omega^2} > 1 :")
@pytest.mark.parametrize("h", [0.05, 0.4])
def test_steps_at_once_spiral_out(h):
    """(ST.21): with the Wasserstein loss, where omega is 1 everywhere."""
    (walk,) = load(CHAPTER, "walk")
    radius = walk(h, 8, in_turns=False, start=(0.6, -0.3)).norm(dim=1)
    expected = torch.full((8,), abs(1 + 1j * h), dtype=torch.float64)
    close(radius[1:] / radius[:-1], expected)
    assert abs(1 + 1j * h) == pytest.approx(math.sqrt(1 + h**2))
    assert walk(h, 400)[-100:].norm(dim=1).max() < 1.5  # in turns it does not


@equation("ST.22", r"\dot\theta = \psi, \qquad \dot\psi = -\theta - 2\lambda\,(\psi - \mathrm{sign}\,\psi)")
@pytest.mark.parametrize("theta, psi", [(0.7, 0.4), (-2.0, 0.1), (1.5, -1.3)])
def test_the_smallest_game_with_gradient_penalty(theta, psi):
    """(ST.22), on both sides of slope 0; what the penalty adds is gencore's penalty on a line."""
    field, losses = load(CHAPTER, "field", "LOSSES")
    state = torch.tensor([theta, psi], dtype=torch.float64)
    expected = torch.tensor([psi, -theta - 2 * 0.8 * (psi - math.copysign(1, psi))], dtype=torch.float64)
    close(field(state, losses["Wasserstein"], weight=0.8), expected)
    line = nn.Sequential(nn.Linear(1, 1, bias=False), nn.Flatten(0)).double()
    nn.init.constant_(line[0].weight, psi)
    points = torch.tensor([[0.0]], dtype=torch.float64), torch.tensor([[theta]], dtype=torch.float64)
    draw = Draw(points[1], between=torch.tensor([0.4], dtype=torch.float64))
    GradientPenalty(weight=0.8).loss(Networks(nn.Identity(), line), points[0], None, draw, points[1]).total.backward()
    assert -line[0].weight.grad.item() == pytest.approx(-2 * 0.8 * (psi - math.copysign(1, psi)))


def test_momentum_in_the_smallest_game():
    """The factor of a step is that of a long game, played."""
    (factor,) = load(CHAPTER, "factor")
    for beta, gamma in ((0.0, 0.0), (0.6, 0.0), (0.5, 1.0), (0.9, 1.0)):
        theta, psi, theta_move, psi_move, sizes = 1.0, 0.3, 0.0, 0.0, []
        for _ in range(2000):
            psi_move = beta * psi_move - 0.1 * (theta + gamma * psi)
            psi += psi_move
            theta_move = beta * theta_move + 0.1 * psi
            theta += theta_move
            sizes.append(math.hypot(theta, psi))
        late = max(sizes[1950:]) / max(sizes[950:1000])
        assert late ** (1 / 1000) == pytest.approx(factor(beta, gamma), abs=5e-4)


@equation("ST.23", r"(Tp)_x = \sum_k w_k\, p_{x-k}")
def test_shifts_of_a_law():
    """(ST.23) by the double sum; a law that does not wrap round is never lost."""
    (changed_law,) = load(CHAPTER, "changed_law")
    w, p = [0.2, 0.5, 0.3], [0.1, 0.6, 0.05, 0.25]
    expected = [0.0] * 6
    for k, weight in enumerate(w):
        for place, share in enumerate(p):
            expected[place + k] += weight * share
    found = changed_law(torch.tensor(w, dtype=torch.float64), torch.tensor(p, dtype=torch.float64))
    close(found, torch.tensor(expected, dtype=torch.float64))
    torch.manual_seed(4)
    for _ in range(20):
        weights = torch.rand(4, dtype=torch.float64) * (torch.rand(4) < 0.7)
        weights[1] += 0.1
        matrix = torch.stack([changed_law(weights, row) for row in torch.eye(6, dtype=torch.float64)])
        assert torch.linalg.matrix_rank(matrix) == 6


def test_the_rest_is_a_rest():
    """All five games stand still where the data are, and their matrix there has no real part without R1."""
    field, losses = load(CHAPTER, "field", "LOSSES")
    for name, loss in losses.items():
        still = partial(field, loss=loss, middle=0.5 if name == "least squares" else 0.0)
        origin = torch.zeros(2, dtype=torch.float64)
        close(still(origin), origin)
        close(torch.linalg.eigvals(jacrev(still)(origin)).real, origin, atol=1e-12)
