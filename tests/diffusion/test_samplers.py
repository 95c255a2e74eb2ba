"""Samplers with denoisers that are exact: laws that stay, orders of convergence, and the places where two are one."""

from itertools import pairwise

import pytest
import torch

from gencore.diffusion import EDM, Cosine, Flow, Linear
from gencore.diffusion.process import log_snr
from gencore.diffusion.samplers import ancestral, ddim, dpm_solver, even_times, euler, heun
from gencore.errors import InputError
from tests.diffusion.exact import each_preserving, each_process, gaussian, number, rand, std_at

GRIDS = {
    "full": even_times(50),
    "strided": even_times(50)[::5],
    "bent": even_times(12, bend=2.0),
    "uneven": number([1.0, 0.9, 0.55, 0.5, 0.08, 0.0]),
    "inside": even_times(10, first=0.9, last=0.2),
}
each_grid = pytest.mark.parametrize("times", GRIDS.values(), ids=GRIDS)
FLOWS = {"euler": euler, "heun": heun, "dpm_solver": dpm_solver, "ddim": ddim}
each_flow = pytest.mark.parametrize("sampler", FLOWS.values(), ids=FLOWS)


def curved(process):
    """A denoiser that is linear in nothing, held to the range of pixels."""
    return lambda x, t: (1.3 * torch.tanh(process.alpha(t) * x + 0.3 * t)).clamp(-1, 1)


def noises(steps, *shape):
    return [rand(*shape, seed=10 + step) for step in range(steps)]


@each_process
@each_grid
def test_ddim_with_all_noise_is_ancestral(process, times):
    """Song et al. 2021, section 4.1: eta = 1 gives the variance of q(x_s | x_t, x), on any grid, clipped or not."""
    fresh, start = noises(len(times), 4, 3).__getitem__, process.sigma(times[0]) * rand(4, 3)
    for denoise in (curved(process), gaussian(process, 0.7)):
        ours = ddim(denoise, process, times, start, fresh, eta=1.0)
        torch.testing.assert_close(ours, ancestral(denoise, process, times, start, fresh), rtol=1e-12, atol=1e-12)
        other = ancestral(denoise, process, times, start, fresh, "forward")
        assert (ours - other).abs().max() > 1e-3


def respaced(log_alpha_bar):
    """Ho et al. 2020, equations 4 and 7, on some of the steps: betas made again from the products (Nichol & Dhariwal)."""
    bar = torch.cat([torch.ones(1, dtype=torch.float64), log_alpha_bar.exp()])
    beta = 1 - bar[1:] / bar[:-1]
    return bar, beta, (1 - bar[:-1]) / (1 - bar[1:]) * beta


@each_preserving
@pytest.mark.parametrize("variance", ["posterior", "forward"])
@pytest.mark.parametrize("stride", [1, 5])
def test_ancestral_is_the_papers_algorithm(process, variance, stride):
    """Algorithm 2, step by step with the noise as prediction; beta_tilde and beta are the two variances of section 3.2."""
    times = even_times(50, first=0.98)[::stride]
    bar, beta, beta_tilde = respaced(2 * process.alpha(times[:-1].flip(0)).log())
    denoise, fresh, x = curved(process), noises(50, 6), rand(6)
    ours = ancestral(denoise, process, times, x, fresh.__getitem__, variance)
    spread = beta_tilde if variance == "posterior" else beta
    for step, n in enumerate(range(len(beta), 0, -1)):
        predicted = denoise(x, times[step])
        eps = (x - bar[n].sqrt() * predicted) / (1 - bar[n]).sqrt()
        x = (x - beta[n - 1] / (1 - bar[n]).sqrt() * eps) / (1 - beta[n - 1]).sqrt()
        if n > 1:
            x = x + spread[n - 1].sqrt() * fresh[step]
    torch.testing.assert_close(ours, x, rtol=1e-9, atol=1e-9)


@each_preserving
@each_grid
@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
def test_ddim_is_the_papers_equation(process, times, eta):
    """Song et al. 2021, equations 12 and 16, in their alpha, which is the square of ours."""
    denoise, fresh, x = curved(process), noises(len(times), 6), rand(6)
    ours = ddim(denoise, process, times, x, fresh.__getitem__, eta)
    for step, (t, s) in enumerate(pairwise(times)):
        a, b = process.alpha(t) ** 2, process.alpha(s) ** 2
        predicted = denoise(x, t)
        eps = (x - a.sqrt() * predicted) / (1 - a).sqrt()
        spread = eta * ((1 - b) / (1 - a)).sqrt() * (1 - a / b).sqrt()
        x = b.sqrt() * predicted + (1 - b - spread**2).clamp(min=0).sqrt() * eps + (spread * fresh[step] if s > 0 else 0)
    torch.testing.assert_close(ours, x, rtol=1e-6, atol=1e-6)


