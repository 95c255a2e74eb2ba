"""From noise to data: stateless functions of a denoiser, a process, a list of times and the starting noise.

Each takes ``denoise(x_t, t)``, which gives the mean clean picture ``(B, ...)`` of noised data ``(B, ...)`` at one time,
``()``, and walks down ``times``, a tensor of floats from high to low. No noise is added in a step to time 0: where the
process holds none there, it returns the clean picture itself (EDM keeps a trace). Equation numbers (SA.n) are those of the
chapter "Samplers", (DD.n) of "Denoising diffusion".
"""

from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from gencore.diffusion.denoiser import Denoise, ddim_step, noise_in, velocity
from gencore.diffusion.process import Process, log_snr, step_back, step_forward
from gencore.errors import InputError

Noise = Callable[[int], Tensor]  # number of the step to standard normal noise of the shape of x


def even_times(steps: int, first: float = 1.0, last: float = 0.0, bend: float = 1.0) -> Tensor:
    """Return ``steps + 1`` times from ``first`` down to ``last``, float64.

    Parameters
    ----------
    steps : int
        How many steps they make.
    first, last : float
        The ends, in [0, 1].
    bend : float
        Above 1, steps become smaller towards the data; 1 spaces them evenly.

    Raises
    ------
    InputError
        If there is no step, or the times do not fall.
    """
    if steps < 1 or not 0 <= last < first <= 1 or bend <= 0:
        raise InputError(f"steps {steps}, times from {first} to {last}, bend {bend}: need a step, and falling times")
    return last + (first - last) * torch.linspace(1, 0, steps + 1, dtype=torch.float64) ** bend


def ancestral(
    denoise: Denoise,
    process: Process,
    times: Tensor,
    x: Tensor,
    noise: Noise,
    variance: Literal["posterior", "forward"] = "posterior",
) -> Tensor:
    """Sample step by step from Gaussians p(x_s | x_t): Ho et al. 2020, algorithm 2, https://arxiv.org/abs/2006.11239.

    Parameters
    ----------
    denoise : callable
        The mean clean picture.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    times : Tensor
        Falling, ``(N + 1,)``.
    x : Tensor
        Data at ``times[0]``, ``(B, ...)``: standard normal noise times sigma.
    noise : callable
        Standard normal noise for a step's number.
    variance : {"posterior", "forward"}
        That of q(x_s | x_t, x), right for data that are a single point; or that of q(x_t | x_s), right for data of unit
        variance where alpha^2 + sigma^2 = 1.
    """
    for step, (t, s) in enumerate(pairwise(times)):
        of_noised, of_clean, spread = step_back(process, t, s)
        if variance == "forward":
            spread = step_forward(process, s, t)[1]
        x = _cast(of_noised, x) * x + _cast(of_clean, x) * denoise(x, _cast(t, x))  # (DD.7)
        if s > 0:  # the last step shows the mean
            x = x + _cast(spread.sqrt(), x) * noise(step)
    return x


def ddim(
    denoise: Denoise, process: Process, times: Tensor, x: Tensor, noise: Noise | None = None, eta: float = 0.0
) -> Tensor:
    """Sample by Song, Meng & Ermon 2021, https://arxiv.org/abs/2010.02502, equation 12.

    Parameters
    ----------
    denoise, process, times, x
        As for `ancestral`.
    noise : callable, optional
        Needed where ``eta`` is above 0.
    eta : float
        Share of fresh noise: 0 makes the samples a function of ``x``, 1 is `ancestral`.

    Raises
    ------
    InputError
        If noise is missing where it is needed.
    """
    if eta > 0 and noise is None:
        raise InputError(f"noise: missing, but eta is {eta}; give noise, or take eta 0")
    for step, (t, s) in enumerate(pairwise(times)):
        clean = denoise(x, _cast(t, x))
        left = noise_in(process, x, clean, _cast(t, x))
        fresh = eta**2 * step_back(process, t, s)[2]  # variance
        kept = (process.sigma(s) ** 2 - fresh).clamp(min=0)
        x = _cast(process.alpha(s), x) * clean + _cast(kept.sqrt(), x) * left  # (SA.3); with noise, (SA.9)
        if eta > 0 and s > 0:
            x = x + _cast(fresh.sqrt(), x) * noise(step)
    return x


def euler(denoise: Denoise, process: Process, times: Tensor, x: Tensor) -> Tensor:
    """Follow the probability flow by straight steps; order 1. Parameters as for `ancestral`."""
    for t, s in pairwise(times):
        t, s = _cast(t, x), _cast(s, x)
        x = x + (s - t) * velocity(process, x, denoise(x, t), t)  # (SA.4)
    return x


def heun(denoise: Denoise, process: Process, times: Tensor, x: Tensor) -> Tensor:
    """Follow the probability flow by the mean of two slopes; order 2: Karras et al. 2022, algorithm 1.

    https://arxiv.org/abs/2206.00364. Each step asks the denoiser twice, a last one to noise 0 once. Parameters as for
    `ancestral`.
    """
    for t, s in pairwise(times):
        t, s = _cast(t, x), _cast(s, x)
        slope = velocity(process, x, denoise(x, t), t)
        ahead = x + (s - t) * slope
        if process.sigma(s) > 0:
            slope = 0.5 * (slope + velocity(process, ahead, denoise(ahead, s), s))  # (SA.5)
            ahead = x + (s - t) * slope
        x = ahead
    return x


def dpm_solver(denoise: Denoise, process: Process, times: Tensor, x: Tensor) -> Tensor:
    """Sample by DPM-Solver++(2M), order 2 at one evaluation a step: Lu et al. 2022, https://arxiv.org/abs/2211.01095.

    Algorithm 2. Steps that begin where there is no signal, or end where there is no noise, are of order 1: the clock is the
    logarithm of their ratio, which is infinite there. Parameters as for `ancestral`.
    """
    before, step_before = None, torch.inf
    for t, s in pairwise(times):
        clean = denoise(x, _cast(t, x))
        step = log_snr(process, s) - log_snr(process, t)
        ahead = clean
        if before is not None and step.isfinite():  # (SA.7); a step before of infinite length takes nothing away
            ahead = clean + _cast(0.5 * step / step_before, x) * (clean - before)
        shrink = process.sigma(s) / process.sigma(t)
        x = _cast(shrink, x) * x + _cast(process.alpha(s) - shrink * process.alpha(t), x) * ahead  # (SA.6)
        before, step_before = clean, step
    return x


def consistency(denoise: Denoise, process: Process, times: Tensor, x: Tensor, noise: Noise) -> Tensor:
    """Leap to the data, add noise again, leap again: Song et al. 2023, algorithm 1, https://arxiv.org/abs/2303.01469.

    For networks trained to leap: a denoiser's mean is not where the flow ends. The last of ``times`` is 0. Parameters as
    for `ancestral`.
    """
    zero = torch.zeros_like(times[0])
    for step, (t, s) in enumerate(pairwise(times)):
        x = ddim_step(process, x, denoise(x, _cast(t, x)), _cast(t, x), _cast(zero, x))
        if s > 0:  # up to as much noise as belongs there; a little may be in the data
            ratio, missing = step_forward(process, zero, s)
            x = _cast(ratio, x) * x + _cast(missing.sqrt(), x) * noise(step)
    return x


def _cast(value: Tensor, x: Tensor) -> Tensor:
    """Return a number of the schedule, which is kept in double precision, in the format and on the device of the data."""
    return value.to(x)
