"""The equations of the chapter on super-resolution, held to loops, brute force and gencore."""

import math

import pytest
import torch

from gencore.applications.super_resolution import Networks, PixelError
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "applications/super-resolution"


def keys(t):
    """The kernel in plain Python."""
    t = abs(t)
    if t <= 1:
        return 1.5 * t**3 - 2.5 * t**2 + 1
    return -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t <= 2 else 0.0


@equation(
    "SR.1",
    r"k(t) = \begin{cases} \tfrac32 |t|^3 - \tfrac52 |t|^2 + 1 & |t| \le 1, \\ -\tfrac12 |t|^3 + \tfrac52 |t|^2 - 4|t| + 2 &"
    r" 1 < |t| \le 2, \\ 0 & \text{otherwise.} \end{cases}",
)
def test_kernel():
    """(SR.1): the formula, and what it is chosen for: no kinks, and parabolas are met from any four neighbours."""
    (kernel,) = load(CHAPTER, "kernel")
    t = torch.linspace(-3, 3, 241, dtype=torch.float64)
    close(kernel(t), torch.tensor([keys(each) for each in t.tolist()], dtype=torch.float64))
    slopes = kernel(t + 1e-6) - kernel(t - 1e-6)
    assert (slopes.diff().abs() < 3e-7).all()
    for place in (0.0, 0.2, 0.7):
        old = torch.arange(-1.0, 3, dtype=torch.float64)
        assert (kernel(place - old) @ old**2).item() == pytest.approx(place**2)


@equation("SR.2", r"W_{ij} = \frac{k\big((j - c_i)/s\big)}{\sum_{l=0}^{n-1} k\big((l - c_i)/s\big)},")
@pytest.mark.parametrize(("n", "m"), [(7, 3), (12, 3), (5, 20), (4, 6)])
def test_weights(n, m):
    """(SR.2), with the middles of pixels and the stretch of the kernel, by loops."""
    (weights,) = load(CHAPTER, "weights")
    found, s = weights(n, m), max(1, n / m)
    for i in range(m):
        c = (i + 0.5) * n / m - 0.5
        shares = [keys((j - c) / s) for j in range(n)]
        close(found[i], torch.tensor([share / sum(shares) for share in shares], dtype=torch.float64))


