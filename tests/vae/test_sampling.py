"""What it takes to draw: a VAE's parameters on the way from the prior to a picture."""

import torch

from gencore import vae
from gencore.data import Digits
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.ladder import Ladder
from gencore.vae.objectives import ELBO
from gencore.vae.recipes import VAERecipe


def model(network):
    recipe = VAERecipe(data=Digits(14), network=network, objective=ELBO())
    return vae.sampling.build(recipe), recipe


def test_a_plain_vae_draws_with_its_decoder():
    networks, recipe = model(Autoencoder(size=14, latent=4, width=8, multipliers=(1, 2)))
    decoder = sum(p.numel() for p in networks.model.decoder.parameters())
    assert vae.parameters((networks, recipe)) == decoder
    assert all(p.requires_grad for p in networks.model.parameters()), "the model itself is left as it was"


def test_a_ladder_draws_without_its_way_up_and_its_posteriors():
    networks, recipe = model(Ladder(size=14, latents=(2, 3), width=16))
    idle = [networks.model.stem, *(part for rung in networks.model.rungs for part in (rung.up, rung.posterior_head))]
    encoder = sum(p.numel() for part in idle for p in part.parameters())
    assert vae.parameters((networks, recipe)) == sum(p.numel() for p in networks.model.parameters()) - encoder


def test_an_image_does_not_depend_on_those_drawn_with_it():
    drawn = model(Ladder(size=14, latents=(2, 3), width=16))
    five = vae.sample(drawn, 5, seed=3)
    assert torch.allclose(five, vae.sample(drawn, 5, seed=3, batch_size=2), atol=1e-6)
    assert torch.allclose(five[2:], vae.sample(drawn, 3, seed=3, first=2), atol=1e-6)
    assert not torch.allclose(five, vae.sample(drawn, 5, seed=4))


def test_a_conditional_model_draws_all_classes_in_turn():
    drawn = model(Autoencoder(size=14, latent=4, width=8, multipliers=(1, 2), classes=3))
    torch.nn.init.normal_(drawn[0].model.decoder.embed.weight, std=3)
    for block in drawn[0].model.decoder.layers:
        if hasattr(block, "conv2"):  # it begins at zero, and hides what the class does
            torch.nn.init.normal_(block.conv2.weight, std=0.1)
    told = vae.sample(drawn, 5, seed=3, cond=torch.tensor([0, 1, 2, 0, 1]))
    assert torch.equal(vae.sample(drawn, 5, seed=3), told)
    assert torch.allclose(vae.sample(drawn, 3, seed=3, first=2), told[2:], atol=1e-6)
    assert not torch.allclose(vae.sample(drawn, 5, seed=3, cond=torch.zeros(5, dtype=torch.int64)), told, atol=1e-3)
