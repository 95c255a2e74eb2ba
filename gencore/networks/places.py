"""A picture as a row of vectors, one for each place: the annotation vectors of Xu et al. 2015, "Show, attend and tell".

https://arxiv.org/abs/1502.03044, section 3.1.1: the vectors are taken from a convolutional network before anything
merges its places, so that who reads them can look at some parts of the picture and pass over others.

Deviations: the network is the encoder of `gencore.networks.autoencoder`, trained with who reads it; each place's vector
also says which place it is; and places may look at each other by a transformer before they are read, as in Dosovitskiy
et al. 2021, "An image is worth 16x16 words", https://arxiv.org/abs/2010.11929, section 3.1, whose patches come from a
convolutional network there, too ("hybrid architecture").
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder, Encoder
from gencore.networks.transformer import Transformer, TransformerNetwork


@dataclass(frozen=True)
class Places:
    """Sizes of a network that looks at pictures.

    Attributes
    ----------
    encoder : Autoencoder
        The convolutions: those of its encoder, whose grid of codes are the places and whose ``latent`` is the length of
        their vectors.
    transformer : Transformer, optional
        By which places look at each other; of the same width.
    """

    encoder: Autoencoder = Autoencoder(
        size=32, channels=3, latent=96, flat=False, width=32, multipliers=(1, 2), patch=2
    )
    transformer: Transformer | None = None

    def __post_init__(self) -> None:
        if self.encoder.flat or self.encoder.classes:
            raise InputError("encoder: must have flat=False, a vector for each place, and no classes")
        if self.transformer is not None:
            if self.transformer.width != self.width:
                given = self.transformer.width
                raise InputError(f"transformer.width {given}: must be {self.width}, the encoder's latent")
            if self.transformer.context or self.transformer.causal:
                raise InputError("transformer: places see all of each other and nothing else; no context, not causal")

    @property
    def size(self) -> int:
        """Height and width of the pictures."""
        return self.encoder.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.encoder.channels

    @property
    def side(self) -> int:
        """Height and width of the grid of places."""
        return self.encoder.side

    @property
    def width(self) -> int:
        """Length of the vectors."""
        return self.encoder.latent


class PlacesNetwork(nn.Module):
    """Map pictures to a vector for each place.

    Parameters
    ----------
    config : Places
        The sizes.
    """

    def __init__(self, config: Places) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config.encoder)
        self.rows = nn.Parameter(torch.randn(config.side, 1, config.width))
        self.columns = nn.Parameter(torch.randn(1, config.side, config.width))
        for vectors in (self.rows, self.columns):
            nn.init.normal_(vectors, std=0.2)
        self.body = None if config.transformer is None else TransformerNetwork(config.transformer)

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(B, side * side, width)``, row by row, for pictures ``(B, channels, size, size)`` in [-1, 1].

        Raises
        ------
        InputError
            If pictures have another shape.
        """
        wanted = (self.config.channels, self.config.size, self.config.size)
        if x.shape[1:] != wanted:
            raise InputError(f"pictures of shape {tuple(x.shape[1:])}: this network looks at {wanted}")
        seen = self.encoder(x).movedim(1, 3) + self.rows + self.columns  # (B, side, side, width)
        h = seen.flatten(1, 2)
        return h if self.body is None else self.body(h)  # (B, side * side, width)
