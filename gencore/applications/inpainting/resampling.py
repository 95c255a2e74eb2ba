"""Filling holes with a diffusion model that was never trained for it: Lugmayr et al. 2022, "RePaint".

https://arxiv.org/abs/2201.09865, algorithm 1: in each step what is known is taken from the picture, with the noise that
belongs to the step, and what is not known from the model. To make the two agree, the walk goes some way back up by adding
noise again, and down once more (section 4.2).

Deviations: any process of `gencore.diffusion`, and respaced times; the walk is a list of places among the times, so that
its cost can be seen before it is paid. With ``resamples=1`` there are no jumps: the replacement of Song et al. 2021
(https://arxiv.org/abs/2011.13456, appendix I.2), whose fills do not know enough of what is around them.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from gencore.diffusion.denoiser import Denoise
from gencore.diffusion.process import Process, add_noise, step_back, step_forward
from gencore.errors import InputError


def jumps(steps: int, length: int = 5, resamples: int = 5) -> list[int]:
    """Return the walk as places among ``steps + 1`` times, from 0, where all is noise, to ``steps``, the data.

    Parameters
    ----------
    steps : int
        Steps of a walk without jumps.
    length : int
        Steps of a jump back; one may begin at every place that is a multiple of it, counted from the data.
    resamples : int
        How often the steps of each such stretch are walked; 1 for no jumps.

    Raises
    ------
    InputError
        If a number is below 1.
    """
    if min(steps, length, resamples) < 1:
        raise InputError(f"steps {steps}, length {length}, resamples {resamples}: must be at least 1")
    left = dict.fromkeys(range(0, steps - length, length), resamples - 1)  # by the distance from the data
    walk, distance = [0], steps
    while distance > 0:
        distance -= 1
        walk.append(steps - distance)
        if left.get(distance, 0):
            left[distance] -= 1
            for _ in range(length):
                distance += 1
                walk.append(steps - distance)
    return walk


def evaluations(walk: list[int]) -> int:
    """Return how often a walk asks the network: once in each step towards the data."""
    return sum(after > before for before, after in pairwise(walk))


def repaint(
    denoise: Denoise,
    process: Process,
    times: Tensor,
    picture: Tensor,
    hole: Tensor,
    fresh: Callable[[], Tensor],
    walk: list[int] | None = None,
) -> Tensor:
    """Fill the holes of pictures.

    Parameters
    ----------
    denoise : callable
        The mean clean picture ``(B, ...)`` of noised data at one time, ``()``.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    times : Tensor
        Falling to 0, ``(N + 1,)``.
    picture : Tensor
        What is known, ``(B, ...)``; what stands in the hole does not matter.
    hole : Tensor
        bool, True where the picture is to be filled; its shape broadcasts to that of the picture.
    fresh : callable
        Gives standard normal noise of the picture's shape, anew at each call.
    walk : list of int, optional
        From `jumps`; by default straight down.

    Returns
    -------
    Tensor
        ``(B, ...)``; outside the hole the very numbers of ``picture``.
    """
    walk = list(range(len(times))) if walk is None else walk
    known = torch.where(hole, 0, picture)
    x = add_noise(process, known, fresh(), times[walk[0]].to(picture))  # (B, ...)
    for before, after in pairwise(walk):
        t, s = times[before], times[after]
        if after < before:  # back up: line 9 of algorithm 1
            ratio, added = step_forward(process, t, s)
            x = ratio.to(x) * x + added.sqrt().to(x) * fresh()
            continue
        of_noised, of_clean, spread = step_back(process, t, s)
        drawn = of_noised.to(x) * x + of_clean.to(x) * denoise(x, t.to(x))  # line 7
        there = known
        if s > 0:  # the last step shows the mean
            drawn = drawn + spread.sqrt().to(x) * fresh()
            there = add_noise(process, known, fresh(), s.to(x))  # line 5
        x = torch.where(hole, drawn, there)  # line 8
    return torch.where(hole, x, picture)
