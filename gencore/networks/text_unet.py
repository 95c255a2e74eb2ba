"""A U-Net that reads: Nichol et al. 2022, "GLIDE", and Rombach et al. 2022, latent diffusion with cross-attention.

https://arxiv.org/abs/2112.10741, section 3: a caption passes through a transformer, and tells the denoiser in two ways. What
the caption says as a whole is added to the embedded time; and its words, one vector each, are what places of the picture
attend to, here by cross-attention (https://arxiv.org/abs/2112.10752, equation 1 and section 3.3). The empty caption stands for
"not told", as guidance without a classifier needs it. Where a word is looked at, `attention_maps` shows: Hertz et al. 2022,
"Prompt-to-prompt", https://arxiv.org/abs/2208.01626, section 3.

Convolutions treat all places alike, and attention does not know where they lie; "at the left" then means little. Two more
channels that hold each pixel's coordinates tell (Liu et al. 2018, "CoordConv", https://arxiv.org/abs/1807.03247).

Deviations: the caption as a whole is the mean of its words' vectors, where GLIDE takes that of the last token; attention to
words stands beside that among places, where GLIDE joins both.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.blocks import with_coordinates
from gencore.networks.denoising import Teller
from gencore.networks.text import TextEncoder, TextEncoderNetwork
from gencore.networks.unet import AttendingBlock, MapAttention, UNet, UNetNetwork


@dataclass(frozen=True)
class TextUNet:
    """Sizes of a U-Net that is told time, a caption and conditions.

    Attributes
    ----------
    size : int
        Height and width of the images in pixels, or of the codes.
    unet : UNet
        The U-Net; ``unet.embedding`` is the length of the vector that tells, ``unet.context`` that of a word.
    text : TextEncoder
        The network that reads the caption; its width is the length of a word.
    conditions : tuple of int
        For each further condition, how many values it has.
    coordinates : bool
        Whether the U-Net is also given each pixel's coordinates, from -1 to 1: two more channels of its input, so that
        ``unet.channels`` is that of the images and two, and ``unet.out_channels`` that of the images.
    """

    size: int = 32
    unet: UNet = UNet(3, embedding=128, patch=2, heads=4, context=96)
    text: TextEncoder = TextEncoder()
    conditions: tuple[int, ...] = ()
    coordinates: bool = False

    def __post_init__(self) -> None:
        if self.coordinates and self.unet.out_channels != self.unet.channels - 2:
            raise InputError(f"unet.out_channels {self.unet.out_channels}: with coordinates it is two fewer than unet.channels")
        if self.size % self.unet.divisor:
            raise InputError(f"size {self.size}: this U-Net takes multiples of {self.unet.divisor}")
        if self.unet.embedding < 2 or self.unet.embedding % 2:
            raise InputError(f"unet.embedding {self.unet.embedding}: the time is told by an even number of at least 2")
        if self.unet.context != self.text.transformer.width:
            width = self.text.transformer.width
            raise InputError(f"unet.context {self.unet.context}: must be {width}, the length of a word in text.transformer")
        if any(count < 1 for count in self.conditions):
            raise InputError(f"conditions {self.conditions}: each has at least one value")

    @property
    def channels(self) -> int:
        """Channels of the images."""
        return self.unet.channels - 2 * self.coordinates

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of one image."""
        return self.channels, self.size, self.size

    @property
    def captions(self) -> TextEncoder:
        """How many words captions have, and how many there are."""
        return self.text


class TextUNetNetwork(nn.Module):
    """Map a noised picture, its time, a caption and conditions to a prediction of the same shape.

    Parameters
    ----------
    config : TextUNet
        The sizes.
    """

    def __init__(self, config: TextUNet) -> None:
        super().__init__()
        self.config = config
        self.text = TextEncoderNetwork(config.text)
        self.teller = Teller(config.conditions, config.unet.embedding)
        self.whole = nn.Linear(config.unet.context, config.unet.embedding)
        self.unet = UNetNetwork(config.unet)

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return ``(B, C, H, W)`` for noised images ``(B, C, H, W)``, times ``(B,)`` in [0, 1] and what is told.

        Parameters
        ----------
        x_t, t : Tensor
            Noised images, and how far each is on the way to noise.
        cond : Tensor, optional
            int64 ``(B, length + K)``: the words of a caption, then the conditions. None tells nothing.

        Raises
        ------
        InputError
            If images or conditions do not fit the network.
        """
        length = self.config.text.length
        if cond is None:
            nothing = torch.tensor(self.config.conditions, dtype=torch.int64, device=x_t.device)
            cond = torch.cat([nothing.new_zeros(length), nothing]).expand(len(x_t), -1)
        if cond.shape != (len(x_t), length + len(self.config.conditions)):
            wanted = (len(x_t), length + len(self.config.conditions))
            raise InputError(f"conditions {tuple(cond.shape)}: this network takes {wanted}, {length} for the caption")
        words = self.text(cond[:, :length])  # (B, L, context)
        embedding = self.teller(t, cond[:, length:]) + self.whole(words.mean(1))  # (B, embedding)
        if self.config.coordinates:
            x_t = with_coordinates(x_t)  # (B, C + 2, H, W)
        return self.unet(x_t, embedding, words)


def attention_maps(network: TextUNetNetwork, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
    """Return where each word is looked at: the share of attention it gets from each place, mean over heads and layers.

    Parameters
    ----------
    network : TextUNetNetwork
        The network.
    x_t, t, cond : Tensor
        What it is given: noised images, times ``(B,)``, and int64 ``(B, length + K)``.

    Returns
    -------
    Tensor
        ``(B, length, h, w)`` at the lowest resolution; over the words of a place, 1 in all.
    """
    maps: list[Tensor] = []

    def note(layer: MapAttention, given: tuple[Tensor, Tensor], _: Tensor) -> None:
        h, words = given
        shares = layer.attention.weights(layer.tokens(h), words)  # (B, heads, hw, L)
        maps.append(shares.mean(1).transpose(1, 2).unflatten(2, h.shape[2:]))  # (B, L, h, w)

    blocks = [block for block in network.unet.modules() if isinstance(block, AttendingBlock)]
    hooks = [block.cross.register_forward_hook(note) for block in blocks]
    try:
        network(x_t, t, cond)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(maps).mean(0)
