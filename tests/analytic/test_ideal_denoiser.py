"""The ideal denoiser: nothing has a smaller loss, in every limit it is what it must be, and samplers find the data."""

import math

import numpy as np
import pytest
import torch

from gencore.analytic import GaussianMixture, IdealDenoiser
from gencore.data import Digits, to_float
from gencore.diffusion.process import EDM, Cosine, Flow, Linear
from gencore.diffusion.samplers import even_times, heun
from gencore.errors import InputError


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(data, alpha, sigma, x_t):
    """Mean and weights of one noised picture, restated."""
    likelihoods = [math.exp(-((x_t - alpha * x) ** 2).sum().item() / (2 * sigma**2)) for x in data]
    weights = torch.tensor(likelihoods, dtype=torch.float64) / sum(likelihoods)
    return sum(w * x for w, x in zip(weights, data, strict=True)), weights


def every_draw(data, alpha, sigma, nodes=120):
    """All pairs of a picture and noise on a Gauss-Hermite grid in 1-D: x, x_t and the probability of each."""
    at, weight = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(nodes))
    x, eps = data.repeat_interleave(nodes, 0), at.repeat(len(data))[:, None]  # (N * nodes, 1) each
    return x, alpha * x + sigma * eps, (weight / weight.sum()).repeat(len(data)) / len(data)


@pytest.mark.parametrize("block", [1, 3, 1024])
def test_it_is_the_formula(block):
    data, x_t = rand(7, 2, 3, 3), rand(5, 2, 3, 3, seed=1)
    alpha, sigma = torch.linspace(0.2, 1.0, 5).double(), torch.linspace(2.0, 0.8, 5).double()
    ideal = IdealDenoiser(data, block)
    found, weights = ideal.denoise(alpha, sigma, x_t), ideal.posterior(alpha, sigma, x_t)
    for b in range(5):
        mean, weight = plain(data, alpha[b].item(), sigma[b].item(), x_t[b])
        torch.testing.assert_close(found[b], mean)
        torch.testing.assert_close(weights[b], weight)
        torch.testing.assert_close(ideal.denoise(alpha[b], sigma[b].item(), x_t[b : b + 1])[0], mean)


@pytest.mark.parametrize(("alpha", "sigma"), [(0.9, 0.4), (0.5, 0.9), (1.0, 3.0)])
def test_nothing_has_a_smaller_loss(alpha, sigma):
    """Over all draws of picture and noise, the loss has no slope in any direction, and rises both ways."""
    data = torch.tensor([[-1.0], [-0.2], [0.7], [0.9]], dtype=torch.float64)
    x, x_t, probability = every_draw(data, alpha, sigma)
    ideal = IdealDenoiser(data)

    def loss(denoised):
        return (probability * (denoised - x).square().sum(1)).sum()

    least = loss(ideal.denoise(alpha, sigma, x_t))
    for direction in (torch.ones_like(x_t), x_t, x_t**2, torch.sin(3 * x_t)):
        step = torch.zeros((), dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(ideal.denoise(alpha, sigma, x_t) + step * direction), step)
        assert abs(slope) < 1e-8  # what 120 nodes leave of the integral
        for size in (-0.01, 0.01):
            assert loss(ideal.denoise(alpha, sigma, x_t) + size * direction) > least + 1e-6
    assert least > 0.1  # there is something to lose


@pytest.mark.parametrize(("alpha", "sigma"), [(1.0, 0.5), (0.3, 0.8)])
def test_it_is_the_mixture_with_narrow_components(alpha, sigma):
    data, x_t = rand(6, 3), rand(9, 3, seed=1)
    narrow = 1e-10 * torch.eye(3, dtype=torch.float64).expand(6, 3, 3)
    mixture = GaussianMixture(torch.full((6,), 1 / 6, dtype=torch.float64), data, narrow)
    ideal = IdealDenoiser(data)
    torch.testing.assert_close(ideal.denoise(alpha, sigma, x_t), mixture.denoise(alpha, sigma, x_t), rtol=0, atol=1e-7)
    weights = mixture.noised(alpha, sigma).posterior(x_t)
    torch.testing.assert_close(ideal.posterior(alpha, sigma, x_t), weights, rtol=0, atol=1e-7)


def test_tweedie():
    """Noised data follow a mixture with a component at each faded picture; its score gives the mean."""
    data, x_t, alpha, sigma = rand(6, 3), rand(9, 3, seed=1), 0.6, 0.7
    spread = sigma**2 * torch.eye(3, dtype=torch.float64).expand(6, 3, 3)
    law = GaussianMixture(torch.full((6,), 1 / 6, dtype=torch.float64), alpha * data, spread)
    torch.testing.assert_close(IdealDenoiser(data).denoise(alpha, sigma, x_t), (x_t + sigma**2 * law.score(x_t)) / alpha)


