"""Spectral normalisation: Miyato et al. 2018, "Spectral normalization for generative adversarial networks".

https://arxiv.org/abs/1802.05957, sections 2.1, 2.2 and algorithm 1: each weight matrix is divided by its largest
singular value, so that a layer stretches no vector, and a discriminator of such layers and of activations with slopes
up to 1 is Lipschitz with constant 1. The singular value is followed by one step of power iteration for each step of
training.

A table of learned vectors is the matrix of a dense layer on one-hot vectors, and is treated as one, as in the code of
Miyato & Koyama 2018, https://arxiv.org/abs/1802.05637.

Deviations: a convolution's matrix is its kernel, reshaped to (channels out, all else), as in the paper, which bounds
the layer only up to a factor (the square root of the kernel's area at most); the power iteration is a step of its own,
`follow_spectrum`, that the training loop takes, so that a forward pass changes nothing; it begins with a few steps.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

FIRST_STEPS = 15  # of the power iteration, on the weights as they are drawn


class SpectralNorm(nn.Module):
    """Divide a weight by its largest singular value.

    Parameters
    ----------
    weight : Tensor
        ``(out, ...)``; all axes but the first count as one.

    Attributes
    ----------
    u, v : Tensor
        The singular vectors as far as they are known, ``(out,)`` and ``(rest,)``. They are state, and learn nothing.
    """

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        matrix = weight.detach().flatten(1)
        self.register_buffer("u", nn.functional.normalize(torch.randn(len(matrix)).to(matrix), dim=0))
        self.register_buffer("v", matrix.new_zeros(matrix.shape[1]))
        for _ in range(FIRST_STEPS):
            self.follow(weight)

    @torch.no_grad()
    def follow(self, weight: Tensor) -> None:
        """Take one step of the power iteration on a weight, in place."""
        matrix = weight.flatten(1).to(self.u)
        self.v.copy_(nn.functional.normalize(matrix.mT @ self.u, dim=0))  # algorithm 1, first line
        self.u.copy_(nn.functional.normalize(matrix @ self.v, dim=0))  # algorithm 1, second line

    def forward(self, weight: Tensor) -> Tensor:
        """Return the weight divided by sigma = u' W v; gradients pass through W, not through u and v."""
        with torch.autocast(weight.device.type, enabled=False):  # three digits of sigma would not do
            # Copies: the vectors may move before the gradient of this pass is asked for.
            sigma = torch.dot(self.u.clone(), weight.flatten(1) @ self.v.clone())
        return weight / sigma  # the layer that is used


def normalise_spectrum(network: nn.Module) -> nn.Module:
    """Give each convolution, dense layer and table of a network its `SpectralNorm`, and return the network."""
    for layer in list(network.modules()):
        if isinstance(layer, (nn.Conv2d, nn.Linear, nn.Embedding)):
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight))
    return network


def follow_spectrum(network: nn.Module) -> None:
    """Let every `SpectralNorm` of a network take a step of its power iteration; without any, nothing happens."""
    for layer in network.modules():
        if parametrize.is_parametrized(layer, "weight"):
            for each in layer.parametrizations.weight:
                if isinstance(each, SpectralNorm):
                    each.follow(layer.parametrizations.weight.original)
