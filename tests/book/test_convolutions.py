"""The equations of the chapter on convolutions, against independent computations."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d

from tests.book.chapter_code import load
from tests.book.equations import equation

CHAPTER = "foundations/convolutions"


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@equation(
    "CV.1",
    r"""
    y_{o,i,j} = b_o + \sum_{c=0}^{C-1} \sum_{u=0}^{k-1} \sum_{v=0}^{k-1} w_{o,c,u,v}\; x_{c,\;si+u-a,\;sj+v-a}
    """,
)
@equation("CV.2", r"n' = \Big\lfloor \frac{n + 2a - k}{s} \Big\rfloor + 1")
@pytest.mark.parametrize("kernel, stride, padding", [(1, 1, 0), (2, 1, 0), (3, 1, 1), (3, 2, 1), (4, 2, 1), (5, 3, 2)])
def test_convolution_and_its_size(kernel, stride, padding):
    """(CV.1) and (CV.2)."""
    convolve, output_size = load(CHAPTER, "convolve", "output_size")
    x, w, b = normal(3, 9, 10), normal(4, 3, kernel, kernel, seed=1), normal(4, seed=2)
    expected = conv2d(x[None], w, b, stride, padding)[0]
    torch.testing.assert_close(convolve(x, w, b, stride, padding), expected)
    assert expected.shape[1:] == (output_size(9, kernel, stride, padding), output_size(10, kernel, stride, padding))


@equation("CV.3", r"P_\text{conv} = C' \,(C k^2 + 1), \qquad P_\text{dense} = C' n^2 \,(C n^2 + 1)")
@pytest.mark.parametrize("channels, out_channels, kernel, size", [(1, 16, 3, 4), (3, 2, 5, 5)])
def test_numbers_of_parameters(channels, out_channels, kernel, size):
    """(CV.3)."""
    conv_parameters, dense_parameters = load(CHAPTER, "conv_parameters", "dense_parameters")
    convolution = nn.Conv2d(channels, out_channels, kernel)
    assert conv_parameters(channels, out_channels, kernel) == sum(p.numel() for p in convolution.parameters())
    dense = nn.Linear(channels * size**2, out_channels * size**2)
    assert dense_parameters(channels, out_channels, size) == sum(p.numel() for p in dense.parameters())


@equation("CV.4", r"y = A x, \qquad A_{(i,j),\,(p,q)} = w_{\,p - si + a,\; q - sj + a}")
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 0), (3, 1, 1), (3, 2, 1), (4, 2, 1), (2, 3, 0)])
def test_matrix_of_a_convolution(kernel, stride, padding):
    """(CV.4), column by column: what the convolution makes of an image with one bright pixel."""
    (conv_matrix,) = load(CHAPTER, "conv_matrix")
    w = normal(kernel, kernel)
    pixels = torch.eye(36, dtype=torch.float64).view(36, 1, 6, 6)
    columns = conv2d(pixels, w[None, None], stride=stride, padding=padding).flatten(1)  # (36, n'^2)
    torch.testing.assert_close(conv_matrix(w, 6, stride, padding), columns.T)


@equation("CV.5", r"x' = A^\top g, \qquad x'_{p,q} = \sum_{i,j} w_{\,p - si + a,\; q - sj + a}\; g_{i,j}")
@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, 0), (3, 1, 1), (3, 2, 1), (4, 2, 1)])
def test_painting_is_the_gradient_of_a_convolution(kernel, stride, padding):
    """(CV.5)."""
    (paint,) = load(CHAPTER, "paint")
    w, x = normal(kernel, kernel), normal(1, 1, 8, 8, seed=1).requires_grad_()
    y = conv2d(x, w[None, None], stride=stride, padding=padding)
    g = normal(*y.shape, seed=2)
    (gradient,) = torch.autograd.grad((y * g).sum(), x)
    torch.testing.assert_close(paint(g[0, 0], w, 8, stride, padding), gradient[0, 0])


@equation("CV.6", r"f(T_d\, x) = T_{d/s}\, f(x)")
def test_error_of_equivariance():
    """(CV.6): none for a circular convolution, and the exact difference for a layer that marks a place."""
    (equivariance_error,) = load(CHAPTER, "equivariance_error")
    x = normal(1, 1, 8, 8)
    for stride, shift in ((1, 3), (2, 4), (4, 4)):
        layer = nn.Conv2d(1, 2, 3, stride, padding=1, padding_mode="circular").double()
        assert equivariance_error(layer, x, shift, stride).max() < 1e-12
    marked = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    marked[..., 2] = 5
    error = equivariance_error(lambda x: x + marked, x, 3, 1)
    torch.testing.assert_close(error, (marked - marked.roll(3, -1)).abs()[0, 0])
    dropped = equivariance_error(lambda x: x[..., ::2, ::2], x, 1, 2)
    options = [(x.roll(1, -1) - x.roll(step, -1)).abs()[0, 0, ::2, ::2] for step in (0, 2)]
    torch.testing.assert_close(dropped, min(options, key=lambda option: option.mean()))


@equation("CV.7", r"\Sigma_r = \sum_{m \ge 0} w_{\,r + sm}, \qquad r = 0, \ldots, s-1")
@pytest.mark.parametrize("kernel, stride", [(3, 2), (4, 2), (5, 3), (2, 3)])
def test_phase_sums(kernel, stride):
    """(CV.7): the values that a painted constant takes, in their order."""
    (phase_sums,) = load(CHAPTER, "phase_sums")
    w = normal(kernel, kernel)
    painted = conv_transpose2d(torch.ones(1, 1, 9, 9, dtype=torch.float64), w[None, None], stride=stride)[0, 0]
    first = stride * math.ceil(kernel / stride)  # beyond the border's reach, a multiple of the stride
    torch.testing.assert_close(phase_sums(w, stride), painted[first : first + stride, first : first + stride])


@equation("CV.8", r"h' = \gamma\,\frac{h - \mu}{\sqrt{v + \epsilon}} + \beta")
def test_normalisations():
    """(CV.8)."""
    normalise, group_normalise = load(CHAPTER, "normalise", "group_normalise")
    h = 3 + 2 * normal(4, 6, 5, 5)
    functional = nn.functional
    torch.testing.assert_close(normalise(h, (0, 2, 3)), functional.batch_norm(h, None, None, training=True))
    torch.testing.assert_close(normalise(h, (1, 2, 3)), functional.layer_norm(h, h.shape[1:]))
    torch.testing.assert_close(normalise(h, (2, 3)), functional.instance_norm(h))
    torch.testing.assert_close(group_normalise(h, 3), functional.group_norm(h, 3))


@equation(
    "CV.9",
    r"""
    \bar\mu \leftarrow (1-\rho)\,\bar\mu + \rho\,\mu, \qquad \bar v \leftarrow (1-\rho)\,\bar v + \rho\,v
    """,
)
def test_running_averages():
    """(CV.9), for means and, with the unbiased estimate, for variances."""
    (running_average,) = load(CHAPTER, "running_average")
    layer, batches = nn.BatchNorm2d(3, momentum=0.3).double(), [normal(4, 3, 5, 5, seed=s) + s for s in range(4)]
    for h in batches:
        layer(h)
    means, variances = ([f(h, (0, 2, 3)) for h in batches] for f in (torch.mean, torch.var))
    torch.testing.assert_close(layer.running_mean, running_average(means, rho=0.3))
    torch.testing.assert_close(layer.running_var, running_average(variances, start=1.0, rho=0.3))


@equation("CV.10", r"h_{l+1} = h_l + f_l(h_l), \qquad \frac{\partial h_{l+1}}{\partial h_l} = I + J_l")
def test_a_residual_layer_adds_the_identity_to_the_jacobian():
    """(CV.10)."""
    (tower,) = load(CHAPTER, "Tower")
    torch.manual_seed(0)
    residual = tower(1, residual=True, width=2).double()
    plain = tower(1, residual=False, width=2).double()
    plain.load_state_dict(residual.state_dict())
    for network in (residual, plain):
        network.enter = network.exit = nn.Identity()
    h = normal(1, 2, 3, 3)
    with_sum, without = (
        torch.autograd.functional.jacobian(network, h).view(18, 18) for network in (residual, plain)
    )
    torch.testing.assert_close(with_sum, without + torch.eye(18, dtype=torch.float64))


@equation(
    "CV.11",
    r"""
    \frac{\mathbb E\,\lVert \partial \mathcal L/\partial h_0\rVert^2}{\lVert g\rVert^2} = \kappa^L
    \;\text{(plain)}, \qquad (1+\kappa)^L \;\text{(residual)}
    """,
)
@pytest.mark.parametrize("residual", [False, True])
def test_gain_of_a_random_chain(residual):
    """(CV.11), for Gaussian weights of another variance than the chapter's, by Monte Carlo."""
    (gain,) = load(CHAPTER, "gain")
    torch.manual_seed(0)
    depth, channels, kappa, total = 3, 4, 0.6, 0.0
    draws = 300
    for _ in range(draws):
        h = x = torch.randn(1, channels, 4, 4, requires_grad=True)
        for _ in range(depth):
            w = torch.randn(channels, channels, 3, 3) * math.sqrt(kappa / (9 * channels))
            y = conv2d(nn.functional.pad(h, [1] * 4, mode="circular"), w)
            h = h + y if residual else y
        g = torch.randn(h.shape)
        (gradient,) = torch.autograd.grad((h * g).sum(), x)
        total += (gradient.square().sum() / g.square().sum()).item() / draws
    assert total == pytest.approx(gain(kappa, depth, residual), rel=0.06)


