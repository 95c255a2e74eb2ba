"""DCGAN: Radford, Metz & Chintala 2015, "Unsupervised representation learning with deep convolutional GANs".

https://arxiv.org/abs/1511.06434, section 3 and figure 1: strided convolutions instead of pooling, no hidden dense
layers, batch normalisation except at the generator's output and the discriminator's input, ReLU and tanh in the
generator, LeakyReLU(0.2) in the discriminator, weights drawn from N(0, 0.02²) (section 4).

Deviations: the width and the number of levels follow the image size (the paper has one network, for 64 px); the
normalisation can be chosen, so that what batch normalisation does can be shown, and done without; the discriminator's
layers can be held to spectral norm 1 (`gencore.networks.spectral`).
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.blocks import doublings
from gencore.networks.spectral import normalise_spectrum

Norm = Literal["batch", "group", "none"]


@dataclass(frozen=True)
class DCGAN:
    """Sizes of a generator and its discriminator.

    Attributes
    ----------
    size : int
        Height and width of the images: 4 to 7 times a power of two (14, 28, 32, 64, ...).
    channels : int
        1 for grey, 3 for colour.
    latent : int
        Length of the latent vector z.
    width : int
        Channels at half resolution; each level below has twice as many, up to ``max_width``.
    max_width : int
        Upper bound of the channels.
    norm : {"batch", "group", "none"}
        Normalisation in the generator's hidden layers.
    discriminator_norm : {"batch", "group", "none"}
        Normalisation in the discriminator's hidden layers. With ``"batch"``, as in the paper, real and generated
        batches are each normalised by their own statistics, which can hide from the discriminator how often each kind
        of image comes.
    spectral : bool
        Whether each of the discriminator's layers is divided by its spectral norm.
    """

    size: int = 28
    channels: int = 1
    latent: int = 64
    width: int = 64
    max_width: int = 512
    norm: Norm = "batch"
    discriminator_norm: Norm = "batch"
    spectral: bool = False

    def __post_init__(self) -> None:
        if self.size >> self.levels << self.levels != self.size:
            raise InputError(f"size {self.size} is not 4, 5, 6 or 7 times a power of two; use 28, 32, 64, ...")

    @property
    def levels(self) -> int:
        """How many times the resolution doubles."""
        return doublings(self.size)

    @property
    def widths(self) -> list[int]:
        """Channels from half resolution down to the smallest map."""
        return [min(self.width << level, self.max_width) for level in range(self.levels)]

    def build(self) -> "tuple[Generator, Discriminator]":
        """Return both players."""
        return Generator(self), Discriminator(self)


def _norm(kind: Norm, channels: int) -> nn.Module:
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(min(8, channels), channels)
    return nn.Identity()


class Generator(nn.Module):
    """Map a latent vector to an image.

    Parameters
    ----------
    config : DCGAN
        The sizes.
    """

    def __init__(self, config: DCGAN) -> None:
        super().__init__()
        smallest = config.size >> config.levels
        widths = config.widths[::-1]
        # A transposed convolution of a 1x1 map: each latent dimension paints its own kernel.
        layers = [nn.ConvTranspose2d(config.latent, widths[0], smallest, bias=False)]  # (B, C, s, s)
        for width, next_width in zip(widths, widths[1:], strict=False):
            layers += [_norm(config.norm, width), nn.ReLU()]
            # Kernel 4 at stride 2: every output pixel is reached by equally many taps, so no checkerboard is built in.
            layers += [nn.ConvTranspose2d(width, next_width, 4, 2, 1, bias=False)]  # (B, C/2, 2s, 2s)
        layers += [_norm(config.norm, widths[-1]), nn.ReLU()]
        layers += [nn.ConvTranspose2d(widths[-1], config.channels, 4, 2, 1), nn.Tanh()]  # (B, channels, size, size)
        self.layers = nn.Sequential(*layers)
        self.apply(init_dcgan)

    def forward(self, z: Tensor) -> Tensor:
        """Return images ``(B, channels, size, size)`` in [-1, 1] for latents ``(B, latent)``."""
        return self.layers(z[:, :, None, None])


class Discriminator(nn.Module):
    """Map an image to one logit: large for real, small for generated.

    Parameters
    ----------
    config : DCGAN
        The sizes.
    """

    def __init__(self, config: DCGAN) -> None:
        super().__init__()
        widths = config.widths
        layers = [nn.Conv2d(config.channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]  # (B, C, size/2, size/2)
        for width, next_width in zip(widths, widths[1:], strict=False):
            layers += [nn.Conv2d(width, next_width, 4, 2, 1, bias=False)]  # (B, 2C, half, half)
            layers += [_norm(config.discriminator_norm, next_width), nn.LeakyReLU(0.2)]
        layers += [nn.Conv2d(widths[-1], 1, config.size >> config.levels)]  # (B, 1, 1, 1)
        self.layers = nn.Sequential(*layers)
        self.apply(init_dcgan)
        if config.spectral:
            normalise_spectrum(self)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer's maps ``(B, widths[-1], s, s)``, on which the verdict rests."""
        return self.layers[:-1](x)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B,)`` for images ``(B, channels, size, size)`` in [-1, 1]."""
        return self.layers[-1](self.features(x)).flatten()


def init_dcgan(module: nn.Module) -> None:
    """Draw weights from N(0, 0.02²), normalisation gains from N(1, 0.02²), as the paper does."""
    if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, (nn.BatchNorm2d, nn.GroupNorm)):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
