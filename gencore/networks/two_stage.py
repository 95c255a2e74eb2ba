"""A second VAE on the codes of a first: Dai & Wipf 2019, "Diagnosing and enhancing VAE models".

https://arxiv.org/abs/1903.05789, section 4: the first autoencoder learns what pictures look like, the second one how its
codes are distributed, which is no standard normal distribution.

Deviations: the first is any Gaussian autoencoder with a grid of codes, trained before and held fixed; the second learns
the means of its codes, each channel brought to mean 0 and standard deviation 1 (`gencore.networks.first_stage`).
"""

from dataclasses import dataclass

from torch import Tensor

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.first_stage import AboveFirstStage, CodeModel, check_first_stage
from gencore.networks.hierarchical import Hierarchical, HierarchicalVAE
from gencore.networks.ladder import Ladder, LadderVAE
from gencore.networks.vae import Level


@dataclass(frozen=True)
class TwoStage(AboveFirstStage):
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
        check_first_stage(self.first)
        wanted, given = self.first.latent_shape, (self.second.channels, self.second.size, self.second.size)
        if wanted != given or self.second.out_channels not in (None, self.second.channels):
            raise InputError(f"second: models codes of shape {given}, but the first stage makes {wanted}; make them equal")

    @property
    def out_channels(self) -> None:
        """None: what comes out is a picture."""


class TwoStageVAE(CodeModel):
    """Latent variables to codes, codes to pictures, and back.

    Parameters
    ----------
    config : TwoStage
        The sizes.
    """

    def __init__(self, config: TwoStage) -> None:
        super().__init__(config.first)
        self.config = config
        self.second = (LadderVAE if isinstance(config.second, Ladder) else HierarchicalVAE)(config.second)

    @property
    def latent_shapes(self) -> tuple[tuple[int, ...], ...]:
        """Shape of each group of latent variables of one image, in the order in which they are drawn."""
        return self.second.latent_shapes

    def forward(
        self, x: Tensor, eps: tuple[Tensor, ...], cond: Tensor | None = None
    ) -> tuple[Tensor, tuple[Level, ...]]:
        """Return pictures and the latent levels, given standard normal ``eps``."""
        codes, levels = self.second(self.encode(x), eps, cond)
        return self.decode(codes), levels

    def generate(self, eps: tuple[Tensor, ...], cond: Tensor | None = None) -> Tensor:
        """Return pictures for draws from the prior, made of standard normal ``eps``."""
        return self.decode(self.second.generate(eps, cond))
