"""What is minimised, written plainly; what leaves a texture the same; and what each weight does."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore.applications.style_transfer import (
    Brushes, Examples, Layers, Networks, Painted, StyleFeatures, content_distance, gram, grams, style_distance,
    total_variation,
)
from gencore.applications.style_transfer.objectives import blended
from gencore.networks.adain import adain, moments

LAYERS = Layers((1, 4), content=4)


@pytest.fixture(scope="module")
def features():
    return StyleFeatures((1, 4))


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def pictures(count, seed=0, side=32):
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_a_gram_matrix_is_the_mean_product():
    h = noise(2, 3, 4, 5)
    for b in range(2):
        for i in range(3):
            for j in range(3):
                torch.testing.assert_close(gram(h)[b, i, j], (h[b, i] * h[b, j]).mean())


def test_a_gram_matrix_does_not_know_where_things_are():
    h = noise(1, 3, 4, 5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(gram(h.flatten(2)[:, :, order].view(1, 3, 4, 5)), gram(h))
    assert not torch.allclose(gram(h * torch.linspace(0, 2, 5)), gram(h))


def test_style_distance_written_plainly():
    a, b = {1: noise(2, 3, 3), 4: noise(2, 4, 4, seed=1)}, {1: noise(2, 3, 3, seed=2), 4: noise(2, 4, 4, seed=3)}
    expected = [
        sum(((a[n][i] - b[n][i]) ** 2).sum() / (b[n][i] ** 2).sum() for n in (1, 4)).item() / 2 for i in range(2)
    ]
    torch.testing.assert_close(style_distance(a, b), torch.tensor(expected))
    assert style_distance(a, a).tolist() == [0, 0]
    torch.testing.assert_close(style_distance({1: 0 * b[1]}, {1: b[1]}), torch.ones(2))


def test_content_distance_and_variation_written_plainly():
    a, b = noise(2, 3, 4, 5), noise(2, 3, 4, 5, seed=1)
    expected = [(((a[i] - b[i]) ** 2).sum() / (b[i] ** 2).sum()).item() for i in range(2)]
    torch.testing.assert_close(content_distance(a, b), torch.tensor(expected))
    expected = [
        (((a[i, :, 1:] - a[i, :, :-1]) ** 2).mean() + ((a[i, :, :, 1:] - a[i, :, :, :-1]) ** 2).mean()).item() for i in range(2)
    ]
    torch.testing.assert_close(total_variation(a), torch.tensor(expected))


class Shows(nn.Module):
    """Paints what it was told to, and remembers what it was given."""

    def __init__(self, picture):
        super().__init__()
        self.picture, self.given = picture, None

    def forward(self, *given):
        self.given = given
        return self.picture


def test_the_loss_of_a_picture_written_plainly(features):
    objective = Painted(LAYERS, style=7.0, content=3.0, variation=2.0)
    picture, photograph, painting = pictures(1), pictures(1, 1), pictures(1, 2)
    wanted = grams(features(painting), LAYERS)
    loss = objective.of_picture(features, picture, features(photograph)[4], wanted)
    maps = features(picture)
    style = sum((gram(maps[n]) - wanted[n]).square().sum() / wanted[n].square().sum() for n in (1, 4)) / 2
    content = (maps[4] - features(photograph)[4]).square().sum() / features(photograph)[4].square().sum()
    torch.testing.assert_close(loss.parts["style"], style)
    torch.testing.assert_close(loss.parts["content"], content)
    torch.testing.assert_close(loss.parts["variation"], total_variation(picture)[0])
    torch.testing.assert_close(loss.total, 7 * style + 3 * content + 2 * total_variation(picture)[0])


def by_network(objective, features, picture, x, strength):
    wanted = grams(features(pictures(2, 5)), LAYERS)
    mix = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    network = Shows(picture)
    return objective.by_network(Networks(network), features, x, Brushes(mix, wanted, strength)), network, mix, wanted


def test_the_loss_of_a_network_written_plainly(features):
    """Style as far as it is wanted, pixels as far as it is not; content and variation always."""
    objective = Painted(LAYERS, style=7.0, content=3.0, variation=2.0, pixels=5.0)
    picture, x, strength = pictures(2), pictures(2, 1), torch.tensor([1.0, 0.25])
    loss, network, mix, wanted = by_network(objective, features, picture, x, strength)
    assert network.given[0] is x and network.given[1] is mix
    style = style_distance(grams(features(picture), LAYERS), wanted)
    content = content_distance(features(picture)[4], features(x)[4])
    error = (picture - x).square().mean((1, 2, 3))
    total = 7 * (style[0] + 0.25 * style[1]) / 2 + 5 * 0.75 * error[1] / 2
    total = total + 3 * content.mean() + 2 * total_variation(picture).mean()
    torch.testing.assert_close(loss.total, total)
    torch.testing.assert_close(loss.parts["style"], (style[0] + 0.25 * style[1]) / 2)
    torch.testing.assert_close(loss.parts["pixels"], 0.75 * error[1] / 2)
    torch.testing.assert_close(loss.parts["content"], content.mean())


def test_the_loss_by_example_written_plainly(features):
    objective = Painted(LAYERS, style=7.0, content=3.0, variation=2.0, pixels=5.0)
    picture, x, styles, strength = pictures(2), pictures(2, 1), pictures(2, 2), torch.tensor([1.0, 0.25])
    network = Shows(picture)
    loss = objective.by_example(Networks(network), features, x, Examples(styles, strength), (1, 4))
    shown, given, maps = features(x), features(styles), features(picture)
    wanted = [strength[:, None, None, None] * adain(shown[n], given[n]) for n in (1, 4)]
    wanted = [each + (1 - strength)[:, None, None, None] * shown[n] for n, each in zip((1, 4), wanted, strict=True)]
    for ours, theirs in zip(network.given[0], wanted, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)
    style = style_distance(grams(maps, LAYERS), grams(given, LAYERS))
    content = (content_distance(maps[1], wanted[0]) + content_distance(maps[4], wanted[1])) / 2
    error = (picture - x).square().mean((1, 2, 3))
    total = 7 * (strength * style).mean() + 5 * ((1 - strength) * error).mean()
    torch.testing.assert_close(loss.total, total + 3 * content.mean() + 2 * total_variation(picture).mean())
    torch.testing.assert_close(loss.parts["content"], content.mean())


def test_no_strength_leaves_maps_and_all_of_it_moves_their_moments():
    content, style = {1: noise(2, 3, 8, 8)}, {1: 2 * noise(2, 3, 8, 8, seed=1) + 1}
    none, all_of_it = (blended(content, style, (1,), torch.full((2,), s))[0] for s in (0.0, 1.0))
    torch.testing.assert_close(none, content[1])
    for ours, theirs in zip(moments(all_of_it), moments(style[1]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_gradients_pull_towards_what_is_wanted(features):
    """A small step against the gradient lowers the loss, and each part moves if it alone has weight."""
    photograph, painting = pictures(1, 1), pictures(1, 2)
    aim, wanted = features(photograph)[4], grams(features(painting), LAYERS)
    for part in ("style", "content", "variation"):
        objective = replace(Painted(LAYERS, style=0.0, content=0.0, variation=0.0), **{part: 1.0})
        x = pictures(1).requires_grad_()
        loss = objective.of_picture(features, x, aim, wanted)
        loss.total.backward()
        moved = (x - 1e-3 * x.grad / x.grad.abs().max()).detach()
        after = objective.of_picture(features, moved, aim, wanted)
        assert after.parts[part] < loss.parts[part] and after.total < loss.total


def test_the_fixed_network_stays_fixed(features):
    x = pictures(1).requires_grad_()
    features(x)[4].sum().backward()
    assert x.grad.any() and not any(p.requires_grad for p in features.parameters())


@pytest.mark.parametrize("field", ["style", "content", "variation", "pixels"])
def test_every_weight_changes_the_loss(features, field):
    picture, x = pictures(2), pictures(2, 1)
    losses = [
        by_network(replace(Painted(LAYERS), **{field: weight}), features, picture, x, torch.tensor([0.5, 0.5]))[0].total
        for weight in (0.5, 50.0)
    ]
    assert abs(losses[0] - losses[1]) > 0.1