def test_its_derivative_is_the_posterior_covariance():
    """The derivative of E[x | x_t] by x_t is alpha / sigma^2 times the covariance of x given x_t."""
    data, x_t, alpha, sigma = rand(6, 3), rand(1, 3, seed=1), 0.6, 0.7
    ideal = IdealDenoiser(data, block=4)
    derivative = torch.autograd.functional.jacobian(lambda y: ideal.denoise(alpha, sigma, y)[0], x_t)[:, 0]
    apart = data - ideal.denoise(alpha, sigma, x_t)
    covariance = torch.einsum("n,ni,nj->ij", ideal.posterior(alpha, sigma, x_t)[0], apart, apart)
    torch.testing.assert_close(derivative, alpha / sigma**2 * covariance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sigma", [0.0, 1e-300, 1e-155, 1e-30, 1e-6])  # 1e-155: its square is denormal
def test_without_noise_the_nearest_picture(dtype, sigma):
    data = rand(20, 1, 4, 4).to(dtype)
    x_t = 0.8 * data[[3, 17, 3]] + 0.05 * rand(3, 1, 4, 4, seed=1).to(dtype)
    ideal = IdealDenoiser(data, block=6)
    assert torch.equal(ideal.denoise(0.8, sigma, x_t), data[[3, 17, 3]])
    assert torch.equal(ideal.posterior(0.8, sigma, x_t).argmax(1), torch.tensor([3, 17, 3]))
    torch.testing.assert_close(ideal.posterior(0.8, sigma, x_t).sum(1), torch.ones(3, dtype=dtype))
    leaf = x_t.clone().requires_grad_()
    ideal.denoise(0.8, sigma, leaf).sum().backward()
    assert leaf.grad.isfinite().all()


def test_some_with_noise_and_some_without():
    data, x_t = rand(5, 2), rand(2, 2, seed=1)
    both = IdealDenoiser(data).denoise(1.0, torch.tensor([0.0, 0.5], dtype=torch.float64), x_t)
    torch.testing.assert_close(both[0], data[((data - x_t[0]) ** 2).sum(1).argmin()])
    torch.testing.assert_close(both[1], plain(data, 1.0, 0.5, x_t[1])[0])


def test_in_much_noise_the_mean_of_all():
    data, x_t = rand(5, 1, 3, 3), 1e4 * rand(2, 1, 3, 3, seed=1)
    ideal, mean = IdealDenoiser(data), data.mean(0).expand(2, -1, -1, -1)
    torch.testing.assert_close(ideal.denoise(1.0, 1e8, x_t), mean)
    torch.testing.assert_close(ideal.denoise(0.0, 1.0, x_t), mean)  # nothing of the data is left to see
    torch.testing.assert_close(ideal.posterior(0.0, 1.0, x_t), torch.full((2, 5), 0.2, dtype=torch.float64))


def test_little_noise_in_float32():
    """Two pictures that differ by a grey level in ten pixels, told apart by differences, not by large squares."""
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    other, sigma = x.clone(), 0.01
    other.flatten()[:10] += 2 / 255
    x_t = x + sigma * rand(1, 3, 32, 32, seed=1).float()
    near, far = ((x_t.double() - each.double()).square().sum() for each in (x, other))
    expected = torch.sigmoid((far - near) / (2 * sigma**2)).item()
    assert 0.9 < expected < 0.999
    found = IdealDenoiser(torch.cat([x, other])).posterior(1.0, sigma, x_t)[0, 0].item()
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("process", [Linear(), Cosine(), Flow(), EDM()], ids=lambda p: type(p).__name__)
def test_samplers_end_on_training_pictures(process):
    data = to_float(Digits().load("train").images[:300])
    ideal = IdealDenoiser(data)

    def denoise(x_t, t):
        return ideal.denoise(process.alpha(t), process.sigma(t), x_t)

    times = even_times(20, bend=2)
    start = process.sigma(times[0]).to(torch.float32) * rand(12, *data.shape[1:], seed=2).float()
    found = heun(denoise, process, times, start)
    distance, which = torch.cdist(found.double().flatten(1), data.double().flatten(1)).min(1)
    assert distance.max() < 0.1 * torch.pdist(data.flatten(1)).min()
    assert len(which.unique()) > 6  # of twelve: they do not all end on one


@pytest.mark.parametrize(
    ("data", "block", "message"),
    [
        (torch.zeros(5), 1, "not floats"),
        (torch.zeros(0, 3), 1, "not floats"),
        (torch.zeros(5, 3, dtype=torch.uint8), 1, "not floats"),
        (torch.zeros(5, 3), 0, "block 0"),
    ],
)
def test_what_are_no_pictures_is_refused(data, block, message):
    with pytest.raises(InputError, match=message):
        IdealDenoiser(data, block)


def test_noised_pictures_of_another_shape_are_refused():
    with pytest.raises(InputError, match="does not fit data"):
        IdealDenoiser(torch.zeros(5, 1, 4, 4)).denoise(1.0, 1.0, torch.zeros(2, 16))
