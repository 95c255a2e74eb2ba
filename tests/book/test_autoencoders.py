r"""The equations of the chapter on autoencoders, held to sums by hand, eigenvalues and integrals on a grid."""

import math

import pytest
import torch

from gencore.analytic import GaussianMixture
from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "vae/autoencoders"

pytestmark = pytest.mark.usefixtures("double_precision")


def covariance(size=5):
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(0))
    return root @ root.T


@equation("AU.1", r"\mathcal L(f, g) = \mathbb E_{x}\,\big\lVert x - g(f(x)) \big\rVert^2")
def test_the_loss_is_the_mean_squared_distance_to_the_reconstruction():
    """(AU.1): the distance is summed over the coordinates, the mean is over the data; also by the covariance alone."""
    reconstruction_loss, linear_loss = load(CHAPTER, "reconstruction_loss", "linear_loss")
    W, V = torch.randn(2, 3), torch.randn(3, 2)
    x = torch.randn(50, 3)
    by_hand = sum(sum((a - b) ** 2 for a, b in zip(row.tolist(), (V @ W @ row).tolist())) for row in x) / 50
    assert reconstruction_loss(lambda row: row @ W.T @ V.T, x).item() == pytest.approx(by_hand)
    assert linear_loss(W, V, x.T @ x / 50).item() == pytest.approx(by_hand)


@equation(
    "AU.2",
    r"\min_W\, \mathbb E\,\lVert x - VWx\rVert^2 = \operatorname{tr}\Sigma - \operatorname{tr}(\Pi\,\Sigma)",
)
def test_the_best_encoder_projects():
    """(AU.2): the error of the encoder given in the text; no small change of it does better."""
    projection_error, linear_loss = load(CHAPTER, "projection_error", "linear_loss")
    S, V = covariance(), torch.randn(5, 2)
    W = torch.linalg.solve(V.T @ V, V.T)
    least = projection_error(S, V).item()
    assert linear_loss(W, V, S).item() == pytest.approx(least)
    assert all(linear_loss(W + 0.01 * torch.randn(2, 5), V, S).item() > least for _ in range(20))


@equation("AU.3", r"\min_{V, W}\, \mathbb E\,\lVert x - VWx\rVert^2 = \sum_{i > L} \lambda_i")
def test_the_least_error_is_the_sum_of_the_left_out_eigenvalues():
    """(AU.3): reached by the first eigenvectors, and by no other space."""
    projection_error, least_error = load(CHAPTER, "projection_error", "least_error")
    S = covariance()
    values, vectors = torch.linalg.eigh(S)
    values, vectors = values.flip(0), vectors.flip(1)
    least = least_error(values, 2).item()
    assert least == pytest.approx(values[2].item() + values[3].item() + values[4].item())
    assert projection_error(S, vectors[:, :2]).item() == pytest.approx(least)
    assert all(projection_error(S, torch.randn(5, 2)).item() > least for _ in range(20))


@equation("AU.4", r"\cos\theta_i = s_i\big(U_L^\top Q\big)")
def test_principal_angles_of_spaces_with_known_angles():
    """(AU.4): a plane turned by 30 degrees about a line that it contains, described by any basis."""
    (principal_angles,) = load(CHAPTER, "principal_angles")
    angle = math.radians(30)
    plane = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    turned = torch.tensor([[1.0, 0.0], [0.0, math.cos(angle)], [0.0, math.sin(angle)]])
    found = principal_angles(plane, turned @ torch.tensor([[2.0, 1.0], [-3.0, 0.5]]))
    # near zero the arc cosine keeps half of the digits
    assert sorted(found.tolist()) == pytest.approx([0.0, 30.0], abs=1e-5)


@equation("AU.5", r"\big(VA^{-1}\big)\big(AW\big) = VW")
def test_another_code_gives_the_same_reconstructions():
    """(AU.5)."""
    (turn,) = load(CHAPTER, "turn")
    W, V, A = torch.randn(2, 5), torch.randn(5, 2), torch.tensor([[2.0, 1.0], [-1.0, 0.5]])
    encoder, decoder = turn(W, V, A)
    x = torch.randn(5)
    assert torch.allclose(decoder @ (encoder @ x), V @ (W @ x))
    assert torch.allclose(encoder @ x, A @ (W @ x))


@equation(
    "AU.6",
    r"\mathcal L_\sigma(h) = \mathbb E_{x,\,\varepsilon}\,\big\lVert x - h(x + \sigma\varepsilon)\big\rVert^2",
)
def test_the_loss_with_noise_of_a_shrinking_network():
    """(AU.6): for h(y) = a y it is (1 - a)^2 E|x|^2 + a^2 sigma^2 D."""
    (reconstruction_loss,) = load(CHAPTER, "reconstruction_loss")
    torch.manual_seed(0)
    x, a, sigma = torch.randn(200_000, 3) + 1, 0.7, 0.4
    expected = (1 - a) ** 2 * x.square().sum(1).mean() + a**2 * sigma**2 * 3
    found = reconstruction_loss(lambda y: a * y, x, sigma)
    assert found.item() == pytest.approx(expected.item(), rel=0.01)


