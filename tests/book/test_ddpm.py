r"""The equations of the chapter on denoising diffusion, held to independent computations."""

import math

import numpy as np
import pytest
import torch
from torch.distributions import Normal, kl_divergence

from gencore.data import toys
from gencore.diffusion import Linear, add_noise, samplers
from gencore.diffusion.likelihood import variational_bound
from gencore.diffusion.process import step_back
from tests.book.chapter_code import load
from tests.book.equations import close, equation

CHAPTER = "diffusion/ddpm"

pytestmark = pytest.mark.usefixtures("double_precision")

T, S = torch.tensor([0.6, 0.35], dtype=torch.float64)


@equation("DD.1", r"x_t = \alpha_t\, x + \sigma_t\, \varepsilon, \qquad \varepsilon \sim \mathcal N(0, I)")
def test_many_small_steps_are_one_line():
    """(DD.1): mean and variance after a walk, carried along exactly, in the chapter and in the library."""
    noised, alpha = load(CHAPTER, "add_noise", "alpha")
    steps = 4000
    mean, variance = torch.tensor(1.0), torch.tensor(0.0)
    for n in range(1, round(0.6 * steps) + 1):
        beta = (0.1 + 19.9 * n / steps) / steps
        mean, variance = math.sqrt(1 - beta) * mean, (1 - beta) * variance + beta
    x, zero = torch.full((1, 3), 2.0), torch.zeros(1, 3)
    close(noised(x, zero, T[None]), mean * x, atol=5e-3)
    close(noised(zero, x, T[None]) ** 2, variance * x**2, atol=5e-3)
    close(noised(x, 3 * x, T[None]), add_noise(Linear(), x, 3 * x, T[None]), atol=1e-12)
    assert 0.1 < alpha(T) < 0.3


@equation(
    "DD.2",
    r"""
    \alpha_n = \prod_{i=1}^{n} \sqrt{1 - \beta_i}, \qquad \sigma_n = \sqrt{1 - \alpha_n^2}
    """,
)
def test_factors_multiply():
    """(DD.2), factor by factor; the noise has the rest of the variance."""
    after_steps, alpha, sigma = load(CHAPTER, "after_steps", "alpha", "sigma")
    betas, factor = torch.tensor([0.1, 0.3, 0.05]), 1.0
    for n, beta in enumerate(betas.tolist()):
        factor *= math.sqrt(1 - beta)
        close(after_steps(betas)[n], factor, atol=1e-12)
    close(sigma(T), torch.sqrt(1 - alpha(T) ** 2), atol=1e-12)


@equation(
    "DD.3",
    r"""
    \alpha(t) = \exp\Big(-\tfrac12 \int_0^t \beta(u)\,du\Big) = \exp\Big(-\tfrac12\big(0.1\,t + \tfrac12 \cdot 19.9\,
    t^2\big)\Big)
    """,
)
def test_the_continuous_schedule_is_an_integral():
    """(DD.3), by the trapezoid rule, which is exact for a line; in the chapter and in the library."""
    (alpha,) = load(CHAPTER, "alpha")
    for end in (0.2, 0.6, 1.0):
        u = torch.linspace(0, end, 3)
        integral = torch.trapezoid(0.1 + u * (20 - 0.1), u)
        close(alpha(torch.tensor(end)), torch.exp(-0.5 * integral), atol=1e-12)
        close(Linear().alpha(torch.tensor(end)), torch.exp(-0.5 * integral), atol=1e-12)


@equation(
    "DD.4",
    r"""
    q(x_t \mid x_s) = \mathcal N\big(x_t;\; a\, x_s,\; \sigma_{t|s}^2\, I\big), \qquad a = \frac{\alpha_t}{\alpha_s},
    \qquad \sigma_{t|s}^2 = \sigma_t^2 - a^2 \sigma_s^2
    """,
)
def test_the_kernel_leads_from_one_marginal_to_the_other():
    """(DD.4): applied to the law at s it gives the law at t; for one of a thousand steps it is the step itself."""
    kernel, alpha, sigma = load(CHAPTER, "kernel", "alpha", "sigma")
    a, spread = kernel(T, S)
    close(a * alpha(S), alpha(T), atol=1e-12)
    close(a**2 * sigma(S) ** 2 + spread, sigma(T) ** 2, atol=1e-12)
    a, spread = kernel(torch.tensor(0.5), torch.tensor(0.499))
    beta = (0.1 + 19.9 * 0.5) / 1000
    close(a, math.sqrt(1 - beta), atol=1e-4)
    close(spread, beta, atol=1e-4)


