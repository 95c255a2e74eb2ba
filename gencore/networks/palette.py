"""A denoiser that sees another picture beside the noised one: Saharia et al. 2022, "Palette".

https://arxiv.org/abs/2111.05826, section 3: the picture that is to be mended is joined with the noised one as further
channels of the input; as in "Image super-resolution via iterative refinement" before it (https://arxiv.org/abs/2104.07636).
Brooks et al. 2023, "InstructPix2Pix" (https://arxiv.org/abs/2211.09800, section 3.2), show a picture in the same way and let
the network read what is to be changed.

Deviations: a small U-Net; words are read by a transformer that is trained along, whose vectors the U-Net attends to at its
lowest resolution, and whose mean is added to the time's vector, as Nichol et al. 2022 do with the last of theirs ("GLIDE",
https://arxiv.org/abs/2112.10741, section 3); and it may be told where each pixel lies (CoordConv: Liu et al. 2018,
https://arxiv.org/abs/1807.03247). A network without attention takes pictures of any size. InstructPix2Pix begins with the
weights of Stable Diffusion, those of the new channels at zero, and keeps its conditioning on text; here all is trained from
nothing.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.blocks import with_coordinates
from gencore.networks.embeddings import TimeEmbedding
from gencore.networks.text import TextEncoder, TextEncoderNetwork
from gencore.networks.unet import UNet, UNetNetwork


@dataclass(frozen=True)
class Palette:
    """Sizes of a denoiser that sees another picture, and may read.

    Attributes
    ----------
    unet : UNet
        The U-Net; its input has the channels of both pictures, and two for coordinates; ``unet.embedding`` is the length of
        the time's vector, and ``unet.context`` that of a word's.
    channels : int
        Channels of the picture that is noised and denoised.
    text : TextEncoder, optional
        What reads, if anything is to be read.
    coordinates : bool
        Whether the U-Net is also given each pixel's coordinates, from -1 to 1.
    """

    unet: UNet = UNet(6, out_channels=3, embedding=128)
    channels: int = 3
    text: TextEncoder | None = None
    coordinates: bool = False

    def __post_init__(self) -> None:
        if self.channels < 1 or self.seen < 1:
            also = " and two coordinates" if self.coordinates else ""
            raise InputError(f"unet.channels {self.unet.channels}: must be more than the {self.channels} of the noised picture{also}")
        if self.unet.out_channels != self.channels:
            raise InputError(f"unet.out_channels {self.unet.out_channels}: must be the {self.channels} of the noised picture")
        if self.unet.embedding < 2 or self.unet.embedding % 2:
            raise InputError(f"unet.embedding {self.unet.embedding}: the time is told by an even number of at least 2")
        width = self.text.transformer.width if self.text else 0
        if self.unet.context != width:
            raise InputError(f"unet.context {self.unet.context}: must be {width}, the length of a word's vector (0: no text)")

    @property
    def seen(self) -> int:
        """Channels of the picture beside."""
        return self.unet.channels - self.channels - 2 * self.coordinates


class PaletteNetwork(nn.Module):
    """Map a noised picture, its time, another picture and words to a prediction of the shape of the first.

    Parameters
    ----------
    config : Palette
        The sizes.
    """

    def __init__(self, config: Palette) -> None:
        super().__init__()
        self.config = config
        self.time = TimeEmbedding(config.unet.embedding)
        self.text = TextEncoderNetwork(config.text) if config.text else None
        self.gist = nn.Linear(config.text.transformer.width, config.unet.embedding) if config.text else None
        self.unet = UNetNetwork(config.unet)

    def forward(self, x_t: Tensor, t: Tensor, source: Tensor, words: Tensor | None = None) -> Tensor:
        """Return ``(B, C, H, W)``.

        Parameters
        ----------
        x_t : Tensor
            Noised pictures, ``(B, C, H, W)``; height and width are multiples of ``config.unet.divisor``.
        t : Tensor
            Times in [0, 1], ``(B,)``.
        source : Tensor
            The pictures beside, ``(B, config.seen, H, W)``.
        words : Tensor, optional
            Rows of tokens, int64 ``(B, L)``; must be there if, and only if, the network reads.

        Raises
        ------
        InputError
            If something does not fit the network.
        """
        if source.shape != (len(x_t), self.config.seen, *x_t.shape[2:]):
            expected = len(x_t), self.config.seen, *x_t.shape[2:]
            raise InputError(f"source {tuple(source.shape)}: this network sees {expected} beside the noised picture")
        if (words is None) != (self.text is None):
            raise InputError("words: this network reads none" if self.text is None else "words: missing; this network reads")
        told, context = self.time(t), None  # (B, E)
        if words is not None:
            context = self.text(words)  # (B, L, context)
            told = told + self.gist(context.mean(1))
        both = torch.cat([x_t, source], 1)
        return self.unet(with_coordinates(both) if self.config.coordinates else both, told, context)  # (B, C, H, W)
