"""A small convolutional classifier: the judge of generated digits.

All-convolutional in the manner of Springenberg et al. 2015, "Striving for simplicity: the all convolutional net",
https://arxiv.org/abs/1412.6806 (strided convolutions instead of pooling, global average before the last layer), with
batch normalisation (Ioffe & Szegedy 2015, https://arxiv.org/abs/1502.03167).

Deviations: far narrower than the paper's networks, since the digits are small and grey; a hidden dense layer between the
average and the classes, whose activations are the *features* on which distances between sets of digits are measured.
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Classifier:
    """Sizes of a classifier.

    Attributes
    ----------
    channels : int
        1 for grey, 3 for colour.
    classes : int
        Number of classes.
    width : int
        Channels at full resolution; twice as many at half, four times as many at a quarter.
    features : int
        Length of the feature vector, the input of the last layer.
    """

    channels: int = 1
    classes: int = 10
    width: int = 24
    features: int = 64


class ImageClassifier(nn.Module):
    """Map an image to features and these to one logit a class.

    Parameters
    ----------
    config : Classifier
        The sizes.
    """

    def __init__(self, config: Classifier) -> None:
        super().__init__()
        width = config.width
        self.body = nn.Sequential(
            *_convolution(config.channels, width, stride=1),  # (B, W, H, W)
            *_convolution(width, 2 * width, stride=2),  # (B, 2W, H/2, W/2)
            *_convolution(2 * width, 2 * width, stride=1),
            *_convolution(2 * width, 4 * width, stride=2),  # (B, 4W, H/4, W/4)
            *_convolution(4 * width, 4 * width, stride=1),
            nn.AdaptiveAvgPool2d(1),  # (B, 4W, 1, 1)
            nn.Flatten(),  # (B, 4W)
            nn.Linear(4 * width, config.features),
            nn.ReLU(),
        )  # (B, F)
        self.head = nn.Linear(config.features, config.classes)  # (B, K)

    def features(self, x: Tensor) -> Tensor:
        """Return features ``(B, F)``, at least 0, for images ``(B, channels, H, W)`` in [-1, 1]."""
        return self.body(x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B, classes)`` for images ``(B, channels, H, W)`` in [-1, 1]."""
        return self.head(self.features(x))


def _convolution(channels: int, out_channels: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    ]
