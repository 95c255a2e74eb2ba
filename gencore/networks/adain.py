"""Any style at once: Huang & Belongie 2017, "Arbitrary style transfer in real-time with adaptive instance normalization".

https://arxiv.org/abs/1703.06868, equation 8: features of a photograph get the means and standard deviations that the features
of a painting have, channel by channel; section 5: a decoder, which is all that learns, turns features into a picture. Equation
numbers (STY.n) are those of the chapter "Style transfer".

Deviations: the features are SqueezeNet's and not VGG-19's, and are passed in; those of lower layers, treated alike, may join on
the way up, where their resolution is reached, as in a U-Net; the picture ends in a tanh.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from gencore.errors import InputError

EPSILON = 1e-5  # added to variances, so that a flat map divides by no zero


def adain(content: Tensor, style: Tensor) -> Tensor:
    """Give each channel of a map the mean and the standard deviation that it has in another.

    Parameters
    ----------
    content, style : Tensor
        Maps ``(B, C, H, W)`` and ``(B, C, h, w)``.

    Returns
    -------
    Tensor
        float32 ``(B, C, H, W)``.
    """
    (mean, deviation), (wanted_mean, wanted_deviation) = moments(content), moments(style)
    return wanted_deviation * (content.float() - mean) / deviation + wanted_mean  # (STY.7)


def moments(h: Tensor) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and standard deviation, float32 ``(B, C, 1, 1)`` each, of a map ``(B, C, H, W)``."""
    variance, mean = torch.var_mean(h.float(), (2, 3), correction=0, keepdim=True)
    return mean, (variance + EPSILON).sqrt()


@dataclass(frozen=True)
class AdaIN:
    """Sizes of a decoder, and what it decodes.

    Attributes
    ----------
    layers : tuple of int
        Layers of the feature network whose maps it is given, from the lowest to the highest.
    channels : tuple of int
        Channels of each of these maps.
    strides : tuple of int
        By how much each of these maps is smaller than the picture: 1, 2, 4, ...
    widths : tuple of int
        Channels of the decoder, from the highest resolution to that of the last map, each half the one before.
    """

    layers: tuple[int, ...] = (10,)
    channels: tuple[int, ...] = (384,)
    strides: tuple[int, ...] = (8,)
    widths: tuple[int, ...] = (16, 32, 64, 128)

    def __post_init__(self) -> None:
        if not self.layers or len({len(self.layers), len(self.channels), len(self.strides)}) > 1:
            raise InputError(f"layers {self.layers}: give at least one, and channels and strides of each")
        if list(self.layers) != sorted(set(self.layers)) or list(self.strides) != sorted(set(self.strides)):
            raise InputError(f"layers {self.layers}, strides {self.strides}: must rise")
        if self.strides[-1] != 1 << (len(self.widths) - 1) or any(each & (each - 1) for each in self.strides):
            raise InputError(f"strides {self.strides}: powers of two, up to {1 << (len(self.widths) - 1)}, by len(widths)")
        if min(self.channels) < 1 or min(self.widths) < 1:
            raise InputError(f"channels {self.channels}, widths {self.widths}: must be 1 or more")


class AdaINDecoder(nn.Module):
    """Map feature maps to a picture.

    Parameters
    ----------
    config : AdaIN
        The sizes.
    """

    def __init__(self, config: AdaIN) -> None:
        super().__init__()
        self.config = config
        joins = dict(zip(config.strides, config.channels, strict=True))
        self.first, self.second, width = nn.ModuleList(), nn.ModuleList(), 0
        for level in reversed(range(len(config.widths))):
            self.first.append(nn.Conv2d(width + joins.get(1 << level, 0), config.widths[level], 3))
            self.second.append(nn.Conv2d(config.widths[level], config.widths[level], 3))
            width = config.widths[level]
        self.last = nn.Conv2d(width, 3, 3)
        for layer in (*self.first, *self.second):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        self.register_buffer("unit", torch.ones(len(config.layers)))  # root mean square of each map, set before training

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Return pictures ``(B, 3, H, W)`` in (-1, 1).

        Parameters
        ----------
        maps : list of Tensor
            One for each of ``config.layers``: ``(B, channels, H / stride, W / stride)``.

        Raises
        ------
        InputError
            If a map has other channels, or maps do not belong together.
        """
        last = maps[-1].shape[2] * self.config.strides[-1], maps[-1].shape[3] * self.config.strides[-1]
        for h, channels, stride in zip(maps, self.config.channels, self.config.strides, strict=True):
            if h.shape[1:] != (channels, last[0] // stride, last[1] // stride):
                raise InputError(f"map {tuple(h.shape)}: this decoder takes {channels} channels, at 1/{stride} of {last}")
        waiting = {s: h / unit for s, h, unit in zip(self.config.strides, maps, self.unit, strict=True)}
        h, level = None, len(self.config.widths) - 1
        for number, (first, second) in enumerate(zip(self.first, self.second, strict=True)):
            stride = 1 << (level - number)
            here = [] if h is None else [interpolate(h, scale_factor=2.0, mode="nearest")]
            here += [waiting[stride]] if stride in waiting else []
            h = torch.relu(first(mirrored(torch.cat(here, 1))))  # (B, width, H/stride, W/stride)
            h = torch.relu(second(mirrored(h)))
        return torch.tanh(self.last(mirrored(h)).float())  # (B, 3, H, W)


def mirrored(h: Tensor) -> Tensor:
    """Return a map with its border mirrored, a pixel wide: zeros would paint a frame."""
    return pad(h, (1, 1, 1, 1), mode="reflect")
