r"""The equations of the chapter "One vector field", held to independent computations."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import MultivariateNormal

from gencore.analytic import GaussianMixture
from gencore.diffusion import EDM, Cosine, Flow, Linear
from gencore.diffusion.denoiser import clean, noise_in, scale_of_error, score, target, velocity
from gencore.diffusion.process import step_back
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/one-vector-field"
PROCESSES = (Linear(), Cosine(), Flow(), EDM())

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture
def mixture():
    """Three Gaussians without any symmetry."""
    factors = torch.tensor([[[0.5, 0.0], [0.3, 0.4]], [[0.2, 0.0], [-0.1, 0.6]], [[0.3, 0.0], [0.0, 0.3]]])
    means = torch.tensor([[-1.0, 0.2], [1.3, 0.7], [0.6, -1.1]])
    return GaussianMixture(torch.tensor([0.5, 0.3, 0.2]), means, factors @ factors.mT)


def at_ratio(process, ratio):
    (time_at,) = load(CHAPTER, "time_at")
    return time_at(process, torch.tensor(ratio))


def points(n=6):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(3))


def quadrature(p, alpha, sigma, x_t, side=241, reach=5.0):
    """Averages over x given x_t by a fine grid of x: the marginal density, E[x | x_t] and E[eps | x_t]."""
    line = torch.linspace(-reach, reach, side)
    x = torch.cartesian_prod(line, line)  # (G, 2)
    cell = (line[1] - line[0]) ** 2
    found = []
    for point in x_t:
        seen = MultivariateNormal(alpha * x, sigma**2 * torch.eye(2)).log_prob(point)
        joint = (p.log_prob(x) + seen).exp() * cell
        mean_x = (joint[:, None] * x).sum(0) / joint.sum()
        found.append((joint.sum(), mean_x, (point - alpha * mean_x) / sigma))
    return [torch.stack(each) for each in zip(*found, strict=True)]


@equation("OV.1", r"p_t(x_t) = \int p(x)\;\mathcal N\big(x_t;\, \alpha_t x,\, \sigma_t^2 I\big)\,dx")
def test_the_noised_law_is_an_integral_over_data(mixture):
    """(OV.1), by adding up a grid of clean points."""
    x_t = points()
    density, *_ = quadrature(mixture, 0.7, 0.6, x_t)
    close(mixture.noised(0.7, 0.6).log_prob(x_t).exp(), density, atol=1e-8)


@equation("OV.2", r"\nabla \log p_t(x_t) = -\frac{\mathbb E[\varepsilon \mid x_t]}{\sigma_t}")
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_score_is_minus_mean_noise_over_sigma(mixture, process):
    """(OV.2): the gradient of the log-density, by automatic differentiation, against the library's formula."""
    t = at_ratio(process, 0.8)
    alpha, sigma = process.alpha(t), process.sigma(t)
    x_t = alpha * points()
    leaf = x_t.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.noised(alpha, sigma).log_prob(leaf).sum(), leaf)
    _, mean_x, mean_eps = quadrature(mixture, alpha, sigma, x_t)
    close(-mean_eps / sigma, gradient, atol=1e-7)
    close(score(process, x_t, mean_x, t), gradient, atol=1e-7)


@equation(
    "OV.3",
    r"""
    \mathbb E[x \mid x_t] = \sum_k P(k \mid x_t)\,\big(\mu_k + \alpha_t \Sigma_k\, d_k\big), \qquad
    \mathbb E[\varepsilon \mid x_t] = \sum_k P(k \mid x_t)\;\sigma_t\, d_k, \qquad
    d_k = C_k^{-1}(x_t - \alpha_t \mu_k)
    """,
)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_means_of_a_mixture_by_quadrature(mixture, process):
    """(OV.3), against a grid of clean points; also where nothing of the data is left."""
    (posterior_means,) = load(CHAPTER, "posterior_means")
    t = at_ratio(process, 0.8)
    x_t = process.alpha(t) * points()
    mean_x, mean_eps = posterior_means(mixture, process, x_t, t)
    _, x, eps = quadrature(mixture, process.alpha(t), process.sigma(t), x_t)
    close(mean_x, x, atol=1e-7)
    close(mean_eps, eps, atol=1e-7)
    mean_x, mean_eps = posterior_means(mixture, Flow(), x_t, torch.tensor(1.0))
    close(mean_x, (mixture.weights @ mixture.means).expand(6, 2))
    close(mean_eps, x_t)


