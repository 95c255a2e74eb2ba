"""Gaussian mixtures: formulas against automatic differentiation, sums over samples, and convolution."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from gencore.analytic import GaussianMixture
from gencore.errors import InputError


def mixture(k=3, d=2, seed=0):
    """A mixture with correlated, unequal components."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn(k, d, d, generator=generator, dtype=torch.float64) * 0.5
    weights = torch.rand(k, generator=generator, dtype=torch.float64) + 0.2
    means = torch.randn(k, d, generator=generator, dtype=torch.float64) * 2
    return GaussianMixture(weights / weights.sum(), means, a @ a.mT + 0.1 * torch.eye(d, dtype=torch.float64))


def points(n, d, seed=1):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


SIZES = [(1, 1), (3, 1), (3, 2), (5, 4)]


@pytest.mark.parametrize(("k", "d"), SIZES)
def test_log_prob_is_that_of_torch(k, d):
    p, x = mixture(k, d), points(20, d)
    theirs = MixtureSameFamily(Categorical(p.weights), MultivariateNormal(p.means, p.covariances))
    torch.testing.assert_close(p.log_prob(x), theirs.log_prob(x))


def test_density_integrates_to_one():
    step = 0.02
    x = torch.arange(-12, 12, step, dtype=torch.float64)[:, None]
    assert abs(mixture(3, 1).log_prob(x).exp().sum() * step - 1) < 1e-9


@pytest.mark.parametrize(("k", "d"), SIZES)
def test_score_is_the_gradient(k, d):
    p, x = mixture(k, d), points(20, d).requires_grad_()
    (gradient,) = torch.autograd.grad(p.log_prob(x).sum(), x)
    torch.testing.assert_close(p.score(x.detach()), gradient)


@pytest.mark.parametrize(("k", "d"), SIZES)
def test_posterior_is_bayes(k, d):
    p, x = mixture(k, d), points(20, d)
    joint = p.weights * torch.stack(
        [MultivariateNormal(m, c).log_prob(x).exp() for m, c in zip(p.means, p.covariances, strict=True)], dim=-1
    )
    torch.testing.assert_close(p.posterior(x), joint / joint.sum(-1, keepdim=True))


def test_far_away_all_stays_finite():
    p = mixture()
    x = torch.tensor([[1e4, -1e4]], dtype=torch.float64)
    assert p.log_prob(x).isfinite().all()
    assert p.score(x).isfinite().all()
    torch.testing.assert_close(p.posterior(x).sum(-1), torch.ones(1, dtype=torch.float64))


def test_any_leading_shape():
    p, x = mixture(), points(12, 2).reshape(3, 4, 2)
    assert p.log_prob(x).shape == (3, 4)
    assert p.score(x).shape == (3, 4, 2)
    assert p.posterior(x).shape == (3, 4, 3)
    assert p.log_prob(x[0, 0]).shape == ()
    torch.testing.assert_close(p.score(x)[1, 2], p.score(x[1, 2]))


def moments(p):
    """Mean and covariance by the law of total variance."""
    mean = p.weights @ p.means
    apart = p.means - mean
    return mean, torch.einsum("k,kij->ij", p.weights, p.covariances + apart[:, :, None] * apart[:, None, :])


def test_samples_have_the_moments_and_the_labels():
    p, n = mixture(), 200_000
    x, component = p.sample_labelled(n, torch.Generator().manual_seed(2))
    mean, covariance = moments(p)
    error = 6 * (covariance.diagonal() / n).sqrt()  # six standard errors
    assert ((x.mean(0) - mean).abs() < error).all()
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0.03, atol=0.03)
    torch.testing.assert_close(component.bincount() / n, p.weights.float(), rtol=0, atol=0.006)
    for k in range(3):
        torch.testing.assert_close(x[component == k].mean(0), p.means[k], rtol=0, atol=0.03)
        torch.testing.assert_close(x[component == k].T.cov(), p.covariances[k], rtol=0.05, atol=0.02)


def test_score_has_mean_zero_under_the_density():
    p = mixture()
    score = p.score(p.sample(200_000, torch.Generator().manual_seed(3)))
    assert (score.mean(0).abs() < 6 * score.std(0) / math.sqrt(len(score))).all()


def test_sampling_follows_the_generator():
    p = mixture()
    one, same, other = (p.sample(5, torch.Generator().manual_seed(seed)) for seed in (4, 4, 5))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_noised_law_by_sampling():
    p, alpha, sigma = mixture(), 0.6, 0.8
    generator = torch.Generator().manual_seed(6)
    x = p.sample(200_000, generator)
    noisy = alpha * x + sigma * torch.randn(x.shape, generator=generator, dtype=x.dtype)
    q = p.noised(alpha, sigma)
    mean, covariance = moments(q)
    assert ((noisy.mean(0) - mean).abs() < 6 * (covariance.diagonal() / len(x)).sqrt()).all()
    torch.testing.assert_close(noisy.T.cov(), covariance, rtol=0.03, atol=0.03)
    ours = q.log_prob(q.sample(200_000, generator))  # the entropy, another functional, agrees too
    theirs = q.log_prob(noisy)
    assert abs(ours.mean() - theirs.mean()) < 6 * (ours.std() + theirs.std()) / math.sqrt(len(x))


