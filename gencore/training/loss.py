"""The value an objective returns, and the guard that stops a run when it is no longer a number."""

from typing import NamedTuple

import torch
from torch import Tensor


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


def add_parts(total: dict[str, Tensor], parts: dict[str, Tensor], share: float) -> None:
    """Add the parts of a micro-batch, which holds this share of the batch, to those of the batch, in place."""
    for name, value in parts.items():
        total[name] = total[name] + share * value.detach() if name in total else share * value.detach()


class NonFiniteLoss(ArithmeticError):
    """A loss became NaN or infinite; the message names the step."""


class LossWindow:
    """The loss parts of the steps since the last report, kept on the device.

    Reading a number back from a GPU makes the processor wait for it. So each step only stores its parts; ``report``
    reads a whole window at once, averages it, and finds the first step that was not finite.
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
        names = list(self._parts[0]) if self._parts else []
        means = {}
        for name in names:
            values = torch.stack([parts[name].float() for parts in self._parts]).cpu()  # (steps,)
            bad = (~values.isfinite()).nonzero()
            if len(bad):
                first = int(bad[0])
                raise NonFiniteLoss(
                    f"loss part {name!r} became {values[first].item()} at step {self._steps[first]}; "
                    "the last checkpoint is kept. Lower the learning rate or use fp32, then resume."
                )
            means[name] = values.mean().item()
        self._steps.clear()
        self._parts.clear()
        return means
