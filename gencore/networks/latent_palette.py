"""Pictures from pictures in the codes of a first stage: InstructPix2Pix, as it was built on latent diffusion.

Brooks et al. 2023, https://arxiv.org/abs/2211.09800, section 3.2: what is noised and denoised are codes of the edited picture,
and beside them, as further channels, the network sees the codes of the picture that is to be edited (Rombach et al. 2022,
https://arxiv.org/abs/2112.10752).

Deviations: those of `gencore.networks.palette`, among them that no weights come from Stable Diffusion, and those of
`gencore.networks.latent`; what the output stands for is the recipe's choice.
"""

from dataclasses import dataclass

from torch import Tensor

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.first_stage import AboveFirstStage, CodeModel, check_first_stage, grid
from gencore.networks.palette import Palette, PaletteNetwork
from gencore.networks.text import TextEncoder
from gencore.networks.vqvae import VQ


@dataclass(frozen=True)
class LatentPalette(AboveFirstStage):
    """Sizes of the first stage, and of the network that denoises its codes beside those of another picture.

    Attributes
    ----------
    first : Autoencoder or VQ
        From pictures to a grid of codes and back.
    palette : Palette
        What it noises and what it sees have the channels of codes.
    """

    first: Autoencoder | VQ
    palette: Palette

    def __post_init__(self) -> None:
        check_first_stage(self.first)
        latent, side = grid(self.first).latent, grid(self.first).side
        if (self.palette.channels, self.palette.seen) != (latent, latent):
            given = self.palette.channels, self.palette.seen
            raise InputError(f"palette: noises and sees {given} channels, but codes have {latent}; make all equal")
        if side % self.palette.unet.divisor:
            raise InputError(f"palette.unet: takes multiples of {self.palette.unet.divisor}, but codes are {side}x{side}")

    @property
    def seen(self) -> int:
        """Channels of the picture beside."""
        return self.first.channels

    @property
    def text(self) -> TextEncoder | None:
        """What reads."""
        return self.palette.text


class LatentPaletteNetwork(CodeModel):
    """Map noised codes, their time, the codes of another picture and words to a prediction; pictures to codes and back.

    Parameters
    ----------
    config : LatentPalette
        The sizes.
    """

    def __init__(self, config: LatentPalette) -> None:
        super().__init__(config.first)
        self.config = config
        self.palette = PaletteNetwork(config.palette)

    def forward(self, x_t: Tensor, t: Tensor, source: Tensor, words: Tensor | None = None) -> Tensor:
        """Return ``(B, C, h, w)`` for noised codes ``(B, C, h, w)``, times ``(B,)``, codes to see, and tokens ``(B, L)``.

        Raises
        ------
        InputError
            If something does not fit the network.
        """
        return self.palette(x_t, t, source, words)
