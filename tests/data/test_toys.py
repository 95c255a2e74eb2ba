"""Toys: each has the modes it says, and its density, score and samples agree."""

import math

import pytest
import torch

from gencore.data import toys
from gencore.errors import InputError

ALL = [toys.gaussian, toys.two_gaussians, toys.ring, toys.grid, toys.moons, toys.spiral]


@pytest.mark.parametrize("make", ALL)
def test_score_is_the_gradient_and_samples_follow_the_density(make):
    toy = make(dtype=torch.float64)
    x = toy.sample(20_000, torch.Generator().manual_seed(0))
    assert x.abs().max() < 5
    some = x[:50].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(toy.log_prob(some).sum(), some)
    torch.testing.assert_close(toy.score(some.detach()), gradient)
    # E[x . score(x)] = -D for every density: ties the samples to the score
    product = (x * toy.score(x)).sum(-1)
    assert abs(product.mean() + x.shape[1]) < 6 * product.std() / math.sqrt(len(x))


@pytest.mark.parametrize("make", [toys.ring, toys.grid, toys.moons, toys.gaussian, toys.two_gaussians])
def test_the_centre_is_zero(make):
    toy = make(dtype=torch.float64)
    assert (toy.weights @ toy.means).abs().max() < 1e-12


def test_two_gaussians():
    toy = toys.two_gaussians(distance=6, std=0.5, left=0.25)
    assert toy.means.flatten().tolist() == [-3, 3]
    x = toy.sample(10_000, torch.Generator().manual_seed(0))
    assert abs((x < 0).float().mean() - 0.25) < 0.03
    assert abs(x[x > 0].std() - 0.5) < 0.03


def test_ring_and_grid_have_their_modes():
    ring = toys.ring(count=8, radius=2)
    torch.testing.assert_close(ring.means.norm(dim=1), torch.full((8,), 2.0))
    gaps = torch.cdist(ring.means, ring.means).fill_diagonal_(9).min(1).values
    torch.testing.assert_close(gaps, torch.full((8,), 4 * math.sin(math.pi / 8)))
    grid = toys.grid(side=5, distance=1)
    assert {tuple(mean) for mean in grid.means.tolist()} == {(x, y) for x in range(-2, 3) for y in range(-2, 3)}


def test_moons_and_spiral_are_unbroken():
    for toy in (toys.moons(), toys.spiral()):
        std = toy.covariances[0, 0, 0].sqrt()
        steps = (toy.means[1:] - toy.means[:-1]).norm(dim=1)
        assert steps.sort().values[:-1].max() < 1.5 * std  # but for the jump from moon to moon
    steps = (toys.spiral().means[1:] - toys.spiral().means[:-1]).norm(dim=1)
    assert steps.max() / steps.min() < 1.1


def test_bad_parameters_are_refused():
    for make in (lambda: toys.ring(count=0), lambda: toys.gaussian(std=0.0)):
        with pytest.raises(InputError, match="at least one Gaussian and a positive std"):
            make()
    with pytest.raises(InputError, match="weights"):
        toys.two_gaussians(left=1.0)
