"""A DCGAN that is told what to draw: Mirza & Osindero 2014, Miyato & Koyama 2018.

"Conditional generative adversarial nets", https://arxiv.org/abs/1411.1784, section 3.2: what is told is joined to the
latent vector and to the picture. "cGANs with projection discriminator", https://arxiv.org/abs/1802.05637, equation 3:
the discriminator compares what it is told with the features that it finds, by an inner product.

Deviations: the networks are those of DCGAN; conditions enter as learned vectors, and those of several conditions are
summed, which is a dense layer on their joined one-hot vectors; they lie beside the picture as constant maps, since
there are convolutions where Mirza & Osindero have dense layers; the part of the verdict that does not hear what is told
(psi in equation 3) is DCGAN's last convolution, which weighs each place by itself, where Miyato & Koyama's is linear in
the features' sum over places. Their generator is told by its batch normalisation, and here by its latent vector.
"""

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.dcgan import DCGAN, Discriminator, Generator
from gencore.networks.embeddings import Told
from gencore.networks.spectral import normalise_spectrum


@dataclass(frozen=True)
class ConditionalDCGAN:
    """Sizes of a generator and a discriminator that are told something.

    Attributes
    ----------
    dcgan : DCGAN
        Their sizes but for what is told. With ``spectral``, the discriminator's tables of vectors are divided by their
        spectral norms like its layers.
    conditions : tuple of int
        How many values each condition has; ``(10,)`` is one of ten classes.
    embedding : int
        Length of the learned vector that is joined to the latent vector and, with ``"concat"``, to each pixel.
    judge : {"concat", "projection"}
        How the discriminator is told: by maps beside the picture, or by an inner product with its features.
    """

    dcgan: DCGAN = DCGAN()
    conditions: tuple[int, ...] = (10,)
    embedding: int = 16
    judge: Literal["concat", "projection"] = "projection"

    def __post_init__(self) -> None:
        if not self.conditions or min(self.conditions) < 1:
            raise InputError(f"conditions {self.conditions}: give at least one, each of 1 value or more")
        if self.embedding < 1:
            raise InputError(f"embedding {self.embedding}: must be 1 or more")

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
        """Length of the latent vector, without what is told."""
        return self.dcgan.latent

    def build(self) -> "tuple[ConditionalGenerator, ConcatDiscriminator | ProjectionDiscriminator]":
        """Return both players."""
        judge = ConcatDiscriminator if self.judge == "concat" else ProjectionDiscriminator
        return ConditionalGenerator(self), judge(self)


class ConditionalGenerator(nn.Module):
    """Map a latent vector and what is told to an image.

    Parameters
    ----------
    config : ConditionalDCGAN
        The sizes.
    """

    def __init__(self, config: ConditionalDCGAN) -> None:
        super().__init__()
        # Vectors of length 1 or so, like the one-hot vectors they stand for. Where they are as loud as z, the generator
        # learns one picture for each value first, and comes to ignore z.
        self.told = Told(config.conditions, config.embedding, std=config.embedding**-0.5)
        self.generator = Generator(replace(config.dcgan, latent=config.latent + config.embedding))

    def forward(self, z: Tensor, cond: Tensor) -> Tensor:
        """Return images ``(B, channels, size, size)`` in [-1, 1] for latents ``(B, latent)``, conditions ``(B, K)``.

        Errors as in `Told`.
        """
        z = torch.cat([z, self.told(cond, len(z))], 1)  # (B, latent + embedding)
        return self.generator(z)


class ConcatDiscriminator(nn.Module):
    """Map an image, with what is told as further channels, to one logit: large for real, small for generated.

    Parameters
    ----------
    config : ConditionalDCGAN
        The sizes.
    """

    def __init__(self, config: ConditionalDCGAN) -> None:
        super().__init__()
        self.told = Told(config.conditions, config.embedding, std=config.embedding**-0.5)
        self.discriminator = Discriminator(replace(config.dcgan, channels=config.channels + config.embedding))
        if config.dcgan.spectral:
            normalise_spectrum(self.told)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return logits ``(B,)`` for images ``(B, channels, size, size)`` in [-1, 1], conditions ``(B, K)``.

        Errors as in `Told`.
        """
        told = self.told(cond, len(x))[:, :, None, None].expand(-1, -1, *x.shape[2:])  # (B, embedding, size, size)
        return self.discriminator(torch.cat([x, told], 1))


class ProjectionDiscriminator(nn.Module):
    """Map an image and what is told to one logit: large for real, small for generated or for told wrongly.

    Parameters
    ----------
    config : ConditionalDCGAN
        The sizes.
    """

    def __init__(self, config: ConditionalDCGAN) -> None:
        super().__init__()
        self.discriminator = Discriminator(config.dcgan)
        # Small as all weights: the features' sum is long, and large vectors would drown the rest of the verdict.
        self.told = Told(config.conditions, config.dcgan.widths[-1], std=0.02)
        if config.dcgan.spectral:
            normalise_spectrum(self.told)

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        """Return logits ``(B,)`` for images ``(B, channels, size, size)`` in [-1, 1], conditions ``(B, K)``.

        Errors as in `Told`.
        """
        told = self.told(cond, len(x))  # (B, C)
        h = self.discriminator.features(x)  # (B, C, s, s)
        phi = h.sum((2, 3))  # (B, C)
        return self.discriminator.layers[-1](h).flatten() + (told * phi).sum(1)  # (B,), equation 3
