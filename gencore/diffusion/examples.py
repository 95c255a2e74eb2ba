"""What a network of this family learns from: pictures or their codes, what it is told of them, and noise.

All of it follows from the recipe's seed and the images seen.
"""

import torch
from torch import Tensor, nn

from gencore.data import Batches, ImageSet, to_float
from gencore.data.told import conditions, reword, untold, with_mirrored, wordings
from gencore.diffusion.objectives import Draw
from gencore.diffusion.recipes import DiffusionRecipe
from gencore.networks.latent import LatentNetwork
from gencore.training import distributed, rng


class Examples:
    """The endless stream of training examples; codes are made once, at the start.

    Parameters
    ----------
    recipe : DiffusionRecipe
        What is told, hidden and mirrored, and the seed.
    data : ImageSet
        The training images.
    model : Module
        The network; one that denoises codes has its first stage, and here measures their mean and standard deviation.
    device : torch.device
        Where the examples live.

    Raises
    ------
    InputError
        If the data do not fit the network's conditions.
    """

    def __init__(self, recipe: DiffusionRecipe, data: ImageSet, model: nn.Module, device: torch.device) -> None:
        self.recipe, self.device, self.count = recipe, device, len(data)
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        self._batches = Batches(data, recipe.batch_size, recipe.seed, device, self._rank, self._world_size)
        self._table = conditions(recipe, data).to(device)  # (N, K)
        self._wordings = wordings(recipe, data).to(device)  # (N, P, L)
        self._codes = None
        if isinstance(model, LatentNetwork):
            x = to_float(data.images)
            # A mirrored picture's codes are not its codes mirrored: both are encoded, the mirrored ones from place N on.
            x = torch.cat([x, x.flip(3)]) if recipe.mirror else x
            self._codes = model.standardise(x.to(device))  # (N or 2N, *shape)

    def at(self, seen: int) -> tuple[Tensor, Tensor, Draw]:
        """Return this process's share of the batch that comes after ``seen`` images.

        Returns
        -------
        x : Tensor
            Pictures in [-1, 1] or standardised codes, ``(B, C, H, W)``.
        cond : Tensor
            Conditions, int64 ``(B, K)``, some of them hidden.
        draw : Draw
            Noise and times.
        """
        recipe, batch = self.recipe, self._batches.at(seen)
        x, place, cond = batch.x, batch.index, self._table[batch.index]
        if self._wordings.shape[1] > 1:
            cond = reword(cond, self._wordings[batch.index], self._uniform(seen, "wording"))
        if recipe.told:
            hidden = self._uniform(seen, "drop") < recipe.drop
            cond = torch.where(hidden[:, None], untold(recipe, cond), cond)
        if recipe.mirror:
            mirrored = self._uniform(seen, "mirror") < 0.5
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
            place = place + self.count * mirrored
            cond = with_mirrored(recipe, cond, mirrored.long())
        x = x if self._codes is None else self._codes[place]
        shape = (recipe.batch_size, *x.shape[1:])
        eps = rng.normal(shape, recipe.seed, seen, "noise", self._rank, self._world_size, self.device)
        return x, cond, Draw(eps, self._uniform(seen, "time"))

    def _uniform(self, seen: int, purpose: str) -> Tensor:
        shape = (self.recipe.batch_size,)
        return rng.uniform(shape, self.recipe.seed, seen, purpose, self._rank, self._world_size, self.device)
