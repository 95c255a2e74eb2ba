"""Equalised learning rate: Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and
variation".

https://arxiv.org/abs/1710.10196, section 4.1: weights are drawn from N(0, 1) and multiplied by He's constant (He et al.
2015, https://arxiv.org/abs/1502.01852) each time the layer is used, not once when they are drawn. Adam's steps have the
same size for all weights, whatever their scale; here all weights have the same scale, and so all learn equally fast.

The learning-rate multiplier is that of Karras et al. 2019, "A style-based generator architecture for generative
adversarial networks", https://arxiv.org/abs/1812.04948, appendix C: with 0.01, a layer starts as the same function and
learns a hundred times more slowly.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HE = math.sqrt(2)  # what a (leaky) ReLU takes from the size of what passes; 1 for layers with none behind them


class EqualConv2d(nn.Module):
    """A convolution whose weights are N(0, 1) and scaled when it is used.

    Parameters
    ----------
    channels, out_channels : int
        Channels of input and output.
    kernel : int
        Height and width of the kernel.
    stride, padding : int
        As in ``nn.Conv2d``.
    bias : bool
        Whether each output channel has a bias, which starts at 0 and is not scaled.
    gain : float
        Ratio of the outputs' standard deviation to the inputs' root mean square, at the start and without padding.

    Attributes
    ----------
    scale : float
        What the weights are multiplied by: the gain over the square root of the number of inputs of one output.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        bias: bool = True,
        gain: float = HE,
    ) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        self.weight = nn.Parameter(torch.randn(out_channels, channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = gain / math.sqrt(channels * kernel**2)

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, out_channels, H', W')`` for ``(B, channels, H, W)``."""
        return F.conv2d(h, self.scale * self.weight, self.bias, self.stride, self.padding)  # section 4.1


class EqualLinear(nn.Module):
    """A dense layer whose weights are N(0, 1) and scaled when it is used.

    Parameters
    ----------
    inputs, outputs : int
        Lengths of the vectors.
    gain : float
        Ratio of the outputs' standard deviation to the inputs' root mean square, at the start.
    lr_multiplier : float
        Weights and biases learn as if the learning rate were multiplied by this.
    bias : float
        What the biases are at the start.

    Attributes
    ----------
    scale : float
        What the weights are multiplied by: the gain times the multiplier over the square root of ``inputs``.
    """

    def __init__(
        self, inputs: int, outputs: int, gain: float = HE, lr_multiplier: float = 1.0, bias: float = 0.0
    ) -> None:
        super().__init__()
        # The multiplier is taken out of the parameters and put back in `forward`: the function is the same, but a step
        # of a given size moves it less.
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale = gain * lr_multiplier / math.sqrt(inputs)
        self.lr_multiplier = lr_multiplier

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(..., outputs)`` for ``(..., inputs)``."""
        return F.linear(h, self.scale * self.weight, self.lr_multiplier * self.bias)  # section 4.1
