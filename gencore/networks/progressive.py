"""Progressive growing: Karras et al. 2018, "Progressive growing of GANs for improved quality, stability, and
variation".

https://arxiv.org/abs/1710.10196, sections 2 to 4, figure 2, appendix A.1 and table 2: both players begin with small
pictures, and layers for twice the resolution are faded in, again and again. Convolutions have an equalised learning
rate (`gencore.networks.equalised`) and LeakyReLU(0.2). The generator puts the latent vector onto a sphere, repeats
pixels to enlarge a map, and normalises the features of each place. The discriminator averages pixels, and is shown the
standard deviation over the minibatch (`gencore.networks.minibatch_std`). The generator's output is linear, as in the
paper: pictures are meant to lie in [-1, 1], and nothing keeps them there.

Pictures always have the full size. Those of a lower resolution are enlarged by repeating pixels, and the discriminator
averages them down again, so that nobody else needs to know how far both networks have grown.

Deviations: resolutions and widths are small, and the smallest resolution may be 4, 5, 6 or 7; the generator's first
layer has a bias for each place of its map, where the paper's has one for each channel.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.blocks import doublings
from gencore.networks.equalised import HE, EqualConv2d, EqualLinear
from gencore.networks.minibatch_std import minibatch_std


@dataclass(frozen=True)
class Progressive:
    """Sizes of a generator and its discriminator that grow.

    Attributes
    ----------
    size : int
        Full height and width of the images: 4 to 7 times a power of two (14, 28, 32, 64, ...).
    channels : int
        1 for grey, 3 for colour.
    latent : int
        Length of the latent vector z.
    width : int
        Channels at full resolution; each level below has twice as many, up to ``max_width``.
    max_width : int
        Upper bound of the channels.
    """

    size: int = 32
    channels: int = 3
    latent: int = 64
    width: int = 32
    max_width: int = 128

    def __post_init__(self) -> None:
        if self.size < 4 or self.size >> self.levels << self.levels != self.size:
            raise InputError(f"size {self.size} is not 4, 5, 6 or 7 times a power of two; use 28, 32, 64, ...")
        for name in ("channels", "latent", "width", "max_width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")

    @property
    def levels(self) -> int:
        """How many times the resolution doubles, from the smallest to the full one."""
        return doublings(self.size)

    @property
    def resolutions(self) -> list[int]:
        """Height and width at each level, from the smallest to the full size."""
        return [self.size >> (self.levels - level) for level in range(self.levels + 1)]

    @property
    def widths(self) -> list[int]:
        """Channels at each level, from the smallest resolution to the full size."""
        return [min(self.width << (self.levels - level), self.max_width) for level in range(self.levels + 1)]

    def build(self) -> "tuple[Generator, Discriminator]":
        """Return both players, at level 0."""
        return Generator(self), Discriminator(self)


class PixelNorm(nn.Module):
    """Divide the feature vector of each place by its root mean square; a latent vector is put onto a sphere."""

    def forward(self, h: Tensor) -> Tensor:
        """Return ``(B, C, ...)`` for ``(B, C, ...)``."""
        square = h.to(torch.promote_types(h.dtype, torch.float32)).square().mean(1, keepdim=True)  # (B, 1, ...)
        return h * (square + 1e-8).rsqrt().to(h.dtype)  # section 4.2


class Growing(nn.Module):
    """A network that holds all levels from the start, and uses those it has grown to.

    Parameters without a share in what comes out get no gradient (None), and Adam leaves them as they are. For
    ``DistributedDataParallel`` they are unused parameters.

    Parameters
    ----------
    config : Progressive
        The sizes.

    Attributes
    ----------
    level : Tensor
        float32 scalar, part of the state: 0 is the smallest resolution, k is the resolution k doublings above it, and
        at k + f, 0 < f < 1, the next one is faded in with weight f. Set it by `grow_to`.
    """

    def __init__(self, config: Progressive) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("level", torch.zeros(()))
        self.register_load_state_dict_post_hook(_grow_to_what_was_loaded)
        self.grow_to(0)

    def grow_to(self, level: float) -> None:
        """Set the level, in place.

        Which layers are used is kept in plain numbers beside the tensor, since to read a tensor is to wait for the
        device. The numbers go along with ``copy.deepcopy`` and with ``load_state_dict``, but not with what else writes
        into the tensor: `gencore.training.ema.EMA` copies it, so the loop calls ``grow_to`` on the average, too.

        Parameters
        ----------
        level : float
            From 0 to the number of doublings.

        Raises
        ------
        InputError
            If there is no such level.
        """
        stage, fading = _split(level, self.config.levels)
        # No float among them: a compiled network would be compiled again at each step of a fade.
        self._stage, self._fading = stage, fading > 0
        self.level.fill_(level)

    def _fade(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the mix of what the layers give that are there and what they give together with those that come."""
        return torch.lerp(old, new, (self.level - self._stage).to(old.dtype))  # figure 2(b), alpha


def _grow_to_what_was_loaded(network: Growing, _: object) -> None:
    network.grow_to(network.level.item())


