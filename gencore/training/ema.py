"""An exponential moving average of weights: what is sampled from, and what the zoo ships."""

import copy

import torch
from torch import nn


class EMA:
    """Moving average of a network's weights, with the half-life counted in images.

    Counting in images makes the average independent of the batch size (Karras et al. 2024,
    https://arxiv.org/abs/2312.02696, section 3). In the beginning the half-life is a tenth of the images seen so far,
    so that the first, random weights are forgotten quickly.

    Parameters
    ----------
    network : nn.Module
        The network to follow. Its buffers (such as BatchNorm statistics) are copied, not averaged.
    half_life : int
        Images after which a weight's influence has halved.
    """

    def __init__(self, network: nn.Module, half_life: int) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.half_life = half_life

    def decay(self, images_seen: int, batch_size: int) -> float:
        """Return the weight that the old average keeps in one update."""
        half_life = min(self.half_life, images_seen / 10)
        return 0.5 ** (batch_size / half_life) if half_life > 0 else 0.0

    @torch.no_grad()
    def update(self, network: nn.Module, images_seen: int, batch_size: int) -> None:
        """Move the average towards the network's weights, in place."""
        averages, weights = list(self.network.parameters()), list(network.parameters())
        torch._foreach_lerp_(averages, weights, 1 - self.decay(images_seen, batch_size))  # (DC.3)
        for average, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            average.copy_(buffer)
