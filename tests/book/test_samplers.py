r"""The equations of the chapter "Samplers", held to independent computations."""

import math

import numpy as np
import pytest
import torch

from gencore.analytic import GaussianMixture
from gencore.diffusion import EDM, Cosine, Flow, Linear, samplers
from gencore.diffusion.denoiser import ddim_step as library_step, velocity
from gencore.diffusion.process import add_noise, log_snr, step_back
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/samplers"
PROCESSES = (Linear(), Cosine(), Flow(), EDM())
each_process = pytest.mark.parametrize("process", PROCESSES, ids=lambda process: type(process).__name__)

pytestmark = pytest.mark.usefixtures("double_precision")


def points(n=6, seed=3):
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))


def curved(x_t, t):
    """A denoiser that is linear in nothing."""
    return torch.tanh(1.3 * x_t + 0.4 * t)


def says(value):
    """A denoiser that always says the same."""
    return lambda x_t, t: torch.as_tensor(value).expand(x_t.shape)


def integral(process, t, s, mean, nodes=40):
    """sigma_s times the integral of e^lambda mean(lambda) from t down to s, by Gauss and Legendre."""
    low, high = (log_snr(process, each).item() for each in (t, s))
    places, weights = np.polynomial.legendre.leggauss(nodes)
    lam = (high + low) / 2 + (high - low) / 2 * places
    values = sum(w * math.exp(at) * mean(at) for w, at in zip(weights, lam, strict=True))
    return process.sigma(s) * (high - low) / 2 * values


def test_the_exact_mean_is_tweedies():
    """(DD.8) as the chapter writes it, against the score of the noised mixture."""
    (exact_mean,) = load(CHAPTER, "exact_mean")
    means = torch.tensor([[-1.0, 0.2], [1.3, 0.7], [0.6, -1.1]])
    p = GaussianMixture(torch.ones(3) / 3, means, 0.09 * torch.eye(2).expand(3, 2, 2))
    for process in PROCESSES:
        t, x_t = torch.tensor(0.4), points()
        score = p.noised(process.alpha(t), process.sigma(t)).score(x_t)
        close(exact_mean(p, process)(x_t, t), (x_t + process.sigma(t) ** 2 * score) / process.alpha(t), atol=1e-7)


@equation(
    "SA.1",
    r"""
    \frac{dx_t}{dt} = \frac{\sigma_t'}{\sigma_t}\,x_t +
    \Big(\alpha_t' - \alpha_t\frac{\sigma_t'}{\sigma_t}\Big)\,\hat x(x_t, t)
    """,
)
@each_process
def test_the_flow_in_terms_of_the_denoiser(process):
    """(SA.1): the motion of a pair, by central differences; and the library's velocity."""
    (slope,) = load(CHAPTER, "slope")
    x, eps, t, h = points(), points(seed=4), torch.tensor(0.4), 1e-6
    x_t, ahead, behind = (add_noise(process, x, eps, each) for each in (t, t + h, t - h))
    found = slope(lambda x_t, t: x, process, x_t, t)
    close(found, (ahead - behind) / (2 * h), atol=1e-6, rtol=1e-6)
    close(slope(curved, process, x_t, t), velocity(process, x_t, curved(x_t, t), t))


@equation(
    "SA.2",
    r"x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \sigma_s \int_{\lambda_t}^{\lambda_s} e^{\lambda}\;\hat x_\lambda\;d\lambda",
)
@each_process
def test_the_solution_up_to_an_integral(process):
    """(SA.2), on one Gaussian: its path is known, and so is what the denoiser says along it."""
    (solution,) = load(CHAPTER, "solution")
    v, first, last = 0.3, torch.tensor(0.8), torch.tensor(0.2)

    def std(t):
        return (process.alpha(t) ** 2 * v + process.sigma(t) ** 2).sqrt()

    times = torch.linspace(0.8, 0.2, 20_001)
    cleaned = (process.alpha(times) * v / std(times) * 1.7)[:, None]  # of the path 1.7 std
    close(solution(process, times, 1.7 * std(first), cleaned), 1.7 * std(last)[None], atol=1e-6)
    lam = log_snr(process, times)
    ramp = solution(process, times, torch.zeros(1), lam[:, None])
    close(ramp, integral(process, first, last, lambda at: at)[None], atol=1e-6)


@equation(
    "SA.3",
    r"""
    x_s = \alpha_s\,\hat x + \sigma_s\,\hat\varepsilon, \qquad
    \hat\varepsilon = \frac{x_t - \alpha_t\,\hat x}{\sigma_t}
    """,
)
@each_process
def test_ddim_is_the_solution_for_frozen_data(process):
    """(SA.3): (SA.2) with a constant in the integral, by quadrature; the noise of a pair is found; the library agrees."""
    (ddim_step,) = load(CHAPTER, "ddim_step")
    t, s, x_t = torch.tensor(0.7), torch.tensor(0.3), points()
    found, memory = ddim_step(says(0.4), process, x_t, t, s)
    close(found, process.sigma(s) / process.sigma(t) * x_t + 0.4 * integral(process, t, s, lambda at: 1.0), atol=1e-8)
    assert memory is None
    x, eps = points(), points(seed=4)
    close(ddim_step(lambda x_t, t: x, process, add_noise(process, x, eps, t), t, s)[0], add_noise(process, x, eps, s))
    close(ddim_step(curved, process, x_t, t, s)[0], library_step(process, x_t, curved(x_t, t), t, s))


