"""Linear-Gaussian models: closed forms against torch.distributions, Bayes' rule, automatic differentiation and sampling."""

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, kl_divergence

from gencore.analytic import LinearGaussian, gaussian_kl
from gencore.errors import InputError

SIZES = [(1, 1), (3, 1), (3, 2), (4, 6)]


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def model(d=3, latent=2):
    return LinearGaussian(rand(d, latent), rand(d, seed=1), rand(d, seed=2).square() + 0.1)


def gaussian(n, latent):
    """Moments of n different Gaussians with correlated coordinates."""
    a = rand(n, latent, latent, seed=4)
    return rand(n, latent, seed=3), a @ a.mT + 0.1 * torch.eye(latent, dtype=torch.float64)


@pytest.mark.parametrize(("d", "latent"), SIZES)
def test_log_prob_is_the_joint_over_the_posterior(d, latent):
    """log p(x) = log p(x | z) + log p(z) - log p(z | x), whatever z is: Bayes' rule ties all three together."""
    p, x, z = model(d, latent), rand(7, d, seed=5), rand(7, latent, seed=6)
    zeros, identity = torch.zeros(latent, dtype=torch.float64), torch.eye(latent, dtype=torch.float64)
    given_z = MultivariateNormal(z @ p.weight.mT + p.bias, torch.diag(p.variances)).log_prob(x)
    given_x = MultivariateNormal(*p.posterior(x)).log_prob(z)
    torch.testing.assert_close(p.log_prob(x), given_z + MultivariateNormal(zeros, identity).log_prob(z) - given_x)


def test_samples_have_the_moments_and_come_from_their_latents():
    p, n = model(), 200_000
    x, z = p.sample_with_latents(n, torch.Generator().manual_seed(7))
    assert ((x.mean(0) - p.bias).abs() < 6 * (p.covariance.diagonal() / n).sqrt()).all()
    torch.testing.assert_close(x.T.cov(), p.covariance, rtol=0.03, atol=0.03)
    torch.testing.assert_close(z.T.cov(), torch.eye(2, dtype=torch.float64), rtol=0, atol=0.02)
    noise = x - p.bias - z @ p.weight.mT
    torch.testing.assert_close(noise.T.cov(), torch.diag(p.variances), rtol=0.03, atol=0.03)
    assert torch.equal(p.sample(5, torch.Generator().manual_seed(7)), p.sample(5, torch.Generator().manual_seed(7)))


@pytest.mark.parametrize(("d", "latent"), SIZES)
def test_what_the_elbo_lacks_is_the_divergence_from_the_posterior(d, latent):
    """(VA.2): three closed forms that share no code but the divergence between Gaussians."""
    p, x = model(d, latent), rand(9, d, seed=8)
    q = gaussian(9, latent)
    torch.testing.assert_close(p.log_prob(x) - p.elbo(x, *q), p.gap(x, *q))
    assert (p.gap(x, *q) > 0).all()
    torch.testing.assert_close(p.elbo(x, *p.posterior(x)), p.log_prob(x))


def test_elbo_is_what_sampling_gives():
    p, x, n = model(), rand(1, 3, seed=8)[0], 400_000
    mean, covariance = (each[0] for each in gaussian(1, 2))
    q = MultivariateNormal(mean, covariance)
    z = mean + rand(n, 2, seed=9) @ torch.linalg.cholesky(covariance).mT
    prior = MultivariateNormal(torch.zeros_like(mean), torch.eye(2, dtype=torch.float64))
    given_z = MultivariateNormal(z @ p.weight.mT + p.bias, torch.diag(p.variances)).log_prob(x)
    terms = given_z + prior.log_prob(z) - q.log_prob(z)
    assert abs(terms.mean() - p.elbo(x, mean, covariance)) < 5 * terms.std() / math.sqrt(n)


def test_gaussian_kl_is_that_of_torch():
    (m, a), (n, b) = gaussian(5, 3), gaussian(5, 3)
    n, b = n.flip(0) + 1, 2 * b.flip(0)
    torch.testing.assert_close(gaussian_kl(m, a, n, b), kl_divergence(MultivariateNormal(m, a), MultivariateNormal(n, b)))
    torch.testing.assert_close(gaussian_kl(m, a, m, a), torch.zeros(5, dtype=torch.float64), atol=1e-12, rtol=0)


def test_fit_maximises_the_likelihood():
    """The gradient of the mean log-likelihood vanishes in every parameter, and the noise is the mean left-over eigenvalue."""
    x = model(5, 2).sample(400, torch.Generator().manual_seed(10))
    best = LinearGaussian.fit(x, 2)
    weight, bias = best.weight.clone().requires_grad_(), best.bias.clone().requires_grad_()
    noise = best.variances[0].clone().requires_grad_()
    value = LinearGaussian(weight, bias, noise.expand(5)).log_prob(x).mean()
    for gradient in torch.autograd.grad(value, (weight, bias, noise)):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-9, rtol=0)
    eigenvalues = torch.linalg.eigvalsh((x - x.mean(0)).T @ (x - x.mean(0)) / len(x))
    torch.testing.assert_close(best.variances, eigenvalues[:3].mean().expand(5))
    torch.testing.assert_close(best.covariance.diagonal().sum(), eigenvalues.sum())
    for other in (LinearGaussian(1.05 * best.weight, best.bias, best.variances),
                  LinearGaussian(best.weight, best.bias, 1.05 * best.variances), LinearGaussian.fit(x, 1)):
        assert other.log_prob(x).mean() < best.log_prob(x).mean()


def test_fit_finds_the_model_that_made_the_data():
    truth = LinearGaussian(rand(4, 2), rand(4, seed=1), torch.full((4,), 0.3, dtype=torch.float64))
    found = LinearGaussian.fit(truth.sample(400_000, torch.Generator().manual_seed(11)), 2)
    torch.testing.assert_close(found.covariance, truth.covariance, rtol=0.02, atol=0.02)
    torch.testing.assert_close(found.variances, truth.variances, rtol=0.02, atol=0)


def test_any_leading_shape_and_gradients():
    p, x = model(), rand(12, 3, seed=12).reshape(3, 4, 3).requires_grad_()
    mean, covariance = p.posterior(x)
    assert mean.shape == (3, 4, 2) and covariance.shape == (2, 2)
    assert p.log_prob(x).shape == p.elbo(x, mean, covariance).shape == p.gap(x, mean, covariance).shape == (3, 4)
    p.log_prob(x).sum().backward()
    assert x.grad.isfinite().all() and x.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": torch.zeros(3)}, "not \\(D, L\\)"),
        ({"bias": torch.zeros(2)}, "bias.*does not fit"),
        ({"variances": torch.ones(4)}, "variances.*does not fit"),
        ({"variances": torch.tensor([1.0, 0.0, 1.0])}, "positive"),
        ({"variances": torch.tensor([1.0, float("nan"), 1.0])}, "positive"),
    ],
)
def test_what_is_no_model_is_refused(change, message):
    good = {"weight": torch.ones(3, 2), "bias": torch.zeros(3), "variances": torch.ones(3)}
    LinearGaussian(**good)
    with pytest.raises(InputError, match=message):
        LinearGaussian(**{**good, **change})


@pytest.mark.parametrize("latent", [0, 3])
def test_fit_refuses_what_leaves_no_noise(latent):
    with pytest.raises(InputError, match="from 1 to 2"):
        LinearGaussian.fit(rand(10, 3), latent)
