"""Latent diffusion: pictures to codes, codes to codes, codes to pictures."""

from dataclasses import replace

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.denoising import DenoisingUNet, DenoisingUNetNetwork
from gencore.networks.dit import DiT, DiTNetwork
from gencore.networks.first_stage import CodeModel
from gencore.networks.latent import Latent, LatentNetwork
from gencore.networks.quantiser import Codebook
from gencore.networks.unet import UNet
from gencore.networks.vae import VAE
from gencore.networks.vqvae import VQ, VQVAE

FIRST = Autoencoder(size=16, channels=3, latent=2, flat=False, width=8, multipliers=(1, 1))
TOKENS = Latent(FIRST, DiT(size=8, channels=2, patch=2, width=8, depth=1, heads=2, conditions=(3,)))
MAPS = Latent(FIRST, DenoisingUNet(8, UNet(2, width=8, multipliers=(1, 1), embedding=8), conditions=(3,)))


def make(config):
    torch.manual_seed(0)
    first, model = VAE(FIRST), LatentNetwork(config)
    images = torch.rand(300, 3, 16, 16) * 2 - 1
    model.adopt(first)
    assert torch.equal(model.standardise(images), model.encode(images))
    for parameter in model.denoiser.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return first, model, images


@pytest.mark.parametrize(("config", "kind"), [(TOKENS, DiTNetwork), (MAPS, DenoisingUNetNetwork)])
def test_codes_are_standardised_denoised_and_decoded(config, kind):
    """Restated: standardise the first stage's means, let the denoiser speak, undo, decode."""
    first, model, images = make(config)
    means = first.encode(images)[0]
    mean, std = means.mean((0, 2, 3), keepdim=True), means.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(model.encode(images), (means - mean) / std, atol=1e-4, rtol=1e-4)
    codes, t, cond = torch.randn(5, 2, 8, 8), torch.rand(5), torch.tensor([0, 1, 2, 3, 0])
    assert isinstance(model.denoiser, kind)
    assert torch.equal(model(codes, t, cond[:, None]), model.denoiser(codes, t, cond[:, None]))
    torch.testing.assert_close(model.decode(codes), first.decode(codes * std + mean), atol=1e-4, rtol=1e-4)


def test_codes_of_an_alphabet_are_denoised_before_a_letter_is_chosen():
    """Rombach et al. 2022, section 3.1: vectors of the encoder, standardised; decoding takes the nearest codewords first."""
    sizes = VQ(FIRST, Codebook(7))
    torch.manual_seed(0)
    first, model = VQVAE(sizes).eval(), LatentNetwork(replace(TOKENS, first=sizes))
    first.quantiser.codebook.copy_(torch.randn(7, 2))
    model.adopt(first)
    images = torch.rand(60, 3, 16, 16) * 2 - 1
    model.standardise(images)
    vectors = first.encoder(images)
    mean, std = vectors.mean((0, 2, 3), keepdim=True), vectors.std((0, 2, 3), keepdim=True)
    codes = model.encode(images)
    torch.testing.assert_close(codes, (vectors - mean) / std, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.decode(codes), first.decode(first.encode(images)), atol=1e-4, rtol=1e-4)
    letters = torch.randint(0, 7, (5, 8, 8))
    near = (first.quantiser.decode(letters) - model.mean) / model.std + 1e-3 * torch.randn(5, 2, 8, 8)
    torch.testing.assert_close(model.decode(near), first.decode(letters), atol=1e-4, rtol=1e-4)
    assert (replace(TOKENS, first=sizes).size, replace(TOKENS, first=sizes).channels) == (16, 3)


def test_encoding_and_decoding_are_the_first_stages_own():
    """Through the standard units and back nothing is lost."""
    first, model, images = make(TOKENS)
    whole = first.decode(first.encode(images[:7])[0])
    torch.testing.assert_close(model.decode(model.encode(images[:7])), whole, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(model.encode(images[:7], batch_size=2), model.encode(images[:7]), atol=1e-5, rtol=1e-5)


def test_the_first_stage_is_passed_in_and_not_saved():
    first, model, images = make(TOKENS)
    assert {key.split(".")[0] for key in model.state_dict()} == {"mean", "std", "denoiser"}
    assert all(key.startswith("denoiser.") for key, _ in model.named_parameters())
    assert model.first is first and isinstance(model, CodeModel)
    with pytest.raises(InputError, match="first stage: missing"):
        LatentNetwork(TOKENS).encode(images)


def test_no_gradient_reaches_the_first_stage():
    _, model, images = make(TOKENS)
    codes = model(model.encode(images[:5]), torch.rand(5), torch.zeros(5, 1, dtype=torch.int64))
    model.decode(codes).sum().backward()
    assert all(p.grad is None and not p.requires_grad for p in model.first.parameters())
    assert all(p.grad is not None for p in model.denoiser.parameters())


def test_what_a_recipe_asks_for():
    for config in (TOKENS, MAPS):
        assert (config.size, config.channels, config.conditions, config.shape) == (16, 3, (3,), (2, 8, 8))


def test_sizes_that_do_not_fit():
    with pytest.raises(InputError, match=r"takes codes of shape \(2, 4, 4\), but the first stage makes \(2, 8, 8\)"):
        replace(TOKENS, denoiser=replace(TOKENS.denoiser, size=4))
    with pytest.raises(InputError, match="denoiser"):
        replace(MAPS, denoiser=replace(MAPS.denoiser, unet=replace(MAPS.denoiser.unet, channels=3)))
    for change in (dict(flat=True), dict(classes=3), dict(out_channels=6)):
        with pytest.raises(InputError, match="first: must be"):
            replace(TOKENS, first=replace(FIRST, **change))
    _, model, images = make(TOKENS)
    with pytest.raises(InputError, match="first stage: has other sizes"):
        model.adopt(VAE(replace(FIRST, width=16)))


def test_a_first_stage_of_smaller_pictures_is_taken_too():
    """Made of convolutions, it encodes larger pictures as one that was built for them does, with the same weights."""
    torch.manual_seed(0)
    small, large = VAE(FIRST), VAE(replace(FIRST, size=32))
    large.load_state_dict(small.state_dict())
    x, found = torch.rand(3, 3, 32, 32) * 2 - 1, []
    for first in (small, large):
        model = LatentNetwork(Latent(replace(FIRST, size=32), replace(TOKENS.denoiser, size=16)))
        model.adopt(first)
        codes = model.encode(x)
        assert codes.shape == (3, 2, 16, 16) and model.decode(codes).shape == x.shape
        found.append(model.decode(codes))
    assert torch.equal(*found)


def test_the_first_stage_goes_where_the_network_goes():
    _, model, _ = make(TOKENS)
    assert {p.device.type for p in model.to("meta").first.parameters()} == {"meta"}