class Generator(Growing):
    """Map a latent vector to an image of the full size, in the resolution that has been grown to.

    Parameters
    ----------
    config : Progressive
        The sizes.
    """

    def __init__(self, config: Progressive) -> None:
        super().__init__(config)
        smallest, widths = config.resolutions[0], config.widths
        # Table 2 has a padded convolution of a 1x1 map. Of its taps only one meets the latent vector at each place, but
        # He's constant counts them all.
        first = [PixelNorm(), EqualLinear(config.latent, widths[0] * smallest**2, gain=HE / smallest)]
        first += [nn.Unflatten(1, (widths[0], smallest, smallest)), nn.LeakyReLU(0.2), PixelNorm()]
        self.blocks = nn.ModuleList([nn.Sequential(*first, *_normalised(widths[0], widths[0]))])
        for width, next_width in zip(widths, widths[1:], strict=False):
            layers = [*_normalised(width, next_width), *_normalised(next_width, next_width)]
            self.blocks.append(nn.Sequential(nn.Upsample(scale_factor=2), *layers))
        self.to_rgb = nn.ModuleList(EqualConv2d(width, config.channels, 1, gain=1.0) for width in widths)

    def forward(self, z: Tensor) -> Tensor:
        """Return images ``(B, channels, size, size)`` for latents ``(B, latent)``."""
        stage, top = self._stage, self._stage + self._fading
        h = z
        for block in self.blocks[: stage + 1]:
            h = block(h)  # (B, widths[k], resolutions[k], resolutions[k])
        x = self.to_rgb[stage](h)  # (B, channels, resolutions[stage], resolutions[stage])
        if self._fading:
            new = self.to_rgb[top](self.blocks[top](h))  # (B, channels, resolutions[top], resolutions[top])
            x = self._fade(_enlarge(x, 1), new)  # figure 2(b), left
        return _enlarge(x, self.config.levels - top)  # (B, channels, size, size)


class Discriminator(Growing):
    """Map an image to one logit: large for real, small for generated.

    Its verdict on a picture depends on the batch (`gencore.networks.minibatch_std`).

    Parameters
    ----------
    config : Progressive
        The sizes.
    """

    def __init__(self, config: Progressive) -> None:
        super().__init__(config)
        smallest, widths = config.resolutions[0], config.widths
        last = [EqualConv2d(widths[0] + 1, widths[0], 3, padding=1), nn.LeakyReLU(0.2)]
        last += [EqualConv2d(widths[0], widths[0], smallest), nn.LeakyReLU(0.2), nn.Flatten()]
        self.blocks = nn.ModuleList([nn.Sequential(*last)])
        for next_width, width in zip(widths, widths[1:], strict=False):
            layers = [EqualConv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [EqualConv2d(width, next_width, 3, padding=1), nn.LeakyReLU(0.2)]
            self.blocks.append(nn.Sequential(*layers, nn.AvgPool2d(2)))
        self.from_rgb = nn.ModuleList(
            nn.Sequential(EqualConv2d(config.channels, width, 1), nn.LeakyReLU(0.2)) for width in widths
        )
        self.verdict = EqualLinear(widths[0], 1, gain=1.0)

    def features(self, x: Tensor) -> Tensor:
        """Return the last hidden layer ``(B, widths[0])``, on which the verdict rests."""
        stage, top = self._stage, self._stage + self._fading
        x = _shrink(x, self.config.levels - top)  # (B, channels, resolutions[top], resolutions[top])
        h = self.from_rgb[stage](_shrink(x, top - stage))  # (B, widths[stage], resolutions[stage], resolutions[stage])
        if self._fading:
            h = self._fade(h, self.blocks[top](self.from_rgb[top](x)))  # figure 2(b), right
        for level in range(stage, 0, -1):
            h = self.blocks[level](h)  # (B, widths[level - 1], resolutions[level - 1], resolutions[level - 1])
        return self.blocks[0](minibatch_std(h))  # (B, widths[0])

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(B,)`` for images ``(B, channels, size, size)``."""
        return self.verdict(self.features(x)).flatten()


def reduce_to(x: Tensor, level: float) -> Tensor:
    """Return what real pictures look like at a level, in their full size: averaged, and enlarged by repeating pixels.

    While a resolution is faded in, pictures are a mix of this resolution and of the one below, as generated ones are
    (figure 2's caption).

    Parameters
    ----------
    x : Tensor
        Images ``(B, channels, size, size)``; the size is 4 to 7 times a power of two.
    level : float
        As in `Growing.grow_to`.

    Returns
    -------
    Tensor
        ``(B, channels, size, size)``; the images themselves at the highest level.

    Raises
    ------
    InputError
        If pictures of this size have no such level.
    """
    levels = doublings(x.shape[-1])
    stage, fading = _split(level, levels)
    old = _enlarge(_shrink(x, levels - stage), levels - stage)
    if not fading:
        return old
    new = _enlarge(_shrink(x, levels - stage - 1), levels - stage - 1)
    return torch.lerp(old, new, fading)


def _split(level: float, levels: int) -> tuple[int, float]:
    """Return the level that is fully there, and the weight of the next one."""
    if not 0 <= level <= levels:
        raise InputError(f"level {level}: must be from 0 to {levels}, which is the full resolution")
    stage = math.floor(level)
    return stage, level - stage


def _normalised(width: int, next_width: int) -> list[nn.Module]:
    return [EqualConv2d(width, next_width, 3, padding=1), nn.LeakyReLU(0.2), PixelNorm()]


def _enlarge(x: Tensor, doublings: int) -> Tensor:
    return F.interpolate(x, scale_factor=1 << doublings) if doublings else x  # nearest: pixels are repeated


def _shrink(x: Tensor, doublings: int) -> Tensor:
    return F.avg_pool2d(x, 1 << doublings) if doublings else x