def test_measured_gain_is_that_of_pytorchs_weights():
    """(CV.11) with kappa = 1/3, what the chapter measures."""
    gain, measured_gain = load(CHAPTER, "gain", "measured_gain")
    for residual in (False, True):
        mean = sum(measured_gain(2, residual, seed=seed) for seed in range(40)) / 40
        assert mean == pytest.approx(gain(1 / 3, 2, residual), rel=0.06)


@equation("CV.12", r"R = 1 + \sum_{l=1}^{L} (k_l - 1) \prod_{m < l} s_m")
@pytest.mark.parametrize("chain", [[(3, 1)] * 4, [(3, 2)] * 3, [(5, 1), (4, 2), (3, 2), (1, 1)], [(2, 2), (7, 1)]])
def test_receptive_field(chain):
    """(CV.12), by walking backwards over the indices that each layer reads."""
    (receptive_field,) = load(CHAPTER, "receptive_field")
    read = {0}
    for kernel, stride in reversed(chain):
        read = {stride * i + u for i in read for u in range(kernel)}
    assert receptive_field(chain) == max(read) - min(read) + 1


@equation("CV.13", r"\text{spread} = \sqrt{\frac{L\,(k^2-1)}{12}}")
@pytest.mark.parametrize("depth, kernel", [(1, 3), (4, 3), (3, 5), (2, 4)])
def test_spread_of_the_gradient(depth, kernel):
    """(CV.13): the standard deviation of a box convolved with itself."""
    (spread,) = load(CHAPTER, "spread")
    weights = np.ones(1)
    for _ in range(depth):
        weights = np.convolve(weights, np.ones(kernel) / kernel)
    places = np.arange(len(weights))
    assert spread(depth, kernel) == pytest.approx(math.sqrt(weights @ places**2 - (weights @ places) ** 2))


