"""RePaint: its walk, and that on Gaussian data fills follow the law that they should, known in closed form."""

from itertools import pairwise

import pytest
import torch

from gencore.applications.inpainting.resampling import evaluations, jumps, repaint
from gencore.diffusion import EDM, Flow
from gencore.diffusion.samplers import even_times
from gencore.errors import InputError
from tests.diffusion.exact import PROCESSES, each_process, number

CORRELATION = 0.9


def test_a_walk_without_jumps_goes_straight_down():
    assert jumps(4, 2, 1) == [0, 1, 2, 3, 4]


def test_jumps_walk_each_stretch_as_often_as_asked():
    """The paper's figure 9, at a small size: down two, up two, as often as asked, and then on."""
    assert jumps(5, 2, 2) == [0, 1, 2, 3, 2, 1, 2, 3, 4, 5, 4, 3, 4, 5]
    walk = jumps(6, 2, 3)
    steps = list(pairwise(walk))
    assert walk[0] == 0 and walk[-1] == 6 and all(abs(a - b) == 1 for a, b in steps)
    assert [steps.count((place, place + 1)) for place in range(6)] == [1, 1, 3, 3, 3, 3]
    assert evaluations(walk) == 14 and evaluations(jumps(6, 2, 1)) == 6


@pytest.mark.parametrize("wrong", [(0, 1, 1), (5, 0, 1), (5, 1, 0)])
def test_a_walk_of_nothing_is_refused(wrong):
    with pytest.raises(InputError, match="must be at least 1"):
        jumps(*wrong)


def correlated(process):
    """The mean clean pair of noised pairs, where the data are Gaussian, of unit variance and correlated."""
    covariance = torch.tensor([[1.0, CORRELATION], [CORRELATION, 1.0]], dtype=torch.float64)

    def denoise(x_t, t):
        alpha, sigma = process.alpha(t), process.sigma(t)
        gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + sigma**2 * torch.eye(2, dtype=torch.float64))
        return x_t @ gain.T

    return denoise


def filled(process, resamples, count=5_000, steps=40, length=4, known=1.5):
    generator = torch.Generator().manual_seed(0)
    picture = torch.tensor([known, float("nan")], dtype=torch.float64).expand(count, 2)
    hole = torch.tensor([False, True])
    fresh = lambda: torch.randn(count, 2, generator=generator, dtype=torch.float64)  # noqa: E731
    drawn = repaint(
        correlated(process), process, even_times(steps), picture, hole, fresh, jumps(steps, length, resamples)
    )
    assert (drawn[:, 0] == known).all()
    return drawn[:, 1]


@each_process
def test_fills_follow_the_conditional_law(process):
    """N(rho x, 1 - rho^2), within what forty steps allow; without jumps they know too little of the pixel beside."""
    wanted, spread = CORRELATION * 1.5, (1 - CORRELATION**2) ** 0.5
    with_jumps, without = filled(process, 20), filled(process, 1)
    assert with_jumps.mean().item() == pytest.approx(wanted, abs=0.1)
    assert with_jumps.std().item() == pytest.approx(spread, abs=0.07)
    assert abs(without.mean().item() - wanted) > 2 * abs(with_jumps.mean().item() - wanted)


def test_with_an_empty_hole_nothing_changes_and_with_a_full_one_all_is_drawn():
    picture = torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(1)
    draw = lambda: torch.randn(5, 3, 4, 4, generator=generator)  # noqa: E731
    nothing, everything = torch.zeros(5, 1, 4, 4, dtype=torch.bool), torch.ones(5, 1, 4, 4, dtype=torch.bool)
    denoise = lambda x, t: torch.full_like(x, 0.25)  # noqa: E731
    assert torch.equal(repaint(denoise, Flow(), even_times(3), picture, nothing, draw), picture)
    drawn = repaint(denoise, Flow(), even_times(3), picture, everything, draw)
    assert torch.allclose(drawn, torch.full_like(drawn, 0.25))  # the last step shows the mean


@pytest.mark.parametrize("process", [PROCESSES["linear"], Flow(), EDM()])
def test_the_known_part_has_the_noise_of_each_step(process):
    """What the network is shown outside the hole has the moments of q(x_t | x), on the way down and after jumps."""
    shown = []

    def spy(x_t, t):
        shown.append((t, x_t[:, 0]))
        return torch.zeros_like(x_t)

    generator = torch.Generator().manual_seed(2)
    picture = torch.full((20_000, 2), 0.7, dtype=torch.float64)
    fresh = lambda: torch.randn(20_000, 2, generator=generator, dtype=torch.float64)  # noqa: E731
    repaint(spy, process, even_times(6), picture, torch.tensor([False, True]), fresh, jumps(6, 2, 2))
    assert len(shown) == evaluations(jumps(6, 2, 2)) > 6
    for t, x in shown:
        assert x.mean().item() == pytest.approx((0.7 * process.alpha(t)).item(), abs=0.03 * max(1, process.sigma(t).item()))
        assert x.std().item() == pytest.approx(process.sigma(t).item(), rel=0.03)
    assert number(0.0) not in [t for t, _ in shown]
