"""Steering a denoiser: by a classifier's gradient, or by the difference between being told and not being told.

Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233, algorithm 2; Ho & Salimans 2022,
https://arxiv.org/abs/2207.12598, equation 6, with the weight counted so that 1 means plainly conditional; guidance in an
interval of times: Kynkäänniemi et al. 2024, https://arxiv.org/abs/2404.07724. Equation numbers (GU.n) are those of the
chapter "Guidance".

Guided samples do not follow p(x | y)^w p(x)^(1 - w): the noised laws do not commute with powers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gencore.diffusion.denoiser import Denoise, Denoiser
from gencore.diffusion.process import Process, beside
from gencore.errors import InputError

ROUNDING = 1e-6  # times come in the pictures' precision, the ends of an interval in double


def conditional(denoiser: Denoiser, cond: Tensor | None = None) -> Denoise:
    """Return the denoiser that is told the same of each picture at all times ``()`` or ``(B,)``: ``cond (B, K)``."""

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        return denoiser(x_t, t.expand(len(x_t)), cond)

    return denoise


def classifier_free(
    denoiser: Denoiser, cond: Tensor, untold: Tensor, weight: float, interval: tuple[float, float] = (0.0, 1.0)
) -> Denoise:
    """Return a denoiser that goes ``weight`` times the way from the picture it sees untold to the one it sees when told.

    It takes one time for all pictures, ``()``, which lies in the interval or does not.

    Parameters
    ----------
    denoiser : Denoiser
        A network trained with and without its conditions.
    cond, untold : Tensor
        Conditions, and the same with "not told" in place of some, int64 ``(B, K)``.
    weight : float
        0 is unconditional, 1 conditional; above 1 the pictures show the condition more than the data do.
    interval : tuple of float
        First and last time at which the weight counts; elsewhere it is 1.

    Raises
    ------
    InputError
        If the interval is not two times in [0, 1], the smaller one first.
    """
    first, last = interval
    if not 0 <= first <= last <= 1:
        raise InputError(f"interval {interval}: must be two times in [0, 1], the smaller one first")

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if weight == 1 or not first - ROUNDING <= float(t) <= last + ROUNDING:
            return denoiser(x_t, t.expand(len(x_t)), cond)
        return extrapolate(denoiser, x_t, t.expand(len(x_t)), cond, untold, weight)

    return denoise


def extrapolate(
    denoiser: Denoiser, x_t: Tensor, t: Tensor, cond: Tensor, untold: Tensor, weight: float
) -> Tensor:
    """Return the picture ``weight`` times the way from that of ``untold`` to that of ``cond``, for times ``(B,)``."""
    told, not_told = denoiser(torch.cat([x_t, x_t]), t.repeat(2), torch.cat([cond, untold])).chunk(2)
    return not_told + weight * (told - not_told)  # (GU.4)


def classifier_guided(
    denoise: Denoise, process: Process, log_prob: Callable[[Tensor, Tensor], Tensor], weight: float
) -> Denoise:
    """Return a denoiser that is moved along a classifier's gradient.

    Where alpha = 0 the gradient is 0 and (GU.2) is 0 / 0. Its limit, ``weight`` times E[x | y] - E[x], cannot be had from a
    classifier there, so nothing is moved: a walk that begins at alpha = 0 is not guided in its first evaluation.

    Parameters
    ----------
    denoise : callable
        The unconditional mean clean picture.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    log_prob : callable
        ``log_prob(x_t, t)``: log p(y | x_t) of the condition asked for, ``(B,)``, with the time as the sampler gives it,
        ``()``; differentiable, and trained on noised pictures.
    weight : float
        0 is unconditional; 1 conditional, if the classifier is right.
    """

    def guided(x_t: Tensor, t: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = x_t.clone().requires_grad_(True)  # copies: what was made in inference mode cannot take part
            (gradient,) = torch.autograd.grad(log_prob(leaf, t.clone()).sum(), leaf)
        alpha = process.alpha(t)
        shift = beside(torch.where(alpha > 0, process.sigma(t) ** 2, 0) / torch.where(alpha > 0, alpha, 1), x_t)
        return denoise(x_t, t) + weight * shift * gradient  # (GU.2)

    return guided