@equation("SA.4", r"x_s = x_t + (s - t)\,u_t(x_t)")
@each_process
def test_euler_walks_straight_on(process):
    """(SA.4): half the length is half the way, and the first part of the way is the flow's."""
    (euler_step,) = load(CHAPTER, "euler_step")
    t, x_t = torch.tensor(0.5), points()
    whole, half = (euler_step(curved, process, x_t, t, t - h)[0] - x_t for h in (0.2, 0.1))
    close(whole, 2 * half)
    close(whole, -0.2 * velocity(process, x_t, curved(x_t, t), t))
    close(euler_step(curved, process, x_t, t, t - 0.2)[0],
          samplers.euler(curved, process, torch.stack([t, t - 0.2]), x_t))


@equation(
    "SA.5",
    r"""
    \tilde x = x_t + (s - t)\,u_t(x_t), \qquad x_s = x_t + \frac{s - t}{2}\,\big(u_t(x_t) + u_s(\tilde x)\big)
    """,
)
@each_process
def test_heun_takes_the_mean_of_two_slopes(process):
    """(SA.5), written out with the library's velocity; a step to no noise is Euler's."""
    heun_step, euler_step = load(CHAPTER, "heun_step", "euler_step")
    t, s, x_t = torch.tensor(0.5), torch.tensor(0.35), points()

    def u(x, at):
        return velocity(process, x, curved(x, at), at)

    ahead = x_t + (s - t) * u(x_t, t)
    close(heun_step(curved, process, x_t, t, s)[0], x_t + (s - t) * (u(x_t, t) + u(ahead, s)) / 2)
    zero = torch.tensor(0.0)
    if process.sigma(zero) == 0:
        close(heun_step(curved, process, x_t, t, zero)[0], euler_step(curved, process, x_t, t, zero)[0])


@equation(
    "SA.6",
    r"x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \Big(\alpha_s - \frac{\sigma_s}{\sigma_t}\,\alpha_t\Big)\,D",
)
@each_process
def test_the_step_for_a_mean_of_clean_data(process):
    """(SA.6): without a memory D is what the denoiser says, and the integral is that of a constant."""
    (dpm_step,) = load(CHAPTER, "dpm_step")
    t, s, x_t = torch.tensor(0.7), torch.tensor(0.3), points()
    found, (clean, lam) = dpm_step(says(0.4), process, x_t, t, s)
    close(found, process.sigma(s) / process.sigma(t) * x_t + 0.4 * integral(process, t, s, lambda at: 1.0), atol=1e-8)
    close(clean, torch.full((6, 2), 0.4))
    close(lam, log_snr(process, t))


@equation("SA.7", r"D = \hat x_t + \frac{h}{2h'}\,\big(\hat x_t - \hat x_r\big)")
@each_process
def test_the_line_through_two_answers(process):
    """(SA.7): D is the line's value in the middle of the step; the integral of the line differs by h^3."""
    (dpm_step,) = load(CHAPTER, "dpm_step")
    t, r, x_t = torch.tensor(0.5), torch.tensor(0.6), points()
    lam_t, lam_r = log_snr(process, t), log_snr(process, r)

    def line(lam):
        return 0.3 + 0.8 * (lam - lam_t) / (lam_t - lam_r)

    off = []
    for width in (0.04, 0.02):
        s = t - width
        middle = line((lam_t + log_snr(process, s)) / 2)
        memory = torch.full((6, 2), line(lam_r).item()), lam_r
        found, _ = dpm_step(says(0.3), process, x_t, t, s, memory)
        shrink = process.sigma(s) / process.sigma(t)
        close(found, shrink * x_t + (process.alpha(s) - shrink * process.alpha(t)) * middle)
        exactly = shrink * x_t + integral(process, t, s, lambda lam: line(lam).item())
        off.append((found - exactly).abs().max())
    close(off[0] / off[1], 8.0, atol=1.0)


