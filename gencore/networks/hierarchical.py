"""A hierarchical VAE: a deterministic path up, a stochastic path down, latent variables at every resolution.

Sønderby et al. 2016, "Ladder variational autoencoders", https://arxiv.org/abs/1602.02282 (the posterior is built on the
way down, from what came up and what was already drawn); Child 2021, "Very deep VAEs generalize autoregressive models and
can outperform them on images", https://arxiv.org/abs/2011.10650, figure 3 (the block); Vahdat & Kautz 2020, "NVAE",
https://arxiv.org/abs/2007.03898, section 3.2 (the posterior is stated relative to the prior).

Deviations: small. Plain residual blocks with group normalisation; the prior is read off the path, which gets one
residual block a group; the posterior's shift is measured in the prior's standard deviations. Instead of maps of 2x2 and
1x1, the highest groups are vectors, a ladder of fully connected rungs above the lowest resolution.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle, silu

from gencore.errors import InputError
from gencore.networks.blocks import GROUPS, Downsample, ResidualBlock, Upsample, zero_init
from gencore.networks.ladder import Rung
from gencore.networks.vae import LOG_STD_RANGE, Level

Choose = Callable[[int, Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Hierarchical:
    """Sizes of a hierarchical VAE.

    Attributes
    ----------
    size : int
        Height and width of the images, a multiple of ``patch`` times 2 for each resolution but the first.
    channels : int
        1 for grey, 3 for colour.
    out_channels : int, optional
        Channels that the network returns: the parameters of a likelihood. As many as ``channels`` by default.
    latent : int
        Channels of the latent variables of each block.
    width : int
        Channels at the highest resolution, a multiple of 8.
    multipliers : tuple of int
        Channels at each resolution, in units of ``width``, from the highest.
    blocks : tuple of int
        Groups of latent variables at each resolution, from the highest.
    patch : int
        1, or the side of the square of pixels that becomes channels before the first convolution.
    top : tuple of int
        Lengths of the latent vectors above all maps, in the order in which they are drawn; may be empty.
    top_width : int
        Length of the hidden vectors there.
    """

    size: int = 32
    channels: int = 3
    out_channels: int | None = None
    latent: int = 8
    width: int = 32
    multipliers: tuple[int, ...] = (1, 2, 2)
    blocks: tuple[int, ...] = (2, 2, 2)
    patch: int = 1
    top: tuple[int, ...] = (32,)
    top_width: int = 128

    def __post_init__(self) -> None:
        if self.width < 1 or self.width % GROUPS:
            raise InputError(f"width {self.width}: must be a positive multiple of {GROUPS}")
        if not self.multipliers or min(self.multipliers) < 1:
            raise InputError(f"multipliers {self.multipliers}: give at least one, each 1 or more")
        if len(self.blocks) != len(self.multipliers) or min(self.blocks) < 1:
            raise InputError(f"blocks {self.blocks}: give one number, at least 1, for each of the multipliers")
        if self.top and min(self.top) < 1:
            raise InputError(f"top {self.top}: each must be 1 or more")
        for name in ("channels", "latent", "patch", "top_width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")
        factor = self.patch << (len(self.multipliers) - 1)
        if self.size < 1 or self.size % factor:
            raise InputError(f"size {self.size}: patch and multipliers need a multiple of {factor}")

    @property
    def sides(self) -> list[int]:
        """Height and width at each resolution, from the highest."""
        return [self.size // self.patch >> level for level in range(len(self.multipliers))]

    @property
    def widths(self) -> list[int]:
        """Channels at each resolution, from the highest."""
        return [self.width * multiplier for multiplier in self.multipliers]


class StochasticBlock(nn.Module):
    """One group of latent maps on the way down.

    Parameters
    ----------
    width : int
        Channels of the path.
    latent : int
        Channels of the latent variables.
    """

    def __init__(self, width: int, latent: int) -> None:
        super().__init__()
        self.prior_norm = nn.GroupNorm(GROUPS, width)
        self.prior_head = zero_init(nn.Conv2d(width, 2 * latent, 1))
        self.posterior_block = ResidualBlock(2 * width, width)
        self.posterior_head = zero_init(nn.Conv2d(width, 2 * latent, 1))
        self.enter = nn.Conv2d(latent, width, 1)
        self.after = ResidualBlock(width, width)

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of p(z | what was drawn above), ``(B, latent, side, side)`` each."""
        mean, log_std = self.prior_head(silu(self.prior_norm(h))).float().chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def posterior(self, h: Tensor, up: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of q(z | x, what was drawn above), relative to the prior's."""
        shift, stretch = self.posterior_head(self.posterior_block(torch.cat([h, up], 1))).float().chunk(2, dim=1)
        return mean + log_std.exp() * shift, (log_std + stretch).clamp(*LOG_STD_RANGE)  # (HI.3)

    def merge(self, h: Tensor, z: Tensor) -> Tensor:
        """Return the path after the latent variables have joined it."""
        return self.after(h + self.enter(z))


class HierarchicalVAE(nn.Module):
    """Map an image to latent variables at several resolutions and back.

    Parameters
    ----------
    config : Hierarchical
        The sizes.
    """

    def __init__(self, config: Hierarchical) -> None:
        super().__init__()
        self.config = config
        widths, lowest = config.widths, (config.widths[-1], config.sides[-1], config.sides[-1])
        self.stem = nn.Conv2d(config.channels * config.patch**2, widths[0], 3, padding=1)
        self.up = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width, width) for _ in range(count)))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.shrink = nn.ModuleList(
            nn.Sequential(Downsample(a), nn.Conv2d(a, b, 1)) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.rungs = nn.ModuleList(Rung(config.top_width, latent, not place) for place, latent in enumerate(config.top))
        if config.top:
            self.to_vector = nn.Linear(math.prod(lowest), config.top_width)
            self.from_vector = nn.Linear(config.top_width, math.prod(lowest))
        self.start = nn.Parameter(torch.zeros(config.top_width if config.top else lowest))
        self.down = nn.ModuleList(
            nn.ModuleList(StochasticBlock(width, config.latent) for _ in range(count))
            for width, count in zip(widths, config.blocks, strict=True)
        )
        self.grow = nn.ModuleList(
            nn.Sequential(nn.Conv2d(b, a, 1), Upsample(a)) for a, b in zip(widths, widths[1:], strict=False)
        )
        out_channels = config.channels if config.out_channels is None else config.out_channels
        fine = max(GROUPS, widths[0] // config.patch)  # channels at full resolution, where they cost the most
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.unfold = nn.Conv2d(widths[0], fine * config.patch**2, 3, padding=1)
        self.head = nn.Conv2d(fine, out_channels, 3, padding=1)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each group of latent variables of one image, in the order in which they are drawn."""
        pairs = reversed(list(zip(self.config.sides, self.config.blocks, strict=True)))
        maps = ((self.config.latent, side, side) for side, count in pairs for _ in range(count))
        return (*((latent,) for latent in self.config.top), *maps)

    def bottom_up(self, x: Tensor) -> list[Tensor]:
        """Return what the encoder leaves for each group of latent variables, in the order in which they are drawn."""
        h, seen = self.stem(pixel_unshuffle(x, self.config.patch)), []
        for level, blocks in enumerate(self.up):
            h = self.shrink[level - 1](h) if level else h
            h = blocks(h)  # (B, width, side, side)
            seen += [h] * len(blocks)  # all groups of a resolution look at the same map
        if self.rungs:
            h = self.to_vector(h.flatten(1))  # (B, top_width)
        for rung in reversed(self.rungs):
            h = h + rung.up(h)
            seen.append(h)
        return seen[::-1]

    def top_down(self, count: int, choose: Choose) -> Tensor:
        """Walk down, drawing each group of latent variables in turn.

        Parameters
        ----------
        count : int
            Images.
        choose : callable
            ``choose(number, h, mean, log_std)`` returns the latent variables of a group, given its number, the path
            ``(count, ...)``, and the prior's moments. A sampler draws from the prior there, an encoder from the
            posterior, and a compressor reads them from its file.

        Returns
        -------
        Tensor
            The likelihood's parameters ``(count, out_channels, size, size)``.
        """
        h, number = self.start.expand(count, *self.start.shape), 0
        for rung in self.rungs:
            h = rung.merge(h, choose(number, h, *rung.prior(h)))
            number += 1
        if self.rungs:
            h = self.from_vector(h).unflatten(1, (-1, self.config.sides[-1], self.config.sides[-1]))
        for level in reversed(range(len(self.down))):
            for block in self.down[level]:
                h = block.merge(h, choose(number, h, *block.prior(h)))
                number += 1
            h = self.grow[level - 1](h) if level else h
        h = pixel_shuffle(self.unfold(silu(self.norm(h))), self.config.patch)  # (count, fine, size, size)
        return self.head(silu(h))

    def posterior(self, number: int, h: Tensor, up: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Return a group's posterior moments, given its map of `bottom_up` and what `top_down` hands to ``choose``."""
        groups = [*self.rungs, *(block for blocks in reversed(self.down) for block in blocks)]
        return groups[number].posterior(h, up, mean, log_std)

    def forward(
        self, x: Tensor, eps: tuple[Tensor, ...], cond: Tensor | None = None
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """Return the likelihood's parameters and the latent levels, given standard normal ``eps``.

        ``eps`` may hold K rows for each image, row ``i * K + k`` for draw k of image i. The way up is then walked once
        an image, and K rows an image are returned.
        """
        if cond is not None:
            raise InputError("cond: this network takes no classes")
        draws = len(eps[0]) // len(x)
        seen, levels = [up.repeat_interleave(draws, 0) for up in self.bottom_up(x)], []

        def choose(number: int, h: Tensor, prior_mean: Tensor, prior_log_std: Tensor) -> Tensor:
            mean, log_std = self.posterior(number, h, seen[number], prior_mean, prior_log_std)
            z = mean + log_std.exp() * eps[number]
            levels.append(Level(z, mean, log_std, prior_mean, prior_log_std))
            return z

        return self.top_down(len(eps[0]), choose), tuple(levels)

    def generate(self, eps: tuple[Tensor, ...], cond: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters for draws from the prior, made of standard normal ``eps``."""
        if cond is not None:
            raise InputError("cond: this network takes no classes")
        return self.top_down(len(eps[0]), lambda number, h, mean, log_std: mean + log_std.exp() * eps[number])
