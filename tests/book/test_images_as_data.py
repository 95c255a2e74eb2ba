"""The equations of "Images as data", each against an independent computation."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal

from gencore.data import to_float, to_uint8
from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "foundations/images-as-data"
DTYPE = torch.float64


def rows(n=400, dimensions=4):
    """Correlated points with a mean away from zero."""
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(dimensions, dimensions, generator=generator, dtype=DTYPE)
    return torch.randn(n, dimensions, generator=generator, dtype=DTYPE) @ mixing + torch.arange(dimensions)


@equation("IM.1", r"x = \frac{b}{127.5} - 1, \qquad b = \mathrm{round}\big(127.5\,x + 127.5\big)")
def test_bytes_and_floats():
    """(IM.1): ends and middle by hand, every level there and back, values outside clamped; gencore does the same."""
    to, back = load(CHAPTER, "bytes_to_floats", "floats_to_bytes")
    levels = torch.arange(256, dtype=torch.uint8)
    assert to(levels[[0, 255]]).tolist() == [-1, 1]
    assert to(levels).diff().allclose(torch.tensor(2 / 255), atol=1e-6)
    assert torch.equal(back(to(levels)), levels)
    assert back(torch.tensor([-3.0, 0.0039, 1.7])).tolist() == [0, 128, 255]
    assert torch.equal(to(levels), to_float(levels))
    x = torch.linspace(-1.5, 1.5, 999)
    assert torch.equal(back(x), to_uint8(x))


@equation(
    "IM.2",
    r"""
    \ell(v) = \begin{cases} v/12.92 & v \le 0.04045,\\ \big((v+0.055)/1.055\big)^{2.4} &
    \text{otherwise.}\end{cases}
    """,
)
def test_light_of_srgb():
    """(IM.2): published values, and the inverse formula of IEC 61966-2-1 leads back."""
    (light,) = load(CHAPTER, "light")
    v = torch.linspace(0, 1, 101, dtype=DTYPE)
    expected = torch.tensor([0, 0.0100228, 0.2140411, 1], dtype=DTYPE)
    assert light(torch.tensor([0, 0.1, 0.5, 1], dtype=DTYPE)).allclose(expected, atol=1e-6)
    encoded = torch.where(light(v) <= 0.0031308, 12.92 * light(v), 1.055 * light(v) ** (1 / 2.4) - 0.055)
    assert encoded.allclose(v, atol=1e-6)


@equation("IM.3", r"f_{\text{seen}} = f - \mathrm{round}(f), \qquad |f_{\text{seen}}| \le \tfrac12")
@pytest.mark.parametrize("f", [0.2, 0.7, 1.31, 3.9, -2.6])
def test_alias_has_the_same_samples(f):
    """(IM.3): equal samples at whole numbers, for any phase, and at most half a cycle per pixel."""
    (alias,) = load(CHAPTER, "alias")
    n, seen = torch.arange(40, dtype=DTYPE), alias(torch.tensor(f, dtype=DTYPE))
    assert seen.abs() <= 0.5
    for phase in (0.0, 1.0, 2.5):
        assert torch.cos(2 * math.pi * f * n + phase).allclose(torch.cos(2 * math.pi * seen * n + phase), atol=1e-9)


@equation("IM.4", r"g_s(f) = \frac{\sin(\pi f s)}{s\,\sin(\pi f)}")
@pytest.mark.parametrize("s", [2, 3, 4, 7])
def test_gain_of_averaging(s):
    """(IM.4): the mean of s pixels is the wave at their middle, times the gain, sign included."""
    (area_gain,) = load(CHAPTER, "area_gain")
    for f in torch.tensor([0.03, 0.11, 0.27, 1 / 3, 0.48], dtype=DTYPE):
        wave = torch.cos(2 * math.pi * f * torch.arange(60 * s, dtype=DTYPE) + 0.4)
        middle = torch.cos(2 * math.pi * f * (s * torch.arange(60, dtype=DTYPE) + (s - 1) / 2) + 0.4)
        assert wave.view(60, s).mean(1).allclose(area_gain(f, s) * middle, atol=1e-10)


@equation(
    "IM.5",
    r"""
    \log \mathcal N(x; \mu, \Sigma) = -\tfrac12\big(D\log 2\pi + \log\det\Sigma + (x-\mu)^{\!\top}
    \Sigma^{-1}(x-\mu)\big)
    """,
)
def test_log_density():
    """(IM.5): against torch.distributions."""
    fit, log_density = load(CHAPTER, "fit", "log_density")
    x = rows()
    mean, covariance = fit(x)
    found = log_density(x, mean, *torch.linalg.eigh(covariance))
    assert found.allclose(MultivariateNormal(mean, covariance).log_prob(x), atol=1e-9)


@equation("IM.6", r"\mu = \frac1N\sum_{n=1}^N x_n, \qquad \Sigma = \frac1N\sum_{n=1}^N (x_n-\mu)(x_n-\mu)^\top")
def test_fit_is_the_maximum():
    """(IM.6): at the fit the likelihood's gradient vanishes, for the mean and for a factor of the covariance."""
    (fit,) = load(CHAPTER, "fit")
    x = rows()
    mean, covariance = fit(x)
    mean.requires_grad_()
    factor = torch.linalg.cholesky(covariance).requires_grad_()
    MultivariateNormal(mean, scale_tril=factor).log_prob(x).mean().backward()
    assert mean.grad.abs().max() < 1e-9
    assert factor.grad.tril().abs().max() < 1e-9


@equation("IM.7", r"\text{bits}(x) = -\frac{\log p(x)}{D \log 2} - \log_2 \Delta")
def test_bits_per_dimension():
    """(IM.7): a uniform density on the 256 cells costs 8 bits, and twice the density one bit less, in each dimension."""
    (bits,) = load(CHAPTER, "bits_per_dimension")
    step, dimensions = 2 / 255, 5
    uniform = -dimensions * math.log(256 * step)
    assert bits(uniform, dimensions) == pytest.approx(8)
    assert bits(uniform + dimensions * math.log(2), dimensions) == pytest.approx(7)


@equation("IM.8", r"\sigma^2 = \frac{1}{D-k}\sum_{i=k+1}^{D}\lambda_i")
def test_shared_variance_is_the_best():
    """(IM.8): no other shared value gives the training rows a higher likelihood."""
    fit, keep, log_density = load(CHAPTER, "fit", "keep", "log_density")
    x = rows(dimensions=6)
    mean, covariance = fit(x)
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    kept = keep(values, 2)
    assert torch.equal(kept[:2], values[:2])
    shared = kept[2:].mean().log().requires_grad_()
    assert kept[2:].allclose(shared.exp())
    log_density(x, mean, torch.cat([kept[:2], shared.exp().expand(4)]), vectors).mean().backward()
    assert shared.grad.abs() < 1e-9


def test_splits():
    """A split by group cuts no group; a random split does; both have about the size asked for."""
    at_random, by_group = load(CHAPTER, "split_at_random", "split_by_group")
    group = torch.arange(300) // 3
    mask = by_group(group, 0.1, torch.Generator().manual_seed(0)).view(100, 3)
    assert torch.equal(mask.any(1), mask.all(1)) and mask.sum() == 30
    mask = at_random(group, 0.1, torch.Generator().manual_seed(0)).view(100, 3)
    assert not torch.equal(mask.any(1), mask.all(1)) and mask.sum() == 30
