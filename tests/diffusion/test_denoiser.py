"""What outputs stand for: every prediction of every process against definitions, round trips, and exact means."""

import pytest
import torch
from torch import nn

from gencore.analytic import GaussianMixture
from gencore.diffusion import EDM, Cosine, Denoiser, Flow, Linear, add_noise
from gencore.diffusion.denoiser import DATA_STD, clean, noise_in, scale_of_error, score, target, velocity
from tests.diffusion.exact import INSIDE, derivative, each_prediction, each_process, number, rand, std_at

X, EPS = rand(25, 2, 3, 3), rand(25, 2, 3, 3, seed=1)


def column(value):
    return value[:, None, None, None]


@each_process
def test_targets_by_definition(process):
    alpha, sigma = column(process.alpha(INSIDE)), column(process.sigma(INSIDE))
    assert target("x", process, X, EPS, INSIDE) is X
    assert target("eps", process, X, EPS, INSIDE) is EPS
    torch.testing.assert_close(target("v", process, X, EPS, INSIDE), alpha * EPS - sigma * X)
    for i in range(25):  # dx_t/dt, by the chain rule through the noising itself
        path = torch.autograd.functional.jacobian(lambda t, i=i: add_noise(process, X[i], EPS[i], t), INSIDE[i])
        found = target("velocity", process, X[i : i + 1], EPS[i : i + 1], INSIDE[i : i + 1])[0]
        torch.testing.assert_close(found, path)


def test_the_preconditioned_target_is_the_papers():
    """Karras et al. 2022, equation 8 and table 1, where data are not scaled."""
    sigma, noise = column(EDM().sigma(INSIDE)), column(EDM().sigma(INSIDE)) * EPS
    c_skip = DATA_STD**2 / (sigma**2 + DATA_STD**2)
    c_out = sigma * DATA_STD / (sigma**2 + DATA_STD**2).sqrt()
    torch.testing.assert_close(target("edm", EDM(), X, EPS, INSIDE), (X - c_skip * (X + noise)) / c_out)


@each_process
def test_a_preconditioned_network_sees_and_says_unit_variance(process):
    """On data of standard deviation 0.5; and its target has nothing to do with its input, which is why they skip."""
    one, none = torch.ones(25, 1, 1, 1, dtype=torch.float64), torch.zeros(25, 1, 1, 1, dtype=torch.float64)
    of_data, of_noise = (target("edm", process, *pair, INSIDE).flatten() for pair in ((one, none), (none, one)))
    unit = torch.ones(25, dtype=torch.float64)
    torch.testing.assert_close((0.5 * of_data) ** 2 + of_noise**2, unit)
    given = []
    network = Denoiser(lambda x, t, cond: given.append(x) or x, process, "edm")
    for pair in ((one, none), (none, one)):
        network.output(add_noise(process, *pair, INSIDE), INSIDE)
    data_in, noise_in_it = (each.flatten() for each in given)
    torch.testing.assert_close((0.5 * data_in) ** 2 + noise_in_it**2, unit)
    torch.testing.assert_close(0.25 * of_data * data_in + of_noise * noise_in_it, 0 * unit, atol=1e-12, rtol=0)


