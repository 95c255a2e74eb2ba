"""InfoGAN, whose generator is given codes that can be read from the picture: Chen et al. 2016.

"InfoGAN: interpretable representation learning by information maximizing generative adversarial nets",
https://arxiv.org/abs/1606.03657, sections 4 to 6 and appendix C: the codes are a class and a few numbers, and a network
Q reads them: it returns a categorical distribution over the classes, and a Gaussian for each number. Q shares the
discriminator's layers up to the last, and has one hidden layer of 128. That there is something to read is the work of a
loss, which is not here.

Deviations: both players are those of DCGAN, whose features Q reads; all that the generator is given is standard normal,
and it makes the codes from it by itself; Q's hidden layer has no normalisation, so that what it reads of a picture does
not depend on the batch, and has DCGAN's slope of 0.2; the Gaussians' spread is learned, as in the paper, but bounded,
since the generator can write a number so clearly that its likelihood would grow for ever. With ``dcgan.spectral``, Q's
own layers stay free: they take no part in the verdict.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from gencore.errors import InputError
from gencore.networks.dcgan import DCGAN, Discriminator, Generator, init_dcgan

HIDDEN = 128  # of Q
# Standard deviations from 0.05 to 2.7, of numbers in [-1, 1]; 0.58 is that of a number of which nothing can be read.
LOG_STD_RANGE = (-3.0, 1.0)


@dataclass(frozen=True)
class InfoGAN:
    """Sizes of a generator that is given codes, and of a discriminator that also reads them.

    Attributes
    ----------
    dcgan : DCGAN
        The sizes of both players.
    classes : int
        How many values the categorical code has; 0 for no such code.
    continuous : int
        How many codes are numbers in [-1, 1].
    """

    dcgan: DCGAN = DCGAN()
    classes: int = 10
    continuous: int = 2

    def __post_init__(self) -> None:
        if self.classes < 0 or self.classes == 1:
            raise InputError(f"classes {self.classes}: must be 0 (no such code), or 2 or more")
        if self.continuous < 0:
            raise InputError(f"continuous {self.continuous}: must be 0 or more")
        if not 1 <= self.classes + self.continuous <= self.latent:
            raise InputError(
                f"classes {self.classes} and continuous {self.continuous}: give at least one code, "
                f"and no more numbers than dcgan.latent {self.latent}"
            )

    @property
    def size(self) -> int:
        """Height and width of the images."""
        return self.dcgan.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.dcgan.channels

    @property
    def latent(self) -> int:
        """Length of the latent vector: what becomes codes, and the noise."""
        return self.dcgan.latent

    def build(self) -> "tuple[InfoGenerator, InfoDiscriminator]":
        """Return both players."""
        return InfoGenerator(self), InfoDiscriminator(self)


class Reading(NamedTuple):
    """What Q reads of pictures' codes: a categorical distribution, and Gaussians with independent coordinates.

    Logits are ``(B, classes)``; mean and logarithm of the standard deviation are ``(B, continuous)`` each. All float32.
    """

    logits: Tensor
    mean: Tensor
    log_std: Tensor


class InfoGenerator(nn.Module):
    """Map a latent vector to an image, by way of codes.

    Parameters
    ----------
    config : InfoGAN
        The sizes.
    """

    def __init__(self, config: InfoGAN) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config.dcgan)

    def codes(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Make codes of the first numbers of latents.

        Parameters
        ----------
        z : Tensor
            ``(B, latent)``, standard normal.

        Returns
        -------
        category : Tensor
            ``(B, classes)``, one-hot: which of the first numbers is the largest. All classes are equally likely.
        numbers : Tensor
            ``(B, continuous)``, uniform in [-1, 1]: the distribution function of the next numbers, stretched.
        """
        classes, continuous = self.config.classes, self.config.continuous
        first, then, _ = z.split([classes, continuous, z.shape[1] - classes - continuous], 1)
        category = one_hot(first.argmax(1), classes).to(z) if classes else first  # (B, classes)
        return category, torch.erf(then / math.sqrt(2))  # (B, continuous), 2 Phi - 1

    def forward(self, z: Tensor) -> Tensor:
        """Return images ``(B, channels, size, size)`` in [-1, 1] for latents ``(B, latent)``."""
        category, numbers = self.codes(z)
        noise = z[:, category.shape[1] + numbers.shape[1] :]  # (B, latent - classes - continuous)
        return self.generator(torch.cat([category, numbers, noise], 1))


class InfoDiscriminator(nn.Module):
    """Map an image to one logit, large for real, small for generated, and to what can be read of its codes.

    Parameters
    ----------
    config : InfoGAN
        The sizes.
    """

    def __init__(self, config: InfoGAN) -> None:
        super().__init__()
        self.config = config
        self.discriminator = Discriminator(config.dcgan)
        smallest = config.size >> config.dcgan.levels
        self.reader = nn.Sequential(
            nn.Conv2d(config.dcgan.widths[-1], HIDDEN, smallest),  # (B, 128, 1, 1): dense, as the kernel fills the map
            nn.LeakyReLU(0.2),
            nn.Conv2d(HIDDEN, config.classes + 2 * config.continuous, 1),
        ).apply(init_dcgan)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B,)`` for images ``(B, channels, size, size)`` in [-1, 1]."""
        return self.discriminator(x)

    def read(self, x: Tensor) -> Reading:
        """Return what Q reads of the codes of images ``(B, channels, size, size)`` in [-1, 1]."""
        classes, continuous = self.config.classes, self.config.continuous
        h = self.discriminator.features(x)  # (B, C, s, s)
        logits, mean, spread = self.reader(h).flatten(1).float().split([classes, continuous, continuous], 1)
        low, high = LOG_STD_RANGE
        # Not cut off: at the bound there would be no gradient, and a spread that has become too small could not grow.
        return Reading(logits, mean, low + (high - low) * spread.sigmoid())
