"""The ladder VAE: against a second, plain writing of its formulas, and what makes it a ladder."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import layer_norm, linear, silu

from gencore.errors import InputError
from gencore.networks.ladder import Ladder, LadderVAE
from gencore.vae import ELBO, Draw, Networks, kl_divergence

SIZES = Ladder(size=4, channels=1, latents=(3, 5), width=16)


def make(config=SIZES, trained=True, seed=0):
    torch.manual_seed(seed)
    model = LadderVAE(config)
    with torch.no_grad():
        for parameter in model.parameters() if trained else ():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def inputs(config=SIZES, count=4, draws=1):
    torch.manual_seed(1)
    x = torch.rand(count, config.channels, config.size, config.size) * 2 - 1
    return x, tuple(torch.randn(count * draws, latent) for latent in config.latents)


def layer(w, name, h):
    """Normalise, one hidden layer, out; weights by their names."""
    h = layer_norm(h, h.shape[-1:], w[f"{name}.0.weight"], w[f"{name}.0.bias"])
    h = silu(linear(h, w[f"{name}.1.weight"], w[f"{name}.1.bias"]))
    return linear(h, w[f"{name}.3.weight"], w[f"{name}.3.bias"])


def restated(w, x, eps):
    """The two rungs written out: (parameters, [(z, mean, log_std, prior_mean, prior_log_std)])."""
    h = linear(x.flatten(1), w["stem.weight"], w["stem.bias"])
    low = h + layer(w, "rungs.1.up", h)
    high = low + layer(w, "rungs.0.up", low)
    start = w["start"].repeat(len(x), 1)

    a = layer(w, "rungs.0.posterior_head", torch.cat([start, high], 1))
    mean, log_std = a[:, :3], a[:, 3:]
    z1 = mean + log_std.exp() * eps[0]
    levels = [(z1, mean, log_std, torch.zeros_like(mean), torch.zeros_like(mean))]
    h = start + linear(z1, w["rungs.0.enter.weight"], w["rungs.0.enter.bias"])
    h = h + layer(w, "rungs.0.after", h)

    p = layer(w, "rungs.1.prior_head", h)
    a = layer(w, "rungs.1.posterior_head", torch.cat([h, low], 1))
    mean, log_std = p[:, :5] + p[:, 5:].exp() * a[:, :5], p[:, 5:] + a[:, 5:]
    z2 = mean + log_std.exp() * eps[1]
    levels.append((z2, mean, log_std, p[:, :5], p[:, 5:]))
    h = h + linear(z2, w["rungs.1.enter.weight"], w["rungs.1.enter.bias"])
    h = h + layer(w, "rungs.1.after", h)
    return layer(w, "head", h).view(len(x), -1, 4, 4), levels


def test_two_rungs_written_out(double_precision):
    model, (x, eps) = make(), inputs()
    params, levels = model(x, eps)
    expected, expected_levels = restated(dict(model.named_parameters()), x, eps)
    torch.testing.assert_close(params, expected, check_dtype=False, atol=1e-5, rtol=1e-5)
    for level, written in zip(levels, expected_levels, strict=True):
        for ours, theirs in zip(level, written, strict=True):
            torch.testing.assert_close(ours, theirs, check_dtype=False, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("latents", [(2,), (3, 5), (2, 3, 4)])
def test_shapes(latents):
    config = replace(SIZES, latents=latents, channels=3, out_channels=6)
    model, (x, eps) = make(config), inputs(config, draws=2)
    params, levels = model(x, eps)
    assert params.shape == (8, 6, 4, 4)
    assert model.latent_shapes == tuple((latent,) for latent in latents)
    assert [level.z.shape for level in levels] == [(8, latent) for latent in latents]
    assert model.generate(eps).shape == (8, 6, 4, 4)


def test_posterior_is_the_prior_at_first():
    model, (x, eps) = make(trained=False), inputs()
    assert all((kl_divergence(level) == 0).all() for level in model(x, eps)[1])


def test_highest_prior_is_standard_normal():
    level = make()(*inputs())[1][0]
    assert (level.prior_mean == 0).all() and (level.prior_log_std == 0).all()


def test_generate_is_forward_with_the_prior_in_place_of_the_posterior():
    """A forward pass whose noise makes it draw the very z of `generate` returns the same picture."""
    model, (x, eps) = make(), inputs()
    drawn = []
    for place, noise in enumerate(eps):  # by hand: z = prior mean + prior std * noise, seen by the posterior as noise'
        level = model(x, (*drawn, *eps[place:]))[1][place]
        z = level.prior_mean + level.prior_log_std.exp() * noise
        drawn.append((z - level.mean) / level.log_std.exp())
    torch.testing.assert_close(model(x, tuple(drawn))[0], model.generate(eps), atol=1e-4, rtol=1e-4)


def test_a_rung_depends_on_those_above_and_on_no_other():
    model, (x, eps) = make(replace(SIZES, latents=(2, 3, 4))), inputs(replace(SIZES, latents=(2, 3, 4)))
    before = model(x, eps)[1]
    for place in range(3):
        changed = tuple(noise + (number == place) for number, noise in enumerate(eps))
        after = model(x, changed)[1]
        for number in range(3):
            assert torch.equal(before[number].mean, after[number].mean) == (number <= place)
            assert torch.equal(before[number].z, after[number].z) == (number < place)


def test_draws_of_an_image_stand_together():
    model, (x, eps) = make(), inputs(draws=3)
    params = model(x, eps)[0]
    one = model(x[1:2], tuple(noise[3:6] for noise in eps))[0]
    torch.testing.assert_close(params[3:6], one, atol=1e-5, rtol=1e-5)


def test_every_parameter_learns():
    model, (x, eps) = make(), inputs()
    ELBO()(Networks(model), x, None, Draw(eps)).total.backward()
    still = [name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert not still


def test_every_option_changes_the_loss():
    losses = set()
    for config in (SIZES, replace(SIZES, latents=(5, 3)), replace(SIZES, width=8)):
        losses.add(ELBO()(Networks(make(config)), inputs(config)[0], None, Draw(inputs(config)[1])).total.item())
    assert len(losses) == 3


@pytest.mark.parametrize("field, value", [("latents", ()), ("latents", (3, 0)), ("width", 0), ("size", 0), ("channels", 0)])
def test_wrong_sizes_name_the_field(field, value):
    with pytest.raises(InputError, match=field):
        replace(SIZES, **{field: value})


def test_classes_are_refused():
    x, eps = inputs()
    with pytest.raises(InputError, match="cond"):
        make()(x, eps, torch.zeros(4, dtype=torch.long))
    with pytest.raises(InputError, match="cond"):
        make().generate(eps, torch.zeros(4, dtype=torch.long))