def test_noised_law_by_convolution():
    p, alpha, sigma, step = mixture(3, 1), 0.7, 0.4, 0.01
    x = torch.arange(-12, 12, step, dtype=torch.float64)
    y = torch.linspace(-4, 4, 41, dtype=torch.float64)
    kernel = torch.exp(-0.5 * ((y[:, None] - alpha * x) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    convolved = (kernel * p.log_prob(x[:, None]).exp()).sum(1) * step
    torch.testing.assert_close(p.noised(alpha, sigma).log_prob(y[:, None]).exp(), convolved)


def test_noising_twice_is_noising_once():
    p, x = mixture(), points(10, 2)
    twice = p.noised(0.8, 0.3).noised(0.5, 0.6)
    once = p.noised(0.8 * 0.5, math.sqrt((0.5 * 0.3) ** 2 + 0.6**2))
    torch.testing.assert_close(twice.log_prob(x), once.log_prob(x))
    torch.testing.assert_close(p.noised(1.0, 0.0).score(x), p.score(x))


def test_noised_takes_tensors_and_lets_gradients_through():
    sigma = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    mixture().noised(torch.tensor(0.9, dtype=torch.float64), sigma).log_prob(points(4, 2)).sum().backward()
    assert sigma.grad.isfinite() and sigma.grad != 0


def test_tweedie():
    """E[x | y] from the score of the noised law equals the mean over components of Gaussian posterior means."""
    p, alpha, sigma = mixture(), 0.6, 0.8
    q, y = p.noised(alpha, sigma), points(10, 2)
    by_score = (y + sigma**2 * q.score(y)) / alpha
    gain = alpha * p.covariances @ torch.linalg.inv(q.covariances)  # (K, D, D)
    means = p.means + torch.einsum("kij,nkj->nki", gain, y[:, None] - q.means)
    torch.testing.assert_close(by_score, (q.posterior(y)[..., None] * means).sum(1))


@pytest.mark.parametrize(("alpha", "sigma"), [(0.7, 0.4), (1.0, 2.0), (0.2, 0.9), (0.0, 1.0)])
def test_denoised_by_integration(alpha, sigma):
    """E[x | x_t] by Bayes' rule on a fine grid of x."""
    p, step = mixture(3, 1), 0.005
    x = torch.arange(-15, 15, step, dtype=torch.float64)
    x_t = torch.linspace(-4, 4, 21, dtype=torch.float64)
    joint = torch.exp(-0.5 * ((x_t[:, None] - alpha * x) / sigma) ** 2 + p.log_prob(x[:, None]))
    expected = (joint * x).sum(1) / joint.sum(1)
    torch.testing.assert_close(p.denoise(alpha, sigma, x_t[:, None])[:, 0], expected)


@pytest.mark.parametrize(("k", "d"), SIZES)
def test_denoised_by_tweedie(k, d):
    p, x_t, alpha, sigma = mixture(k, d), points(12, d).reshape(3, 4, d), 0.6, 0.8
    by_score = (x_t + sigma**2 * p.noised(alpha, sigma).score(x_t)) / alpha
    torch.testing.assert_close(p.denoise(alpha, torch.tensor(sigma).double(), x_t), by_score)


def test_denoised_at_the_ends():
    """Without noise all is seen; without data nothing is, and the mean is the best guess."""
    p, x_t = mixture(), points(10, 2)
    torch.testing.assert_close(p.denoise(0.5, 0.0, x_t), x_t / 0.5)
    torch.testing.assert_close(p.denoise(0.0, 0.7, x_t), moments(p)[0].expand(10, 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.tensor([0.5, 0.4])}, "sum to 1"),
        ({"weights": torch.tensor([1.5, -0.5])}, "positive"),
        ({"weights": torch.ones(3) / 3}, "do not fit"),
        ({"means": torch.zeros(2)}, "not \\(K, D\\)"),
        ({"covariances": torch.eye(2)}, "do not fit"),
        ({"covariances": torch.stack([torch.eye(2), -torch.eye(2)])}, "positive definite"),
        ({"covariances": torch.tensor([[1.0, 0.5], [0.0, 1.0]]).expand(2, 2, 2)}, "symmetric"),
    ],
)
def test_what_is_no_mixture_is_refused(change, message):
    half = torch.tensor([0.5, 0.5])
    good = {"weights": half, "means": torch.zeros(2, 2), "covariances": torch.eye(2).expand(2, 2, 2)}
    GaussianMixture(**good)
    with pytest.raises(InputError, match=message):
        GaussianMixture(**{**good, **change})
