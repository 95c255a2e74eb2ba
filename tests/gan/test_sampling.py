import math

import pytest
import torch

from gencore import gan, zoo
from gencore.errors import InputError


def test_interpolation_stays_on_the_sphere_and_moves_evenly():
    """(DC.5)."""
    z0, z1 = torch.randn(2, 64, dtype=torch.float64)
    z0, z1 = 8 * z0 / z0.norm(), 8 * z1 / z1.norm()
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    walk = gan.interpolate(z0, z1, t)
    torch.testing.assert_close(walk[0], z0)
    torch.testing.assert_close(walk[-1], z1)
    torch.testing.assert_close(walk.norm(dim=1), torch.full((11,), 8.0, dtype=torch.float64))
    steps = walk.diff(dim=0).norm(dim=1)
    torch.testing.assert_close(steps, steps[:1].expand(10))


def test_halfway_between_orthogonal_vectors():
    """(DC.5) by hand: at a right angle, both weights are sin(45 degrees)."""
    middle = gan.interpolate(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), torch.tensor([0.5]))
    torch.testing.assert_close(middle, torch.full((1, 2), math.sqrt(0.5)))


@pytest.mark.parametrize("name", ["dcgan_digits", "dcgan_emoji"])
def test_zoo_models_draw_what_their_pictures_show(name):
    model = (generator, discriminator), recipe = gan.load(zoo.folder(name))
    images = gan.sample(model, 8, seed=0)
    assert images.shape == (8, recipe.data.channels, recipe.data.size, recipe.data.size)
    assert images.std(0).mean() > 0.1, "eight latents, one picture"
    assert discriminator(images).shape == (8,)
    assert gan.parameters(model) == sum(p.numel() for p in generator.parameters()) == zoo.card(name)["parameters"]


def test_weights_of_another_model_are_refused(tmp_path):
    digits, emoji = zoo.folder("dcgan_digits"), zoo.folder("dcgan_emoji")
    (tmp_path / "recipe.json").write_bytes((emoji / "recipe.json").read_bytes())
    (tmp_path / "ema.safetensors").write_bytes((digits / "ema.safetensors").read_bytes())
    with pytest.raises(InputError, match="ema.safetensors: 'generator.layers.0.weight' has shape"):
        gan.load(tmp_path)
