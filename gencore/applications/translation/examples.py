"""What translators learn from: pictures, in pairs or not, mirrored and shifted, and the randomness of a step.

All of it follows from the recipe's seed and the images seen.
"""

import torch
from torch import Tensor

from gencore.applications.translation.objectives import CycleDraw, Draw
from gencore.applications.translation.pairs import Pairs, apart
from gencore.applications.translation.recipes import CycleRecipe, TranslationRecipe
from gencore.data import Batches, ImageSet, to_float
from gencore.gan.augmentation import NUMBERS, Augmentation
from gencore.training import distributed, rng
from gencore.training.run import REPLAY_SAMPLES


class PairExamples:
    """The endless stream of training pairs and of the randomness that goes with them.

    Parameters
    ----------
    recipe : TranslationRecipe
        What is mirrored and shifted, and the seed.
    pairs : Pairs
        The training pairs.
    device : torch.device
        Where the examples live.
    """

    def __init__(self, recipe: TranslationRecipe, pairs: Pairs, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.turned = Turned(recipe, device)
        sources = ImageSet("pairs", pairs.source, pairs.group, ("",))
        rank, world_size = distributed.rank(), distributed.world_size()
        self._batches = Batches(sources, recipe.batch_size, recipe.seed, device, rank, world_size)
        self._target, self._cond = pairs.target.to(device), pairs.cond.to(device)

    def at(self, seen: int) -> tuple[Tensor, Tensor, Tensor, Draw]:
        """Return this process's share of the batch that comes after ``seen`` pairs.

        Returns
        -------
        x, y : Tensor
            Sources and targets in [-1, 1], ``(B, C, H, W)``.
        cond : Tensor
            What is told, int64 ``(B, K)``.
        draw : Draw
            The randomness of the step.
        """
        batch = self._batches.at(seen)
        x, y = batch.x, to_float(self._target[batch.index])
        x, y = self.turned(torch.cat([x, y], 1), seen, "pair").split([x.shape[1], y.shape[1]], 1)
        length = self.recipe.network.unet.embedding
        noise, change = (self.turned.uniform(seen, name, n) for name, n in (("dropout", length), ("change", NUMBERS)))
        return x, y, self._cond[batch.index], Draw(noise, change)


class KindExamples:
    """The endless stream of pictures of two kinds that have nothing to do with each other.

    Parameters
    ----------
    recipe : CycleRecipe
        What is mirrored and shifted, and the seed.
    pairs : Pairs
        The training pairs, which are torn apart.
    device : torch.device
        Where the examples live.
    """

    def __init__(self, recipe: CycleRecipe, pairs: Pairs, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.turned = Turned(recipe, device)
        rank, world_size = distributed.rank(), distributed.world_size()
        # Seeds of their own, or else the same two pictures would meet in every epoch.
        self._batches = [
            Batches(
                ImageSet("kind", images, torch.zeros(len(images), dtype=torch.int64), ("",)),
                recipe.batch_size, 2 * recipe.seed + number, device, rank, world_size,
            )
            for number, images in enumerate(apart(pairs))
        ]  # fmt: skip

    def at(self, seen: int) -> tuple[Tensor, Tensor, CycleDraw]:
        """Return this process's share of the batch of both kinds that comes after ``seen`` images of each."""
        a, b = (batches.at(seen).x for batches in self._batches)
        a, b = self.turned(a, seen, "a"), self.turned(b, seen, "b")
        change = torch.stack([self.turned.uniform(seen, f"change {number}", NUMBERS) for number in range(4)])
        return a, b, CycleDraw(self._normal(seen, "veil a", a), self._normal(seen, "veil b", b), change)

    def _normal(self, seen: int, purpose: str, like: Tensor) -> Tensor:
        rank, world_size = distributed.rank(), distributed.world_size()
        shape = self.recipe.batch_size, *like.shape[1:]
        return rng.normal(shape, self.recipe.seed, seen, purpose, rank, world_size, self.device)


class Turned:
    """Pictures mirrored and shifted by chance.

    Parameters
    ----------
    recipe : TranslationRecipe or CycleRecipe
        Whether and how far.
    device : torch.device
        Where the numbers are drawn.
    """

    def __init__(self, recipe: TranslationRecipe | CycleRecipe, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self.shift = Augmentation(colour=0.0, shift=recipe.shift, hole=0.0)

    def __call__(self, x: Tensor, seen: int, purpose: str) -> Tensor:
        """Return pictures ``(B, C, H, W)``, some mirrored, all shifted."""
        u = self.uniform(seen, f"turn {purpose}", NUMBERS + 1)
        if self.recipe.mirror:
            x = torch.where((u[:, NUMBERS] < 0.5)[:, None, None, None], x.flip(3), x)
        return self.shift(x, u[:, :NUMBERS])

    def uniform(self, seen: int, purpose: str, count: int) -> Tensor:
        """Return uniform numbers of this process's share of a batch, ``(B, count)``."""
        rank, world_size = distributed.rank(), distributed.world_size()
        shape = self.recipe.batch_size, count
        return rng.uniform(shape, self.recipe.seed, seen, purpose, rank, world_size, self.device)


def replay_sources(pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return the held-out sources that replays show, uint8 ``(16, C, H, W)``, and what is told."""
    places = torch.linspace(0, len(pairs.source) - 1, REPLAY_SAMPLES).long()
    return pairs.source[places], pairs.cond[places]
