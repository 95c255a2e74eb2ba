"""A VAE's two networks: what is a mean, what a spread, and where the noise goes."""

import pytest
import torch
from torch import Tensor

from gencore.networks.autoencoder import Autoencoder
from gencore.networks.vae import LOG_STD_RANGE, VAE

FLAT = Autoencoder(size=8, out_channels=2, latent=3, width=8, multipliers=(1, 2))
GRID = Autoencoder(size=8, latent=3, flat=False, width=8, multipliers=(1, 2))
TOLD = Autoencoder(size=8, latent=3, width=8, multipliers=(1, 2), classes=4)


def model(config: Autoencoder) -> VAE:
    torch.manual_seed(0)
    vae = VAE(config)
    with torch.no_grad():
        for p in vae.parameters():  # blocks start as the identity, deaf to classes
            p += 0.05 * torch.randn_like(p)
    return vae


def inputs(config: Autoencoder, count: int = 4) -> tuple[Tensor, Tensor | None]:
    torch.manual_seed(1)
    cond = torch.arange(count) % config.classes if config.classes else None
    return torch.randn(count, config.channels, config.size, config.size), cond


@pytest.mark.parametrize("config", [FLAT, GRID, TOLD])
def test_first_half_is_the_mean_and_second_the_log_spread(config):
    vae, (x, cond) = model(config), inputs(config)
    raw = vae.encoder(x, cond)
    mean, log_std = vae.encode(x, cond)
    assert torch.equal(mean, raw[:, :3]) and torch.equal(log_std, raw[:, 3:])
    assert mean.shape[1:] == config.latent_shape and vae.latent_shapes == (config.latent_shape,)


def test_a_spread_that_runs_away_is_held():
    vae, (x, _) = model(FLAT), inputs(FLAT)
    with torch.no_grad():
        for bias, edge in ((-100.0, LOG_STD_RANGE[0]), (100.0, LOG_STD_RANGE[1])):
            vae.encoder.head.bias[3:] = bias
            assert (vae.encode(x)[1] == edge).all()
        vae.encoder.head.bias[:3] = 100.0
        assert (vae.encode(x)[0] > 50).all()  # means are free


@pytest.mark.parametrize("config", [FLAT, GRID, TOLD])
def test_the_draw_is_mean_plus_spread_times_noise(config):
    """(VA.5), and the prior beside it is the standard normal."""
    vae, (x, cond) = model(config), inputs(config)
    eps = torch.randn(4, *config.latent_shape)
    params, (level,) = vae(x, (eps,), cond)
    mean, log_std = vae.encode(x, cond)
    torch.testing.assert_close(level.z, mean + torch.exp(log_std) * eps)
    assert torch.equal(level.mean, mean) and torch.equal(level.log_std, log_std)
    assert not level.prior_mean.any() and not level.prior_log_std.any()
    torch.testing.assert_close(params, vae.decoder(level.z, cond))
    assert params.shape == (4, config.out_channels or 1, 8, 8)


@pytest.mark.parametrize("config", [FLAT, TOLD])
def test_several_draws_of_an_image_stand_next_to_each_other(config):
    """Row i * K + k is draw k of image i, with that image's class."""
    vae, (x, cond) = model(config), inputs(config)
    eps = torch.randn(12, *config.latent_shape)
    params, (level,) = vae(x, (eps,), cond)
    for row in (0, 4, 11):
        one = slice(row // 3, row // 3 + 1)
        alone, (single,) = vae(x[one], (eps[row : row + 1],), None if cond is None else cond[one])
        torch.testing.assert_close(level.z[row], single.z[0], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(params[row], alone[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("config", [FLAT, TOLD])
def test_what_is_generated_is_the_decoded_draw_from_the_prior(config):
    vae, (_, cond) = model(config), inputs(config)
    eps = torch.randn(4, *config.latent_shape)
    assert torch.equal(vae.generate((eps,), cond), vae.decoder(eps, cond))


def test_moments_are_single_precision_under_autocast():
    vae, (x, _) = model(FLAT), inputs(FLAT)
    with torch.autocast("cpu", torch.bfloat16):
        _, (level,) = vae(x, (torch.randn(4, 3),))
    assert {each.dtype for each in level} == {torch.float32}
