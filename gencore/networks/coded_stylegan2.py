"""StyleGAN2 on the codes of an autoencoder: the game of Karras et al. 2020, played where Rombach et al. 2022 diffuse.

https://arxiv.org/abs/1912.04958, and https://arxiv.org/abs/2112.10752, section 3: an autoencoder, trained before and held
fixed, makes a small grid of codes of a picture and a picture of codes. The generator paints codes, the discriminator judges
codes, and pixels are only made of what is kept. On a grid of 8x8 a step takes a third of the time of one on 32x32 pixels, and
edges and textures need not be learned again.

Deviations from both: codes are brought to mean 0 and standard deviation 1, channel by channel.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.first_stage import AboveFirstStage, CodeModel, check_first_stage
from gencore.networks.stylegan2 import Discriminator, Generator, StyleGAN2


@dataclass(frozen=True)
class CodedStyleGAN2(AboveFirstStage):
    """Sizes of the first stage, and of the players on its codes.

    Attributes
    ----------
    first : Autoencoder
        From pictures to a grid of codes and back; ``flat=False``.
    game : StyleGAN2
        Both players; size and channels are those of the grid.
    """

    first: Autoencoder = Autoencoder(size=32, channels=3, latent=4, flat=False)
    game: StyleGAN2 = StyleGAN2(size=8, channels=4)

    def __post_init__(self) -> None:
        check_first_stage(self.first)
        given, wanted = (self.game.channels, self.game.size, self.game.size), tuple(self.first.latent_shape)
        if given != wanted:
            raise InputError(f"game: paints codes of shape {given}, but the first stage makes {wanted}; make them equal")

    @property
    def latent(self) -> int:
        """How many normal numbers the generator reads for one picture."""
        return self.game.latent

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has."""
        return self.game.conditions

    def build(self) -> "tuple[CodedGenerator, Discriminator]":
        """Return both players; the generator still lacks its first stage."""
        return CodedGenerator(self), Discriminator(self.game)


class CodedGenerator(CodeModel):
    """Map a latent to codes, and codes to pictures.

    Parameters
    ----------
    config : CodedStyleGAN2
        The sizes.
    """

    def __init__(self, config: CodedStyleGAN2) -> None:
        super().__init__(config.first)
        self.config = config
        self.generator = Generator(config.game)
        self.register_buffer("mean_path", torch.zeros(()))  # for the path length penalty

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return codes ``(B, *latent_shape)`` for latents ``(B, latent)`` and conditions ``(B, K)``."""
        return self.generator(z, cond)

    def styles(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return each layer's style, as the generator does."""
        return self.generator.styles(z, cond)

    def paint(self, w: Tensor, z: Tensor) -> Tensor:
        """Return codes for each layer's style, as the generator does."""
        return self.generator.paint(w, z)
