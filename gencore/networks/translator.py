"""A picture in, a picture out, and a discriminator of pairs: Isola et al. 2017 (pix2pix), sections 3.1 to 3.3 and 6.1.

"Image-to-image translation with conditional adversarial networks", https://arxiv.org/abs/1611.07004. The generator is a
U-Net, whose noise is dropout (sections 3.1 and 3.3); the discriminator sees the source beside the target.

Deviations: the U-Net is `gencore.networks.unet` (residual blocks, group normalisation, nearest neighbours and a convolution
on the way up), which leaves no checkerboard; what is told, such as the style to draw in, enters every block by a scale and a
shift; dropout falls on the vector that carries it there, where the paper drops entries of maps, its numbers are an argument,
and without them nothing is dropped, where the paper's dropout stays on when pictures are made; the output is not squashed by
tanh, which could not reach white, and is therefore not bounded either; the source can be added to the output, so that a new
network changes nothing, where both are of one kind. For CycleGAN, whose generators have no skips, there are more
(`gencore.applications.translation.cycle`).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.embeddings import Told
from gencore.networks.patchgan import PatchDiscriminator, PatchGAN
from gencore.networks.unet import UNet, UNetNetwork

SPREAD = 0.5  # standard deviation of the first entries of the vectors that are told


@dataclass(frozen=True)
class Translator:
    """Sizes of a generator.

    Attributes
    ----------
    unet : UNet
        Its ``channels`` are those of the source, its ``out_channels`` those of the target.
    conditions : tuple of int
        How many values each condition has that it is told; the U-Net then has an ``embedding``.
    dropout : float
        Share of the told vector's entries that are dropped; 0 for no noise.
    residual : bool
        Whether the source is added to the output.
    """

    unet: UNet = UNet(channels=3, width=32, multipliers=(1, 2, 2), embedding=64)
    conditions: tuple[int, ...] = ()
    dropout: float = 0.0
    residual: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.dropout < 1:
            raise InputError(f"dropout {self.dropout}: must be from 0 to below 1")
        if self.conditions and min(self.conditions) < 1:
            raise InputError(f"conditions {self.conditions}: each must have 1 value or more")
        if (self.conditions or self.dropout) and not self.unet.embedding:
            raise InputError("unet.embedding 0: what is told, and dropout, need a vector; give its length")
        if self.residual and self.out_channels != self.unet.channels:
            raise InputError(f"residual: the source has {self.unet.channels} channels, the target {self.out_channels}")
        if self.unet.context:
            raise InputError("unet.context: a translator reads no context; leave it at 0")

    @property
    def out_channels(self) -> int:
        """Channels of the target."""
        return self.unet.channels if self.unet.out_channels is None else self.unet.out_channels


class TranslatorNetwork(nn.Module):
    """Map a picture to its translation.

    Parameters
    ----------
    config : Translator
        The sizes.
    """

    def __init__(self, config: Translator) -> None:
        super().__init__()
        self.config = config
        self.unet = UNetNetwork(config.unet)
        if config.unet.embedding:
            self.told = Told(config.conditions, config.unet.embedding, SPREAD) if config.conditions else None
            self.base = nn.Parameter(SPREAD * torch.randn(config.unet.embedding))

    def forward(self, x: Tensor, cond: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        """Return translations ``(B, out_channels, H, W)``, unbounded, for sources ``(B, channels, H, W)`` in [-1, 1].

        Parameters
        ----------
        x : Tensor
            Height and width are multiples of ``config.unet.divisor``.
        cond : Tensor, optional
            What is told, int64 ``(B, K)``; None or ``(B, 0)`` if nothing is.
        noise : Tensor, optional
            Uniform numbers in [0, 1), ``(B, config.unet.embedding)``: an entry is dropped where its number is below
            ``config.dropout``, and the others are as much larger. None drops nothing.

        Raises
        ------
        InputError
            If the size of the pictures or of what is told does not fit.
        """
        vector = None
        if self.config.unet.embedding:
            vector = self.base.expand(len(x), -1)  # (B, E)
            if self.told is not None:
                vector = vector + self.told(cond, len(x))
            if noise is not None and self.config.dropout:
                vector = vector * (noise >= self.config.dropout) / (1 - self.config.dropout)
        made = self.unet(x, vector)
        return x + made if self.config.residual else made  # (B, out_channels, H, W)


class PairDiscriminator(nn.Module):
    """Map a target, beside what it is to be a translation of, to a grid of logits: large where a patch looks real.

    Parameters
    ----------
    config : PatchGAN
        The sizes; its channels are those of the target and of what is given together.
    """

    def __init__(self, config: PatchGAN) -> None:
        super().__init__()
        self.patches = PatchDiscriminator(config)

    def forward(self, y: Tensor, given: Tensor) -> Tensor:
        """Return logits ``(B, 1, h, w)`` for targets ``(B, C, H, W)`` and what is given, ``(B, G, H, W)``: see `given`."""
        return self.patches(torch.cat([given.to(y), y], 1))


def given(x: Tensor, cond: Tensor, conditions: tuple[int, ...]) -> Tensor:
    """Return the source and, for each value of each condition, a map of ones or zeros: ``(B, C + sum(conditions), H, W)``.

    Parameters
    ----------
    x : Tensor
        Sources ``(B, C, H, W)``.
    cond : Tensor
        What is told, int64 ``(B, K)``.
    conditions : tuple of int
        How many values each has.
    """
    if not conditions:
        return x
    # By a comparison: `one_hot` looks at the numbers first, which would make the processor wait.
    told = [
        column[:, None] == torch.arange(count, device=column.device)
        for column, count in zip(cond.unbind(1), conditions, strict=True)
    ]
    maps = torch.cat(told, 1).to(x)[:, :, None, None].expand(-1, -1, *x.shape[2:])  # (B, sum, H, W)
    return torch.cat([x, maps], 1)
