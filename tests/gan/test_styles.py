import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from gencore.errors import InputError
from gencore.gan.styles import mean_style, mix, path_length, truncate, walk_w, walk_z
from gencore.networks.stylegan2 import StyleGAN2

SIZES = StyleGAN2(size=8, channels=1, style=6, mapping=2, width=4, max_width=4, judge_width=2, conditions=(3, 2))
COND = torch.tensor([[2, 0], [0, 1], [2, 0]])


@pytest.fixture
def generator():
    torch.manual_seed(0)
    generator = SIZES.build()[0].eval()
    with torch.no_grad():
        for layer in generator.layers:
            layer.strength.fill_(0.5)
    return generator


class Linear(nn.Module):
    """A style is the normalised latent, in two layers; a picture is their mean, turned."""

    def __init__(self, style):
        super().__init__()
        self.turn = nn.Parameter(torch.linalg.qr(torch.randn(style, style, dtype=torch.float64))[0])

    def styles(self, z, cond=None):
        return (z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt())[:, None].expand(-1, 2, -1)

    def paint(self, w, z):
        return w.mean(1) @ self.turn


def test_the_mean_style_is_that_of_each_condition(generator):
    """Other latents' mean is as near as standard errors allow, another condition's is not."""
    means = mean_style(generator, COND, count=4000)
    assert means.shape == (3, 6)
    assert torch.equal(means[0], means[2])
    z = torch.randn(4000, SIZES.latent)
    for number in (0, 1):
        with torch.no_grad():
            w = generator.styles(z, COND[number].expand(4000, -1))[:, 0]
        error = (w.var(0) * 2 / 4000).sqrt()
        assert ((means[number] - w.mean(0)).abs() < 4.5 * error).all()
    assert ((means[0] - means[1]).abs() > 20 * error).any()


def test_styles_of_the_second_latent_are_not_in_the_mean(generator):
    assert torch.equal(mean_style(generator, COND[:1]), mean_style(generator.train(), COND[:1]))


def test_the_mean_style_depends_on_the_seed_and_not_on_the_other_rows(generator):
    alone = mean_style(generator, COND[1:2], count=10, seed=1)
    assert torch.equal(alone[0], mean_style(generator, COND, count=10, seed=1)[1])
    assert not torch.equal(alone, mean_style(generator, COND[1:2], count=10, seed=2))


def test_the_mean_style_of_a_generator_that_is_told_nothing():
    generator = StyleGAN2(size=8, style=6, width=4, max_width=4, mapping=1).build()[0]
    assert mean_style(generator, count=3).shape == (1, 6)


def test_truncation_by_hand():
    """(SB.6)."""
    w = torch.tensor([[[4.0, 0.0], [2.0, 2.0]], [[0.0, 0.0], [1.0, 5.0]]])
    mean = torch.tensor([[2.0, 2.0], [10.0, 0.0]])
    by_hand = torch.tensor([[[2.5, 1.5], [2.0, 2.0]], [[7.5, 0.0], [7.75, 1.25]]])
    assert_close(truncate(w, mean, 0.25), by_hand)
    assert_close(truncate(w, mean, 1.0), w)
    assert_close(truncate(w, mean[:1], 0.0), mean[:1, None].expand(2, 2, 2))


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_mixed_styles_change_over_at_the_layer(layer):
    coarse, fine = torch.randn(2, 4, 3, 5)
    mixed = mix(coarse, fine, layer)
    for number in range(3):
        assert torch.equal(mixed[:, number], (coarse if number < layer else fine)[:, number])


def test_walks_begin_and_end_at_the_pictures_of_their_ends(generator):
    z0, z1 = torch.randn(2, 3, SIZES.latent)
    start, end = torch.zeros(3), torch.ones(3)
    with_noise_of_the_start = torch.cat([z1[:, : SIZES.style], z0[:, SIZES.style :]], 1)
    with torch.no_grad():
        for walk in (walk_z, walk_w):
            assert_close(walk(generator, z0, z1, start, COND), generator(z0, COND), atol=1e-5, rtol=1e-4)
            assert_close(
                walk(generator, z0, z1, end, COND), generator(with_noise_of_the_start, COND), atol=1e-5, rtol=1e-4
            )


def test_walks_in_z_turn_evenly_and_in_w_go_straight():
    """(DC.5), for a batch: after a quarter of the way, a quarter of the angle is turned."""
    torch.manual_seed(1)
    generator, (z0, z1) = Linear(6), torch.randn(2, 5, 6, dtype=torch.float64)
    quarter = torch.full((5,), 0.25, dtype=torch.float64)
    first, last = (walk_z(generator, z0, z1, 0 * quarter + end) for end in (0, 1))
    turned, straight = walk_z(generator, z0, z1, quarter), walk_w(generator, z0, z1, quarter)
    assert_close(straight, torch.lerp(first, last, 0.25))
    assert_close(turned.norm(dim=1), torch.full((5,), math.sqrt(6), dtype=torch.float64))
    whole, part = (torch.arccos(torch.cosine_similarity(first, each)) for each in (last, turned))
    assert_close(part, 0.25 * whole)


def test_path_length_of_a_straight_line_is_its_squared_length_at_every_time():
    """(SB.7), with an exact answer."""
    start, way = torch.randn(2, 7, 4, dtype=torch.float64)
    t = torch.rand(7, dtype=torch.float64)
    found = path_length(lambda t: start + t[:, None] * way, lambda a, b: (a - b).square().sum(1), t)
    assert_close(found, way.square().sum(1), rtol=1e-6, atol=0)


def test_path_lengths_of_an_arc_and_of_its_chord():
    """(SB.7): if styles, of length sqrt(6), are only turned, a walk in Z is an arc and one in W its chord."""
    torch.manual_seed(1)
    generator, (z0, z1) = Linear(6), torch.randn(2, 7, 6, dtype=torch.float64)
    angle = torch.arccos(torch.cosine_similarity(z0, z1))
    t = torch.rand(7, dtype=torch.float64)

    def squares(a, b):
        return (a - b).square().sum(1)

    along_z = path_length(lambda t: walk_z(generator, z0, z1, t), squares, t)
    along_w = path_length(lambda t: walk_w(generator, z0, z1, t), squares, t)
    assert_close(along_z, 6 * angle.square(), rtol=1e-5, atol=0)
    assert_close(along_w, 12 * (1 - angle.cos()), rtol=1e-5, atol=0)
    assert (along_z > along_w).all()


def test_bad_input_is_named(generator):
    styles = torch.zeros(2, 3, 4)
    with pytest.raises(InputError, match="count is 0"):
        mean_style(generator, COND, count=0)
    for layer in (-1, 4):
        with pytest.raises(InputError, match=f"layer is {layer}; this generator's styles change over at 0 to 3"):
            mix(styles, styles, layer)
    with pytest.raises(InputError, match="styles: shapes"):
        mix(styles, styles[:1], 1)
    with pytest.raises(InputError, match="step is 0"):
        path_length(lambda t: t, lambda a, b: a, torch.zeros(1), step=0.0)
