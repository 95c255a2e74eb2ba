"""Convolutions computed place by place, for drawing: each remembers what it may still be asked to look at.

Ramachandran et al. 2017, "Fast generation for convolutional autoregressive models", https://arxiv.org/abs/1704.06001: a
symbol more changes little, and what earlier places gave is kept.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, linear, pad


class Window:
    """What a masked convolution sees at one place, of a map that is filled place by place.

    Parameters
    ----------
    weight, bias : Tensor
        Of the convolution: ``(out, in, k, k)``, zero for what comes later, and ``(out,)``.
    batch, height, width : int
        Size of the map.
    """

    def __init__(self, weight: Tensor, bias: Tensor, batch: int, height: int, width: int) -> None:
        self.reach = reach = weight.shape[2] // 2
        seen = weight.permute(0, 2, 3, 1)  # (out, k, k, in)
        above, beside = seen[:, :reach].flatten(1), seen[:, reach, : reach + 1].flatten(1)
        self.weight, self.bias = torch.cat([above, beside], 1), bias  # nothing else is ever seen
        self.map = pad(weight.new_zeros(batch, height, width, weight.shape[1]), (0, 0, reach, reach, reach, 0))

    def write(self, row: int, column: int, h: Tensor) -> None:
        """Put channels ``(B, in)`` at a place."""
        self.map[:, row + self.reach, column + self.reach] = h

    def read(self, row: int, column: int) -> Tensor:
        """Return the convolution at a place, ``(B, out)``."""
        reach = self.reach
        above = self.map[:, row : row + reach, column : column + 2 * reach + 1].flatten(1)
        beside = self.map[:, row + reach, column : column + reach + 1].flatten(1)
        return linear(torch.cat([above, beside], 1), self.weight, self.bias)


class Band:
    """The last rows that a vertical convolution sees.

    Parameters
    ----------
    conv : Conv2d
        Its kernel ends in its own row.
    batch, width : int
        Size of a row.
    """

    def __init__(self, conv: nn.Conv2d, batch: int, width: int) -> None:
        self.conv, (high, wide) = conv, conv.kernel_size
        self.side = wide // 2
        self.rows = conv.weight.new_zeros(batch, conv.in_channels, high, width + 2 * self.side)

    def push(self, row: Tensor) -> Tensor:
        """Append a row ``(B, in, 1, W)``, and return the convolution there, ``(B, out, 1, W)``."""
        self.rows = torch.cat([self.rows[:, :, 1:], pad(row, (self.side, self.side))], 2)
        return conv2d(self.rows, self.conv.weight, self.conv.bias)


class Strip:
    """What a horizontal convolution sees of its row.

    Parameters
    ----------
    conv : Conv2d
        Its kernel has one row.
    batch, width : int
        Size of the row.
    """

    def __init__(self, conv: nn.Conv2d, batch: int, width: int) -> None:
        self.taps = conv.kernel_size[1]
        self.weight, self.bias = conv.weight[:, :, 0].transpose(1, 2).flatten(1), conv.bias  # (out, taps * in)
        self.row = conv.weight.new_zeros(batch, self.taps + width, conv.in_channels)  # begins with as many zeros

    def write(self, column: int, h: Tensor) -> None:
        """Put channels ``(B, in)`` at a place."""
        self.row[:, self.taps + column] = h

    def read(self, end: int) -> Tensor:
        """Return the convolution of the places before column ``end``, ``(B, out)``."""
        return linear(self.row[:, end : end + self.taps].flatten(1), self.weight, self.bias)
