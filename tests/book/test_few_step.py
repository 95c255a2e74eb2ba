r"""The equations of the chapter "Few steps", held to independent computations."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from gencore.analytic import GaussianMixture
from gencore.diffusion import Cosine, Denoiser, Flow
from gencore.diffusion.denoiser import target
from gencore.diffusion.few_step import clean_of_step, consistent
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/few-step"

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture
def blobs():
    """The chapter's data, put together here once more."""
    means = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])
    return GaussianMixture(torch.tensor([0.4, 0.3, 0.2, 0.1]), means, 0.04 * torch.eye(2).expand(4, 2, 2))


def points(n=40, seed=3):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def times(n=40, low=0.15, high=0.95, seed=4):
    return low + (high - low) * torch.rand(n, generator=torch.Generator().manual_seed(seed))


def network(x_t, t):
    """Any smooth function that depends on all it is given, in place of a network."""
    return torch.sin(1.3 * x_t + 0.4 * x_t.flip(-1) + 2 * t[..., None]) + t[..., None] * x_t


def walked(u, x_t, t, s, steps=400):
    """The solution of dx/dt = u from times t to s by the classical method of order 4."""
    h = ((s - t) / steps)[:, None]
    for k in range(steps):
        now = t + (s - t) * k / steps
        half, full = now + (s - t) / steps / 2, now + (s - t) / steps
        a = u(x_t, now)
        b = u(x_t + h / 2 * a, half)
        c = u(x_t + h / 2 * b, half)
        x_t = x_t + h / 6 * (a + 2 * b + 2 * c + u(x_t + h * c, full))
    return x_t


@equation("FS.1", r"x_t - t\,u_t(x_t) = \bar x = \mathbb E[x \mid x_t]")
def test_a_straight_step_lands_on_the_mean_clean_point(blobs):
    """(FS.1): the mean by adding up a grid of clean points; the chapter's velocity, and gencore's denoiser."""
    exact_velocity, mean_clean, leap = load(CHAPTER, "exact_velocity", "mean_clean", "leap")
    line = torch.linspace(-4, 4, 321)
    grid = torch.cartesian_prod(line, line)
    for t in (0.3, 0.7, 1.0):
        t = torch.tensor(t)
        x_t = points(5)
        for point, found in zip(x_t, leap(exact_velocity, x_t, t.expand(5)), strict=True):
            seen = MultivariateNormal((1 - t) * grid, t**2 * torch.eye(2)).log_prob(point)
            weight = (blobs.log_prob(grid) + seen).exp()
            close(found, (weight[:, None] * grid).sum(0) / weight.sum(), atol=1e-6)
        close(mean_clean(x_t, t.expand(5)), blobs.denoise(1 - t, t, x_t), atol=1e-9)
    close(leap(exact_velocity, points(), torch.ones(40)), (blobs.weights @ blobs.means).expand(40, 2), atol=1e-9)


@equation("FS.2", r"""
    f(x_t, t) = x_t - \int_0^t u_s(x_s)\,ds, \qquad \frac{dx_s}{ds} = u_s(x_s) \ \text{ through } x_t""")
def test_the_consistency_function_is_the_end_of_the_path():
    """(FS.2): against a solver of order 4, and the integral of the velocity along its path."""
    exact_velocity, exact_leap = load(CHAPTER, "exact_velocity", "exact_leap")
    x_t, t = points(), times()
    end = walked(exact_velocity, x_t, t, 0 * t)
    close(exact_leap(x_t, t, 800), end, atol=2e-4)
    marks, path, speeds = 200, x_t, [exact_velocity(x_t, t)]
    for k in range(marks):
        path = walked(exact_velocity, path, t * (1 - k / marks), t * (1 - (k + 1) / marks), steps=4)
        speeds.append(exact_velocity(path, t * (1 - (k + 1) / marks)))
    integral = torch.trapezoid(torch.stack(speeds), dx=1 / marks, dim=0) * t[:, None]
    close(x_t - integral, end, atol=2e-3)


