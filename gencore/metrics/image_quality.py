"""How far is one picture from another: in pixels, in structure, and to a network that has seen many pictures.

Peak signal-to-noise ratio; structural similarity: Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861; perceptual
distance: Zhang et al. 2018, https://arxiv.org/abs/1801.03924, section 3, with all weights equal (the paper's "cosine
distance" without calibration), on SqueezeNet.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate, normalize

from gencore.errors import InputError
from gencore.metrics.features import MEAN_COLOUR, squeezenet

COMPARED = (1, 4, 7, 9, 10, 11, 12)  # layers of SqueezeNet whose outputs are compared; higher ones see more and less finely


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each pair of images in decibels, ``(B,)``.

    Parameters
    ----------
    x, y : Tensor
        ``(B, C, H, W)`` in [-1, 1]. Equal images give infinity.
    """
    return 10 * torch.log10(4 / (x - y).square().flatten(1).mean(1))  # the peak is 2: from -1 to 1


def ssim(x: Tensor, y: Tensor, window: int = 7) -> Tensor:
    """Return the structural similarity of each pair of images, at most 1, ``(B,)``.

    Means, variances and covariance are taken in each square of ``window`` x ``window`` pixels within the picture, with
    equal weights and unbiased, for each channel on its own; then all are averaged. This is scikit-image's default.

    Parameters
    ----------
    x, y : Tensor
        ``(B, C, H, W)`` in [-1, 1].
    window : int
        Side of the square.

    Raises
    ------
    InputError
        If the window does not fit into the images.
    """
    if min(x.shape[2:]) < window:
        raise InputError(f"window {window}: larger than images of {x.shape[2]}x{x.shape[3]}")
    unbiased = window**2 / (window**2 - 1)
    mean_x, mean_y = avg_pool2d(x, window, 1), avg_pool2d(y, window, 1)  # (B, C, h, w)
    var_x = unbiased * (avg_pool2d(x * x, window, 1) - mean_x**2)
    var_y = unbiased * (avg_pool2d(y * y, window, 1) - mean_y**2)
    cov = unbiased * (avg_pool2d(x * y, window, 1) - mean_x * mean_y)
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2  # the paper's constants for a range of 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * cov + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.flatten(1).mean(1)  # equation 13 of the paper


class PerceptualDistance(nn.Module):
    """Squared distance of two pictures in features of SqueezeNet 1.1, each feature vector scaled to length 1.

    At each compared layer the squared differences are summed over channels and averaged over positions; the distance is
    the mean over layers, between 0 and 4. It has a gradient, so networks can be trained by it; a network that was is not
    to be judged by the same features alone (`SqueezeNetFeatures` are the average of the last of these layers).

    Parameters
    ----------
    layers : int
        How many layers are compared, from the lowest, 1 to 7.
    size : int
        Side to which smaller images are enlarged first: at 32 pixels, SqueezeNet would see little.

    Raises
    ------
    InputError
        If the shipped weights are missing, truncated or altered.
    """

    def __init__(self, layers: int = 7, size: int = 64) -> None:
        super().__init__()
        if not 1 <= layers <= len(COMPARED):
            raise InputError(f"layers {layers}: between 1 and {len(COMPARED)} can be compared")
        self.compared, self.size = COMPARED[:layers], size
        # Channels last: half the time on a CPU (69 instead of 140 ms for 64 pairs with gradient, one thread).
        self.network = squeezenet()[: self.compared[-1] + 1].to(memory_format=torch.channels_last)
        self.register_buffer("mean", torch.tensor(MEAN_COLOUR)[:, None, None], persistent=False)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the distance of each pair of images, ``(B,)``; ``x`` and ``y`` are ``(B, 1 or 3, H, W)`` in [-1, 1]."""
        pairs = zip(self._features(x), self._features(y), strict=True)
        return torch.stack([(a - b).square().sum(1).mean((1, 2)) for a, b in pairs]).mean(0)  # (VQ.10)

    def _features(self, x: Tensor) -> list[Tensor]:
        if x.shape[2] < self.size:
            x = interpolate(x, size=(self.size, self.size), mode="bilinear", align_corners=False)
        h, found = 127.5 * (x.expand(-1, 3, -1, -1).flip(1) + 1) - self.mean, []  # blue, green, red
        for number, layer in enumerate(self.network):
            h = layer(h)
            if number in self.compared:
                found.append(normalize(h.float(), dim=1, eps=1e-8))  # (B, C, h, w)
        return found