@equation(
    "DD.5",
    r"""
    q(x_s \mid x_t, x) = \mathcal N\Big(x_s;\; \frac{a\,\sigma_s^2}{\sigma_t^2}\, x_t + \frac{\alpha_s
    \sigma_{t|s}^2}{\sigma_t^2}\, x,\; \tilde\beta\, I\Big), \qquad \tilde\beta = \frac{\sigma_{t|s}^2\,
    \sigma_s^2}{\sigma_t^2}
    """,
)
def test_the_step_back_is_bayes_rule():
    """(DD.5): the product of the two densities, normalised on a grid; chapter and library alike."""
    ours, kernel, alpha, sigma = load(CHAPTER, "step_back", "kernel", "alpha", "sigma")
    x, x_t, line = 0.8, -0.3, torch.linspace(-8, 8, 40_001)
    a, spread = kernel(T, S)
    log_product = Normal(a * line, spread.sqrt()).log_prob(torch.tensor(x_t)) + Normal(alpha(S) * x, sigma(S)).log_prob(line)
    density = (log_product - log_product.max()).exp()
    density = density / torch.trapezoid(density, line)
    mean = torch.trapezoid(density * line, line)
    variance = torch.trapezoid(density * (line - mean) ** 2, line)
    for of_noised, of_clean, found in (ours(T, S), step_back(Linear(), T, S)):
        close(of_noised * x_t + of_clean * x, mean, atol=1e-8)
        close(found, variance, atol=1e-8)


@equation(
    "DD.6",
    r"""
    \mathbb E[x_s \mid x_t] = \frac{a\,\sigma_s^2}{\sigma_t^2}\, x_t + \frac{\alpha_s \sigma_{t|s}^2}{\sigma_t^2}\, D(x_t,
    t), \qquad \mathrm{Var}[x_s \mid x_t] = \tilde\beta + \Big(\frac{\alpha_s \sigma_{t|s}^2}{\sigma_t^2}\Big)^2\,
    \mathrm{Var}[x \mid x_t]
    """,
)
def test_the_unknown_picture_moves_the_mean_and_widens_the_step():
    """(DD.6): moments of the chapter's exact density, against moments of x given x_t by adding up a grid of x."""
    back, step, alpha, sigma = load(CHAPTER, "back", "step_back", "alpha", "sigma")
    data, line, x_t = toys.two_gaussians(left=0.3, dtype=torch.float64), torch.linspace(-7, 7, 20_001), torch.tensor(0.4)
    back.__globals__.update(heaps=data, line=line)

    def moments(density):
        density = density / torch.trapezoid(density, line)
        mean = torch.trapezoid(density * line, line)
        return mean, torch.trapezoid(density * (line - mean) ** 2, line)

    clean, unsure = moments((data.log_prob(line[:, None]) + Normal(alpha(T) * line, sigma(T)).log_prob(x_t)).exp())
    of_noised, of_clean, spread = step(T, S)
    mean, variance = moments(back(x_t, T, S))
    close(mean, of_noised * x_t + of_clean * clean, atol=1e-7)
    close(variance, spread + of_clean**2 * unsure, atol=1e-7)


@equation(
    "DD.7",
    r"""
    x_s = \frac{a\,\sigma_s^2}{\sigma_t^2}\, x_t + \frac{\alpha_s \sigma_{t|s}^2}{\sigma_t^2}\, D(x_t, t) +
    \sqrt{\tilde\beta}\;\varepsilon
    """,
)
def test_a_walk_takes_these_steps():
    """(DD.7): two steps by hand, the last without noise; chapter and library alike."""
    (sample,) = load(CHAPTER, "sample")
    times, x = torch.tensor([0.6, 0.35, 0.0]), torch.tensor([[0.5, -1.0]])

    def denoise(x_t, t):
        return torch.tanh(x_t) * (1 - t)

    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    process = Linear()
    a = process.alpha(T) / process.alpha(S)
    added = process.sigma(T) ** 2 - a**2 * process.sigma(S) ** 2
    share = process.sigma(S) ** 2 / process.sigma(T) ** 2
    by_hand = a * share * x + process.alpha(S) * added / process.sigma(T) ** 2 * denoise(x, T) + (added * share).sqrt() * eps
    by_hand = denoise(by_hand, S)
    close(sample(denoise, x, times, torch.Generator().manual_seed(0))[0], by_hand, atol=1e-12)
    close(samplers.ancestral(denoise, process, times, x, lambda step: eps), by_hand, atol=1e-12)


