"""Short games on points: they repeat, every option counts, and playing helps."""

from dataclasses import replace

import pytest
import torch

from gencore.analytic.mixture import GaussianMixture
from gencore.errors import InputError
from gencore.gan.objectives import Hinge
from gencore.gan.penalties import R1, Codes, GradientPenalty, PathLength
from gencore.gan.points import PointGame, play, points
from gencore.metrics.energy import energy_distance

SHORT = PointGame(width=8, depth=2, steps=6, batch_size=16, ema_half_life=64)


def mixture(places=((-2.0, 0.0), (2.0, 0.0)), std=0.3):
    means = torch.tensor(places)
    count, dimension = means.shape
    return GaussianMixture(torch.full((count,), 1 / count), means, std**2 * torch.eye(dimension).expand(count, -1, -1))


def weights(networks):
    return torch.cat([weight.flatten() for network in networks for weight in network.state_dict().values()])


def test_a_game_repeats():
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(play(SHORT, mixture()))
    assert torch.equal(torch.get_rng_state(), before), "a game takes its chances from its seed alone"
    torch.manual_seed(2)
    assert torch.equal(weights(play(SHORT, mixture())), first)


@pytest.mark.parametrize(
    "change",
    [
        dict(seed=1),
        dict(objective=Hinge()),
        dict(penalties=(R1(),)),
        dict(penalties=(GradientPenalty(),)),
        dict(generator_every=2),
        dict(spectral=True),
        dict(latent=3),
        dict(generator_lr=2e-3),
        dict(discriminator_lr=2e-3),
        dict(beta1=0.0),
        dict(beta2=0.9),
        dict(steps=8),
        dict(batch_size=17),
        dict(width=9),
        dict(depth=1),
        dict(ema_half_life=1),
    ],
    ids=lambda change: "-".join(change),
)
def test_every_option_changes_the_points(change):
    game = replace(SHORT, **change)
    ours, theirs = (points(each, play(each, mixture()).generator, 4, seed=0) for each in (game, SHORT))
    assert ours.shape == (4, 2) and not torch.allclose(ours, theirs, rtol=0, atol=1e-7)


def test_the_data_make_the_game():
    far = play(SHORT, mixture(((-5.0, 1.0), (2.0, 0.0))))
    assert not torch.equal(weights(far), weights(play(SHORT, mixture())))


def test_points_have_as_many_coordinates_as_the_data():
    game = replace(SHORT, steps=1)
    networks = play(game, mixture(((0.0, 1.0, 2.0),)))
    drawn = points(game, networks.generator, 5, seed=0).clone()
    assert drawn.shape == (5, 3) and networks.discriminator(drawn).shape == (5,)
    assert not torch.equal(drawn, points(game, networks.generator, 5, seed=1))


def norms(game):
    """Spectral norms of a critic's layers, after a game."""
    layers = [layer for layer in play(game, mixture()).discriminator if hasattr(layer, "weight")]
    return [torch.linalg.svdvals(layer.weight)[0].item() for layer in layers]


def test_a_spectral_critic_is_no_steeper_than_one(monkeypatch):
    game = replace(SHORT, spectral=True, steps=60, discriminator_lr=0.02)
    assert norms(game) == pytest.approx([1, 1, 1], abs=0.02)
    monkeypatch.setattr("gencore.gan.points.follow_spectrum", lambda network: None)
    assert norms(game) != pytest.approx([1, 1, 1], abs=0.1), "weights that nobody follows grow beyond it"


def test_the_generator_rests_between_its_turns():
    """With one turn in ten, six steps and one step leave the same generator; the critic goes on."""
    one, six = (play(replace(SHORT, generator_every=10, steps=6, ema_half_life=0, generator_lr=lr), mixture())
                for lr in (0.0, 1e-3))
    start = SHORT.build().generator.state_dict()
    assert all(torch.equal(one.generator.state_dict()[key], start[key]) for key in start)
    moved = [(six.generator.state_dict()[key] - start[key]).abs().max().item() for key in start]
    assert max(moved) == pytest.approx(1e-3, rel=1e-3), "Adam's first step has the size of its learning rate"


def test_playing_helps():
    game, data = replace(SHORT, width=32, steps=150, batch_size=128), mixture()
    real = data.sample(1000, torch.Generator().manual_seed(0))
    found = [energy_distance(points(game, generator, 1000, seed=0), real)
             for generator in (play(game, data).generator, game.build().generator)]
    assert found[0] < found[1] / 2


@pytest.mark.parametrize("field", ["generator_every", "width", "depth", "latent", "steps", "batch_size"])
def test_sizes_below_one_are_refused(field):
    with pytest.raises(InputError, match=f"{field} is 0; it must be at least 1"):
        replace(SHORT, **{field: 0})


@pytest.mark.parametrize("penalty", [PathLength(), Codes()])
def test_penalties_of_pictures_are_refused(penalty):
    with pytest.raises(InputError, match="penalties: PathLength and Codes need networks for pictures"):
        replace(SHORT, penalties=(R1(), penalty))
