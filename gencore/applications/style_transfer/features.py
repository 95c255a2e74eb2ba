"""What style transfer looks at: maps of a network that was trained to recognise things, and their Gram matrices.

Gatys, Ecker & Bethge 2016, "Image style transfer using convolutional neural networks", https://openaccess.thecvf.com/content_cvpr_2016/html/Gatys_Image_Style_Transfer_CVPR_2016_paper.html,
equations 1 to 5. Equation numbers (STY.n) are those of the chapter "Style transfer".

Deviations: SqueezeNet 1.1, which ships, in place of VGG-19, which can be had (`vgg19_features`). SqueezeNet halves the
resolution in its first layer, so pictures are doubled before it looks: without that, what is finer than two pixels stays free,
and becomes noise. Borders are mirrored at the first convolution, so that sides halve exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torchvision
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv2d, interpolate, pad

from gencore.errors import InputError
from gencore.metrics.features import MEAN_COLOUR, squeezenet

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # red, green, blue, of values in [0, 1]
Pool = Literal["max", "mean"]
VGG19 = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"


@dataclass(frozen=True)
class Layers:
    """Which layers are compared, and how large pictures are when they are looked at.

    Attributes
    ----------
    style : tuple of int
        Layers whose Gram matrices are compared.
    content : int
        Layer whose maps are compared place by place.
    enlarge : int
        By how much pictures are enlarged first.
    pool : {"max", "mean"}
        What replaces a square of values where resolution halves: their largest, which the network was trained with, or their
        mean, which Gatys et al. found to look better with VGG-19; with SqueezeNet it leaves a mesh.
    """

    style: tuple[int, ...] = (1, 4, 7, 10)
    content: int = 7
    enlarge: int = 2
    pool: Pool = "max"

    def __post_init__(self) -> None:
        if not self.style or min(*self.style, self.content) < 0:
            raise InputError(f"style {self.style}, content {self.content}: numbers of layers, from 0 on, and at least one")
        if self.enlarge < 1:
            raise InputError(f"enlarge {self.enlarge}: must be 1 or more")

    @property
    def all(self) -> tuple[int, ...]:
        """Every layer that is looked at, rising."""
        return tuple(sorted({*self.style, self.content}))


class StyleFeatures(nn.Module):
    """A fixed network whose maps are looked at.

    Parameters
    ----------
    layers : sequence of int
        Numbers of the layers whose outputs are returned.
    enlarge : int
        By how much pictures are enlarged first, bilinearly.
    pool : {"max", "mean"}
        As in `Layers`.
    network : Sequential, optional
        Takes RGB pictures, each channel from 0 to 1 but standardised as ImageNet's; by default SqueezeNet 1.1.

    Raises
    ------
    InputError
        If there is no such layer, or the shipped weights are missing or altered.
    """

    def __init__(
        self, layers: Sequence[int], enlarge: int = 2, pool: Pool = "max", network: nn.Sequential | None = None
    ) -> None:
        super().__init__()
        self.squeeze = network is None
        network = squeezenet() if network is None else network
        if not layers or not 0 <= min(layers) <= max(layers) < len(network):
            raise InputError(f"layers {tuple(layers)}: this network has layers 0 to {len(network) - 1}")
        self.layers, self.enlarge, self.pool = tuple(sorted(set(layers))), enlarge, pool
        # Channels last: half the time on a CPU.
        self.network = network[: self.layers[-1] + 1].to(memory_format=torch.channels_last).requires_grad_(False)
        mean, std = (MEAN_COLOUR[::-1], (1, 1, 1)) if self.squeeze else (IMAGENET_MEAN, IMAGENET_STD)
        scale = 127.5 if self.squeeze else 0.5  # SqueezeNet's weights expect values up to 255
        self.scale = scale
        self.register_buffer("mean", torch.tensor(mean)[:, None, None] - scale, persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return the maps of each layer by its number.

        Parameters
        ----------
        x : Tensor
            Pictures ``(B, 3, H, W)`` in [-1, 1].
        """
        if self.enlarge > 1:
            x = interpolate(x, scale_factor=float(self.enlarge), mode="bilinear", align_corners=False)
        h, found = (self.scale * x - self.mean) / self.std, {}
        h = h.flip(1) if self.squeeze else h  # SqueezeNet's weights expect blue, green, red
        for number, layer in enumerate(self.network):
            if number == 0 and self.squeeze:
                h = conv2d(pad(h, (1, 1, 1, 1), mode="reflect"), layer.weight, layer.bias, stride=2)
            elif isinstance(layer, nn.MaxPool2d) and self.pool == "mean":
                h = avg_pool2d(h, layer.kernel_size, layer.stride, ceil_mode=layer.ceil_mode)
            else:
                h = torch.relu(h) if isinstance(layer, nn.ReLU) else layer(h)  # not in place: a map below may be kept
            if number in self.layers:
                found[number] = h  # (B, C, h, w)
        return found


def vgg19_features(layers: Sequence[int] = (1, 6, 11, 20, 29, 22), enlarge: int = 1) -> StyleFeatures:
    """Return the maps of VGG-19, which the papers use; torchvision's weights are fetched if they are not there (550 MB).

    Parameters
    ----------
    layers : sequence of int
        By default relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, for style, and relu4_2, for content.
    enlarge : int
        By how much pictures are enlarged first.

    Raises
    ------
    InputError
        If the weights cannot be had.
    """
    try:
        weights = torch.hub.load_state_dict_from_url(VGG19, progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(f"VGG-19: its weights could not be downloaded ({error}); use SqueezeNet, which ships") from None
    with torch.random.fork_rng(devices=[]):
        network = torchvision.models.vgg19(weights=None)
    network.load_state_dict(weights)
    return StyleFeatures(layers, enlarge, network=network.features.eval())


def gram(h: Tensor) -> Tensor:
    """Return the mean products of all pairs of channels: ``(B, C, C)`` for maps ``(B, C, H, W)``, in float32."""
    h = h.float().flatten(2)  # (B, C, HW)
    with torch.autocast(h.device.type, enabled=False):  # which would round the products to 8 bits
        return h @ h.transpose(1, 2) / h.shape[2]  # (STY.1)
