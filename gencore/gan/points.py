"""The game on points in the plane, where everything can be counted: for studies, and for trying things out in seconds."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from gencore.analytic.mixture import GaussianMixture
from gencore.errors import InputError
from gencore.gan.objectives import Draw, Networks, NonSaturating
from gencore.gan.penalties import Codes, PathLength
from gencore.gan.turns import Objective, Penalties, turns
from gencore.networks.spectral import follow_spectrum, normalise_spectrum
from gencore.training import rng
from gencore.training.ema import EMA
from gencore.training.loss import add_losses


@dataclass(frozen=True)
class PointGame:
    """All that decides a game on points.

    Attributes
    ----------
    objective, penalties, generator_every
        As in `GANRecipe`.
    spectral : bool
        Whether each of the discriminator's layers is divided by its spectral norm.
    width, depth : int
        Both players' hidden layers: how wide, and how many.
    latent : int
        Length of the latent vector.
    generator_lr, discriminator_lr : float
        Learning rates of Adam, which fall in a line to zero in the second half.
    beta1, beta2 : float
        Its decays.
    steps : int
        Steps of training.
    batch_size : int
        Points per step.
    ema_half_life : int
        Half-life of the generator's moving average, in points.
    seed : int
        Decides the first weights, the points and all noise.
    """

    objective: Objective = NonSaturating()
    penalties: Penalties = ()
    generator_every: int = 1
    spectral: bool = False
    width: int = 128
    depth: int = 3
    latent: int = 4
    generator_lr: float = 1e-3
    discriminator_lr: float = 1e-3
    beta1: float = 0.5
    beta2: float = 0.99
    steps: int = 3_000
    batch_size: int = 256
    ema_half_life: int = 25_000
    seed: int = 0

    def __post_init__(self) -> None:
        for field in ("generator_every", "width", "depth", "latent", "steps", "batch_size"):
            if getattr(self, field) < 1:
                raise InputError(f"{field} is {getattr(self, field)}; it must be at least 1")
        if any(isinstance(each, (PathLength, Codes)) for each in self.penalties):
            raise InputError("penalties: PathLength and Codes need networks for pictures; leave them out")

    def build(self, dimension: int = 2) -> Networks:
        """Return both players for points of so many dimensions."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            generator = _perceptron(self.latent, self.width, self.depth, dimension)
            discriminator = nn.Sequential(*_perceptron(dimension, self.width, self.depth, 1), nn.Flatten(0))
            return Networks(generator, normalise_spectrum(discriminator) if self.spectral else discriminator)


def play(game: PointGame, data: GaussianMixture) -> Networks:
    """Play a game to its end.

    Parameters
    ----------
    game : PointGame
        What to play.
    data : GaussianMixture
        Where real points come from, fresh ones at each step.

    Returns
    -------
    Networks
        The averaged generator, in evaluation mode, and the discriminator. Points that are no longer finite show that the
        game was lost.
    """
    networks = game.build(data.means.shape[1])
    ema = EMA(networks.generator, game.ema_half_life)
    rates, betas = (game.generator_lr, game.discriminator_lr), (game.beta1, game.beta2)
    optimisers = Networks(*(torch.optim.Adam(n.parameters(), lr, betas, fused=True) for n, lr in zip(networks, rates)))
    weights = Networks(*(list(network.parameters()) for network in networks))
    for step in range(game.steps):
        seen, due = step * game.batch_size, turns(game, step)
        for optimiser, lr in zip(optimisers, rates, strict=True):
            optimiser.param_groups[0]["lr"] = lr * min(1.0, 2 * (1 - step / game.steps))
        x = data.sample(game.batch_size, rng.generator(game.seed, seen, "data")).float()  # (B, D)
        z = rng.normal((game.batch_size, game.latent), game.seed, seen, "latent")  # (B, latent)
        draw = Draw(z, rng.uniform((game.batch_size,), game.seed, seen, "between"))
        fake = networks.generator(z)  # (B, D)
        for player, losses in due._asdict().items():
            if losses:
                loss = add_losses(each(networks, x, None, draw, fake) for each in losses)
                loss.total.backward(inputs=getattr(weights, player))
                getattr(optimisers, player).step()
                getattr(optimisers, player).zero_grad()
                follow_spectrum(getattr(networks, player))
        ema.update(networks.generator, seen + game.batch_size, game.batch_size)
    return Networks(ema.network, networks.discriminator.eval())


@torch.no_grad()
def points(game: PointGame, generator: nn.Module, count: int, seed: int) -> Tensor:
    """Draw points ``(count, D)`` from a game's generator."""
    return generator(rng.normal((count, game.latent), seed, 0, "points"))


def _perceptron(inputs: int, width: int, depth: int, outputs: int) -> nn.Sequential:
    """Return dense layers with LeakyReLU between them."""
    lengths = [inputs] + [width] * depth
    layers: list[nn.Module] = []
    for before, after in zip(lengths, lengths[1:]):
        layers += [nn.Linear(before, after), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Linear(width, outputs))
