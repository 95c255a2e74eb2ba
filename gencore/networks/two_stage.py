"""A second VAE on the codes of a first: Dai & Wipf 2019, "Diagnosing and enhancing VAE models".

https://arxiv.org/abs/1903.05789, section 4: the first autoencoder learns what pictures look like, the second one how its
codes are distributed, which is no standard normal distribution.

Deviations: the first is any Gaussian autoencoder with a grid of codes, trained before and held fixed; the second learns
the means of its codes, each channel brought to mean 0 and standard deviation 1.

The first stage is passed in. It is no part of the module: its weights are neither trained nor saved again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.hierarchical import Hierarchical, HierarchicalVAE
from gencore.networks.ladder import Ladder, LadderVAE
from gencore.networks.vae import VAE, Level


@dataclass(frozen=True)
class TwoStage:
    """Sizes of both stages.

    Attributes
    ----------
    first : Autoencoder
        From pictures to a grid of codes and back; ``flat=False``.
    second : Ladder or Hierarchical
        The model of codes; its size and channels are those of the grid.
    """

    first: Autoencoder = Autoencoder(size=32, channels=3, latent=4, flat=False)
    second: Ladder | Hierarchical = Ladder(size=8, channels=4)

    def __post_init__(self) -> None:
        if self.first.flat or self.first.classes or self.first.out_channels not in (None, self.first.channels):
            raise InputError("first: must be an autoencoder with flat=False, without classes and out_channels")
        wanted, given = self.first.latent_shape, (self.second.channels, self.second.size, self.second.size)
        if wanted != given or self.second.out_channels not in (None, self.second.channels):
            raise InputError(f"second: models codes of shape {given}, but the first stage makes {wanted}; make them equal")

    @property
    def size(self) -> int:
        """Height and width of the pictures."""
        return self.first.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.first.channels

    @property
    def out_channels(self) -> None:
        """None: what comes out is a picture."""


class TwoStageVAE(nn.Module):
    """Latent variables to codes, codes to pictures, and back.

    Parameters
    ----------
    config : TwoStage
        The sizes.

    Attributes
    ----------
    first : VAE
        The first stage, once `adopt` has taken it.
    """

    def __init__(self, config: TwoStage) -> None:
        super().__init__()
        self.config = config
        self._first: list[VAE] = []  # in a list, where a module's parts are not looked for
        self.second = (LadderVAE if isinstance(config.second, Ladder) else HierarchicalVAE)(config.second)
        self.register_buffer("mean", torch.zeros(config.first.latent, 1, 1))  # of the codes' channels
        self.register_buffer("std", torch.ones(config.first.latent, 1, 1))

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each group of latent variables of one image, in the order in which they are drawn."""
        return self.second.latent_shapes

    @property
    def first(self) -> VAE:
        if not self._first:
            raise InputError("first stage: missing; pass it in")
        return self._first[0]

    def adopt(self, first: nn.Module) -> None:
        """Take the trained first stage, an autoencoder with the sizes of ``config.first``.

        Raises
        ------
        InputError
            If it has other sizes.
        """
        if getattr(first, "config", None) != self.config.first:
            raise InputError("first stage: has other sizes than network.first; give the model that the recipe names")
        self._first = [first.eval().requires_grad_(False).to(self.mean.device)]

    @torch.no_grad()
    def standardise(self, images: Tensor) -> Tensor:
        """Measure the codes of the training images, ``(N, C, H, W)`` in [-1, 1], and return them standardised."""
        self.mean.zero_()
        self.std.fill_(1)
        codes = self.encode(images)
        self.mean.copy_(codes.mean((0, 2, 3))[:, None, None])
        self.std.copy_(codes.std((0, 2, 3))[:, None, None])
        return (codes - self.mean) / self.std

    @torch.no_grad()
    def encode(self, x: Tensor, batch_size: int = 250) -> Tensor:
        """Return codes ``(B, latent, side, side)``, standardised channel by channel."""
        codes = torch.cat([self.first.encode(piece)[0] for piece in x.split(batch_size)])
        return (codes - self.mean) / self.std

    def decode(self, codes: Tensor) -> Tensor:
        """Return pictures ``(B, channels, size, size)``, unbounded, of such codes."""
        return self.first.decode(codes * self.std + self.mean)

    def forward(
        self, x: Tensor, eps: tuple[Tensor, ...], cond: Tensor | None = None
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """Return pictures and the latent levels, given standard normal ``eps``."""
        codes, levels = self.second(self.encode(x), eps, cond)
        return self.decode(codes), levels

    def generate(self, eps: tuple[Tensor, ...], cond: Tensor | None = None) -> Tensor:
        """Return pictures for draws from the prior, made of standard normal ``eps``."""
        return self.decode(self.second.generate(eps, cond))