def law(sampler, process, times, std, **options):
    """Standard deviation of samples, exactly: with a linear denoiser a sample is a weighted sum of all that was drawn."""
    basis = torch.eye(len(times), dtype=torch.float64)  # the start, and each step's noise
    weights = sampler(gaussian(process, std), process, times, std_at(process, times[0], std) * basis[0],
                      lambda step: basis[step + 1], **options)
    return weights.square().sum().sqrt()


@each_preserving
@pytest.mark.parametrize("stride", [1, 5])
def test_unit_variance_stays_with_the_forward_variance(process, stride):
    """On N(0, 1) data; the last step shows a mean, whose variance lacks the last step's beta."""
    times = even_times(50)[::stride]
    for end in range(2, len(times)):
        assert law(ancestral, process, times[:end], 1.0, variance="forward").item() == pytest.approx(1, abs=1e-12)
    beta = 1 - process.alpha(times[-2]) ** 2
    found = law(ancestral, process, times, 1.0, variance="forward")
    torch.testing.assert_close(found**2, 1 - beta)
    assert law(ancestral, process, times, 1.0, variance="posterior") < found - 1e-6


@each_preserving
def test_one_point_is_met_with_the_posterior_variance(process):
    """Data that are one number: every marginal is right, and the last step shows the number."""
    times = even_times(20)
    for end in range(2, len(times) + 1):
        found = law(ancestral, process, times[:end], 0.0)
        torch.testing.assert_close(found, process.sigma(times[end - 1]))
        assert end > 20 or law(ancestral, process, times[:end], 0.0, variance="forward") > found + 1e-6


@each_process
def test_many_steps_of_either_variance_and_of_ddim_give_the_law(process):
    """As steps shrink, each variance is right, and the error is of order 1: it halves with the steps."""
    std = 0.6
    for options in (dict(variance="posterior"), dict(variance="forward")):
        errors = [abs(law(ancestral, process, even_times(n), std, **options).item() - std) for n in (50, 100, 200)]
        assert errors[0] > 1.7 * errors[1] > 1.7 * 1.7 * errors[2]
    errors = [abs(law(ddim, process, even_times(n), std, eta=0.5).item() - std) for n in (50, 100, 200)]
    assert errors[0] > 1.7 * errors[1] > 1.7 * 1.7 * errors[2]


@each_process
def test_no_noise_on_the_last_step(process):
    """A step to t = 0 asks for none, so that no more is drawn than is shown."""
    asked = []

    def fresh(step):
        asked.append(step)
        return torch.ones(3, dtype=torch.float64)

    start, denoise, times = rand(3), gaussian(process, 1.0), even_times(5)
    for sampler, options in ((ancestral, {}), (ancestral, dict(variance="forward")), (ddim, dict(eta=0.5))):
        asked.clear()
        ended = sampler(denoise, process, times, start, fresh, **options)
        assert asked == [0, 1, 2, 3]
        before = sampler(denoise, process, times[:-1], start, fresh, **options)
        if not isinstance(process, EDM):  # keeps a trace of noise
            torch.testing.assert_close(ended, denoise(before, times[-2]))
        asked.clear()
        sampler(denoise, process, even_times(3, last=0.1), start, fresh, **options)
        assert asked == [0, 1, 2], "where it does not end at 0, the last step is as the others"


@each_process
@pytest.mark.parametrize(
    ("sampler", "order"), [(euler, 1), (ddim, 1), (heun, 2), (dpm_solver, 2)], ids=["euler", "ddim", "heun", "dpm_solver"]
)
def test_orders_of_convergence(process, sampler, order):
    """On Gaussian data of variance 0.09, inside the times, against the flow's solution: x stays x / std_t."""
    std, first, last = 0.3, 0.8, 0.3
    denoise, start = gaussian(process, std, mean=0.4), number([1.0, -0.5])
    centred = (start - 0.4 * process.alpha(number(first))) / std_at(process, number(first), std)
    exact = 0.4 * process.alpha(number(last)) + centred * std_at(process, number(last), std)
    steps, errors = [32, 64, 128, 256], []
    for n in steps:
        found = sampler(denoise, process, even_times(n, first, last), start)
        errors.append((found - exact).abs().max().log2().item())
    slopes = [a - b for a, b in pairwise(errors)]
    assert slopes == pytest.approx([order] * 3, abs=0.15)


@each_process
@each_flow
def test_the_whole_way_from_noise_to_data(process, sampler):
    """From t = 1, where Cosine and Flow hold nothing of the data, to t = 0, where all but EDM hold no noise."""
    std = 0.5
    start = process.sigma(number(1.0)) * number([1.0, -0.5])
    errors = []
    for n in (20, 80, 320):
        found = sampler(gaussian(process, std), process, even_times(n), start)
        exact = start / std_at(process, number(1.0), std) * std_at(process, number(0.0), std)
        errors.append((found - exact).abs().max().item())
    assert errors[0] > errors[1] > errors[2] and errors[2] < 0.05


