import math

import pytest
import torch
from torch import nn

from gencore import gan, zoo
from gencore.data.told import conditions
from gencore.errors import InputError
from tests.gan.test_train import CLASSES, MIRRORED, TINY, TOLD


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


class Answer(nn.Module):
    """A generator that writes what it is told into the first pixels, after the first number of its latent."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.01))

    def forward(self, z, cond=None):
        told = z[:, :1] if cond is None else torch.cat([z[:, :1], cond.float()], 1)
        return nn.functional.pad(self.scale * told, (0, 14 * 14 - told.shape[1])).view(-1, 1, 14, 14)


def answers(recipe, *arguments, **options):
    """What the generator was told, int64 ``(count, K)``."""
    drawn = gan.sample((gan.Networks(Answer(), nn.Identity()), recipe), *arguments, **options)
    return (100 * drawn[:, 0, 0, 1 : 1 + len(recipe.conditions)]).round().long()


def test_what_is_asked_for_reaches_the_generator():
    """Asked pictures are not mirrored; batches cut conditions where they cut latents."""
    cond = torch.arange(7)[:, None]
    not_mirrored = torch.zeros(7, 1, dtype=torch.int64)
    for batch_size in (256, 3):
        assert torch.equal(answers(TOLD, 7, seed=0, cond=cond, batch_size=batch_size), torch.cat([cond, not_mirrored], 1))
        assert torch.equal(answers(CLASSES, 7, seed=0, cond=cond, batch_size=batch_size), cond)
    assert torch.equal(answers(MIRRORED, 7, seed=0), not_mirrored)
    assert answers(TINY, 7, seed=0).shape == (7, 0)


def test_what_is_not_asked_for_is_asked_as_often_as_training_pictures_show_it():
    table = conditions(TOLD, TOLD.data.load("train"))
    drawn = answers(TOLD, len(table) + 5, seed=1)
    assert torch.equal(drawn[:, 0].bincount()[:10], drawn[-5:, 0].bincount(minlength=10) + table[:, 0].bincount())
    assert torch.equal(drawn[-5:], drawn[:5]) and not drawn[:, 1].any()
    assert torch.equal(answers(TOLD, 10, seed=1, first=90), drawn[90:100])
    assert not torch.equal(answers(TOLD, 100, seed=2), drawn[:100])


def test_a_network_that_is_told_draws_what_it_is_told():
    model = gan.build(TOLD), TOLD
    same = gan.sample(model, 4, seed=0, cond=torch.full((4, 1), 3))
    other = gan.sample(model, 4, seed=0, cond=torch.tensor([[3], [4], [3], [9]]))
    torch.testing.assert_close(other[[0, 2]], same[[0, 2]])
    assert all((other[i] - same[i]).abs().max() > 1e-4 for i in (1, 3))


@pytest.mark.parametrize(
    "recipe, cond, message",
    [
        (TOLD, torch.zeros(4, dtype=torch.int64), r"cond \(4,\): this model is told \(4, 1\): \('class',\)"),
        (TOLD, torch.zeros(3, 1, dtype=torch.int64), r"cond \(3, 1\): this model is told \(4, 1\)"),
        (TOLD, torch.zeros(4, 2, dtype=torch.int64), r"cond \(4, 2\): this model is told \(4, 1\)"),
        (TINY, torch.zeros(4, 1, dtype=torch.int64), r"cond \(4, 1\): this model is told \(4, 0\): \(\)"),
        (TOLD, torch.tensor([[0], [1], [-1], [2]]), r"cond: \('class',\) have \(10, 2\) values, from 0 on"),
        (TOLD, torch.tensor([[0], [1], [11], [2]]), r"cond: \('class',\) have \(10, 2\) values, from 0 on"),
        (TOLD, torch.tensor([[0], [1], [10], [2]]), r"cond: the networks of this family are always told"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(recipe, cond, message):
    with pytest.raises(InputError, match=message):
        answers(recipe, 4, seed=0, cond=cond)


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
