"""One painting at a time: it comes nearer, the same each time, at any size; and colours are moved exactly."""

import pytest
import torch

from gencore.applications.style_transfer import Layers, Painted, StyleFeatures, content_distance, grams, style_distance
from gencore.applications.style_transfer.gatys import gatys, match_colours, scaled
from gencore.errors import InputError

OBJECTIVE = Painted(Layers((1, 4), content=4))


def picture(height, width, seed=0):
    rough = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8
    return torch.nn.functional.interpolate(rough, size=(height, width), mode="bilinear")


PHOTO, PAINTING = picture(37, 50), picture(48, 33, 1).flip(1)


def painted(**options):
    return list(gatys(PHOTO, PAINTING, OBJECTIVE, **{"steps": 6, **options}))


@pytest.mark.parametrize("method", ["lbfgs", "adam"])
@pytest.mark.parametrize("start", ["colours", "content", "noise"])
def test_the_loss_goes_down_and_the_picture_keeps_its_size(method, start):
    steps = painted(method=method, start=start)
    assert [each.step for each in steps] == [1, 2, 3, 4, 5, 6]
    assert all(each.picture.shape == PHOTO.shape and each.picture.abs().max() <= 1 for each in steps)
    assert steps[-1].parts["total"] < 0.8 * steps[0].parts["total"]
    assert {"style", "content", "variation", "total"} == steps[0].parts.keys()
    assert not torch.equal(steps[-1].picture, steps[-2].picture)


def test_it_is_the_same_each_time():
    a, b = painted()[-1], painted()[-1]
    assert torch.equal(a.picture, b.picture)
    one, two, same = (painted(start="noise", seed=seed, steps=1)[0].picture for seed in (0, 1, 0))
    assert torch.equal(one, same) and not torch.equal(one, two)


def test_more_weight_of_the_style_brings_the_painting_nearer_and_leaves_the_photograph():
    features = StyleFeatures((1, 4))
    found = []
    for weight in (1.0, 1000.0):
        objective = Painted(OBJECTIVE.layers, style=weight)
        maps = features(list(gatys(PHOTO, PAINTING, objective, 12, start="content"))[-1].picture)
        wanted = grams(features(PAINTING), objective.layers)
        found.append((style_distance(grams(maps, objective.layers), wanted), content_distance(maps[4], features(PHOTO)[4])))
    assert found[1][0] < found[0][0] and found[1][1] > found[0][1]


def test_sizes_come_one_after_another():
    steps = painted(sizes=(0.5, 1.0), steps=2)
    assert [tuple(each.picture.shape[2:]) for each in steps] == [(18, 25)] * 2 + [(37, 50)] * 2
    assert [each.step for each in steps] == [1, 2, 3, 4]
    beginning = torch.nn.functional.interpolate(steps[1].picture, size=(37, 50), mode="bilinear", antialias=True)
    assert (steps[2].picture - beginning).abs().mean() < 0.05  # where the smaller one ended


def test_a_start_of_ones_own():
    first = picture(37, 50, 7)
    assert (painted(start=first, steps=1)[0].picture - first).abs().max() < 0.05


@pytest.mark.parametrize("grey", [False, True])
def test_colours_have_the_paintings_mean_and_covariance(grey):
    """Also those of a photograph without any."""
    photo, painting = 0.5 * PHOTO, 0.2 * PAINTING + 0.1
    photo = photo.mean(1, keepdim=True).expand(-1, 3, -1, -1) if grey else photo
    moved = match_colours(photo, painting)
    pixels, wanted = moved.double().flatten(2)[0], painting.double().flatten(2)[0]
    torch.testing.assert_close(pixels.mean(1), wanted.mean(1), rtol=0, atol=1e-3)
    if not grey:
        torch.testing.assert_close(torch.cov(pixels), torch.cov(wanted), rtol=0.05, atol=1e-3)


def test_no_other_affine_map_to_these_colours_moves_less():
    """The optimal map is symmetric and positive: the composition with a turn that keeps the covariance moves more."""
    photo, painting = 0.5 * PHOTO, 0.3 * PAINTING
    moved = match_colours(photo, painting)
    pixels = photo.double().flatten(2)[0]
    theirs = moved.double().flatten(2)[0]
    mean = theirs.mean(1, keepdim=True)
    values, vectors = torch.linalg.eigh(torch.cov(theirs))
    root, back = (vectors @ values.pow(p).diag() @ vectors.T for p in (0.5, -0.5))
    cost = (theirs - pixels).square().mean()
    for seed in range(5):
        turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))[0]
        other = root @ turn @ back @ (theirs - mean) + mean
        torch.testing.assert_close(torch.cov(other), torch.cov(theirs))
        assert (other - pixels).square().mean() > cost


def test_what_it_costs_to_move_colours_is_the_distance_of_two_normal_laws():
    """Dowson & Landau 1982: the squared difference of means, and tr S + tr T - 2 tr (S^1/2 T S^1/2)^1/2."""
    draw = torch.Generator().manual_seed(0)
    noise = 0.2 * torch.randn(2, 3, 40, 40, generator=draw)
    first, second = (  # red and green go together in one, green and blue in the other
        torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.0, 0.0], [0.0, 0.0, 0.4]]),
        torch.tensor([[0.4, 0.0, 0.0], [0.0, 1.0, -0.6], [0.0, -0.6, 1.0]]),
    )
    photo, painting = (torch.einsum("ij,jhw->ihw", mix, x)[None] for mix, x in zip((first, second), noise, strict=True))
    ours, theirs = (x.double().flatten(2)[0] for x in (photo, painting))
    S, T = (torch.cov(each, correction=0) for each in (ours, theirs))
    squared = torch.linalg.eigvals(S @ T).real.clamp(min=0)  # those of S^1/2 T S^1/2
    expected = (ours.mean(1) - theirs.mean(1)).square().sum() + S.trace() + T.trace() - 2 * squared.sqrt().sum()
    cost = 3 * (match_colours(photo, painting).double() - photo.double()).square().mean()
    torch.testing.assert_close(cost, expected, rtol=2e-2, atol=0)  # what is added to variances costs a little


def test_a_photograph_in_its_own_colours_stays():
    torch.testing.assert_close(match_colours(PHOTO, PHOTO), PHOTO, rtol=0, atol=1e-4)


def test_scaled_keeps_proportions():
    assert scaled(PHOTO, 1.0) is PHOTO and scaled(PHOTO, 0.5).shape == (1, 3, 18, 25)


@pytest.mark.parametrize(
    ("options", "field"),
    [
        (dict(steps=0), "steps 0"),
        (dict(lr=0.0), "lr 0.0"),
        (dict(sizes=(0.5,)), "sizes"),
        (dict(sizes=(1.0, 0.5, 1.0)), "sizes"),
        (dict(content=torch.zeros(2, 3, 8, 8)), "content"),
        (dict(style=torch.zeros(1, 1, 8, 8)), "style"),
    ],
)
def test_what_makes_no_sense_is_refused(options, field):
    with pytest.raises(InputError, match=field):
        list(gatys(**{"content": PHOTO, "style": PAINTING, **options}))
