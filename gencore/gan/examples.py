"""What the two players are given in a step: pictures, what is told of them, and noise.

All of it follows from the recipe's seed and the images seen.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.data import Batches, ImageSet, to_float
from gencore.data.told import conditions, with_mirrored
from gencore.gan.augmentation import NUMBERS
from gencore.gan.objectives import Draw
from gencore.gan.recipes import GANRecipe
from gencore.networks.first_stage import CodeModel
from gencore.training import distributed, rng


class Example(NamedTuple):
    """One process's share of a batch.

    Attributes
    ----------
    x : Tensor
        Pictures in [-1, 1] or standardised codes, ``(B, C, H, W)``.
    cond : Tensor, optional
        What is told of each, int64 ``(B, K)``; generated pictures are asked for with the same.
    draw : Draw
        Latents, and what penalties take.
    changes : Tensor, optional
        What the augmentation of real and of generated pictures takes, ``(2, B, 7)``.
    """

    x: Tensor
    cond: Tensor | None
    draw: Draw
    changes: Tensor | None


class Examples:
    """The endless stream of training examples.

    Parameters
    ----------
    recipe : GANRecipe
        What is told and mirrored, and the seed.
    data : ImageSet
        The training images.
    generator : Module
        One that paints codes has its first stage, and here measures their mean and standard deviation.
    device : torch.device
        Where the examples live.

    Raises
    ------
    InputError
        If the data do not fit the networks' conditions.
    """

    def __init__(self, recipe: GANRecipe, data: ImageSet, generator: nn.Module, device: torch.device) -> None:
        self.recipe, self.device, self.count = recipe, device, len(data)
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        self._batches = Batches(data, recipe.batch_size, recipe.seed, device, self._rank, self._world_size)
        self._table = conditions(recipe, data).to(device)  # (N, K)
        self._codes = None
        if isinstance(generator, CodeModel):
            x = to_float(data.images).to(device)
            # A mirrored picture's codes are not its codes mirrored: both are encoded, the mirrored ones from place N on.
            self._codes = generator.standardise(torch.cat([x, x.flip(3)]) if recipe.mirror else x)

    def at(self, seen: int) -> Example:
        """Return this process's share of the batch that comes after ``seen`` images."""
        recipe, batch = self.recipe, self._batches.at(seen)
        x, place, cond = batch.x, batch.index, self._table[batch.index]
        if recipe.mirror:
            mirrored = self._uniform(seen, "mirror") < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
            place = place + self.count * mirrored
            cond = with_mirrored(recipe, cond, mirrored.long())
        x = x if self._codes is None else self._codes[place]
        z = self._normal(seen, "latent", recipe.network.latent)
        # Whether or not a penalty asks for the others: they take half a hundredth of a step.
        draw = Draw(z, self._uniform(seen, "between"), self._normal(seen, "direction", *x.shape[1:]))
        changes = None
        if recipe.augmentation is not None:
            changes = torch.stack([self._uniform(seen, purpose, NUMBERS) for purpose in ("change real", "change generated")])
        return Example(x, cond if recipe.conditions else None, draw, changes)

    def _uniform(self, seen: int, purpose: str, *shape: int) -> Tensor:
        whole = (self.recipe.batch_size, *shape)
        return rng.uniform(whole, self.recipe.seed, seen, purpose, self._rank, self._world_size, self.device)

    def _normal(self, seen: int, purpose: str, *shape: int) -> Tensor:
        whole = (self.recipe.batch_size, *shape)
        return rng.normal(whole, self.recipe.seed, seen, purpose, self._rank, self._world_size, self.device)


def split(count: int, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> list[tuple[tuple, float]]:
    """Cut a batch into so many pieces: what losses take after the networks, and the share of the batch that it is."""
    drawn = zip(*(each.chunk(count) for each in draw), strict=True)
    xs = x.chunk(count)
    told = [None] * len(xs) if cond is None else cond.chunk(count)
    pieces = zip(xs, told, map(Draw._make, drawn), fake.chunk(count), strict=True)
    return [(piece, len(piece[0]) / len(x)) for piece in pieces]