@equation("OV.4", r"v = \alpha_t\,\varepsilon - \sigma_t\,x")
def test_v_is_the_pair_turned_by_a_quarter():
    """(OV.4): on the quarter circle (x_t, v) is (x, eps) turned by an angle; everywhere `clean` inverts it."""
    x, eps, t = points(), points().flip(0), torch.tensor(0.3)
    angle = torch.tensor(0.15 * math.pi)
    turned = torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]]) @ torch.stack([x, eps]).flatten(1)
    x_t = Cosine().alpha(t) * x + Cosine().sigma(t) * eps
    close(torch.stack([x_t, target("v", Cosine(), x, eps, t)]).flatten(1), turned)
    for process in PROCESSES:
        x_t = process.alpha(t) * x + process.sigma(t) * eps
        close(clean("v", process, target("v", process, x, eps, t), x_t, t), x, atol=1e-8)


@equation("OV.5", r"\frac{d x_t}{d t} = \alpha_t'\,x + \sigma_t'\,\varepsilon")
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_velocity_target_is_the_derivative_of_the_mixture(process):
    """(OV.5), by central differences in time."""
    x, eps, t, h = points(), points().flip(0), torch.tensor(0.4), 1e-6
    ahead, behind = (process.alpha(s) * x + process.sigma(s) * eps for s in (t + h, t - h))
    close(target("velocity", process, x, eps, t), (ahead - behind) / (2 * h), atol=1e-6, rtol=1e-6)


@equation(
    "OV.6",
    r"u_t(x_t) = \alpha_t'\;\mathbb E[x \mid x_t] + \sigma_t'\;\mathbb E[\varepsilon \mid x_t]",
)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_velocity_of_the_flow_is_the_mean_velocity_of_pairs(mixture, process):
    """(OV.6): chapter and library, against averages over a grid of clean points."""
    (flow_field,) = load(CHAPTER, "flow_field")
    t = at_ratio(process, 0.8)
    x_t = process.alpha(t) * points()
    _, mean_x, mean_eps = quadrature(mixture, process.alpha(t), process.sigma(t), x_t)
    h = 1e-6
    rates = [(rate(t + h) - rate(t - h)) / (2 * h) for rate in (process.alpha, process.sigma)]
    expected = rates[0] * mean_x + rates[1] * mean_eps
    close(flow_field(mixture, process)(x_t, t), expected, atol=1e-6, rtol=1e-6)
    close(velocity(process, x_t, mean_x, t), expected, atol=1e-6, rtol=1e-6)


@equation("OV.7", r"\frac{\partial p_t}{\partial t} = -\operatorname{div}\big(p_t\,u_t\big)")
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_the_flow_carries_the_noised_law(mixture, process):
    """(OV.7): all by finite differences on a cross of five points; the chapter's own measure agrees."""
    flow_field, out_of_balance = load(CHAPTER, "flow_field", "out_of_balance")
    t, h = at_ratio(process, 0.8), 1e-4
    x_t = process.alpha(t) * points()

    def density(x, s):
        return mixture.noised(process.alpha(s), process.sigma(s)).log_prob(x).exp()

    def flux(x):
        return density(x, t)[:, None] * flow_field(mixture, process)(x, t)

    change = (density(x_t, t + h) - density(x_t, t - h)) / (2 * h)
    steps = h * torch.eye(2)
    divergence = sum((flux(x_t + steps[i])[:, i] - flux(x_t - steps[i])[:, i]) / (2 * h) for i in (0, 1))
    close(change, -divergence, atol=1e-5 * change.abs().max().item())
    assert out_of_balance(mixture, process, flow_field(mixture, process), x_t, t) < 1e-5

    def twice(x, s):
        return 2 * flow_field(mixture, process)(x, s)

    close(out_of_balance(mixture, process, twice, x_t, t), 1.0, atol=1e-4)  # twice as much flows out


