"""What a mending denoiser minimises: squared error at random times, counted in the hole only if there is one.

Saharia et al. 2022, https://arxiv.org/abs/2111.05826, section 3, with squared errors, which they find to give more varied
pictures than absolute ones (section 5.6).

Deviations: process, prediction and times are the recipe's, by default the velocity of a straight flow at logistic-normal
times, where Palette predicts the noise of a discrete schedule and is told the noise's level; the error in a hole is averaged
for each picture, so that small holes count as much as large ones.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from gencore.applications.palette.tasks import Seen
from gencore.diffusion.denoiser import Denoiser, Prediction, target
from gencore.diffusion.objectives import (
    Draw,
    EDMWeight,
    LogisticNormalTimes,
    MinSNR,
    Simple,
    UniformTimes,
)
from gencore.diffusion.process import Process, add_noise
from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The networks of this application: one, ``model(x_t, t, source, words)``."""

    model: nn.Module


def seeing(network: nn.Module, process: Process, prediction: Prediction, seen: Seen) -> Denoiser:
    """Return the denoiser that is shown the same at all times.

    Of a noised picture with a hole, the network sees what is in the hole.
    """

    def look(x_t: Tensor, t: Tensor, cond: None = None) -> Tensor:
        x_t = x_t if seen.hole is None else seen.hole * x_t
        return network(x_t, t, seen.source, seen.words)

    return Denoiser(look, process, prediction)


@dataclass(frozen=True)
class Mending:
    """Mean squared error of the network's output over what is to be drawn; each picture counts the same.

    Attributes
    ----------
    times : UniformTimes or LogisticNormalTimes
        Where the network is asked.
    weight : Simple, MinSNR or EDMWeight
        How much an error counts there.
    """

    times: UniformTimes | LogisticNormalTimes = LogisticNormalTimes()
    weight: Simple | MinSNR | EDMWeight = Simple()

    def __call__(self, denoiser: Denoiser, x: Tensor, hole: Tensor | None, draw: Draw) -> Loss:
        """Return the mean weighted squared error of a pixel's channel.

        Parameters
        ----------
        denoiser : Denoiser
            From `seeing`.
        x : Tensor
            What is to be drawn, ``(B, C, H, W)``.
        hole : Tensor or None
            1 where an error counts, ``(B, 1, H, W)``; None for everywhere.
        draw : Draw
            Noise and times.

        Returns
        -------
        Loss
            Parts: ``squared_error`` of the output, without weights.
        """
        process, prediction = denoiser.process, denoiser.prediction
        t = self.times(draw.u)  # (B,)
        output = denoiser.output(add_noise(process, x, draw.eps, t), t)
        squared = (output - target(prediction, process, x, draw.eps, t)).square().mean(1, keepdim=True)  # (B, 1, H, W)
        if hole is None:
            squared = squared.flatten(1).mean(1)  # (B,)
        else:  # a picture without a hole, which a few thin strokes may leave, counts nothing
            squared = (hole * squared).flatten(1).sum(1) / hole.flatten(1).sum(1).clamp(min=1)
        return Loss((self.weight(prediction, process, t) * squared).mean(), {"squared_error": squared.mean()})
