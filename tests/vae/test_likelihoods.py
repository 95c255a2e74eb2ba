"""Likelihoods of pictures: each against torch.distributions or a plain restatement, and sums to one."""

import math

import pytest
import torch
from torch.distributions import Bernoulli as TorchBernoulli, Normal

from gencore.errors import InputError
from gencore.vae import Bernoulli, DiscretisedLogistic, Gaussian

LEVELS = 2 * torch.arange(256, dtype=torch.float64) / 255 - 1


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every_level(location, log_scale):
    """Log-probabilities of the 256 levels of one pixel."""
    params = torch.tensor([location, log_scale], dtype=torch.float64).view(1, 2, 1, 1).expand(256, -1, -1, -1)
    return DiscretisedLogistic().log_prob(params, LEVELS.view(-1, 1, 1, 1))


def test_bernoulli_is_that_of_torch():
    logits, x = 3 * rand(5, 2, 4, 4), rand(5, 2, 4, 4, seed=1).sign()
    expected = TorchBernoulli(logits=logits).log_prob((x + 1) / 2).sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli().log_prob(logits, x), expected)
    torch.testing.assert_close(Bernoulli().location(logits), 2 / (1 + (-logits).exp()) - 1)


def test_bernoulli_probabilities_of_all_pictures_sum_to_one():
    pictures = 2.0 * torch.cartesian_prod(*[torch.arange(2)] * 6).view(64, 1, 2, 3) - 1
    logits = rand(1, 1, 2, 3).expand(64, -1, -1, -1)
    assert Bernoulli().log_prob(logits, pictures).exp().sum().item() == pytest.approx(1)


def test_bernoulli_samples_have_the_stated_mean():
    logits = rand(1, 1, 3, 3)
    x = Bernoulli().sample(logits.expand(40_000, -1, -1, -1), torch.Generator().manual_seed(0))
    assert set(x.unique().tolist()) == {-1.0, 1.0}
    torch.testing.assert_close(x.mean(0), Bernoulli().location(logits)[0], atol=0.03, rtol=0)


def test_gaussian_is_that_of_torch():
    mean, x = rand(5, 3, 4, 4), rand(5, 3, 4, 4, seed=1)
    expected = Normal(mean, 0.3).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(Gaussian(0.3).log_prob(mean, x), expected)
    assert torch.equal(Gaussian().location(mean), mean.clamp(-1, 1))
    draws = Gaussian(0.3).sample(mean[:1].expand(20_000, -1, -1, -1), torch.Generator().manual_seed(0))
    torch.testing.assert_close(draws.mean(0).double(), mean[0], atol=0.02, rtol=0)
    torch.testing.assert_close(draws.std(0), torch.full_like(draws[0], 0.3), atol=0.02, rtol=0)


@pytest.mark.parametrize("sigma", [0.0, -1.0, float("nan")])
def test_gaussian_refuses_a_width_that_is_none(sigma):
    with pytest.raises(InputError, match="positive"):
        Gaussian(sigma)


@pytest.mark.parametrize("location", [-3.0, -1.0, -0.37, 0.0, 0.5001, 1.0, 2.0])
@pytest.mark.parametrize("log_scale", [-20.0, -7.0, -3.0, 0.0, 3.0, 20.0])
def test_discretised_logistic_sums_to_one(location, log_scale):
    """Scales beyond the network's range are clamped to it, and still give a distribution."""
    log_probs = every_level(location, log_scale)
    assert log_probs.isfinite().all()
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize(("location", "log_scale"), [(-1.02, -2.0), (-0.4, -1.5), (0.0, 0.0), (0.71, -4.0), (1.1, -3.0)])
def test_discretised_logistic_is_a_difference_of_sigmoids(location, log_scale):
    """Plainly: CDF at the upper edge minus CDF at the lower edge; the outermost intervals have no outer edge."""
    upper, lower = LEVELS + 1 / 255, LEVELS - 1 / 255
    upper[-1], lower[0] = math.inf, -math.inf
    scale = math.exp(log_scale)
    probs = torch.sigmoid((upper - location) / scale) - torch.sigmoid((lower - location) / scale)
    some = probs > 1e-8  # where the difference is still exact
    assert some.sum() > 10
    torch.testing.assert_close(every_level(location, log_scale)[some].exp(), probs[some], rtol=1e-6, atol=0)


def test_discretised_logistic_adds_pixels_and_splits_channels():
    """Locations of all channels come first, then the logarithms of all scales."""
    params, x = rand(2, 6, 4, 4), LEVELS[torch.randint(256, (2, 3, 4, 4), generator=torch.Generator().manual_seed(0))]
    each = [
        every_level(params[b, c, i, j].item(), params[b, 3 + c, i, j].item())[((x[b, c, i, j] + 1) * 127.5).round().long()]
        for b in range(2) for c in range(3) for i in range(4) for j in range(4)
    ]
    torch.testing.assert_close(DiscretisedLogistic().log_prob(params, x), torch.stack(each).view(2, -1).sum(1))
    assert torch.equal(DiscretisedLogistic().location(params), params[:, :3].clamp(-1, 1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_discretised_logistic_keeps_gradients_finite(dtype):
    """At both ends, far from the location, at scales near and beyond the limits, in single precision."""
    locations, log_scales, x = torch.meshgrid(
        torch.tensor([-9.0, -1, 0, 1, 9]), torch.tensor([-30.0, -7, -6.9, 0, 3, 30]), torch.tensor([-1.0, -253 / 255, 1 / 255, 1]),
        indexing="ij",
    )
    params = torch.stack([locations.flatten(), log_scales.flatten()], 1)[:, :, None, None].to(dtype).requires_grad_()
    log_probs = DiscretisedLogistic().log_prob(params, x.reshape(-1, 1, 1, 1))
    log_probs.sum().backward()
    assert log_probs.dtype == torch.float32
    assert log_probs.isfinite().all() and params.grad.isfinite().all()
    assert (params.grad[:, 0] != 0).any()


def test_discretised_logistic_samples_follow_its_probabilities():
    params = torch.tensor([0.8, -2.0]).view(1, 2, 1, 1).expand(200_000, -1, -1, -1)
    x = DiscretisedLogistic().sample(params, torch.Generator().manual_seed(0)).flatten()
    number = (x + 1) * 127.5
    torch.testing.assert_close(number, number.round(), atol=1e-4, rtol=0)
    counted = torch.bincount(number.round().long(), minlength=256) / len(x)
    expected = every_level(0.8, -2.0).exp()
    assert ((counted - expected).abs() < 6 * (expected / len(x)).sqrt() + 1e-5).all()


@pytest.mark.parametrize("likelihood", [Bernoulli(), Gaussian(), DiscretisedLogistic()])
def test_narrow_numbers_are_widened_and_wide_ones_kept(likelihood):
    params = torch.zeros(2, likelihood.per_channel, 3, 3)
    x = torch.ones(2, 1, 3, 3)
    assert likelihood.log_prob(params.bfloat16(), x).dtype == torch.float32
    assert likelihood.log_prob(params.double(), x.double()).dtype == torch.float64
    assert likelihood.location(params.bfloat16()).dtype == torch.float32
    one, same, other = (likelihood.sample(params, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)
    assert one.shape == x.shape
