"""SDEdit: on Gaussian data its result is known; strength 0 changes nothing, and what is outside a hole stays."""

from functools import partial

import pytest
import torch

from gencore.applications.editing.drawings import sdedit
from gencore.diffusion import Flow
from gencore.diffusion.samplers import ddim, euler, heun
from gencore.errors import InputError
from tests.diffusion.exact import each_process, gaussian, number, rand, std_at

ROUGH, EPS = rand(50, 3, seed=1) * 2, rand(50, 3, seed=2)


@each_process
@pytest.mark.parametrize("strength", [0.3, 0.7, 1.0])
def test_redrawn_gaussians_are_known(process, strength):
    """The flow keeps every number's distance from the mean in units of the standard deviation at its time."""
    mean, std, t = 0.4, 0.6, number(strength)
    drawn = sdedit(gaussian(process, std, mean), process, ROUGH, strength, EPS, steps=1000, sampler=heun)
    noised = process.alpha(t) * ROUGH + process.sigma(t) * EPS
    end = std_at(process, number(0.0), std) / std_at(process, t, std)
    wanted = process.alpha(number(0.0)) * mean + end * (noised - process.alpha(t) * mean)
    torch.testing.assert_close(drawn, wanted, rtol=0, atol=2e-3)


def test_strength_nought_gives_the_picture_back_and_one_forgets_it():
    denoise = gaussian(Flow(), 0.6, 0.4)
    assert torch.equal(sdedit(denoise, Flow(), ROUGH, 0.0, EPS), ROUGH)
    assert torch.equal(sdedit(denoise, Flow(), ROUGH, 1.0, EPS), sdedit(denoise, Flow(), -ROUGH, 1.0, EPS))


def test_more_noise_keeps_less():
    denoise = gaussian(Flow(), 0.6)
    kept = [(sdedit(denoise, Flow(), ROUGH, s, EPS, steps=50) - ROUGH).abs().mean().item() for s in (0.0, 0.2, 0.5, 0.9)]
    assert kept == sorted(kept) and kept[0] == 0 < kept[1]


@pytest.mark.parametrize("sampler", [euler, heun, partial(ddim, eta=0.0)])
def test_outside_the_hole_nothing_changes(sampler):
    """And inside, the model is shown what is around, with the noise of the moment."""
    shown = []

    def denoise(x_t, t):
        shown.append((t.item(), x_t))
        return torch.full_like(x_t, 0.25)

    hole = torch.tensor([True, False, False])
    drawn = sdedit(denoise, Flow(), ROUGH, 0.5, EPS, steps=10, hole=hole, sampler=sampler)
    assert torch.equal(drawn[:, 1:], ROUGH[:, 1:])
    torch.testing.assert_close(drawn[:, 0], torch.full_like(drawn[:, 0], 0.25))
    for t, x in shown:
        torch.testing.assert_close(x[:, 1:], ((1 - t) * ROUGH + t * EPS)[:, 1:])


@pytest.mark.parametrize(("steps", "strength", "asked"), [(20, 1.0, 20), (20, 0.5, 10), (20, 0.01, 1)])
def test_steps_are_those_of_the_whole_way(steps, strength, asked):
    calls = []
    sdedit(lambda x, t: calls.append(t.item()) or x, Flow(), ROUGH, strength, EPS, steps)
    assert len(calls) == asked and calls[0] == pytest.approx(strength)


def test_nonsense_is_refused():
    for strength in (-0.1, 1.1):
        with pytest.raises(InputError, match="strength"):
            sdedit(gaussian(Flow(), 1.0), Flow(), ROUGH, strength, EPS)
    with pytest.raises(InputError, match="need a step"):
        sdedit(gaussian(Flow(), 1.0), Flow(), ROUGH, 0.5, EPS, steps=0)