@equation(
    "DD.8",
    r"""
    D(x_t, t) = \sum_{k} p(k \mid x_t) \Big(\mu_k + \frac{\alpha_t c}{\alpha_t^2 c + \sigma_t^2}\,(x_t - \alpha_t
    \mu_k)\Big), \qquad p(k \mid x_t) \propto \exp\Big(-\frac{|x_t - \alpha_t \mu_k|^2}{2(\alpha_t^2 c +
    \sigma_t^2)}\Big)
    """,
)
def test_the_mean_clean_point_of_a_mixture():
    """(DD.8), by adding up a grid of clean points."""
    exact_mean, alpha, sigma = load(CHAPTER, "exact_mean", "alpha", "sigma")
    centres, c, t = torch.tensor([[-1.0, 0.5], [0.7, 0.2], [0.1, -0.9]]), torch.tensor(0.09), torch.tensor(0.2)
    x_t = torch.tensor([[0.3, -0.2], [-1.0, 1.0]])
    line = torch.linspace(-3, 3, 301)
    x = torch.cartesian_prod(line, line)  # (G, 2)
    prior = torch.exp(-(x[:, None] - centres).square().sum(-1) / (2 * c)).sum(1)
    seen = torch.exp(-(x_t[:, None] - alpha(t) * x).square().sum(-1) / (2 * sigma(t) ** 2))  # (B, G)
    weights = prior * seen
    close(exact_mean(x_t, t, centres, c), weights @ x / weights.sum(1, keepdim=True), atol=1e-8)


@equation(
    "DD.9",
    r"""
    -\log p(x) \le \mathrm{KL}\big(q(x_1 \mid x) \,\|\, p(x_1)\big) + \sum_{\text{neighbours } s < t} \mathbb E\,\mathrm{KL}\big(q(x_s
    \mid x_t, x) \,\|\, p(x_s \mid x_t)\big) - \mathbb E \log p(x \mid x_{t_1})
    """,
)
def test_the_bound_sorted_into_divergences_is_the_bound():
    """(DD.9), in the library: against the plain mean of log q - log p over whole walks, drawn at random."""
    process, times, count = Linear(), torch.tensor([1.0, 0.7, 0.4, 0.0]), 400_000
    x = torch.full((count, 1), 0.6)

    def denoise(x_t, t):
        return 0.8 * torch.tanh(x_t)

    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(3, count, 1, generator=generator)
    sorted_out = variational_bound(denoise, process, times, x, lambda step: draws[step], "posterior", "density").total

    x_t = process.alpha(times[0]) * x + process.sigma(times[0]) * torch.randn(x.shape, generator=generator)
    log_q = Normal(process.alpha(times[0]) * x, process.sigma(times[0])).log_prob(x_t)
    log_p = Normal(0.0, process.sigma(times[0])).log_prob(x_t)
    for t, s in ((times[0], times[1]), (times[1], times[2])):
        of_noised, of_clean, spread = step_back(process, t, s)
        back = of_noised * x_t + of_clean * x + spread.sqrt() * torch.randn(x.shape, generator=generator)
        log_q = log_q + Normal(of_noised * x_t + of_clean * x, spread.sqrt()).log_prob(back)
        log_p = log_p + Normal(of_noised * x_t + of_clean * denoise(x_t, t), spread.sqrt()).log_prob(back)
        x_t = back
    log_p = log_p + Normal(denoise(x_t, times[2]), spread.sqrt()).log_prob(x)
    plainly = (log_q - log_p)[:, 0]
    error = math.hypot(plainly.std().item(), sorted_out.std().item()) / count**0.5
    assert abs(plainly.mean() - sorted_out.mean()) < 5 * error
    assert error < 0.01 * plainly.mean()


@equation(
    "DD.10",
    r"""
    \mathrm{KL} = \frac{1}{2\tilde\beta}\Big(\frac{\alpha_s \sigma_{t|s}^2}{\sigma_t^2}\Big)^2 |x - \hat x|^2 =
    \tfrac12\big(\mathrm{SNR}(s) - \mathrm{SNR}(t)\big)\, |x - \hat x|^2
    """,
)
def test_a_steps_divergence_is_a_gain_of_signal_times_a_squared_error():
    """(DD.10): both forms against the divergence of two Gaussians by torch.distributions."""
    step, snr = load(CHAPTER, "step_back", "snr")
    of_noised, of_clean, spread = step(T, S)
    x, guess, x_t = torch.tensor(0.8), torch.tensor(0.1), torch.tensor(-0.4)
    true, model = (Normal(of_noised * x_t + of_clean * each, spread.sqrt()) for each in (x, guess))
    found = kl_divergence(true, model)
    close(of_clean**2 / (2 * spread) * (x - guess) ** 2, found, atol=1e-12)
    close(0.5 * (snr(S) - snr(T)) * (x - guess) ** 2, found, atol=1e-12)