@equation(
    "OV.8",
    r"""
    u_t(x) = f_t\,x - \tfrac12 g_t^2\,\nabla\log p_t(x), \qquad f_t = \frac{\alpha_t'}{\alpha_t}, \qquad
    g_t^2 = 2\sigma_t^2\Big(\frac{\sigma_t'}{\sigma_t} - \frac{\alpha_t'}{\alpha_t}\Big)
    """,
)
def test_the_flow_in_terms_of_the_score(mixture):
    """(OV.8): f and g of the published SDEs in closed form, and the field against (OV.6)."""
    drift_and_diffusion, score_field, flow_field = load(CHAPTER, "drift_and_diffusion", "score_field", "flow_field")
    t = torch.tensor(0.3)
    f, g2 = drift_and_diffusion(Linear(), t)
    close(torch.stack([f, g2]), torch.stack([-0.5 * Linear().rate(t), Linear().rate(t)]))  # Song et al. 2021, (11)
    f, g2 = drift_and_diffusion(EDM(), t)
    close(torch.stack([f, g2]), torch.stack([torch.tensor(0.0), 2 * EDM().sigma(t) * EDM().sigma_rate(t)]))
    for process in PROCESSES:
        t = at_ratio(process, 0.8)
        x_t = process.alpha(t) * points()
        close(score_field(mixture, process)(x_t, t), flow_field(mixture, process)(x_t, t), atol=1e-8)


@equation(
    "OV.9",
    r"""
    \frac{\sigma^A_t}{\alpha^A_t} = \frac{\sigma^B_{t'}}{\alpha^B_{t'}}, \qquad c = \frac{\alpha^A_t}{\alpha^B_{t'}},
    \qquad\text{then}\qquad x^A_t = c\;x^B_{t'} \quad\text{and}\quad \mathbb E\big[x \mid x^A_t = c\,y\big] =
    \mathbb E\big[x \mid x^B_{t'} = y\big]
    """,
)
def test_one_process_is_another_on_its_own_clock_and_scale(mixture):
    """(OV.9): the times by closed form; points and denoisers of all pairs of processes."""
    time_at, posterior_means, exact, lent = load(CHAPTER, "time_at", "posterior_means", "exact", "lent")
    ratio = torch.tensor([0.01, 0.3, 1.0, 4.0, 50.0])
    low, high = 0.002 ** (1 / 7), 80.0 ** (1 / 7)
    spent = torch.log1p(ratio**2)  # of Linear: -log alpha^2 = t first + t^2 (last - first) / 2
    expected = {
        "Flow": ratio / (1 + ratio),
        "Cosine": 2 / math.pi * ratio.atan(),
        "EDM": (ratio ** (1 / 7) - low) / (high - low),
        "Linear": (-0.1 + (0.01 + 2 * 19.9 * spent).sqrt()) / 19.9,
    }
    for process in PROCESSES:
        close(time_at(process, ratio), expected[type(process).__name__], atol=1e-12)
    x, eps, y = points(), points().flip(0), points()
    for r in ratio:
        for a in PROCESSES:
            for b in PROCESSES:
                t, s = time_at(a, r), time_at(b, r)
                c = a.alpha(t) / b.alpha(s)
                close(a.alpha(t) * x + a.sigma(t) * eps, c * (b.alpha(s) * x + b.sigma(s) * eps), atol=1e-10)
                found = posterior_means(mixture, a, c * y, t)[0]
                close(found, posterior_means(mixture, b, y, s)[0], atol=1e-9)
                borrowed = lent(exact(mixture, b), b, a)
                close(borrowed(c * y, t), found, atol=1e-9)


@equation(
    "OV.10",
    r"""
    \frac{dy}{dr} = \mathbb E\big[\varepsilon \mid y\big] = \frac{y - \mathbb E[x \mid y]}{r}, \qquad
    y = \frac{x_t}{\alpha_t}, \qquad r = \frac{\sigma_t}{\alpha_t}
    """,
)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_the_common_equation_by_the_chain_rule(mixture, process):
    """(OV.10): y moves along the flow by small steps in time; the quotient of differences is the mean noise."""
    flow_field, posterior_means, as_slope = load(CHAPTER, "flow_field", "posterior_means", "as_slope")
    t, h = at_ratio(process, 0.8), 1e-6
    x_t = process.alpha(t) * points()
    u = flow_field(mixture, process)(x_t, t)
    y_ahead, y_behind = ((x_t + sign * h * u) / process.alpha(t + sign * h) for sign in (1, -1))
    r_ahead, r_behind = (process.sigma(t + sign * h) / process.alpha(t + sign * h) for sign in (1, -1))
    slope = (y_ahead - y_behind) / (r_ahead - r_behind)
    mean_x, mean_eps = posterior_means(mixture, process, x_t, t)
    close(slope, mean_eps, atol=1e-6)
    close(slope, (x_t / process.alpha(t) - mean_x) / 0.8, atol=1e-6)
    outputs = {kind: target(kind, process, mean_x, mean_eps, t) for kind in ("eps", "x", "v", "velocity")}
    outputs["score"] = mixture.noised(process.alpha(t), process.sigma(t)).score(x_t)
    for kind, output in outputs.items():
        close(as_slope(kind, process, output, x_t, t), slope, atol=1e-6)


