"""A picture written in an autoencoder's codes: van den Oord et al. 2017, "Neural discrete representation learning".

https://arxiv.org/abs/1711.00937, section 3.3: an autoencoder, trained before and held fixed, turns a picture into a small grid of
whole numbers; how these are distributed is learned by a network that writes symbols one after the other.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.networks.caption_transformer import CaptionTransformer, CaptionTransformerNetwork
from gencore.networks.first_stage import AboveFirstStage, OnFirstStage, check_first_stage
from gencore.networks.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNNetwork
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.maskgit import MaskGIT, MaskGITNetwork
from gencore.networks.multiscale import MultiScale
from gencore.networks.symbols import At, Grid
from gencore.networks.var import VAR, VARNetwork
from gencore.networks.vqvae import VQ


@dataclass(frozen=True)
class Coded(AboveFirstStage):
    """Sizes of the first stage, and of the network that writes its codes.

    Attributes
    ----------
    first : VQ
        From pictures to a grid of codes and back.
    writer : GatedPixelCNN, ImageTransformer, CaptionTransformer, MaskGIT or VAR
        Its grid is that of the codes; VAR's scales are those of a first stage with a `MultiScale` quantiser.
        CaptionTransformer reads captions.
    """

    first: VQ = VQ()
    writer: GatedPixelCNN | ImageTransformer | CaptionTransformer | MaskGIT | VAR = ImageTransformer(
        Grid(8, levels=512, named=True)
    )

    def __post_init__(self) -> None:
        check_first_stage(self.first.autoencoder)
        quantiser = self.first.quantiser
        if isinstance(self.writer, VAR) != isinstance(quantiser, MultiScale):
            raise InputError("writer: VAR goes with a first stage of several scales, and no other does")
        if isinstance(self.writer, VAR):
            given = quantiser.scales, quantiser.size, self.first.autoencoder.latent
            if (self.writer.scales, self.writer.levels, self.writer.dimension) != given:
                raise InputError(f"writer: must have scales, levels and dimension {given}, those of the first stage's codes")
            return
        given, grid = (self.first.autoencoder.side, self.first.quantiser.size), self.writer.grid
        if (grid.size, grid.levels) != given or not grid.named:
            raise InputError(f"writer.grid: must be named, with size and levels {given}, those of the first stage's codes")

    @property
    def grid(self) -> Grid:
        """What is written: codes in a square, or those of all scales one after the other, which are none."""
        if isinstance(self.writer, VAR):
            return Grid(self.first.autoencoder.side, levels=self.writer.levels, named=True, conditions=self.writer.conditions)
        return self.writer.grid

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one picture's symbols: ``(1, side, side)``, or ``(1, 1, N)`` of several scales."""
        return (1, 1, self.writer.spans[-1].stop) if isinstance(self.writer, VAR) else self.writer.grid.shape

    @property
    def captions(self) -> CaptionTransformer | None:
        """How large captions are, if the writer reads any."""
        return self.writer if isinstance(self.writer, CaptionTransformer) else None


class CodedNetwork(OnFirstStage):
    """Write codes; turn pictures into codes and codes into pictures.

    Parameters
    ----------
    config : Coded
        The sizes.
    """

    def __init__(self, config: Coded) -> None:
        super().__init__(config.first)
        kinds = {
            GatedPixelCNN: GatedPixelCNNNetwork,
            ImageTransformer: ImageTransformerNetwork,
            CaptionTransformer: CaptionTransformerNetwork,
            MaskGIT: MaskGITNetwork,
            VAR: VARNetwork,
        }
        self.config = config
        self.writer = kinds[type(config.writer)](config.writer)

    def forward(
        self, symbols: Tensor, cond: Tensor | None = None, *more: Tensor | bool | None
    ) -> Tensor | tuple[Tensor, Tensor]:
        """Return what the writer says of each symbol, ``(B, levels, H, W)``; what is more goes to it."""
        if not isinstance(self.writer, VARNetwork):
            return self.writer(symbols, cond, *more)
        with torch.no_grad():
            inputs = self.first.quantiser.inputs(symbols[:, 0, 0])  # (B, N - scales[0] ** 2, D)
        return self.writer(inputs, cond, *more).transpose(1, 2)[:, :, None]  # (B, levels, 1, N)

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return what the writer returns."""
        return self.writer.incremental(symbols, cond)

    def encode(self, x: Tensor) -> Tensor:
        """Return symbols, int64 ``(B, *config.shape)``, of pictures ``(B, channels, size, size)`` in [-1, 1]."""
        return self.first.encode(x).view(len(x), *self.config.shape)

    def decode(self, symbols: Tensor) -> Tensor:
        """Return pictures ``(B, channels, size, size)``, unbounded, of such symbols."""
        return self.first.decode(symbols[:, 0, 0] if isinstance(self.writer, VARNetwork) else symbols[:, 0])
