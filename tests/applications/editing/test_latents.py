"""Arithmetic on codes: directions, walks along them, and what they keep."""

from dataclasses import replace

import pytest
import torch

from gencore import vae
from gencore.applications.editing import direction, encode, walk
from gencore.data import Digits, to_float
from gencore.errors import InputError
from gencore.vae.sampling import build


@pytest.fixture(scope="module")
def model():
    recipe = vae.recipes.vae_digits()
    return build(recipe), recipe


@pytest.fixture(scope="module")
def images(model):
    return Digits(model[1].data.size).load("heldout").images[:6]


def test_a_direction_leads_from_one_mean_to_the_other():
    codes, shows = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)), torch.arange(500) % 3 == 0
    away = torch.tensor([1.0, -2.0, 0.5])
    noise = direction(codes, shows)
    torch.testing.assert_close(direction(codes + shows[:, None] * away, shows) - noise, away)
    torch.testing.assert_close(direction(codes, ~shows), -noise)
    for none in (shows & False, shows | True):
        with pytest.raises(InputError, match="pictures that show it and pictures that do not"):
            direction(codes, none)


def test_a_walk_adds_what_the_decoder_changes_and_keeps_the_rest(model, images):
    (network,), recipe = model
    z = encode(model, images)
    assert torch.equal(z, network.encode(to_float(images))[0])
    along = torch.randn(z.shape[1:], generator=torch.Generator().manual_seed(1))
    location = recipe.objective.likelihood.location
    with torch.no_grad():
        change = location(network.decode(z + 2 * along)) - location(network.decode(z))
    torch.testing.assert_close(walk(model, images, along, 2.0), (to_float(images) + change).clamp(-1, 1))
    assert torch.equal(walk(model, images, along, 0.0), to_float(images))
    assert change.abs().max() > 1e-4


def test_models_without_one_code_are_refused(images):
    for recipe in (vae.recipes.vq_digits(), vae.recipes.conditional_digits()):
        with pytest.raises(InputError, match="needs a plain variational autoencoder"):
            encode((build(recipe), recipe), images)
    assert replace(vae.recipes.vae_digits()).network.classes == 0