@equation("FS.3", r"f(x_t, t) = f(x_s, s) \ \text{ for all } s, t \text{ on one path}, \qquad f(x_0, 0) = x_0")
def test_all_points_of_a_path_have_one_end():
    """(FS.3): points walked along their paths by another solver, up and down, and points at time 0."""
    exact_velocity, exact_leap = load(CHAPTER, "exact_velocity", "exact_leap")
    x_t, t = points(), times(high=0.8)
    for share in (0.5, 1.2):
        x_s = walked(exact_velocity, x_t, t, share * t)
        close(exact_leap(x_s, share * t, 800), exact_leap(x_t, t, 800), atol=1e-3)
    assert torch.equal(exact_leap(x_t, 0 * t), x_t)


@equation("FS.4", r"\frac{d}{dt} f(x_t, t) = \frac{\partial f}{\partial t} + \nabla f \cdot u_t(x_t) = 0")
def test_along_a_path_nothing_changes():
    """(FS.4): the chapter's difference quotient against automatic differentiation; 0 for the exact function only."""
    drift_along, exact_velocity, exact_leap, leap = load(
        CHAPTER, "drift_along", "exact_velocity", "exact_leap", "leap"
    )
    x_t, t = points(), times(high=0.9)

    def any_f(x_t, t):
        return leap(network, x_t, t)

    for f, still in ((any_f, False), (lambda x_t, t: exact_leap(x_t, t, 400), True)):
        direction = exact_velocity(x_t, t), torch.ones_like(t)
        _, derivative = torch.autograd.functional.jvp(f, (x_t, t), direction)
        close(drift_along(f, x_t, t), derivative, atol=1e-3)
        assert (derivative.norm(dim=1).max() < 0.02) == still


@equation("FS.5", r"f(x_t, t) = x_t - t\,F(x_t, t)")
def test_the_boundary_is_built_in():
    """(FS.5): gencore's function for the same network on `Flow`; at t = 0 the input itself."""
    (leap,) = load(CHAPTER, "leap")
    x_t, t = points(), times()
    denoiser = Denoiser(lambda x_t, t, cond: network(x_t, t), Flow(), "velocity")
    close(leap(network, x_t, t), consistent(denoiser, x_t, t), atol=1e-6)  # the network speaks in single precision
    assert torch.equal(leap(network, x_t, 0 * t), x_t)


@equation("FS.6", r"""
    \mathcal L_n = \mathbb E\left[\frac1{t - s}\; d\Big(f(x_t, t),\; \mathrm{sg}\big[f(\hat x_s, s)\big]\Big)\right]""")
@pytest.mark.parametrize("taught", [True, False])
@pytest.mark.parametrize("squared", [True, False])
def test_neighbours_are_to_have_one_end(taught, squared):
    """(FS.6): written out for each pair, with its gradient by a difference quotient that moves the later end alone."""
    consistency_loss, neighbours, exact_velocity = load(CHAPTER, "consistency_loss", "neighbours", "exact_velocity")
    x, eps, gaps = points(8)[None], points(8, seed=5)[None], 10.0
    t, s = neighbours(times(8, 0.0, 1.0)[None], torch.tensor(gaps))
    close(t - s, torch.full_like(t, 0.1), atol=1e-12)
    assert (s >= 0).all() and (t <= 1).all()

    def stretched(factor):
        return lambda x_t, t: factor * network(x_t, t)

    def by_hand(late, early):
        total = []
        for x_, eps_, t_, s_ in zip(x[0], eps[0], t[0], s[0], strict=True):
            x_t = (1 - t_) * x_ + t_ * eps_
            x_s = (1 - s_) * x_ + s_ * eps_
            if taught:
                u = exact_velocity(x_t, t_)
                ahead = x_t - (t_ - s_) * u
                x_s = x_t - (t_ - s_) * (u + exact_velocity(ahead, s_)) / 2
            square = ((x_t - t_ * late * network(x_t, t_)) - (x_s - s_ * early * network(x_s, s_))).square().sum()
            total.append(gaps * (square if squared else (square + 1e-6).sqrt() - 1e-3))
        return torch.stack(total)

    factor = torch.tensor(0.7, requires_grad=True)
    flags = [torch.full((1, 1), flag) for flag in (taught, squared)]
    found = consistency_loss(stretched(factor), x, eps, t, s, *flags)
    close(found[0].detach(), by_hand(0.7, 0.7), atol=1e-9)
    (gradient,) = torch.autograd.grad(found.sum(), factor)
    quotient = (by_hand(0.7 + 1e-5, 0.7).sum() - by_hand(0.7 - 1e-5, 0.7).sum()) / 2e-5
    close(gradient, quotient, atol=1e-4)