def test_measured_gradient_spreads_as_it_should():
    """(CV.13), on the random chains of the chapter's figure."""
    spread, squared_gradient = load(CHAPTER, "spread", "squared_gradient")
    bump, places = squared_gradient(6), torch.arange(-6.0, 7)
    assert bump.sum().item() == pytest.approx(1)
    assert (bump.sum(0) @ places.double().square()).sqrt().item() == pytest.approx(spread(6), rel=0.05)


@equation("CV.14", r"\mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\mathrm{MSE}}")
def test_peak_signal_to_noise_ratio():
    """(CV.14)."""
    (psnr,) = load(CHAPTER, "psnr")
    x = torch.zeros(2, 1, 3, 3)
    assert psnr(x + 2, x) == pytest.approx(0)  # as wrong as white for black
    assert psnr(x + 0.2, x) == pytest.approx(20)


def pictures(n, size=4, seed=0):
    """Correlated two-channel pictures on a torus, with a mean, alike at every place; one channel follows the other."""
    x = normal(n, 2, size, size, seed=seed)
    x = x + 0.8 * x.roll(1, -1) + 0.5 * x.roll(1, -2)
    return torch.stack([x[:, 0] + 1, 0.7 * x[:, 0].roll(1, -1) - 0.5 * x[:, 1]], 1)


@equation("CV.15", r"G(f) = \frac{S(f)}{S(f) + \sigma^2}")
@equation("CV.16", r"\mathrm{MSE} = \sigma^2 \operatorname{mean}_f\, G(f)")
def test_wiener_filter_is_the_best_equivariant_one():
    """(CV.15) and (CV.16), against least squares over all circular kernels, and against its own measured error."""
    wiener, apply_filter = load(CHAPTER, "wiener", "apply_filter")
    sigma, size = 0.7, 4
    x = pictures(20_000, size)
    mean, G, mse = wiener(x, sigma)
    y = x + sigma * normal(*x.shape, seed=1)
    output = apply_filter(mean, G, y)
    assert (output - x).square().mean().item() == pytest.approx(mse, rel=0.02)

    # All shifts of both channels are regressors of one pixel of each channel: an equivariant filter is a regression.
    shifts = [(y - mean).roll((i, j), (-2, -1))[..., 0, 0] for i in range(size) for j in range(size)]
    regressors = torch.cat(shifts, 1)  # (N, 2 size^2)
    target = (x - mean)[..., 0, 0]  # (N, 2)
    solution = torch.linalg.lstsq(regressors, target).solution
    best = (regressors @ solution - target).square().mean().item()
    assert mse == pytest.approx(best, rel=0.05)
    torch.testing.assert_close((output - mean)[..., 0, 0], regressors @ solution, atol=0.15, rtol=0)


def test_skip_connections_are_what_is_cut():
    """Without them, what leaves the network depends on the middle maps alone."""
    (small_unet,) = load(CHAPTER, "SmallUNet")
    for skips in (True, False):
        torch.manual_seed(0)
        network = small_unet(skips=skips)
        network.middle.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
        one, other = network(torch.randn(1, 3, 32, 32)), network(torch.randn(1, 3, 32, 32))
        assert torch.equal(one, other) != skips