@equation(
    "DD.11",
    r"""
    \hat x = \frac{x_t - \sigma_t\,\hat\varepsilon}{\alpha_t}, \qquad |x - \hat x|^2 = \frac{\sigma_t^2}{\alpha_t^2}\,
    |\varepsilon - \hat\varepsilon|^2
    """,
)
def test_a_picture_from_noise_and_its_error():
    """(DD.11): with the true noise the picture comes back; an error of the noise moves it by sigma over alpha."""
    clean_picture, noised, alpha, sigma = load(CHAPTER, "clean_picture", "add_noise", "alpha", "sigma")
    generator, t = torch.Generator().manual_seed(0), torch.tensor(0.3)
    x, eps = torch.rand(4, 1, 3, 3, generator=generator) - 0.5, torch.randn(4, 1, 3, 3, generator=generator)
    x_t, wrong = noised(x, eps, t.expand(4)), 0.1 * torch.randn(4, 1, 3, 3, generator=generator)
    close(clean_picture(lambda x_t, t: eps, x_t, t), x, atol=1e-10)
    off = clean_picture(lambda x_t, t: eps + wrong, x_t, t) - x
    close(off.square(), (sigma(t) / alpha(t)) ** 2 * wrong.square(), atol=1e-10)


@equation(
    "DD.12",
    r"""
    \mathcal L = \mathbb E\,\big|\varepsilon - \hat\varepsilon(\alpha_t x + \sigma_t \varepsilon,\; t)\big|^2, \qquad t
    \sim \mathcal U(0, 1), \quad \varepsilon \sim \mathcal N(0, I)
    """,
)
def test_the_simple_loss():
    """(DD.12): a mean over a pixel, by loops; and times that are spread over a batch are uniform, each in its slice."""
    simple_loss, spread_times, alpha, sigma = load(CHAPTER, "simple_loss", "spread_times", "alpha", "sigma")
    generator = torch.Generator().manual_seed(0)
    x, eps = torch.randn(2, 3, generator=generator), torch.randn(2, 3, generator=generator)
    t, total = torch.tensor([0.2, 0.7]), 0.0
    for row in range(2):
        for column in range(3):
            x_t = alpha(t[row]) * x[row, column] + sigma(t[row]) * eps[row, column]
            total += (eps[row, column] - (2 * x_t + t[row])) ** 2 / 6
    close(simple_loss(lambda x_t, t: 2 * x_t + t[:, None], x, eps, t), total, atol=1e-12)
    times = torch.stack([spread_times(u, 8) for u in torch.rand(4000, 1, generator=generator)])
    assert (times.sort(1).values * 8 // 1 == torch.arange(8)).all()
    counts = np.histogram(times[:, 0], bins=10, range=(0, 1))[0]
    assert abs(counts - 400).max() < 5 * 400**0.5


@equation(
    "DD.13",
    r"""
    D(x_t, t) = \sum_{i=1}^{M} w_i\, x^{(i)}, \qquad w_i = \frac{\exp\big(-|x_t - \alpha_t x^{(i)}|^2 /
    2\sigma_t^2\big)}{\sum_j \exp\big(-|x_t - \alpha_t x^{(j)}|^2 / 2\sigma_t^2\big)}
    """,
)
def test_the_ideal_denoiser_is_a_weighted_mean_of_the_data():
    """(DD.13), by loops over pictures."""
    ideal_mean, alpha, sigma = load(CHAPTER, "ideal_mean", "alpha", "sigma")
    generator, t = torch.Generator().manual_seed(0), torch.tensor(0.2)
    data, x_t = torch.randn(5, 3, generator=generator), torch.randn(2, 3, generator=generator)
    for row in range(2):
        weights = [math.exp(-((x_t[row] - alpha(t) * x) ** 2).sum() / (2 * sigma(t) ** 2)) for x in data]
        mean = sum(w * x for w, x in zip(weights, data, strict=True)) / sum(weights)
        close(ideal_mean(x_t, t, data)[row], mean, atol=1e-10)
