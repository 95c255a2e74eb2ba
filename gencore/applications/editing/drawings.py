"""From a rough drawing, or from a picture, to a picture like the data: Meng et al. 2022, "SDEdit".

https://arxiv.org/abs/2108.01073, algorithm 1: the drawing is noised up to a time, and from there the model walks to the
data. With more noise less is kept of the drawing, and more is as in the data. With a hole, algorithm 3: only what is inside
is changed.

Deviation: any sampler of `gencore.diffusion`; those that draw no noise of their own make the result a function of the one
noise at the start.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from gencore.diffusion.denoiser import Denoise
from gencore.diffusion.process import Process, add_noise
from gencore.diffusion.samplers import dpm_solver, even_times
from gencore.errors import InputError

Sampler = Callable[[Denoise, Process, Tensor, Tensor], Tensor]  # such as `samplers.heun`


def sdedit(
    denoise: Denoise,
    process: Process,
    rough: Tensor,
    strength: float,
    eps: Tensor,
    steps: int = 20,
    hole: Tensor | None = None,
    sampler: Sampler = dpm_solver,
) -> Tensor:
    """Redraw pictures.

    Parameters
    ----------
    denoise : callable
        The mean clean picture ``(B, ...)`` of noised data at one time, ``()``.
    process : Linear, Cosine, Flow or EDM
        How noise is added.
    rough : Tensor
        What to begin with, ``(B, ...)``.
    strength : float
        The time up to which it is noised, in [0, 1]: 0 gives the drawing back, 1 forgets it.
    eps : Tensor
        Standard normal noise of the same shape.
    steps : int
        Steps of the whole way from noise to data; of them, the share ``strength`` is walked.
    hole : Tensor, optional
        bool, True where the picture may change; its shape broadcasts to that of the pictures.
    sampler : callable
        ``sampler(denoise, process, times, x)`` from `gencore.diffusion.samplers`.

    Returns
    -------
    Tensor
        ``(B, ...)``; outside the hole the very numbers of ``rough``.

    Raises
    ------
    InputError
        If the strength is not in [0, 1], or there is no step.
    """
    if not 0 <= strength <= 1:
        raise InputError(f"strength {strength}: must be in [0, 1], from nothing changed to all drawn anew")
    if strength == 0:
        return rough
    times = even_times(max(1, round(steps * strength)) if steps > 0 else steps, first=strength)
    x = add_noise(process, rough, eps, times[0].to(rough))
    if hole is None:
        return sampler(denoise, process, times, x)

    def around(x_t: Tensor, t: Tensor) -> Tensor:
        return torch.where(hole, denoise(x_t, t), rough)  # outside, the clean picture is known

    return torch.where(hole, sampler(around, process, times, x), rough)