@equation("FS.7", r"""
    f(x_1, 1) - x_0 = \sum_{k=1}^{n} \Big(f(x_{t_k}, t_k) - f(x_{t_{k-1}}, t_{k-1})\Big)""")
def test_disagreements_add_up_to_the_error():
    """(FS.7): along exact paths, for a function that is not consistent."""
    leap, exact_velocity = load(CHAPTER, "leap", "exact_velocity")
    x, marks = points(), torch.linspace(1, 0, 9)
    said = [leap(network, x, marks[0].expand(40))]
    start = said[0]
    for t, s in zip(marks[:-1], marks[1:], strict=True):
        x = walked(exact_velocity, x, t.expand(40), s.expand(40), steps=50)
        said.append(leap(network, x, s.expand(40)))
    summed = sum(a - b for a, b in zip(said[:-1], said[1:], strict=True))
    close(start - x, summed, atol=1e-9)


@equation("FS.8", r"\mathbb E\big[f(x_s, s) \mid x_t\big] = f(\hat x_s, s) + O(h^2)")
def test_pairs_teach_what_the_teacher_teaches_up_to_second_order():
    """(FS.8): the mean over pairs by a grid of clean points; a quarter for half the gap."""
    pairs_through, leap, heun_step, mix = load(CHAPTER, "pairs_through", "leap", "heun_step", "mix")
    means = torch.tensor([[2.0, 0.0], [0.0, 2.0], [-2.0, 0.0], [0.0, -2.0]])
    data = GaussianMixture(torch.tensor([0.4, 0.3, 0.2, 0.1]), means, 0.04 * torch.eye(2).expand(4, 2, 2))
    line = torch.linspace(-3.5, 3.5, 281)
    x = torch.cartesian_prod(line, line)
    x_t, t = torch.tensor([0.5, 0.4]), torch.tensor(0.6)
    eps = (x_t - (1 - t) * x) / t
    weight = (data.log_prob(x) - 0.5 * eps.square().sum(1)).softmax(0)
    off = []
    for h in (1 / 8, 1 / 16, 1 / 32, 1 / 64):
        s = t - h
        mean = (weight[:, None] * leap(network, mix(x, eps, s), s.expand(len(x)))).sum(0)
        off.append((mean - leap(network, heun_step(x_t, t, s), s)).norm().item())
    assert off[1] / off[2] == pytest.approx(4, rel=0.25) and off[2] / off[3] == pytest.approx(4, rel=0.15)
    drawn, noise = pairs_through(x_t, t, 100_000, 0)  # the chapter draws what the grid weighs
    close(mix(drawn, noise, t), x_t.expand(100_000, 2), atol=1e-9)
    close(drawn.mean(0), (weight[:, None] * x).sum(0), atol=0.02)
    close(drawn.var(0), (weight[:, None] * x**2).sum(0) - (weight[:, None] * x).sum(0) ** 2, atol=0.03)


@equation("FS.9", r"""
    \mathbb E\Big[\big\lVert f(x_t, t) - f(x_s, s)\big\rVert^2 \,\Big|\, x_t\Big] =
    \Big\lVert f(x_t, t) - \mathbb E\big[f(x_s, s) \mid x_t\big]\Big\rVert^2 +
    \underbrace{\mathrm{Var}\big[f(x_s, s) \mid x_t\big]}_{\text{no gradient, thanks to sg}}""")