@equation("SR.3", r"A\big(x + (I - A^+ A)\, v\big) = A x,")
def test_what_a_small_picture_says_nothing_about():
    """(SR.3): both axes at once, by the pseudoinverse of the whole matrix."""
    unseen, weights = load(CHAPTER, "unseen", "weights")
    x, v = torch.randn(2, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    A = torch.kron(weights(8, 2), weights(12, 3))
    expected = v.flatten() - torch.linalg.pinv(A) @ (A @ v.flatten())
    close(unseen(v).flatten(), expected)
    close(A @ (x + unseen(v)).flatten(), A @ x.flatten())
    assert unseen(v).norm() > 0.8 * v.norm()


def world(noise=0.3, seed=0):
    """A covariance of six pixels, a way to reduce them to two, and what the chapter makes of them."""
    (given,) = load(CHAPTER, "given")
    draw = torch.Generator().manual_seed(seed)
    L = torch.randn(6, 6, dtype=torch.float64, generator=draw)
    S, A = L @ L.T + 0.1 * torch.eye(6, dtype=torch.float64), torch.randn(2, 6, dtype=torch.float64, generator=draw)
    return S, A, noise, *given(S, A, noise)


@equation("SR.4", r"m = S A^\top \big(A S A^\top + \sigma^2 I\big)^{-1} y,")
def test_mean_of_what_is_possible():
    """(SR.4): the maximum of the joint density, where its gradient vanishes."""
    S, A, noise, gain, _ = world()
    y = torch.tensor([0.7, -1.2], dtype=torch.float64)
    m = gain @ y
    close(torch.linalg.solve(S, m), A.T @ (y - A @ m) / noise)


@equation("SR.5", r"C = S - S A^\top \big(A S A^\top + \sigma^2 I\big)^{-1} A S.")
def test_covariance_of_what_is_possible():
    """(SR.5): the inverse of the curvature of the joint density."""
    S, A, noise, _, C = world()
    close(C, torch.linalg.inv(torch.linalg.inv(S) + A.T @ A / noise))


def error_of(K, extra, S, A, noise):
    """Expected squared error of K y + e, from the covariance of x - K y - e."""
    off = torch.eye(len(S), dtype=S.dtype) - K @ A
    return (off @ S @ off.T + noise * K @ K.T + extra).trace()


@equation(
    "SR.6",
    r"\mathbb E \|x - \hat x\|^2 = \underbrace{\mathbb E \|x - m\|^2}_{\operatorname{tr} C} + \; \mathbb E \|m - \hat x\|^2.",
)
def test_an_error_is_that_of_the_mean_and_the_distance_from_it():
    """(SR.6), for methods that are linear with dice: K y + e, whatever K and the covariance of e."""
    (expected_error,) = load(CHAPTER, "expected_error")
    S, A, noise, gain, C = world()
    draw = torch.Generator().manual_seed(1)
    for _ in range(5):
        K = torch.randn(6, 2, dtype=torch.float64, generator=draw)
        E = torch.randn(6, 6, dtype=torch.float64, generator=draw)
        apart = (gain - K) @ (A @ S @ A.T + noise * torch.eye(2, dtype=torch.float64)) @ (gain - K).T + E @ E.T
        close(error_of(K, E @ E.T, S, A, noise), C.trace() + apart.trace())
        close(6 * expected_error(C, E @ E.T), error_of(gain, E @ E.T, S, A, noise))


@equation("SR.7", r"\mathbb E \|x - \hat x\|^2 = 2 \operatorname{tr} C.")
def test_a_draw_costs_twice_the_error_and_has_the_law_of_pictures():
    """(SR.7)"""
    (expected_error,) = load(CHAPTER, "expected_error")
    S, A, noise, gain, C = world()
    close(6 * expected_error(C, C), 2 * C.trace())
    close(error_of(gain, C, S, A, noise), 2 * C.trace())
    close(gain @ (A @ S @ A.T + noise * torch.eye(2, dtype=torch.float64)) @ gain.T + C, S)  # its covariance


@equation(
    "SR.8",
    r"W_2^2\big(\mathcal N(0, S), \mathcal N(0, T)\big) = \operatorname{tr} S + \operatorname{tr} T - 2"
    r" \operatorname{tr}\big(S^{1/2}\, T\, S^{1/2}\big)^{1/2}.",
)
def test_distance_of_two_gaussians():
    """(SR.8): what the best linear map carries from one to the other costs just that; other couplings cost more."""
    distance, root = load(CHAPTER, "distance", "root")
    S, _, _, _, _ = world()
    T = world(seed=3)[0]
    R = root(S)
    close(R @ R, S)
    back = torch.linalg.inv(R)
    best = back @ root(R @ T @ R) @ back  # maps N(0, S) to N(0, T) and is symmetric
    close(best @ S @ best.T, T)
    off = torch.eye(6, dtype=torch.float64) - best
    close(distance(R, T), (off @ S @ off.T).trace().sqrt())
    draw = torch.Generator().manual_seed(0)
    for _ in range(5):
        turned = root(T) @ torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64, generator=draw))[0] @ back
        off = torch.eye(6, dtype=torch.float64) - turned
        assert (off @ S @ off.T).trace().sqrt() > distance(R, T)
    assert distance(R, S).item() == pytest.approx(0, abs=1e-5)


