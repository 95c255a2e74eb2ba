"""A convolutional encoder and its mirror: Hinton & Salakhutdinov 2006 in idea, Esser et al. 2021 in form.

"Reducing the dimensionality of data with neural networks", https://doi.org/10.1126/science.1127647, and "Taming
transformers for high-resolution image synthesis", https://arxiv.org/abs/2012.09841, appendix table 7: residual blocks,
strided convolutions down, repeated pixels up.

Deviations: no attention; the code is either a vector or a grid, as ``flat`` says; pixels may be folded into channels
first (``patch``); a class may condition every residual block.
"""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from gencore.errors import InputError
from gencore.networks.blocks import GROUPS, Downsample, ResidualBlock, Upsample


@dataclass(frozen=True)
class Autoencoder:
    """Sizes of an encoder and a decoder.

    Attributes
    ----------
    size : int
        Height and width of the images, a multiple of ``patch`` times 2 for each level but the first.
    channels : int
        1 for grey, 3 for colour.
    out_channels : int, optional
        Channels that the decoder returns: the parameters of a likelihood. As many as ``channels`` by default.
    latent : int
        Numbers in the code, or its channels if it is a grid.
    flat : bool
        Whether the code is a vector. Otherwise it is a grid at the lowest resolution.
    width : int
        Channels at full resolution, a multiple of 8.
    multipliers : tuple of int
        Channels at each resolution, in units of ``width``. Between neighbours the resolution halves.
    blocks : int
        Residual blocks at each resolution.
    patch : int
        1, or the side of the square of pixels that becomes channels before the first convolution.
    classes : int
        Number of classes that the networks are told; 0 for none.
    """

    size: int = 28
    channels: int = 1
    out_channels: int | None = None
    latent: int = 16
    flat: bool = True
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: int = 1
    patch: int = 1
    classes: int = 0

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % GROUPS:
            raise InputError(f"width {self.width}: must be a positive multiple of {GROUPS}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise InputError(f"multipliers {self.multipliers}: give at least one, each 1 or more")
        for name in ("channels", "out_channels", "latent", "blocks", "patch"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise InputError(f"{name} {value}: must be 1 or more")
        if self.classes < 0:
            raise InputError(f"classes {self.classes}: must be 0 (none) or more")
        factor = self.patch << (len(self.multipliers) - 1)
        if self.size < 1 or self.size % factor:
            raise InputError(f"size {self.size}: patch and multipliers need a multiple of {factor}")

    @property
    def side(self) -> int:
        """Height and width of the lowest resolution."""
        return self.size // (self.patch << (len(self.multipliers) - 1))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one image's code: ``(latent,)`` or ``(latent, side, side)``."""
        return (self.latent,) if self.flat else (self.latent, self.side, self.side)

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, from the highest."""
        return [self.width * multiplier for multiplier in self.multipliers]


class Encoder(nn.Module):
    """Map an image to a code of ``outputs`` numbers, or channels of a grid.

    Parameters
    ----------
    config : Autoencoder
        The sizes.
    outputs : int, optional
        Instead of ``config.latent``; twice as many for the mean and the spread of a Gaussian.
    """

    def __init__(self, config: Autoencoder, outputs: int | None = None) -> None:
        super().__init__()
        outputs = config.latent if outputs is None else outputs
        width = config.width
        self.config = config
        self.embed = _class_embedding(config)
        self.stem = nn.Conv2d(config.channels * config.patch**2, width, 3, padding=1)
        self.layers = nn.ModuleList()
        for level, next_width in enumerate(config.widths):
            if level:
                self.layers.append(Downsample(width))
            for _ in range(config.blocks):
                self.layers.append(ResidualBlock(width, next_width, _embedding(config)))
                width = next_width
        self.norm = nn.GroupNorm(GROUPS, width)
        self.head = nn.Linear(width * config.side**2, outputs) if config.flat else nn.Conv2d(width, outputs, 1)

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, outputs)`` or ``(B, outputs, side, side)`` for images ``(B, channels, size, size)``.

        ``cond`` are classes, int64 ``(B,)``; they must be there if, and only if, the network has classes.
        """
        embedding = _embed(self.embed, cond)
        h = self.stem(pixel_unshuffle(x, self.config.patch))  # (B, W, H/patch, W/patch)
        for layer in self.layers:
            h = layer(h) if isinstance(layer, Downsample) else layer(h, embedding)
        h = silu(self.norm(h))  # (B, W', side, side)
        return self.head(h.flatten(1) if self.config.flat else h)


class Decoder(nn.Module):
    """Map a code to an image, or to the parameters of a distribution of images.

    Parameters
    ----------
    config : Autoencoder
        The sizes.
    """

    def __init__(self, config: Autoencoder) -> None:
        super().__init__()
        width = config.widths[-1]
        self.config = config
        self.embed = _class_embedding(config)
        if config.flat:
            self.stem = nn.Linear(config.latent, width * config.side**2)
        else:
            self.stem = nn.Conv2d(config.latent, width, 3, padding=1)
        self.layers = nn.ModuleList()
        for level, next_width in reversed(list(enumerate(config.widths))):
            for _ in range(config.blocks):
                self.layers.append(ResidualBlock(width, next_width, _embedding(config)))
                width = next_width
            if level:
                self.layers.append(Upsample(width))
        out_channels = config.channels if config.out_channels is None else config.out_channels
        self.norm = nn.GroupNorm(GROUPS, width)
        self.head = nn.Conv2d(width, out_channels * config.patch**2, 3, padding=1)

    def forward(self, z: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, out_channels, size, size)``, unbounded, for codes ``(B, *config.latent_shape)``.

        ``cond`` as in `Encoder.forward`.
        """
        embedding = _embed(self.embed, cond)
        h = self.stem(z)
        if self.config.flat:
            h = h.unflatten(1, (-1, self.config.side, self.config.side))  # (B, W', side, side)
        for layer in self.layers:
            h = layer(h) if isinstance(layer, Upsample) else layer(h, embedding)
        return pixel_shuffle(self.head(silu(self.norm(h))), self.config.patch)  # (B, out_channels, size, size)


def _embedding(config: Autoencoder) -> int:
    """Length of the vector that stands for a class."""
    return 2 * config.width if config.classes else 0


def _class_embedding(config: Autoencoder) -> nn.Embedding | None:
    return nn.Embedding(config.classes, _embedding(config)) if config.classes else None


def _embed(table: nn.Embedding | None, cond: Tensor | None) -> Tensor | None:
    if (table is None) != (cond is None):
        raise InputError("cond: this network takes no classes" if table is None else "cond: this network needs classes")
    return None if table is None else table(cond)
