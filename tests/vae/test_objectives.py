"""The objectives against closed forms, on a VAE whose evidence is known, and against plain restatements."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence as torch_kl

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.vae import VAE, Level
from gencore.vae import (
    ELBO, IWAE, Bernoulli, DiscretisedLogistic, Draw, Gaussian, Networks, kl_divergence, log_prior_minus_posterior,
    log_weights,
)
from tests.vae.linear import LinearVAE, rand


def level(*shape):
    """Moments of posterior and prior, and a draw."""
    mean, log_std, prior_mean, prior_log_std, eps = (rand(*shape, seed=seed) for seed in range(5))
    return Level(mean + (log_std / 2).exp() * eps, mean, log_std / 2, prior_mean, prior_log_std / 3)


def laws(of):
    return Normal(of.mean, of.log_std.exp()), Normal(of.prior_mean, of.prior_log_std.exp())


def test_kl_is_that_of_torch():
    """(VA.10), against any Gaussian prior."""
    of = level(5, 3, 2, 2)
    torch.testing.assert_close(kl_divergence(of), torch_kl(*laws(of)))


def test_kl_is_what_sampling_gives():
    of = level(1, 3)
    q, p = laws(of)
    z = q.mean + q.stddev * rand(1_000_000, 3, seed=9)
    terms = q.log_prob(z) - p.log_prob(z)
    assert ((terms.mean(0) - kl_divergence(of)).abs() < 5 * terms.std(0) / 1000).all()


def test_kl_is_zero_where_the_two_agree_and_positive_elsewhere():
    of = level(50, 3)
    assert (kl_divergence(of) > 0).all()
    same = of._replace(mean=of.prior_mean, log_std=of.prior_log_std)
    torch.testing.assert_close(kl_divergence(same), torch.zeros(50, 3, dtype=torch.float64), atol=1e-12, rtol=0)


def test_log_prior_minus_posterior_is_that_of_torch():
    of = level(5, 3, 2, 2)
    q, p = laws(of)
    expected = (p.log_prob(of.z) - q.log_prob(of.z)).sum((1, 2, 3))
    torch.testing.assert_close(log_prior_minus_posterior(of), expected)


def exact_bound(model, x, objective):
    """The objective's loss with the expectation over noise taken exactly: squares need only its first two moments."""
    noise = model.design(len(x))
    return objective(Networks(model), x.repeat_interleave(len(noise) // len(x), 0), None, Draw((noise,)))


@pytest.mark.parametrize("exact", [False, True])
def test_elbo_of_the_linear_model_is_its_closed_form(exact):
    """(VA.2), (VA.3): log p - ELBO = KL(q || posterior); zero if the encoder is the posterior."""
    model = LinearVAE(exact=exact)
    x = model.images(6)
    bound = -exact_bound(model, x, ELBO(model.likelihood)).parts["bound"]
    q, flat = model.moments(x), x.flatten(1)
    torch.testing.assert_close(bound, model.exact.elbo(flat, *q).mean())
    torch.testing.assert_close(model.exact.log_prob(flat).mean() - bound, model.exact.gap(flat, *q).mean(), atol=1e-9, rtol=1e-9)
    assert (model.exact.gap(flat, *q).mean() < 1e-9) == exact


def test_the_gradient_vanishes_at_the_posterior_and_only_there():
    for exact in (False, True):
        model = LinearVAE(exact=exact)
        exact_bound(model, model.images(6), ELBO(model.likelihood)).total.backward()
        assert (max(model.slope.grad.abs().max(), model.log_std.grad.abs().max()) < 1e-9) == exact


def test_the_parts_of_the_elbo():
    """(VA.11): beta weighs the divergence, and the reported bound is that of beta 1."""
    model = LinearVAE()
    x, draw = model.images(6), Draw((rand(6, 2),))
    loss = ELBO(model.likelihood, beta=0.3)(Networks(model), x, None, draw)
    params, (of,) = model(x, draw.eps)
    reconstruction = -Normal(params, 0.6).log_prob(x).sum((1, 2, 3)).mean()
    kl = torch_kl(*laws(of)).sum(1).mean()
    torch.testing.assert_close(loss.parts["reconstruction"], reconstruction)
    torch.testing.assert_close(loss.parts["kl"], kl)
    torch.testing.assert_close(loss.parts["bound"], reconstruction + kl)
    torch.testing.assert_close(loss.total, reconstruction + 0.3 * kl)


class Fixed(nn.Module):
    """Returns given levels, and params that do not matter."""

    def __init__(self, *levels):
        super().__init__()
        self.levels = levels

    def forward(self, x, eps, cond=None):
        return torch.zeros_like(x), self.levels


def test_free_bits_are_counted_by_channel():
    """(VA.17): each channel of each level pays its mean divergence, summed over the map, or the free amount."""
    levels, free = (level(4, 3), level(4, 5, 2, 2)), 2.0
    x = torch.zeros(4, 1, 2, 2, dtype=torch.float64)
    loss = ELBO(Gaussian(), beta=0.7, free_bits=free)(Networks(Fixed(*levels)), x, None, Draw(()))
    charged, paid = 0.0, 0.0
    for of in levels:
        kl = torch_kl(*laws(of))
        for channel in range(kl.shape[1]):
            nats = sum(kl[image, channel].sum().item() for image in range(4)) / 4
            charged, paid = charged + max(nats, free), paid + nats
    assert loss.total.item() == pytest.approx(loss.parts["reconstruction"].item() + 0.7 * charged)
    assert loss.parts["kl"].item() == pytest.approx(paid) and charged > paid + 0.5


def test_free_bits_leave_cheap_channels_alone():
    of = Level(*(each.clone().requires_grad_() for each in level(4, 3)))
    kl = torch_kl(*laws(of)).mean(0)
    free = kl.sort().values[1].item() + 1e-6  # two channels below, one above
    loss = ELBO(Gaussian(), free_bits=free)(Networks(Fixed(of)), torch.zeros(4, 1, 2, 2, dtype=torch.float64), None, Draw(()))
    loss.total.backward()
    assert ((of.mean.grad != 0).any(0) == (kl > free)).all()


def test_warm_up_is_a_line():
    objective = ELBO(beta=0.8, warm_up=1000)
    assert [objective.after(seen).beta for seen in (0, 250, 1000, 5000)] == pytest.approx([0, 0.2, 0.8, 0.8])
    assert replace(objective, warm_up=0).after(0).beta == 0.8
    assert objective.after(250).likelihood == objective.likelihood
    assert IWAE(draws=3).after(0) == IWAE(draws=3)


def test_log_weights_are_joint_over_posterior():
    """(VA.13): log p(x | z) + log p(z) - log q(z | x), for repeated rows, by torch.distributions."""
    model, k = LinearVAE(), 3
    x, eps = model.images(4), rand(12, 2)
    found = log_weights(model, model.likelihood, x, None, (eps,), k)
    assert found.shape == (4, 3) and model.calls == 1  # an image is encoded once
    for i, j in itertools.product(range(4), range(k)):
        params, (of,) = model(x[i : i + 1], (eps[i * k + j : i * k + j + 1],))
        q, p = laws(of)
        expected = Normal(params, 0.6).log_prob(x[i]).sum() + (p.log_prob(of.z) - q.log_prob(of.z)).sum()
        torch.testing.assert_close(found[i, j], expected)


def test_with_the_posterior_as_encoder_every_weight_is_the_evidence():
    model = LinearVAE(exact=True)
    x = model.images(4)
    found = log_weights(model, model.likelihood, x, None, (rand(20, 2),), 5)
    torch.testing.assert_close(found, model.exact.log_prob(x.flatten(1))[:, None].expand(-1, 5))


def test_iwae_is_the_log_of_the_mean_weight():
    model = LinearVAE()
    x, draw = model.images(4), Draw((rand(12, 2),))
    loss = IWAE(model.likelihood, draws=3)(Networks(model), x, None, draw)
    weights = log_weights(model, model.likelihood, x, None, draw.eps, 3)
    torch.testing.assert_close(loss.total, -weights.exp().mean(1).log().mean())
    torch.testing.assert_close(loss.parts["bound"], loss.total)
    torch.testing.assert_close(loss.parts["elbo"], -weights.mean())


def test_iwae_with_one_draw_is_the_elbo_in_expectation():
    model = LinearVAE()
    x = model.images(3)
    expected = -model.exact.elbo(x.flatten(1), *model.moments(x)).mean()
    loss = IWAE(model.likelihood, draws=1)(Networks(model), x.repeat_interleave(4, 0), None, Draw((model.design(3),)))
    torch.testing.assert_close(loss.total, expected)  # the log-weight is quadratic in the noise


def test_iwae_rises_with_k_over_all_subsets():
    """Burda et al. 2016, theorem 1: averages over K-subsets of the same draws never fall, and stay below log p."""
    model, n = LinearVAE(), 6
    x, eps = model.images(5), rand(5, n, 2)
    means = []
    for k in range(1, n + 1):
        losses = [
            IWAE(model.likelihood, k)(Networks(model), x, None, Draw((eps[:, list(subset)].flatten(0, 1),))).total
            for subset in itertools.combinations(range(n), k)
        ]
        means.append(-torch.stack(losses).mean().item())
    assert all(a < b for a, b in itertools.pairwise(means))


def test_iwae_reaches_the_evidence():
    model, k = LinearVAE(), 200_000
    x = model.images(3)
    loss = IWAE(model.likelihood, k)(Networks(model), x, None, Draw((rand(3 * k, 2),)))
    evidence = model.exact.log_prob(x.flatten(1)).mean()
    gap = model.exact.gap(x.flatten(1), *model.moments(x)).mean()
    assert abs(-loss.total - evidence) < 0.02 < 0.1 < gap


@pytest.mark.parametrize("objective", [ELBO(), IWAE(draws=2)])
def test_reconstruction_gives_the_encoder_the_decoder_inputs_gradient(objective):
    """(VA.7): dz/dmean = 1 and dz/dlog_std = std eps, and nothing else leads from the reconstruction to the encoder."""
    torch.manual_seed(0)
    model = VAE(Autoencoder(size=8, latent=3, width=8, multipliers=(1, 2)))
    x, eps = torch.rand(2, 1, 8, 8).round() * 2 - 1, torch.randn(2, 3)
    params, (of,) = model(x, (eps,))
    error = -Bernoulli().log_prob(params, x).sum()
    z, mean, log_std = torch.autograd.grad(error, (of.z, of.mean, of.log_std))
    torch.testing.assert_close(mean, z)
    torch.testing.assert_close(log_std, z * of.log_std.exp() * eps)
    assert z.abs().min() > 0
    whole = objective(Networks(model), x, None, Draw((eps.repeat_interleave(getattr(objective, "draws", 1), 0),)))
    whole.total.backward()
    assert all(p.grad is not None for p in model.encoder.parameters())


OPTIONS = [
    (ELBO(Gaussian(0.5)), ELBO(Gaussian(0.4))),
    (ELBO(Bernoulli()), ELBO(Gaussian())),
    (ELBO(Bernoulli()), ELBO(DiscretisedLogistic())),
    (ELBO(), ELBO(beta=0.9)),
    (ELBO(), ELBO(free_bits=3.0)),
    (ELBO(), ELBO(warm_up=1000)),
    (ELBO(), IWAE(draws=1)),
    (IWAE(draws=2), IWAE(draws=3)),
    (IWAE(Bernoulli()), IWAE(Gaussian())),
]


@pytest.mark.parametrize(("a", "b"), OPTIONS)
def test_every_option_changes_the_loss(a, b):
    x = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)).round() * 2 - 1
    losses = []
    for objective in (a, b):
        torch.manual_seed(0)
        channels = objective.likelihood.per_channel
        model = VAE(Autoencoder(size=8, out_channels=channels, latent=3, width=8, multipliers=(1, 2)))
        eps = torch.randn(3, 5, 3, generator=torch.Generator().manual_seed(1))[:, : getattr(objective, "draws", 1)]
        losses.append(objective.after(500)(Networks(model), x, None, Draw((eps.flatten(0, 1),))).total.item())
    assert all(math.isfinite(loss) for loss in losses) and losses[0] != losses[1]


@pytest.mark.parametrize(
    ("make", "field"),
    [(lambda: ELBO(beta=-1.0), "beta"), (lambda: ELBO(free_bits=-0.1), "free_bits"),
     (lambda: ELBO(warm_up=-1), "warm_up"), (lambda: IWAE(draws=0), "draws")],
)
def test_what_is_no_objective_is_refused(make, field):
    with pytest.raises(InputError, match=field):
        make()
