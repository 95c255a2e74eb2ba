"""A ladder of fully connected layers: Sønderby et al. 2016, "Ladder variational autoencoders".

https://arxiv.org/abs/1602.02282, section 2.2: an encoder goes up and leaves a vector at each rung; latent variables are
drawn on the way down, each posterior from what came up at its rung and from what was drawn above it. With one rung it is
the VAE of Kingma & Welling 2014, https://arxiv.org/abs/1312.6114, with residual layers.

Deviations: layer normalisation instead of batch normalisation, which would tie an image's bound to its batch; the
posterior is stated relative to the prior (Vahdat & Kautz 2020, https://arxiv.org/abs/2007.03898, section 3.2) instead of
being multiplied with it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.blocks import zero_init
from gencore.networks.vae import LOG_STD_RANGE, Level


@dataclass(frozen=True)
class Ladder:
    """Sizes of a ladder.

    Attributes
    ----------
    size : int
        Height and width of the images.
    channels : int
        1 for grey, 3 for colour.
    out_channels : int, optional
        Channels that the network returns: the parameters of a likelihood. As many as ``channels`` by default.
    latents : tuple of int
        Latent variables at each rung, from the top (drawn first) to the bottom.
    width : int
        Length of the hidden vectors.
    """

    size: int = 28
    channels: int = 1
    out_channels: int | None = None
    latents: tuple[int, ...] = (40,)
    width: int = 400

    def __post_init__(self) -> None:
        if not self.latents or min(self.latents) < 1:
            raise InputError(f"latents {self.latents}: give at least one, each 1 or more")
        for name in ("size", "channels", "width"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} {getattr(self, name)}: must be 1 or more")


def _layer(width: int, outputs: int, inputs: int | None = None) -> nn.Sequential:
    """Normalise, one hidden layer, out."""
    inputs = width if inputs is None else inputs
    return nn.Sequential(nn.LayerNorm(inputs), nn.Linear(inputs, width), nn.SiLU(), nn.Linear(width, outputs))


class Rung(nn.Module):
    """What belongs to one group of latent variables.

    Parameters
    ----------
    width : int
        Length of the hidden vectors.
    latent : int
        Number of latent variables.
    top : bool
        Whether this is the highest rung, whose prior is standard normal.
    """

    def __init__(self, width: int, latent: int, top: bool) -> None:
        super().__init__()
        self.up = _layer(width, width)
        self.prior_head = None if top else _layer(width, 2 * latent)
        self.posterior_head = _layer(width, 2 * latent, 2 * width)
        self.enter = nn.Linear(latent, width)
        self.after = _layer(width, width)
        for head in (self.prior_head, self.posterior_head):
            if head is not None:
                zero_init(head[-1])
        self.latent = latent

    def prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of p(z | what was drawn above), ``(B, latent)`` each."""
        if self.prior_head is None:
            zeros = h.new_zeros(len(h), self.latent, dtype=torch.float32)
            return zeros, zeros
        mean, log_std = self.prior_head(h).float().chunk(2, dim=1)
        return mean, log_std.clamp(*LOG_STD_RANGE)

    def posterior(self, h: Tensor, up: Tensor, mean: Tensor, log_std: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log standard deviation of q(z | x, what was drawn above), relative to the prior's."""
        shift, stretch = self.posterior_head(torch.cat([h, up], 1)).float().chunk(2, dim=1)
        return mean + log_std.exp() * shift, (log_std + stretch).clamp(*LOG_STD_RANGE)

    def merge(self, h: Tensor, z: Tensor) -> Tensor:
        """Return the path after the latent variables have joined it."""
        h = h + self.enter(z)
        return h + self.after(h)


class LadderVAE(nn.Module):
    """Map an image to latent vectors on several rungs, and back.

    Parameters
    ----------
    config : Ladder
        The sizes.
    """

    def __init__(self, config: Ladder) -> None:
        super().__init__()
        self.config = config
        pixels = config.size**2
        out_channels = config.channels if config.out_channels is None else config.out_channels
        self.stem = nn.Linear(config.channels * pixels, config.width)
        self.rungs = nn.ModuleList(Rung(config.width, latent, not place) for place, latent in enumerate(config.latents))
        self.start = nn.Parameter(torch.zeros(config.width))
        self.head = _layer(config.width, out_channels * pixels)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each group of latent variables of one image, in the order in which they are drawn."""
        return tuple((latent,) for latent in self.config.latents)

    def bottom_up(self, x: Tensor) -> list[Tensor]:
        """Return the vector that the encoder leaves at each rung, from the top, ``(B, width)`` each."""
        h, seen = self.stem(x.flatten(1)), []
        for rung in reversed(self.rungs):
            h = h + rung.up(h)
            seen.append(h)
        return seen[::-1]

    def forward(
        self, x: Tensor, eps: tuple[Tensor, ...], cond: Tensor | None = None
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """Return the likelihood's parameters and the latent levels, given standard normal ``eps``.

        Each ``eps`` may hold K rows for each image, row ``i * K + k`` for draw k of image i; the way up is then walked
        once an image, and K rows an image are returned.
        """
        if cond is not None:
            raise InputError("cond: this network takes no classes")
        draws = len(eps[0]) // len(x)
        seen = [up.repeat_interleave(draws, 0) for up in self.bottom_up(x)]
        h, levels = self.start.expand(len(eps[0]), -1), []
        for rung, up, noise in zip(self.rungs, seen, eps, strict=True):
            prior_mean, prior_log_std = rung.prior(h)
            mean, log_std = rung.posterior(h, up, prior_mean, prior_log_std)
            z = mean + log_std.exp() * noise  # (B K, latent)
            levels.append(Level(z, mean, log_std, prior_mean, prior_log_std))
            h = rung.merge(h, z)
        return self._image(h), tuple(levels)

    def generate(self, eps: tuple[Tensor, ...], cond: Tensor | None = None) -> Tensor:
        """Return the likelihood's parameters for draws from the prior, made of standard normal ``eps``."""
        if cond is not None:
            raise InputError("cond: this network takes no classes")
        h = self.start.expand(len(eps[0]), -1)
        for rung, noise in zip(self.rungs, eps, strict=True):
            mean, log_std = rung.prior(h)
            h = rung.merge(h, mean + log_std.exp() * noise)
        return self._image(h)

    def _image(self, h: Tensor) -> Tensor:
        return self.head(h).unflatten(1, (-1, self.config.size, self.config.size))