@equation(
    "OV.11",
    r"""
    \mathbb E\,\lVert f(x_t, t) - y\rVert^2 = \mathbb E\,\lVert f(x_t, t) - \bar y(x_t, t)\rVert^2 +
    \underbrace{\mathbb E\,\lVert \bar y(x_t, t) - y\rVert^2}_{\text{does not contain } f}
    """,
)
def test_loss_on_pairs_is_loss_on_the_field_and_a_constant(mixture):
    """(OV.11): the chapter's terms one by one; then exactly, by quadrature over noise and one Gaussian of data."""
    split_loss, posterior_means = load(CHAPTER, "split_loss", "posterior_means")

    def f(x):
        return x.sin() + 0.3 * x

    x, eps, t = points(), points().flip(0), torch.tensor(0.4)
    terms = split_loss(f, mixture, Flow(), x, eps, t)
    x_t = 0.6 * x + 0.4 * eps
    mean_x, mean_eps = posterior_means(mixture, Flow(), x_t, t)
    rows = [(f(x_t), eps - x), (f(x_t), mean_eps - mean_x), (mean_eps - mean_x, eps - x)]
    close(torch.stack(terms), torch.stack([(a - b).square().sum(1) for a, b in rows]))

    nodes, masses = np.polynomial.hermite_e.hermegauss(24)
    nodes, masses = torch.as_tensor(nodes), torch.as_tensor(masses / math.sqrt(2 * math.pi))
    single = GaussianMixture(torch.ones(1), torch.tensor([[0.4, -0.7]]), torch.diag(torch.tensor([0.3, 0.5]))[None])
    z = torch.cartesian_prod(nodes, nodes, nodes, nodes)
    mass = torch.cartesian_prod(masses, masses, masses, masses).prod(1)
    x = single.means + z[:, :2] * torch.tensor([0.3, 0.5]).sqrt()
    on_pairs, on_field, constant = (mass @ each for each in split_loss(f, single, Flow(), x, z[:, 2:], t))
    close(on_pairs, on_field + constant, atol=1e-9)
    assert constant > 0.1


@equation(
    "OV.12",
    r"""
    x_{t-h} = \underbrace{x_t - h\,u_t(x_t)}_{\text{probability flow}} + \underbrace{\tfrac12
    h\gamma_t^2\,\nabla\log p_t(x_t) + \gamma_t\sqrt h\;\xi}_{\text{Langevin}}
    """,
)
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0, 2.5])
def test_every_amount_of_noise_keeps_the_law(share):
    """(OV.12): one step by hand; and on one Gaussian, where the law's moments can be followed exactly."""
    noisy_walk, exact = load(CHAPTER, "noisy_walk", "exact")
    single = GaussianMixture(torch.ones(1), torch.tensor([[1.0, -0.5]]), 0.3 * torch.eye(2)[None])
    process, times = Flow(), torch.tensor([0.5, 0.499])
    x, xi = points(), points().flip(0)
    found = noisy_walk(exact(single, process), process, times, x, share, lambda step: xi)
    law = single.noised(0.5, 0.5)
    u = process.alpha_rate(times[0]) * x / 0.5 - 0.5 * 2.0 * law.score(x)  # f = -2 and g^2 = 2 at one half
    close(found, x - 1e-3 * u + 0.5e-3 * share * 2 * law.score(x) + math.sqrt(share * 2e-3) * xi)

    steps = 500
    walk = torch.linspace(0.9, 0.1, steps + 1)
    at_zero = torch.zeros(1, 2)
    begin = single.noised(0.1, 0.9)
    mean, variance = begin.means[0], begin.covariances[0, 0, 0]
    for pair in walk.unfold(0, 2, 1):  # a step is linear in x: follow its slope, its offset and its noise
        offset = noisy_walk(exact(single, process), process, pair, at_zero, share, lambda step: torch.zeros(1, 2))
        moved = noisy_walk(exact(single, process), process, pair, at_zero + 1, share, lambda step: torch.zeros(1, 2))
        kicked = noisy_walk(exact(single, process), process, pair, at_zero, share, lambda step: torch.ones(1, 2))
        slope = (moved - offset)[0]
        mean, variance = slope * mean + offset[0], slope[0] ** 2 * variance + (kicked - offset)[0, 0] ** 2
    end = single.noised(0.9, 0.1)
    close(mean, end.means[0], atol=6e-3)
    close(variance, end.covariances[0, 0, 0], atol=6e-3)


