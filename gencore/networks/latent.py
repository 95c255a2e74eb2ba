"""Latent diffusion: Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models".

https://arxiv.org/abs/2112.10752, section 3: an autoencoder, trained before and held fixed, makes a small grid of codes of
a picture and a picture of codes; what is noised and denoised are the codes.

Deviations: codes are the means that the encoder gives, without its noise; each of their channels is brought to mean 0 and
standard deviation 1, where the paper divides all by one number (appendix G); conditions enter as one vector, and
only captions by cross-attention too.
"""

from dataclasses import dataclass

from torch import Tensor

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.denoising import DenoisingUNet, DenoisingUNetNetwork
from gencore.networks.dit import DiT, DiTNetwork
from gencore.networks.first_stage import AboveFirstStage, CodeModel, check_first_stage, grid
from gencore.networks.text import TextEncoder
from gencore.networks.text_unet import TextUNet, TextUNetNetwork
from gencore.networks.vqvae import VQ


@dataclass(frozen=True)
class Latent(AboveFirstStage):
    """Sizes of the first stage, and of the network that denoises its codes.

    Attributes
    ----------
    first : Autoencoder or VQ
        From pictures to a grid of codes and back; ``flat=False``. Codes of a VQ-VAE are denoised before a letter is chosen.
    denoiser : DenoisingUNet, DiT or TextUNet
        Its size and channels are those of the grid.
    """

    first: Autoencoder | VQ = Autoencoder(size=32, channels=3, latent=4, flat=False)
    denoiser: DenoisingUNet | DiT | TextUNet = DiT(size=8, channels=4, patch=2)

    def __post_init__(self) -> None:
        check_first_stage(self.first)
        given, wanted = self.denoiser.shape, grid(self.first).latent_shape
        if given != wanted:
            raise InputError(f"denoiser: takes codes of shape {given}, but the first stage makes {wanted}; make them equal")

    @property
    def conditions(self) -> tuple[int, ...]:
        """How many values each condition has."""
        return self.denoiser.conditions

    @property
    def captions(self) -> TextEncoder | None:
        """How large captions are, if the network reads any."""
        return self.denoiser.captions if isinstance(self.denoiser, TextUNet) else None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of what is noised: of one picture's codes."""
        return self.denoiser.shape


class LatentNetwork(CodeModel):
    """Map noised codes, their time and their conditions to a prediction of the same shape; pictures to codes and back.

    Parameters
    ----------
    config : Latent
        The sizes.
    """

    def __init__(self, config: Latent) -> None:
        super().__init__(config.first)
        self.config = config
        self.denoiser = build_denoising(config.denoiser)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, *shape)`` for noised codes ``(B, *shape)``, times ``(B,)`` in [0, 1], int64 conditions ``(B, K)``.

        Raises
        ------
        InputError
            If codes or conditions do not fit the network.
        """
        return self.denoiser(x_t, t, cond)


def build_denoising(
    config: DenoisingUNet | DiT | TextUNet | Latent,
) -> DenoisingUNetNetwork | DiTNetwork | TextUNetNetwork | LatentNetwork:
    """Build the denoising network that has these sizes."""
    kinds = {DenoisingUNet: DenoisingUNetNetwork, DiT: DiTNetwork, TextUNet: TextUNetNetwork, Latent: LatentNetwork}
    return kinds[type(config)](config)