@equation(
    "AU.7",
    r"\mathbb E\,\lVert x - h(y)\rVert^2 = \mathbb E\,\lVert x - m(y)\rVert^2 + \mathbb E\,\lVert m(y) - h(y)\rVert^2",
)
def test_the_error_splits_at_the_posterior_mean():
    """(AU.7): exact where each y stands before finitely many x, whatever h is; and only for the posterior mean."""
    (three_errors,) = load(CHAPTER, "three_errors")
    x = torch.randn(4, 5, 2)  # four values of y, five equally probable x behind each
    m = x.mean(1, keepdim=True).expand_as(x)
    h = torch.randn(4, 1, 2).expand_as(x)
    total, best, between = three_errors(*(each.flatten(0, 1) for each in (h, m, x)))
    assert total == pytest.approx(best + between)
    assert total == pytest.approx((x - h).square().sum().item() / 20)
    total, best, between = three_errors(*(each.flatten(0, 1) for each in (h, m + 0.3, x)))
    assert total != pytest.approx(best + between, rel=1e-3)


LINE = torch.linspace(-12, 12, 4801, dtype=torch.float64)
SIGMA = 0.6


def line_mixture():
    return GaussianMixture(
        torch.tensor([0.3, 0.7]), torch.tensor([[-1.5], [1.0]]), torch.tensor([[[0.2]], [[0.5]]])
    )


def integrals(y):
    """Return p_sigma(y) and E[x | y] on the line, by adding up a grid."""
    p = line_mixture().log_prob(LINE[:, None]).exp()
    noise = torch.exp(-0.5 * ((y[:, None] - LINE) / SIGMA) ** 2) / (SIGMA * math.sqrt(2 * math.pi))
    density = torch.trapezoid(p * noise, LINE)
    return density, torch.trapezoid(LINE * p * noise, LINE) / density


@equation("AU.8", r"m(y) = y + \sigma^2\,\nabla\log p_\sigma(y)")
def test_tweedie_by_a_derivative_of_the_blurred_density():
    """(AU.8)."""
    (tweedie,) = load(CHAPTER, "tweedie")
    y, small = torch.linspace(-3, 3, 13), 1e-4
    slope = (integrals(y + small)[0].log() - integrals(y - small)[0].log()) / (2 * small)
    found = tweedie(line_mixture(), y[:, None], SIGMA)[:, 0]
    torch.testing.assert_close(found, y + SIGMA**2 * slope, rtol=0, atol=1e-5)
    torch.testing.assert_close(found, integrals(y)[1], rtol=0, atol=1e-5)


@equation(
    "AU.9",
    r"m(y) = \sum_{k=1}^K P(k\mid y)\,\Big(\mu_k + \Sigma_k\big(\Sigma_k + \sigma^2 I\big)^{-1}(y - \mu_k)\Big)",
)
def test_the_posterior_mean_of_a_mixture_by_integration():
    """(AU.9), on the line; and in the plane, with full covariances, against Tweedie's formula."""
    posterior_mean, tweedie = load(CHAPTER, "posterior_mean", "tweedie")
    y = torch.linspace(-3, 3, 13)
    found = posterior_mean(line_mixture(), y[:, None], SIGMA)[:, 0]
    torch.testing.assert_close(found, integrals(y)[1], rtol=0, atol=1e-5)
    plane = GaussianMixture(
        torch.tensor([0.4, 0.6]),
        torch.tensor([[0.0, 1.0], [1.0, -1.0]]),
        torch.tensor([[[0.5, 0.3], [0.3, 0.4]], [[0.2, -0.1], [-0.1, 0.6]]]),
    )
    points = torch.randn(20, 2)
    torch.testing.assert_close(posterior_mean(plane, points, SIGMA), tweedie(plane, points, SIGMA))


@equation(
    "AU.10",
    r"\kappa = \frac1D\;\mathbb E_{x,\,\varepsilon}\bigg[\varepsilon^\top\, "
    r"\frac{h(x + \delta\varepsilon) - h(x - \delta\varepsilon)}{2\delta}\bigg]",
)
def test_the_share_of_noise_that_passes():
    """(AU.10): the mean diagonal entry of a matrix; for cubes, 3 E[x^2] + 3 delta^2."""
    (noise_share,) = load(CHAPTER, "noise_share")
    x = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(1))  # not the noise that the chapter draws
    J = torch.tensor([[0.5, 2.0, 0.0], [-1.0, 0.2, 3.0], [0.0, 0.0, -0.1]])
    assert noise_share(lambda y: y @ J.T + 4, x) == pytest.approx(0.2, abs=0.02)
    delta = 0.5
    expected = 3 * x.square().mean().item() + 3 * delta**2
    assert noise_share(lambda y: y**3, x, delta) == pytest.approx(expected, rel=0.03)