@equation(
    "OV.13",
    r"""
    \text{mean} = \frac{x_t + b\,\nabla\log p_t(x_t)}{a} = x_t - h f_t x_t + h g_t^2\,\nabla\log p_t(x_t) + O(h^2),
    \qquad \text{variance} = b\,\frac{\sigma_s^2}{\sigma_t^2} = h g_t^2 + O(h^2)
    """,
)
@pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)
def test_the_step_of_ddpm_is_one_of_the_walks(mixture, process):
    """(OV.13): the exact form for a large step; the limit by halving a small one."""
    (ancestral_moments,) = load(CHAPTER, "ancestral_moments")
    t = at_ratio(process, 0.8)
    x_t = process.alpha(t) * points()
    score_at = mixture.noised(process.alpha(t), process.sigma(t)).score(x_t)
    s = t - 0.1
    a = process.alpha(t) / process.alpha(s)
    b = process.sigma(t) ** 2 - a**2 * process.sigma(s) ** 2
    mean, variance, *_ = ancestral_moments(mixture, process, x_t, t, 0.1)
    close(mean, (x_t + b * score_at) / a, atol=1e-8)
    close(variance, b * process.sigma(s) ** 2 / process.sigma(t) ** 2)
    close(variance, step_back(process, t, s)[2])
    off = []
    for h in (2e-4, 1e-4):
        mean, variance, small_mean, small_variance = ancestral_moments(mixture, process, x_t, t, h)
        off.append(torch.stack([(mean - small_mean).abs().max(), (variance - small_variance).abs()]))
    close(off[0] / off[1], torch.tensor([4.0, 4.0]), atol=0.05)


@equation(
    "OV.14",
    r"""
    \mathcal L = \int w(\lambda)\;\mathbb E\,\lVert \hat\varepsilon - \varepsilon\rVert^2\;d\lambda, \qquad
    w(\lambda) = \Big|\frac{dt}{d\lambda}\Big|\,\Big(\frac{\sigma_t}{\alpha_t\,k_t}\Big)^{\!2}
    """,
)
@pytest.mark.parametrize("prediction", ["x", "eps", "v", "velocity"])
def test_losses_are_integrals_over_the_noise_ratio(prediction):
    """(OV.14): the loss of a wrong network, once as a mean over times, once as an integral over lambda."""
    (weight_in_noise,) = load(CHAPTER, "weight_in_noise")
    process = Flow()
    lam = torch.linspace(-6, 6, 4001)
    t = torch.sigmoid(-lam)  # of Flow: lambda = log((1 - t) / t)
    error_x = 0.1 + 0.3 * t * (1 - t)  # of the clean point, somehow
    x, eps = torch.tensor([0.7]), torch.tensor([-0.4])
    alpha, sigma = process.alpha(t), process.sigma(t)
    x_t = alpha * x + sigma * eps
    right = torch.stack([target(prediction, process, x, eps, each)[0] for each in t])
    wrong = torch.stack(
        [target(prediction, process, x + e, (p - process.alpha(s) * (x + e)) / process.sigma(s), s)[0]
         for e, p, s in zip(error_x, x_t, t, strict=True)]
    )
    loss = torch.trapezoid((wrong - right).square().flip(0), t.flip(0))
    error_eps = noise_in(process, x_t[:, None], (x + error_x)[:, None], t)[:, 0] - eps
    close(torch.trapezoid(weight_in_noise(prediction, process, lam) * error_eps.square(), lam), loss, rtol=1e-4, atol=0)
    close(((wrong - right) * scale_of_error(prediction, process, t)).abs(), error_x, atol=1e-9)


def test_weights_that_kingma_and_gao_name():
    """Kingma & Gao 2023, appendix D: v on the quarter circle and velocity on the line both weigh by exp(-lambda / 2),
    where their lambda is twice ours."""
    (weight_in_noise,) = load(CHAPTER, "weight_in_noise")
    lam = torch.linspace(-3, 3, 13)
    close(weight_in_noise("velocity", Flow(), lam), (-lam).exp(), atol=1e-8)
    close(weight_in_noise("v", Cosine(), lam), 2 / math.pi * (-lam).exp(), atol=1e-8)
    close(weight_in_noise("eps", Cosine(), lam), 1 / (math.pi * lam.cosh()), atol=1e-8)