@each_process
@each_flow
@pytest.mark.parametrize("steps", [1, 2, 3, 20])
def test_the_whole_way_in_single_precision(process, sampler, steps):
    x = process.sigma(number(1.0)).float() * torch.tensor([1.0, -0.5])
    single = sampler(gaussian(process, 0.5), process, even_times(steps), x)
    double = sampler(gaussian(process, 0.5), process, even_times(steps), x.double())
    assert single.dtype == torch.float32 and single.isfinite().all()
    torch.testing.assert_close(single.double(), double, rtol=1e-3, atol=1e-4)


@each_process
def test_one_step_of_ddim_is_one_step_of_dpm_solver(process):
    """Lu et al. 2022, section 4: both are first order in the same variable; with the second step they part."""
    start, denoise = process.sigma(number(1.0)) * rand(5), gaussian(process, 0.5)
    for first, last in ((0.9, 0.4), (1.0, 0.3), (0.5, 0.0), (1.0, 0.0)):
        pair = [sampler(denoise, process, even_times(1, first, last), start) for sampler in (ddim, dpm_solver)]
        torch.testing.assert_close(*pair, rtol=1e-9, atol=1e-9)
    pair = [sampler(denoise, process, even_times(2, 0.9, 0.4), start) for sampler in (ddim, dpm_solver)]
    assert (pair[0] - pair[1]).abs().max() > 1e-3


def test_dpm_solver_is_the_papers_algorithm():
    """Lu et al. 2022, algorithm 2, in lambda, with r = h_before / h."""
    process, times, x = Linear(), number([0.9, 0.7, 0.6, 0.2, 0.1]), rand(6)
    denoise = curved(process)
    ours = dpm_solver(denoise, process, times, x)
    lam, alpha, sigma = log_snr(process, times), process.alpha(times), process.sigma(times)
    said = [denoise(x, times[0])]
    h = lam.diff()
    x = sigma[1] / sigma[0] * x - alpha[1] * torch.expm1(-h[0]) * said[0]
    for i in range(2, 5):
        said.append(denoise(x, times[i - 1]))
        r = h[i - 2] / h[i - 1]
        d = (1 + 1 / (2 * r)) * said[-1] - 1 / (2 * r) * said[-2]
        x = sigma[i] / sigma[i - 1] * x - alpha[i] * torch.expm1(-h[i - 1]) * d
    torch.testing.assert_close(ours, x)


def test_heun_is_the_papers_algorithm():
    """Karras et al. 2022, algorithm 1, in sigma, which is the time where it grows in a line."""
    process, times, x = EDM(least=0.1, most=10.0, rho=1.0), even_times(6), 10 * rand(6)
    denoise = curved(process)
    ours = heun(denoise, process, times, x)
    for t, s in pairwise(times):
        sigma, after = process.sigma(t), process.sigma(s)
        d = (x - denoise(x, t)) / sigma
        ahead = x + (after - sigma) * d
        x = x + (after - sigma) * 0.5 * (d + (ahead - denoise(ahead, s)) / after)
    torch.testing.assert_close(ours, x)


def test_euler_on_a_straight_line_is_ddim():
    """Flow's velocity is (x_t - x) / t, and so one step to s is what DDIM does."""
    start, denoise = rand(5), curved(Flow())
    for times in GRIDS.values():
        found = [sampler(denoise, Flow(), times, start) for sampler in (euler, ddim)]
        torch.testing.assert_close(*found, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("sampler", "calls"), [(euler, 4), (ddim, 4), (dpm_solver, 4), (heun, 7)])
def test_how_often_the_denoiser_is_asked(sampler, calls):
    asked = []

    def denoise(x, t):
        assert t.dtype == x.dtype and t.shape == ()
        asked.append(t.item())
        return 0.5 * x

    sampler(denoise, Cosine(), even_times(4), rand(2))
    assert len(asked) == calls and min(asked) > 0


@each_process
def test_the_share_of_noise_matters(process):
    start, fresh, found = rand(4), noises(9, 4).__getitem__, {}
    for eta in (0.0, 0.5, 1.0):
        found[eta] = ddim(gaussian(process, 0.5), process, even_times(8), start, fresh, eta)
    assert torch.equal(found[0.0], ddim(gaussian(process, 0.5), process, even_times(8), start))
    assert all((a - b).abs().max() > 1e-3 for a, b in pairwise(found.values()))


def test_a_share_of_noise_without_noise_is_refused():
    with pytest.raises(InputError, match="noise: missing, but eta is 0.5"):
        ddim(curved(Flow()), Flow(), even_times(2), rand(4), eta=0.5)


def test_even_times():
    assert even_times(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert even_times(2, bend=2.0).tolist() == [1.0, 0.25, 0.0]
    torch.testing.assert_close(even_times(2, 0.9, 0.1), number([0.9, 0.5, 0.1]))
    assert even_times(3).dtype == torch.float64
    for arguments in ((0,), (3, 0.5, 0.5), (3, 0.2, 0.4), (3, 1.1), (3, 1.0, -0.1)):
        with pytest.raises(InputError, match="falling times"):
            even_times(*arguments)
    with pytest.raises(InputError, match="bend 0"):
        even_times(3, bend=0)
