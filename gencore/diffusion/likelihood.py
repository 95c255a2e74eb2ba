"""How likely a picture is: its exact density along the probability flow, and a bound from the steps of a sampler.

The flow carries data to noise without loss, and how it stretches space on the way is an integral: Chen et al. 2018,
https://arxiv.org/abs/1806.07366, equation 8; Song et al. 2021, https://arxiv.org/abs/2011.13456, equation 39, with
Hutchinson's estimate of the divergence, equation 40. The bound: Sohl-Dickstein et al. 2015,
https://arxiv.org/abs/1503.03585; Ho et al. 2020, https://arxiv.org/abs/2006.11239, equation 5, with the decoder of
their equation 13.

Both take ``denoise(x_t, t)`` and falling times, as the samplers do, and return nats. A picture must not depend on its
batch.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gencore.diffusion.denoiser import Denoise, velocity
from gencore.diffusion.process import Process, add_noise, step_back, step_forward
from gencore.diffusion.samplers import Noise
from gencore.errors import InputError

LEVEL = 2 / 255  # from one of 256 grey levels to the next, from -1 to 1


def log_density(
    denoise: Denoise,
    process: Process,
    times: Tensor,
    x: Tensor,
    probes: Tensor | None = None,
    prior: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Return the log-density of data under the probability flow, ``(B,)``, in nats.

    Each step takes the mean of two slopes, as in `gencore.diffusion.samplers.heun`, but from the data to the noise; the
    error falls with the square of the steps.

    Parameters
    ----------
    denoise : callable
        The mean clean picture, differentiable.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    times : Tensor
        Falling, ``(N + 1,)``. The density is that of data at the last time, which must have noise: small, and it hardly
        differs from that of clean data.
    x : Tensor
        Data, ``(B, ...)``.
    probes : Tensor, optional
        Random signs, ``(P, B, ...)``: the divergence is then Hutchinson's mean over P probes, right on average, at the
        price of P derivatives a slope. By default it is exact, at the price of one for each dimension of a picture.
    prior : callable, optional
        Log-density at ``times[0]``, ``(B, ...)`` to ``(B,)``; by default that of the samplers' start: normal, with
        standard deviation sigma.

    Raises
    ------
    InputError
        If times do not fall, or there is no noise at the last.
    """
    _check_falling(times)
    if process.sigma(times[-1]) == 0:
        raise InputError(f"times: end at {float(times[-1])}, where there is no noise; end above")
    gained = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    for s, t in pairwise(times.flip(0).to(x)):
        slope, spread = _flow(denoise, process, x, s, probes)
        ahead, ahead_spread = _flow(denoise, process, x + (t - s) * slope, t, probes)
        x = x + 0.5 * (t - s) * (slope + ahead)
        gained = gained + 0.5 * (t - s) * (spread + ahead_spread)
    if prior is not None:
        return prior(x) + gained
    sigma = process.sigma(times[0]).to(x)
    at_noise = -0.5 * (x / sigma) ** 2 - sigma.log() - 0.5 * math.log(2 * math.pi)
    return at_noise.flatten(1).sum(1) + gained


