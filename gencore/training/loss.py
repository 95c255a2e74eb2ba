"""The value an objective returns, and the guard that stops a run when it is no longer a number."""

import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from gencore.training import distributed


class Loss(NamedTuple):
    """What an objective returns.

    Attributes
    ----------
    total : Tensor
        Scalar to differentiate.
    parts : dict of str to Tensor
        Scalars to look at, in nats or logits as their names say. They take no part in the gradient.
    moves : dict of str to Tensor
        What this batch adds to a state that moves without a gradient, such as the averages of a codebook. The training
        loop adds it up and applies it.
    picture : Tensor, optional
        What an autoencoder made of the images, ``(B, C, H, W)``, with its gradient: for terms that other networks add.
    """

    total: Tensor
    parts: dict[str, Tensor]
    moves: dict[str, Tensor] = {}
    picture: Tensor | None = None


def add_losses(losses: Iterable[Loss]) -> Loss:
    """Return the sum of losses, with the parts and moves of all; the picture is that of the first."""
    first, *others = losses
    total, parts, moves = first.total, dict(first.parts), dict(first.moves)
    for each in others:
        total, parts, moves = total + each.total, parts | each.parts, moves | each.moves
    return first._replace(total=total, parts=parts, moves=moves)


def add_parts(total: dict[str, Tensor], parts: dict[str, Tensor], share: float) -> None:
    """Add the parts of a micro-batch, which holds this share of the batch, to those of the batch, in place."""
    for name, value in parts.items():
        total[name] = total[name] + share * value.detach() if name in total else share * value.detach()


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite; the message names the step."""


class LossWindow:
    """The loss parts of the steps since the last report, kept on the device.

    Reading a number back from a GPU makes the processor wait for it, and asking other processes for theirs makes it
    wait for them. So each step only stores its parts; ``report`` reads a whole window at once, averages it over processes
    and over those steps that had the part, and finds the first step that was not finite.
    """

    def __init__(self) -> None:
        self._steps: list[int] = []
        self._parts: list[dict[str, Tensor]] = []

    def add(self, step: int, parts: dict[str, Tensor]) -> None:
        """Store the parts of one step."""
        self._steps.append(step)
        self._parts.append({name: value.detach() for name, value in parts.items()})

    def report(self) -> dict[str, float]:
        """Return the mean of each part over the window, and empty it.

        Raises
        ------
        NonFiniteLoss
            If a part of any step is NaN or infinite.
        """
        if not self._parts:
            return {}
        names = list(dict.fromkeys(name for parts in self._parts for name in parts))
        steps = [[step for step, parts in zip(self._steps, self._parts, strict=True) if name in parts] for name in names]
        rows = [torch.stack([parts[name].float() for parts in self._parts if name in parts]) for name in names]
        values = distributed.mean_over_processes(torch.cat(rows)).cpu()  # of the global batch, read at once
        means, bad = {}, []
        for name, moments, row in zip(names, steps, values.split([len(row) for row in rows]), strict=True):
            bad += [(step, name, value) for step, value in zip(moments, row.tolist()) if not math.isfinite(value)]
            means[name] = row.mean().item()
        if bad:
            step, name, value = min(bad, key=lambda each: each[0])
            raise NonFiniteLoss(
                f"loss part {name!r} became {value} at step {step}; "
                "the last checkpoint is kept. Lower the learning rate or use fp32, then resume."
            )
        self._steps.clear()
        self._parts.clear()
        return means
