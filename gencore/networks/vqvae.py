"""VQ-VAE: van den Oord et al. 2017, "Neural discrete representation learning", https://arxiv.org/abs/1711.00937, figure 1.

An encoder, a quantiser, a decoder; a picture becomes a small grid of whole numbers, or several grids from coarse to fine.
"""

from dataclasses import dataclass

from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder, Decoder, Encoder
from gencore.networks.multiscale import MultiScale
from gencore.networks.quantiser import FSQ, Codebook, Quantised


@dataclass(frozen=True)
class VQ:
    """Sizes of a VQ-VAE.

    Attributes
    ----------
    autoencoder : Autoencoder
        Encoder and decoder; the latent must be a grid (``flat=False``).
    quantiser : Codebook, FSQ or MultiScale
        The alphabet.
    """

    autoencoder: Autoencoder = Autoencoder(size=32, channels=3, latent=16, flat=False)
    quantiser: Codebook | FSQ | MultiScale = Codebook()

    def __post_init__(self) -> None:
        if self.autoencoder.flat:
            raise InputError("autoencoder.flat: must be False; codes form a grid")
        if self.autoencoder.out_channels not in (None, self.autoencoder.channels):
            raise InputError("autoencoder.out_channels: a VQ-VAE returns images; leave it out")
        if isinstance(self.quantiser, FSQ) and self.autoencoder.latent != len(self.quantiser.levels):
            raise InputError(
                f"autoencoder.latent is {self.autoencoder.latent}, but quantiser.levels has "
                f"{len(self.quantiser.levels)}; make them equal"
            )
        if isinstance(self.quantiser, MultiScale) and self.autoencoder.side != self.quantiser.scales[-1]:
            raise InputError(
                f"quantiser.scales end with {self.quantiser.scales[-1]}, but the autoencoder's grid has the side "
                f"{self.autoencoder.side}; make them equal"
            )

    @property
    def size(self) -> int:
        """Height and width of the images."""
        return self.autoencoder.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.autoencoder.channels


class VQVAE(nn.Module):
    """Map images to codes and codes to images.

    Parameters
    ----------
    config : VQ
        The sizes.
    """

    def __init__(self, config: VQ) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.autoencoder)
        self.quantiser = config.quantiser.build(config.autoencoder.latent)
        self.decoder = Decoder(config.autoencoder)

    def encode(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return codes, int64 ``(B, side, side)`` or of several scales ``(B, N)``, of images ``(B, channels, size, size)``."""
        return self.quantiser(self.encoder(x, cond)).codes

    def decode(self, codes: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return images ``(B, channels, size, size)``, unbounded, of such codes."""
        return self.decoder(self.quantiser.decode(codes), cond)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> tuple[Tensor, Tensor, Quantised]:
        """Return reconstructions, the encoder's vectors ``(B, D, side, side)``, and what the quantiser made of them."""
        z = self.encoder(x, cond)
        quantised = self.quantiser(z)
        return self.decoder(quantised.z, cond), z, quantised