def _flow(denoise: Denoise, process: Process, x_t: Tensor, t: Tensor, probes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the flow's slope, ``(B, ...)``, and its divergence, ``(B,)``."""
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x_t.detach().clone().requires_grad_(True)
        slope = velocity(process, leaf, denoise(leaf, t), t)
        divergence = torch.zeros(len(leaf), dtype=leaf.dtype, device=leaf.device)
        if probes is None:
            size = leaf[0].numel()
            for i in range(size):  # pictures do not see each other, so one derivative of the sum serves the batch
                (row,) = torch.autograd.grad(slope.flatten(1)[:, i].sum(), leaf, retain_graph=i + 1 < size)
                divergence += row.flatten(1)[:, i]
        else:
            for i, probe in enumerate(probes):
                (row,) = torch.autograd.grad(slope, leaf, probe, retain_graph=i + 1 < len(probes))
                divergence += (probe * row).flatten(1).sum(1) / len(probes)
    return slope.detach(), divergence


class Bound(NamedTuple):
    """Negative log-probability of each picture, from above, in nats, and what it is made of.

    Attributes
    ----------
    prior : Tensor
        ``(B,)``: divergence of the noised data from the noise that samplers start with.
    steps : Tensor
        ``(N - 1, B)``: divergence of each step but the last, in the order of the times.
    decoder : Tensor
        ``(B,)``: negative log-probability of the picture in the last step.
    """

    prior: Tensor
    steps: Tensor
    decoder: Tensor

    @property
    def total(self) -> Tensor:
        """The bound, ``(B,)``."""
        return self.prior + self.steps.sum(0) + self.decoder


def variational_bound(
    denoise: Denoise,
    process: Process,
    times: Tensor,
    x: Tensor,
    noise: Noise,
    variance: Literal["posterior", "forward"] = "posterior",
    decoder: Literal["levels", "density"] = "levels",
) -> Bound:
    """Estimate the variational bound of the pictures that `gencore.diffusion.samplers.ancestral` draws.

    The bound is the mean over the noise. Where the sampler's last step shows the mean clean picture, the bound has a
    normal law around it: with the noise's variance where ``variance`` is "forward"; with that of the step before where
    it is "posterior", since its own is 0.

    Parameters
    ----------
    denoise : callable
        The mean clean picture.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    times : Tensor
        Falling to 0, ``(N + 1,)``, with N at least 2.
    x : Tensor
        Clean pictures, ``(B, ...)``; for "levels", each value is one of 256 grey levels in [-1, 1].
    noise : callable
        Standard normal noise of the shape of ``x`` for a step's number: noises the picture where the step begins.
    variance : {"posterior", "forward"}
        As for `gencore.diffusion.samplers.ancestral`.
    decoder : {"levels", "density"}
        Whether the last step gives the probability of grey levels, or a density.

    Returns
    -------
    Bound
        Its parts; ``total`` is their sum.

    Raises
    ------
    InputError
        If times do not fall to 0, or there is only one step.
    """
    _check_falling(times)
    if times[-1] != 0 or len(times) < 3:
        raise InputError(f"times: {len(times) - 1} steps down to {float(times[-1])}; need two or more, down to 0")
    shown = process.alpha(times[0]) * x / process.sigma(times[0])
    at_prior = 0.5 * shown.square().flatten(1).sum(1)  # variances are equal, means differ
    steps: list[Tensor] = []
    for step, (t, s) in enumerate(pairwise(times[:-1])):
        clean = denoise(add_noise(process, x, noise(step), t), t.to(x))
        _, of_clean, true_spread = step_back(process, t, s)
        spread = true_spread
        if variance == "forward":
            spread = step_forward(process, s, t)[1]
        wrong = (of_clean * (x - clean)).square().flatten(1) / spread  # (B, D)
        ratio = true_spread / spread
        steps.append(0.5 * (wrong.sum(1) + wrong.shape[1] * (ratio - 1 - ratio.log())))
    t = times[-2]
    clean = denoise(add_noise(process, x, noise(len(steps)), t), t.to(x))
    # The last step's own posterior variance is 0: it takes that of the step before.
    std = step_back(process, times[-3], t)[2].sqrt() if variance == "posterior" else process.sigma(t)
    log_prob = log_levels if decoder == "levels" else _log_normal
    return Bound(at_prior, torch.stack(steps), -log_prob(x, clean, std).flatten(1).sum(1))  # (DD.9)


def log_levels(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the log-probability that a normal number falls into a grey level's interval, of the shape of ``x``.

    Ho et al. 2020, equation 13. The lowest level's interval reaches down to minus infinity, the highest one's up to
    infinity, so that the probabilities of all 256 levels sum to 1. Computed in float64.

    Parameters
    ----------
    x : Tensor
        Levels in [-1, 1].
    mean, std : Tensor
        Of the normal number, of the shape of ``x`` or one that fits beside it.
    """
    from_mean = x.double() - mean
    lower = torch.where(x > -1 + LEVEL / 2, from_mean - LEVEL / 2, -torch.inf) / std
    upper = torch.where(x < 1 - LEVEL / 2, from_mean + LEVEL / 2, torch.inf) / std
    # Mirrored so that no interval lies in the right tail, where both edges have probability 1 to within rounding.
    mirror = lower + upper > 0
    lower, upper = torch.where(mirror, -upper, lower), torch.where(mirror, -lower, upper)
    log_upper = torch.special.log_ndtr(upper)
    return (log_upper + torch.log(-torch.expm1(torch.special.log_ndtr(lower) - log_upper))).to(x)


def dequantise(x: Tensor, u: Tensor) -> Tensor:
    """Spread grey levels evenly over their intervals: data that have a density.

    The mean log-density over ``u``, plus the logarithm of an interval's volume, bounds the log-probability of the
    levels from below: Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1.

    Parameters
    ----------
    x : Tensor
        Levels in [-1, 1].
    u : Tensor
        Uniform in [0, 1), of the same shape.
    """
    return x + (u - 0.5) * LEVEL


def bits_per_dimension(nats: Tensor, dimensions: int, width: float = LEVEL) -> Tensor:
    """Return bits for each dimension, of the shape of ``nats``.

    Parameters
    ----------
    nats : Tensor
        Negative log-density of dequantised pictures, or negative log-probability of grey levels.
    dimensions : int
        Values of a picture, ``C * H * W``.
    width : float
        Of the interval over which `dequantise` spread a level; 1 where ``nats`` are of a probability.
    """
    return nats / (dimensions * math.log(2)) - math.log2(width)


def _log_normal(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Return the log-density of a normal number."""
    return -0.5 * ((x - mean) / std) ** 2 - std.log() - 0.5 * math.log(2 * math.pi)


def _check_falling(times: Tensor) -> None:
    """Raise `InputError` unless times fall."""
    if len(times) < 2 or not (times.diff() < 0).all():
        raise InputError("times: must fall, in one step or more")