@equation("SA.8", r"E(h) \approx C\,h^{p} \quad\Longrightarrow\quad p \approx \log_2 \frac{E(h)}{E(h/2)}")
def test_an_order_is_read_off_halved_steps():
    """(SA.8): of known powers; of each method, one step and the whole walk."""
    measured_order, local_error, global_error = load(CHAPTER, "measured_order", "local_error", "global_error")
    for p in (1, 2, 3.5):
        close(torch.tensor(measured_order([7 * h**p for h in (0.4, 0.2, 0.1)])), torch.full((2,), float(p)))
    for name, order in (("euler_step", 1), ("ddim_step", 1), ("heun_step", 2), ("dpm_step", 2)):
        (step,) = load(CHAPTER, name)
        for process in PROCESSES:
            found = measured_order([local_error(step, process, 0.25, h) for h in (2e-3, 1e-3)])[-1]
            close(found, order + 1.0, atol=0.15)
            found = measured_order([global_error(step, process, 0.25, steps) for steps in (256, 512)])[-1]
            assert found == pytest.approx(order, abs=0.45 if name == "dpm_step" else 0.1)


@equation(
    "SA.9",
    r"""
    x_s = \alpha_s\,\hat x + \sqrt{\sigma_s^2 - \eta^2\tilde\beta}\;\hat\varepsilon + \eta\sqrt{\tilde\beta}\;\xi, \qquad
    \tilde\beta = \frac{\sigma_s^2}{\sigma_t^2}\Big(\sigma_t^2 - \frac{\alpha_t^2}{\alpha_s^2}\sigma_s^2\Big)
    """,
)
@each_process
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_the_family_keeps_the_law_of_a_pair(process, eta):
    """(SA.9): given x, the step has mean alpha_s x and variance sigma_s^2 for every eta; at 1 it is (DD.7)."""
    (noisy_step,) = load(CHAPTER, "noisy_step")
    t, s, x = torch.tensor(0.7), torch.tensor(0.3), torch.tensor(0.8)
    alpha, sigma = process.alpha(t), process.sigma(t)

    def made(eps, xi):
        return noisy_step(process, alpha * x + sigma * eps, x, t, s, eta, xi)

    zero, one = torch.tensor(0.0), torch.tensor(1.0)
    mean, by_eps, by_xi = made(zero, zero), made(one, zero), made(zero, one)
    close(mean, process.alpha(s) * x)
    close((by_eps - mean) ** 2 + (by_xi - mean) ** 2, process.sigma(s) ** 2)
    close((by_xi - mean) ** 2, eta**2 * step_back(process, t, s)[2])
    x_t, xi = points(), points(seed=5)
    found = noisy_step(process, x_t, curved(x_t, t), t, s, eta, xi)
    close(found, samplers.ddim(curved, process, torch.stack([t, s]), x_t, lambda step: xi, eta))
    if eta == 1:
        close(found, samplers.ancestral(curved, process, torch.stack([t, s]), x_t, lambda step: xi))


@equation(
    "SA.10",
    r"""
    \kappa_\eta(t) = (1 + \eta^2)\,\rho_t^{\,\eta^2}, \qquad
    \rho_t = \frac{\alpha_t\sqrt v}{\sqrt{\alpha_t^2 v + \sigma_t^2}}
    """,
)
@pytest.mark.parametrize("process", PROCESSES[:3], ids=lambda process: type(process).__name__)
@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
def test_what_arrives_of_an_error(process, eta):
    """(SA.10): of an error in one of many steps, by the library's sampler; at 1, the correlation of x and x_t twice."""
    share_of_error, arrived = load(CHAPTER, "share_of_error", "arrived")
    moments, v = torch.tensor([0.9, 0.6, 0.3]), 1.7

    def once(t):
        return ((t - moments).abs() < 1e-6).double()

    found = share_of_error(process, eta, moments, v)
    close(arrived(process, eta, once, v, 1000) / arrived(process, 0.0, once, v, 1000), found, atol=0.02)
    if eta == 1:
        covariance = torch.stack([process.alpha(moments) * v, torch.full((3,), v),
                                  process.alpha(moments) ** 2 * v + process.sigma(moments) ** 2])
        close(found, 2 * covariance[0] / (covariance[1] * covariance[2]).sqrt())


@each_process
def test_walks_are_the_librarys(process):
    """All four, from noise to data, over the ends where the clock is infinite."""
    walk, *steps = load(CHAPTER, "walk", "euler_step", "ddim_step", "heun_step", "dpm_step")
    times = samplers.even_times(7)
    x = process.sigma(times[0]) * points()
    for step, name in zip(steps, ("euler", "ddim", "heun", "dpm_solver"), strict=True):
        close(walk(step, curved, process, times, x), getattr(samplers, name)(curved, process, times, x))


def test_the_failing_sampler_is_right_once_repaired():
    """Section 8: with its variances made again it is ancestral sampling."""
    (strided,) = load(CHAPTER, "strided")
    x, noises = points(), [points(seed=20 + step) for step in range(9)]
    right = samplers.ancestral(curved, Flow(), samplers.even_times(9), x, noises.__getitem__)
    close(strided(curved, Flow(), 9, x, noises.__getitem__, True), right)
    assert (strided(curved, Flow(), 9, x, noises.__getitem__, False) - right).abs().max() > 0.1
