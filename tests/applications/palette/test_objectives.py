"""The loss of a mending denoiser, on networks that are formulas."""

import pytest
import torch

from gencore.applications.palette import Mending, Seen, seeing
from gencore.diffusion import Flow
from gencore.diffusion.objectives import Denoising, Draw, LogisticNormalTimes, MinSNR, UniformTimes


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


X, SOURCE, EPS = normal(6, 3, 8, 8, seed=0), normal(6, 4, 8, 8, seed=1), normal(6, 3, 8, 8, seed=2)
U = torch.linspace(0.1, 0.9, 6, dtype=torch.float64)
HOLE = (normal(6, 1, 8, 8, seed=3) > 0.3).double()
DRAW = Draw(EPS, U)


def half_right(x_t, t, source, words):
    """A network whose output is a mix of all that it is shown."""
    every = x_t.mean((2, 3), keepdim=True)  # of all places, so that what is outside a hole would be noticed
    return 0.5 * x_t + every + 0.3 * source[:, :3] + t[:, None, None, None] + (0 if words is None else words.sum(1)[:, None, None, None])


@pytest.mark.parametrize("times", [UniformTimes(), LogisticNormalTimes(-0.5, 0.8)])
def test_everywhere_it_is_the_loss_of_diffusion(times):
    denoiser = seeing(half_right, Flow(), "velocity", Seen(SOURCE))
    ours, theirs = Mending(times, MinSNR())(denoiser, X, None, DRAW), Denoising(times, MinSNR())(denoiser, X, None, DRAW)
    torch.testing.assert_close(ours.total, theirs.total)
    torch.testing.assert_close(ours.parts["squared_error"], theirs.parts["squared_error"])


def test_in_a_hole_only_its_pixels_count_and_each_picture_the_same():
    """By hand: the mean over pictures of the mean over a hole's pixels and channels."""
    seen = Seen(SOURCE, hole=HOLE)
    loss = Mending(UniformTimes())(seeing(half_right, Flow(), "velocity", seen), X, HOLE, DRAW).total
    total = 0.0
    for x, source, eps, t, hole in zip(X, SOURCE, EPS, U, HOLE, strict=True):
        x_t = (1 - t) * x + t * eps
        output = 0.5 * x_t + (hole * x_t).mean((1, 2), keepdim=True) + 0.3 * source[:3] + t  # the network sees of the noised picture what is in the hole
        squared = (output - (eps - x)).square().mean(0)
        total += squared[hole[0] > 0].mean() / 6
    torch.testing.assert_close(loss, total)


def test_what_is_outside_the_hole_changes_nothing():
    seen = Seen(SOURCE, hole=HOLE)
    denoiser, loss = seeing(half_right, Flow(), "velocity", seen), Mending()
    elsewhere = torch.where(HOLE > 0, X, X + 5), Draw(torch.where(HOLE > 0, EPS, -EPS), U)
    torch.testing.assert_close(loss(denoiser, elsewhere[0], HOLE, elsewhere[1]).total, loss(denoiser, X, HOLE, DRAW).total)


def test_a_picture_without_a_hole_counts_nothing():
    hole = HOLE.clone()
    hole[2] = 0
    seen = Seen(SOURCE, hole=hole)
    loss = Mending()(seeing(half_right, Flow(), "velocity", seen), X, hole, DRAW)
    assert loss.total.isfinite()
    others = [0, 1, 3, 4, 5]
    rest = Seen(SOURCE[others], hole=hole[others])
    five = Mending()(seeing(half_right, Flow(), "velocity", rest), X[others], hole[others], Draw(EPS[others], U[others]))
    torch.testing.assert_close(6 * loss.total, 5 * five.total)


def test_weights_weigh_and_parts_do_not():
    seen = Seen(SOURCE, hole=HOLE)
    denoiser = seeing(half_right, Flow(), "velocity", seen)
    plain, weighted = (Mending(UniformTimes(), *weight)(denoiser, X, HOLE, DRAW) for weight in ((), (MinSNR(2.0),)))
    torch.testing.assert_close(plain.total, plain.parts["squared_error"])
    torch.testing.assert_close(weighted.parts["squared_error"], plain.parts["squared_error"])
    assert not torch.isclose(weighted.total, plain.total)


def test_source_and_words_reach_the_network():
    words = torch.arange(12).view(6, 2)
    shown = []
    seeing(lambda *given: shown.append(given) or given[0], Flow(), "velocity", Seen(SOURCE, words=words)).output(X, U)
    ((x_t, t, source, read),) = shown
    assert torch.equal(x_t, X) and torch.equal(t, U) and torch.equal(source, SOURCE) and torch.equal(read, words)


def test_the_best_network_is_the_mean_given_all_that_is_shown():
    """Data are the source plus noise of its own: least squares on all that is shown finds the posterior mean."""
    source, noise, eps = normal(40_000, 1, 1, 1, seed=4), normal(40_000, 1, 1, 1, seed=5), normal(40_000, 1, 1, 1, seed=6)
    x, t = source + 0.5 * noise, torch.full((40_000,), 0.4, dtype=torch.float64)
    weight = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    denoiser = seeing(lambda x_t, t, s, w: weight[0] * x_t + weight[1] * s, Flow(), "x", Seen(source))
    # Two Newton steps from two points find the least squares exactly, since the loss is quadratic.
    (gradient,) = torch.autograd.grad(
        Mending(UniformTimes())(denoiser, x, None, Draw(eps, t)).total, weight, create_graph=True
    )
    hessian = torch.stack([torch.autograd.grad(g, weight, retain_graph=True)[0] for g in gradient])
    found = -torch.linalg.solve(hessian, gradient.detach())
    # x_t = 0.6 x + 0.4 eps; x given the source is N(source, 0.25).
    gain = 0.6 * 0.25 / (0.36 * 0.25 + 0.16)
    torch.testing.assert_close(found, torch.tensor([gain, 1 - 0.6 * gain], dtype=torch.float64), atol=0.02, rtol=0)
