"""Bounds of held-out images, on a VAE whose evidence is known."""

from types import SimpleNamespace

import pytest
import torch

from gencore import vae
from gencore.data import Binarise, ImageSet, to_float
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.training import rng
from gencore.vae import ELBO, IWAE, Bernoulli, Networks, VectorQuantised
from tests.vae.linear import LinearVAE


def setting(exact=False, n=7):
    """A trained model, as `load` returns one, and images that it can be asked about."""
    model = LinearVAE(exact=exact).requires_grad_(False)
    images = torch.randint(256, (n, 1, 4, 1), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ImageSet("noise", images, torch.zeros(n, dtype=torch.int64), ("noise",))
    recipe = SimpleNamespace(objective=ELBO(model.likelihood), augmentation=None, network=SimpleNamespace())
    return (Networks(model), recipe), data, to_float(images).double().flatten(1)


def test_with_the_posterior_as_encoder_the_bound_is_the_evidence():
    (networks, recipe), data, x = setting(exact=True)
    for draws, at_once in ((1, 5000), (7, 3), (6, 24)):  # one batch, many rounds for an image, several images at once
        bounds, elbos = vae.log_likelihood((networks, recipe), data, draws, at_once=at_once)
        for found in (bounds, elbos):
            assert found.dtype == torch.float64 and found.shape == (7,)
            torch.testing.assert_close(found, networks.model.exact.log_prob(x), atol=1e-5, rtol=0)


def test_the_bound_lies_between_elbo_and_evidence_and_reaches_it():
    (networks, recipe), data, x = setting()
    evidence = networks.model.exact.log_prob(x)
    elbo = networks.model.exact.elbo(x, *networks.model.moments(x))
    bounds, elbos = vae.log_likelihood((networks, recipe), data, 50_000)
    assert (bounds > elbos).all()
    torch.testing.assert_close(bounds, evidence, atol=0.1, rtol=0)
    torch.testing.assert_close(elbos, elbo, atol=0.1, rtol=0)
    assert (evidence - elbo).mean() > 0.5
    few = vae.log_likelihood((networks, recipe), data, 3)[0]
    assert (few.mean() - evidence.mean()).abs() > (bounds.mean() - evidence.mean()).abs()


def test_the_seed_decides_the_draws():
    model, data, _ = setting()
    one, same, other = (vae.log_likelihood(model, data, 5, seed)[0] for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_rounds_are_different_draws():
    """Were each round's noise the same, ten rounds would bound no better than one."""
    model, data, _ = setting()
    rounds, single = (vae.log_likelihood(model, data, draws, at_once=10)[0] for draws in (100, 10))
    assert not torch.allclose(rounds, single, atol=1e-3)


def test_images_are_binarised_once_by_their_place():
    (networks, recipe), data, _ = setting(exact=True)
    recipe.augmentation = Binarise()
    found = vae.log_likelihood((networks, recipe), data, 2, seed=3, at_once=6)[0]  # three images at once
    u = torch.stack([torch.rand(1, 4, 1, generator=rng.generator(3, place, "binarise")) for place in range(7)])
    binary = 2 * (u < data.images / 255).double() - 1
    torch.testing.assert_close(found, networks.model.exact.log_prob(binary.flatten(1)), atol=1e-5, rtol=0)
    few = vae.log_likelihood((networks, recipe), data.subset(torch.arange(3)), 2, seed=3)[0]
    torch.testing.assert_close(few, found[:3], atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", [ELBO(Bernoulli()), IWAE(Bernoulli(), draws=4)])
def test_a_network_of_the_zoos_kind(objective):
    """The bound of a real network is that of its objective on the same noise."""
    torch.manual_seed(0)
    network = vae.sampling.VAE(Autoencoder(size=8, latent=3, width=8, multipliers=(1, 2))).eval()
    images = 255 * torch.randint(2, (5, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    data = ImageSet("noise", images, torch.zeros(5, dtype=torch.int64), ("noise",))
    recipe = SimpleNamespace(objective=objective, augmentation=None, network=network.config)
    bounds, elbos = vae.log_likelihood((Networks(network), recipe), data, 4, seed=6)
    eps = rng.normal((20, 3), 6, 0, "draw 0 level 0")
    with torch.no_grad():
        loss = IWAE(Bernoulli(), 4)(Networks(network), to_float(images), None, vae.Draw((eps,)))
    torch.testing.assert_close(bounds.mean().float(), -loss.total, atol=1e-3, rtol=0)
    torch.testing.assert_close(elbos.mean().float(), -loss.parts["elbo"], atol=1e-3, rtol=0)


def test_a_model_without_a_prior_has_none():
    model, data, _ = setting()
    model[1].objective = VectorQuantised()
    with pytest.raises(InputError, match="no prior"):
        vae.log_likelihood(model, data, 2)
