"""Two stages: pictures to codes to latent variables, and back."""

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.hierarchical import Hierarchical
from gencore.networks.ladder import Ladder
from gencore.networks.two_stage import TwoStage, TwoStageVAE
from gencore.networks.vae import VAE

FIRST = Autoencoder(size=16, channels=3, latent=2, flat=False, width=8, multipliers=(1, 1))
LADDER = TwoStage(FIRST, Ladder(size=8, channels=2, latents=(3, 4), width=16))
MAPS = TwoStage(FIRST, Hierarchical(size=8, channels=2, latent=2, width=8, multipliers=(1,), blocks=(1,), top=(3,), top_width=16))


def make(config):
    torch.manual_seed(0)
    first, model = VAE(FIRST), TwoStageVAE(config)
    images = torch.rand(300, 3, 16, 16) * 2 - 1
    model.adopt(first)
    assert torch.equal(model.standardise(images), model.encode(images))
    for parameter in model.second.parameters():
        parameter.data.add_(0.1 * torch.randn_like(parameter))
    return first, model, images


@pytest.mark.parametrize("config", [LADDER, MAPS])
def test_the_stages_compose(config):
    """Restated: standardise the first stage's means, let the second stage speak, undo, decode."""
    first, model, images = make(config)
    means = first.encode(images)[0]
    mean, std = means.mean((0, 2, 3), keepdim=True), means.std((0, 2, 3), keepdim=True)
    torch.testing.assert_close(model.encode(images), (means - mean) / std, atol=1e-4, rtol=1e-4)
    eps = tuple(torch.randn(5, *shape) for shape in model.latent_shapes)
    codes, levels = model.second(model.encode(images[:5]), eps)
    found, found_levels = model(images[:5], eps)
    torch.testing.assert_close(found, first.decode(codes * std + mean), atol=1e-4, rtol=1e-4)
    assert all(torch.equal(a.z, b.z) for a, b in zip(levels, found_levels, strict=True))
    drawn = model.second.generate(eps)
    torch.testing.assert_close(model.generate(eps), first.decode(drawn * std + mean), atol=1e-4, rtol=1e-4)


def test_the_first_stage_is_passed_in_and_not_saved():
    first, model, images = make(LADDER)
    assert not any(key.startswith("first") for key in model.state_dict())
    assert model.first is first
    with pytest.raises(InputError, match="first stage"):
        TwoStageVAE(LADDER).encode(images)


def test_no_gradient_reaches_the_first_stage():
    _, model, images = make(LADDER)
    eps = tuple(torch.randn(5, *shape) for shape in model.latent_shapes)
    model(images[:5], eps)[0].sum().backward()
    assert all(p.grad is None for p in model.first.parameters())
    assert all(p.grad is not None for p in model.second.parameters() if p.requires_grad and p is not model.second.stem.bias)


def test_sizes_that_do_not_fit():
    with pytest.raises(InputError, match="second"):
        TwoStage(FIRST, Ladder(size=4, channels=2))
    with pytest.raises(InputError, match="second"):
        TwoStage(FIRST, Ladder(size=8, channels=2, out_channels=4))
    with pytest.raises(InputError, match="first"):
        TwoStage(Autoencoder(size=16, channels=3, latent=2), Ladder(size=8, channels=2))
    _, model, images = make(LADDER)
    with pytest.raises(InputError, match="first stage"):
        model.adopt(VAE(Autoencoder(size=16, channels=3, latent=2, flat=False, width=16, multipliers=(1, 1))))
