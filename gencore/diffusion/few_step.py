"""What networks minimise that draw in one step or in a few: consistency, and progressive distillation.

Song et al. 2023, "Consistency models", https://arxiv.org/abs/2303.01469, algorithms 2 and 3, as improved by Song &
Dhariwal 2024, https://arxiv.org/abs/2310.14189, sections 3.2 to 3.5; Salimans & Ho 2022, "Progressive distillation for
fast sampling of diffusion models", https://arxiv.org/abs/2202.00512, algorithm 2.

A consistency function takes noised data at any time to the end of the probability flow through them, at t = 0. Here it is
a denoiser's straight step from t to 0. With the network's output F that is ``c_skip x_t + c_out F``, whether F stands for
v, for the velocity or for "edm"; at t = 0 it is ``x_t`` itself, whatever the network says.

Deviations: c_skip and c_out follow from what F stands for, so that a student can start from its teacher's weights; two
neighbouring times lie evenly in the process's own time, and differences weigh ``1 / (t - s)`` in it, which for `Flow` is
the paper's one over the difference of noise; teachers' steps are taken with the guidance that the loop passes in.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from gencore.diffusion.denoiser import Denoiser, ddim_step, scale_of_error, velocity
from gencore.diffusion.objectives import Draw, EDMWeight, LogisticNormalTimes, MinSNR, Simple, UniformTimes
from gencore.diffusion.process import Process, add_noise, beside
from gencore.errors import InputError
from gencore.training.loss import Loss

Teacher = Callable[[Tensor, Tensor, Tensor | None], Tensor]  # (x_t, t (B,), cond) to the clean picture; a Denoiser is one


class Denoisers(NamedTuple):
    """Who takes part: the student, which learns; its target, a copy that follows it; a teacher, if there is one."""

    student: Denoiser
    target: Denoiser
    teacher: Teacher | None = None


@dataclass(frozen=True)
class Consistency:
    """Neighbours on a way from noise to data are to be taken to the same end.

    The neighbour is made of the same picture and the same noise (consistency training), or by a teacher's step from one
    time to the other (consistency distillation).

    Attributes
    ----------
    solver : {None, "ddim", "heun"}
        How the teacher steps; None needs no teacher.
    times : UniformTimes or LogisticNormalTimes
        Where neighbours are compared. The default is the paper's law of noise over data, if the process is `Flow`.
    first, last : int
        Into how many steps the time is cut, at the beginning and at the end of training: the number doubles.
        In the copy that `after` returns, ``first`` is the number at that moment.
    huber : float
        The paper's c over √D, with D numbers in a picture: differences much longer than c count by their length, shorter
        ones by its square.
    target_half_life : int
        Images after which the target has moved half the way to the student; at the start a tenth of the images seen, if
        that is less. 0: it is the student of the step before.
    """

    solver: Literal["ddim", "heun"] | None = None
    times: UniformTimes | LogisticNormalTimes = LogisticNormalTimes(-1.1, 2.0)
    first: int = 10
    last: int = 160
    huber: float = 0.00054
    target_half_life: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.first <= self.last:
            raise InputError(f"first {self.first}, last {self.last}: at least one step, and at the end no fewer")
        if self.huber <= 0 or self.target_half_life < 0:
            raise InputError(f"huber {self.huber}, target_half_life {self.target_half_life}: positive, and at least 0")

    @property
    def stages(self) -> int:
        """How many numbers of steps there are, each for the same share of the training."""
        return 1 + math.ceil(math.log2(self.last / self.first))

    def after(self, seen: int, images: int) -> "Consistency":
        """Return the objective as it is after ``seen`` of a run's ``images``: with the steps of then as ``first``."""
        return replace(self, first=min(self.first << _stage(self.stages, seen, images), self.last))

    def __call__(self, denoisers: Denoisers, x: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the mean pseudo-Huber distance of the two ends over the time between neighbours, with ``first`` steps.

        Parameters
        ----------
        denoisers : Denoisers
            Student and target; the teacher where there is a solver.
        x : Tensor
            Images ``(B, C, H, W)`` in [-1, 1], or codes.
        cond : Tensor or None
            Conditions, int64 ``(B, K)``.
        draw : Draw
            Noise and times.

        Returns
        -------
        Loss
            The total is a length over all numbers of a picture, per unit of time. Parts: ``squared_error`` between the two
            ends, a mean over numbers.

        Raises
        ------
        InputError
            If there is a solver, but no teacher.
        """
        process, place = denoisers.student.process, (self.times(draw.u) * self.first).ceil().clamp(1, self.first)
        t, s = place / self.first, (place - 1) / self.first  # (B,) each
        x_t = add_noise(process, x, draw.eps, t)
        with torch.no_grad():
            if self.solver is None:
                x_s = add_noise(process, x, draw.eps, s)
            else:
                x_s = solver_step(self.solver, denoisers.teacher, process, x_t, t, s, cond)
            goal = consistent(denoisers.target, x_s, s, cond)
        squared = (consistent(denoisers.student, x_t, t, cond) - goal).square().flatten(1)  # (B, D)
        rounding = self.huber * squared.shape[1] ** 0.5  # the paper's c
        distance = (squared.sum(1) + rounding**2).sqrt() - rounding  # (B,)
        return Loss((distance / (t - s)).mean(), {"squared_error": squared.mean()})


@dataclass(frozen=True)
class Progressive:
    """A student learns to do in one DDIM step what its teacher does in two; then it is the teacher, of half the steps.

    Attributes
    ----------
    first, last : int
        Steps of the first student and of the last, ``first`` a power of two times ``last``; each student has half those of
        the one before. The given teacher takes twice ``first``. In the copy that `after` returns, ``first`` is the
        number at that moment.
    weight : Simple, MinSNR or EDMWeight
        How much an error counts. `Simple` with "v" is the paper's "SNR + 1".
    """

    first: int = 32
    last: int = 4
    weight: Simple | MinSNR | EDMWeight = Simple()

    def __post_init__(self) -> None:
        if self.last < 1 or self.first != self.last << max(0, round(math.log2(max(1, self.first) / self.last))):
            raise InputError(f"first {self.first}, last {self.last}: steps halve, from a power of two times the last")

    @property
    def stages(self) -> int:
        """How many students there are, each for the same share of the training."""
        return 1 + round(math.log2(self.first / self.last))

    def after(self, seen: int, images: int) -> "Progressive":
        """Return the objective as it is after ``seen`` of a run's ``images``: with the steps of then as ``first``."""
        return replace(self, first=self.first >> _stage(self.stages, seen, images))

    def __call__(self, denoisers: Denoisers, x: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the mean weighted squared error of the network's output, with ``first`` steps.

        Parameters are as for `Consistency`; here the teacher is needed, and the target is not.

        Returns
        -------
        Loss
            Parts: ``squared_error`` of the output, without weights.

        Raises
        ------
        InputError
            If there is no teacher.
        """
        student, teacher, process = denoisers.student, denoisers.teacher, denoisers.student.process
        place = (draw.u * self.first).ceil().clamp(1, self.first)
        t, middle, s = ((place - part) / self.first for part in (0, 0.5, 1))  # (B,) each
        x_t = add_noise(process, x, draw.eps, t)
        with torch.no_grad():
            x_middle = solver_step("ddim", teacher, process, x_t, t, middle, cond)
            goal = clean_of_step(process, x_t, solver_step("ddim", teacher, process, x_middle, middle, s, cond), t, s)
        squared = (student(x_t, t, cond) - goal).square().flatten(1).mean(1)  # (B,), of the clean picture
        squared = squared / scale_of_error(student.prediction, process, t) ** 2  # of the output
        return Loss((self.weight(student.prediction, process, t) * squared).mean(), {"squared_error": squared.mean()})


def consistent(denoiser: Denoiser, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
    """Return where the denoiser's straight step from t to 0 ends, ``(B, ...)``: exactly ``x_t`` at t = 0."""
    return ddim_step(denoiser.process, x_t, denoiser(x_t, t, cond), t, torch.zeros_like(t))


def solver_step(
    solver: Literal["ddim", "heun"],
    teacher: Teacher | None,
    process: Process,
    x_t: Tensor,
    t: Tensor,
    s: Tensor,
    cond: Tensor | None = None,
) -> Tensor:
    """Return where one step of the teacher ends, ``(B, ...)``, from times ``t (B,)`` to ``s (B,)``, earlier ones.

    Raises
    ------
    InputError
        If there is no teacher.
    """
    if teacher is None:
        raise InputError("teacher: missing, but it is to take a step; give one to Denoisers")
    clean = teacher(x_t, t, cond)
    if solver == "ddim":
        return ddim_step(process, x_t, clean, t, s)
    slope, step = velocity(process, x_t, clean, t), beside(s - t, x_t)
    ahead = x_t + step * slope
    mean = 0.5 * (slope + velocity(process, ahead, teacher(ahead, s, cond), s))
    return x_t + step * torch.where(beside(process.sigma(s) > 0, x_t), mean, slope)  # a last step to noise 0 is Euler's


def clean_of_step(process: Process, x_t: Tensor, x_s: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Return the clean picture by which one DDIM step from ``x_t`` lands on ``x_s``, ``(B, ...)``.

    Salimans & Ho 2022, algorithm 2; times ``(B,)``, ``s`` before ``t``.
    """
    shrink = process.sigma(s) / process.sigma(t)
    return (x_s - beside(shrink, x_t) * x_t) / beside(process.alpha(s) - shrink * process.alpha(t), x_t)


def _stage(stages: int, seen: int, images: int) -> int:
    """Return the number of the stage that the step after ``seen`` images belongs to."""
    return min(seen * stages // images, stages - 1)
