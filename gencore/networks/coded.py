"""A picture written in an autoencoder's codes: van den Oord et al. 2017, "Neural discrete representation learning".

https://arxiv.org/abs/1711.00937, section 3.3: an autoencoder, trained before and held fixed, turns a picture into a small grid of
whole numbers; how these are distributed is learned by a network that writes symbols one after the other.
"""

from dataclasses import dataclass

from torch import Tensor

from gencore.errors import InputError
from gencore.networks.first_stage import OnFirstStage, check_first_stage
from gencore.networks.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNNetwork
from gencore.networks.image_transformer import ImageTransformer, ImageTransformerNetwork
from gencore.networks.symbols import At, Grid
from gencore.networks.vqvae import VQ


@dataclass(frozen=True)
class Coded:
    """Sizes of the first stage, and of the network that writes its codes.

    Attributes
    ----------
    first : VQ
        From pictures to a grid of codes and back.
    writer : GatedPixelCNN or ImageTransformer
        Its grid is that of the codes.
    """

    first: VQ = VQ()
    writer: GatedPixelCNN | ImageTransformer = ImageTransformer(Grid(8, levels=512, named=True))

    def __post_init__(self) -> None:
        check_first_stage(self.first.autoencoder)
        given, grid = (self.first.autoencoder.side, self.first.quantiser.size), self.writer.grid
        if (grid.size, grid.levels) != given or not grid.named:
            raise InputError(f"writer.grid: must be named, with size and levels {given}, those of the first stage's codes")

    @property
    def grid(self) -> Grid:
        """What is written."""
        return self.writer.grid

    @property
    def size(self) -> int:
        """Height and width of the pictures."""
        return self.first.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.first.channels


class CodedNetwork(OnFirstStage):
    """Write codes; turn pictures into codes and codes into pictures.

    Parameters
    ----------
    config : Coded
        The sizes.
    """

    def __init__(self, config: Coded) -> None:
        super().__init__(config.first)
        kinds = {GatedPixelCNN: GatedPixelCNNNetwork, ImageTransformer: ImageTransformerNetwork}
        self.config = config
        self.writer = kinds[type(config.writer)](config.writer)

    def forward(self, symbols: Tensor, cond: Tensor | None = None, u: Tensor | None = None) -> Tensor:
        """Return what the writer returns."""
        return self.writer(symbols, cond) if u is None else self.writer(symbols, cond, u)

    def incremental(self, symbols: Tensor, cond: Tensor | None = None) -> At:
        """Return what the writer returns."""
        return self.writer.incremental(symbols, cond)

    def encode(self, x: Tensor) -> Tensor:
        """Return symbols, int64 ``(B, 1, side, side)``, of pictures ``(B, channels, size, size)`` in [-1, 1]."""
        return self.first.encode(x)[:, None]

    def decode(self, symbols: Tensor) -> Tensor:
        """Return pictures ``(B, channels, size, size)``, unbounded, of symbols ``(B, 1, side, side)``."""
        return self.first.decode(symbols[:, 0])
