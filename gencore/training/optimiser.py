"""AdamW with a warm-up and half a cosine: the optimiser of all families that play no game."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class AdamW:
    """AdamW (Loshchilov & Hutter 2019), warmed up, then lowered along half a cosine to zero at the last image.

    Attributes
    ----------
    lr : float
        Highest learning rate.
    weight_decay : float
        Share of a weight that decays a step, in units of the learning rate.
    warm_up : int
        Images until the learning rate is at its highest.
    beta1, beta2 : float
        Decay of the mean gradient and of the mean squared gradient.
    """

    lr: float = 3e-3
    weight_decay: float = 1e-2
    warm_up: int = 6_400
    beta1: float = 0.9
    beta2: float = 0.999

    def build(self, parameters: Iterable[nn.Parameter]) -> torch.optim.AdamW:
        """Return the optimiser of these parameters."""
        return torch.optim.AdamW(
            parameters, self.lr, (self.beta1, self.beta2), weight_decay=self.weight_decay, fused=True
        )

    def learning_rate(self, images_seen: int, batch_size: int, images: int) -> float:
        """Return the learning rate of the step after ``images_seen`` of a run's ``images``."""
        warm = min(1.0, (images_seen + batch_size) / max(1, self.warm_up))
        return self.lr * warm * 0.5 * (1 + math.cos(math.pi * images_seen / images))


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Set the learning rate of all of an optimiser's parameters."""
    for group in optimiser.param_groups:
        group["lr"] = lr