@each_process
@each_prediction
def test_targets_stand_for_the_picture(process, prediction):
    x_t = add_noise(process, X, EPS, INSIDE)
    output = target(prediction, process, X, EPS, INSIDE)
    torch.testing.assert_close(clean(prediction, process, output, x_t, INSIDE), X, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(noise_in(process, x_t, X, INSIDE), EPS, rtol=1e-9, atol=1e-9)


@each_process
@each_prediction
def test_any_output_can_be_translated_and_back(process, prediction):
    """An output that is no target stands for some picture, and that picture's noise makes the output again."""
    output, x_t = rand(25, 2, 3, 3, seed=2), rand(25, 2, 3, 3, seed=3)
    x = clean(prediction, process, output, x_t, INSIDE)
    again = target(prediction, process, x, noise_in(process, x_t, x, INSIDE), INSIDE)
    torch.testing.assert_close(again, output, rtol=1e-8, atol=1e-8)


@each_process
@each_prediction
def test_where_all_is_noise(process, prediction):
    """At t = 1; only from the noise can no picture be made, if there is nothing of it in the noised one."""
    for dtype in (torch.float32, torch.float64):
        t, x, eps = torch.ones(25, dtype=dtype), X.to(dtype), EPS.to(dtype)
        x_t = add_noise(process, x, eps, t)
        found = clean(prediction, process, target(prediction, process, x, eps, t), x_t, t)
        hidden = prediction == "eps" and isinstance(process, Cosine | Flow)
        if hidden:
            assert (found == 0).all()
            assert torch.equal(noise_in(process, x_t, found, t), eps)
        else:
            slack = 1e-9 if dtype == torch.float64 else 1e-2
            torch.testing.assert_close(found, x, rtol=slack, atol=slack)


@pytest.mark.parametrize("process", [Linear(), Cosine(), Flow()])  # EDM begins with a little
@each_prediction
def test_where_there_is_no_noise(process, prediction):
    """At t = 0 the noised picture is the picture, whatever a network says; no noise can be taken out of it."""
    t, output = torch.zeros(25, dtype=torch.float64), rand(25, 2, 3, 3, seed=2)
    x_t = add_noise(process, X, EPS, t)
    assert torch.equal(x_t, X)
    assert (noise_in(process, x_t, X, t) == 0).all() and (noise_in(process, x_t, output, t) == 0).all()
    if prediction != "x":
        torch.testing.assert_close(clean(prediction, process, output, x_t, t), X)


@each_process
@each_prediction
def test_scale_of_error_is_the_derivative_by_the_output(process, prediction):
    output = rand(25, seed=2).requires_grad_()
    x = clean(prediction, process, output, rand(25, seed=3), INSIDE)
    (slope,) = torch.autograd.grad(x.sum(), output)
    torch.testing.assert_close(scale_of_error(prediction, process, INSIDE).abs(), slope.abs())
    assert (scale_of_error(prediction, process, INSIDE) > 0).all()


def mixture():
    half = 0.5 * rand(3, 2, 2, seed=4)
    means = 2 * rand(3, 2, seed=5)
    return GaussianMixture(number([0.5, 0.3, 0.2]), means, half @ half.mT + 0.1 * torch.eye(2, dtype=torch.float64))


def mean_picture(p, q, alpha, x_t):
    """E[x | x_t] for data from p, noised to q: the components' Gaussian posterior means, weighted."""
    gain = alpha * p.covariances @ torch.linalg.inv(q.covariances)  # (K, D, D)
    means = p.means + torch.einsum("kij,nkj->nki", gain, x_t[:, None] - q.means)
    return (q.posterior(x_t)[..., None] * means).sum(1)


@each_process
def test_tweedie(process):
    """(OV.2): the score of noised data follows from the mean clean picture."""
    p, x_t = mixture(), 2 * rand(20, 2)
    for t in INSIDE[::4]:
        q = p.noised(process.alpha(t), process.sigma(t))
        x = mean_picture(p, q, process.alpha(t), x_t)
        torch.testing.assert_close(score(process, x_t, x, t), q.score(x_t), rtol=1e-7, atol=1e-9)


@each_process
def test_the_flow_carries_gaussian_data_along(process):
    """(OV.6): where all stays Gaussian, a point keeps its number of standard deviations."""
    std, x_t = 1.7, rand(25)
    x = process.alpha(INSIDE) * std**2 / std_at(process, INSIDE, std) ** 2 * x_t
    growth = derivative(lambda t: std_at(process, t, std).log(), INSIDE)
    torch.testing.assert_close(velocity(process, x_t, x, INSIDE), growth * x_t)


@each_process
def test_the_flow_keeps_probability(process):
    """dp/dt = -d(p velocity)/dx, in one dimension, for a mixture: all by automatic differentiation."""
    p = GaussianMixture(number([0.6, 0.4]), number([[-1.0], [1.5]]), number([[[0.1]], [[0.3]]]))
    x_t, t = torch.linspace(-2, 2, 9, dtype=torch.float64), number(0.4)

    def density(t, x_t):
        return p.noised(process.alpha(t), process.sigma(t)).log_prob(x_t[:, None]).exp()

    def flux(x_t):
        q = p.noised(process.alpha(t), process.sigma(t))
        x = mean_picture(p, q, process.alpha(t), x_t[:, None])[:, 0]
        return density(t, x_t) * velocity(process, x_t, x, t)

    rate = torch.autograd.functional.jacobian(lambda t: density(t, x_t), t)
    divergence = torch.autograd.functional.jacobian(flux, x_t).diagonal()
    torch.testing.assert_close(rate, -divergence, rtol=1e-7, atol=1e-9)


class Recorder(nn.Module):
    def forward(self, x, t, cond):
        self.given = x, t, cond
        return torch.ones_like(x, dtype=torch.bfloat16)


@each_prediction
def test_a_denoiser_asks_its_network_and_translates(prediction):
    network, x_t, t, cond = Recorder(), torch.randn(4, 1, 2, 2), torch.rand(4), torch.arange(4)[:, None]
    denoiser = Denoiser(network, Linear(), prediction)
    found = denoiser(x_t, t, cond)
    assert network.given[1] is t and network.given[2] is cond
    assert (network.given[0] is x_t) == (prediction != "edm")
    assert denoiser.output(x_t, t, cond).dtype == found.dtype == torch.float32
    assert torch.equal(found, clean(prediction, Linear(), torch.ones_like(x_t), x_t, t))
    denoiser(x_t, t)
    assert network.given[2] is None