def test_the_loss_of_pairs_is_that_of_their_mean_and_a_variance():
    """(FS.9): both sides over pairs; the gradients of the first two agree if and only if the goal is held."""
    pairs_through, leap, mix = load(CHAPTER, "pairs_through", "leap", "mix")
    x_t, t, s = torch.tensor([0.5, 0.4]), torch.tensor(0.6), torch.tensor(0.5)
    x, eps = pairs_through(x_t, t, 2_000, 1)
    factor = torch.tensor(1.0, requires_grad=True)

    def f(x_t, t):
        return leap(lambda x_t, t: factor * network(x_t, t), x_t, t.expand(x_t.shape[:-1]))

    here, goals = f(x_t, t), f(mix(x, eps, s), s)
    held = goals.detach()
    whole = (here - goals).square().sum(1).mean()
    close(whole, (here - goals.mean(0)).square().sum() + goals.var(0, unbiased=False).sum(), atol=1e-9)

    def slope(loss):
        return torch.autograd.grad(loss, factor, retain_graph=True)[0]

    of_mean = slope((here - held.mean(0)).square().sum())
    close(slope((here - held).square().sum(1).mean()), of_mean, atol=1e-9)
    assert abs(slope(whole) - of_mean) > 1e-3


@equation("FS.10", r"""
    F(x_t, t) = \tfrac12\Big(u(x_t, t) + u(x_m, m)\Big), \qquad x_m = x_t - (t - m)\,u(x_t, t), \qquad
    m = \frac{t + s}2""")
def test_a_student_takes_the_mean_of_two_velocities():
    """(FS.10): two Euler steps of the teacher, and gencore's clean picture that leads there in one."""
    (halved_target,) = load(CHAPTER, "halved_target")
    x_t, t = points(), times(low=0.3)
    s = t - 0.25
    middle = x_t - 0.125 * network(x_t, t)
    landed = middle - 0.125 * network(middle, t - 0.125)
    found = halved_target(network, x_t, t, s)
    close(x_t - 0.25 * found, landed, atol=1e-12)
    clean = clean_of_step(Flow(), x_t, landed, t, s)
    eps = (x_t - (1 - t[:, None]) * clean) / t[:, None]
    close(target("velocity", Flow(), clean, eps, t), found, atol=1e-9)


@equation("FS.11", r"""
    x_0' = f(x_t, t), \qquad x_s = (1 - s)\,x_0' + s\,\varepsilon', \qquad x_0'' = f(x_s, s), \qquad
    \varepsilon' \sim \mathcal N(0, I)""")
def test_leaps_with_fresh_noise_keep_the_law():
    """(FS.11): for one Gaussian, where the exact function is a factor; and each leap by hand."""
    (leap_again,) = load(CHAPTER, "leap_again")
    a = 0.5

    def gaussian(x_t, t):  # F of the exact function of N(0, a^2 I)
        factor = a / ((1 - t) ** 2 * a**2 + t**2).sqrt()
        return (1 - factor[..., None]) * x_t / t[..., None]

    noise = torch.randn(1, 100_000, 2, generator=torch.Generator().manual_seed(6))
    for leaps in ((1.0,), (1.0, 0.5), (1.0, 0.7, 0.2)):
        drawn = leap_again(gaussian, noise, leaps, 0)
        close(drawn.std(), a, atol=0.005)
    fresh = torch.randn(noise.shape, generator=torch.Generator().manual_seed(0))
    middle = 0.5 * a * noise + 0.5 * fresh
    close(leap_again(gaussian, noise, (1.0, 0.5), 0), middle * a / math.sqrt(0.25 * a**2 + 0.25), atol=1e-9)


def test_exercise_a_step_on_the_circle_is_a_rotation():
    """Of exercise fs-e3: v of `Cosine` by hand."""
    x_t, x_s, t, s = points(), points(seed=8), times(low=0.5), times(high=0.4, seed=9)
    clean = clean_of_step(Cosine(), x_t, x_s, t, s)
    eps = (x_t - Cosine().alpha(t)[:, None] * clean) / Cosine().sigma(t)[:, None]
    angle = math.pi / 2 * (t - s)[:, None]
    close(target("v", Cosine(), clean, eps, t), (angle.cos() * x_t - x_s) / angle.sin(), atol=1e-9)