@equation(
    "SR.9", r"\mathbb E \|x - \hat x\|^2 \; \ge \; \operatorname{tr} C + \max(0, W^* - P)^2."
)
def test_no_method_is_below_the_bound():
    """(SR.9), for methods that are linear with dice; the mean and the best map stand on it."""
    distance, root, least_error = load(CHAPTER, "distance", "root", "least_error")
    S, A, noise, gain, C = world()
    R, of_y = root(S), A @ S @ A.T + noise * torch.eye(2, dtype=torch.float64)
    apart = distance(R, S - C)
    for P in (0.0, 0.3 * apart, 2 * apart):
        expected = C.trace() + max(0, apart - P) ** 2
        close(least_error(C, apart, torch.as_tensor(P, dtype=torch.float64)), expected)
    draw = torch.Generator().manual_seed(1)
    for size in (0.0, 0.1, 0.3, 1.0, 3.0):
        for spread in (0.0, 0.3, 1.0):
            K = gain + size * torch.randn(6, 2, dtype=torch.float64, generator=draw)
            far = distance(R, K @ of_y @ K.T + spread * C)
            error = error_of(K, spread * C, S, A, noise)
            assert error >= least_error(C, apart, far) - 1e-9
            if size == spread == 0:
                close(error, least_error(C, apart, far))
    assert error > 1.1 * least_error(C, apart, far)
    # m and a picture x' coupled as nearly as can be: x' has the law of pictures, and error tr C + W*^2
    close(least_error(C, apart, torch.zeros((), dtype=torch.float64)), C.trace() + apart**2)


@equation("SR.10", r"L(\theta) = \mathbb E\, \frac{1}{N} \sum_{i=1}^{N} \big| f_\theta(y)_i - x_i \big|^q,")
def test_pixel_error():
    """(SR.10), by hand, and as gencore has it."""
    (pixel_error,) = load(CHAPTER, "pixel_error")
    made, x = torch.tensor([[[[0.3, -1.0, 0.5]]]]), torch.tensor([[[[0.1, 0.0, 0.5]]]])
    for q, name in ((1, "absolute"), (2, "squared")):
        by_hand = (0.2**q + 1.0**q + 0.0) / 3
        assert pixel_error(made, x, q).item() == pytest.approx(by_hand)
        networks = Networks(torch.nn.Identity())
        assert PixelError(name)(networks, made, x).total.item() == pytest.approx(by_hand)


@equation(
    "SR.11", r"x_{c,\; r i + a,\; r j + b} = h_{r^2 c + r a + b,\; i,\; j}, \qquad 0 \le a, b < r."
)
def test_channels_are_laid_out_as_pixels():
    """(SR.11), index by index."""
    (lay_out,) = load(CHAPTER, "lay_out")
    r, h = 3, torch.arange(2 * 18 * 2 * 4.0).view(2, 18, 2, 4)
    x = lay_out(h, r)
    assert x.shape == (2, 2, 6, 12)
    for c in range(2):
        for a in range(r):
            for b in range(r):
                for i in range(2):
                    for j in range(4):
                        assert torch.equal(x[:, c, r * i + a, r * j + b], h[:, r**2 * c + r * a + b, i, j])


@equation(
    "SR.12",
    r"L = \frac{1}{N} \sum_i \big| \hat x_i - x_i \big| + \lambda_p\, d(\hat x, x) + \lambda_a\, w\, \big({-D(\hat x)}\big),",
)
def test_three_voices():
    """(SR.12): the sum by hand; gencore's training step is held to the same sum in the tests of its loop."""
    (srgan_loss,) = load(CHAPTER, "srgan_loss")
    made, x = torch.tensor([0.3, -1.0]), torch.tensor([0.1, 0.0])
    found = srgan_loss(made, x, perceptual=0.4, verdict=-0.7, by_perceptual=0.5, by_adversary=0.8, factor=2.0)
    assert found.item() == pytest.approx(0.6 + 0.5 * 0.4 + 0.8 * 2.0 * 0.7)
    assert math.isclose(srgan_loss(made, x, 0.0, 0.0, 0.5, 0.8, 2.0).item(), 0.6, rel_tol=1e-6)
