"""What a network of this family learns from: symbols, what it is told of them, and noise.

All of it follows from the recipe's seed and the images seen.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from gencore.autoregressive.masked import MaskedSymbols
from gencore.autoregressive.objectives import Draw
from gencore.autoregressive.recipes import AutoregressiveRecipe
from gencore.data import Batches, ImageSet, to_float
from gencore.data.told import conditions, reword, untold, with_mirrored, wordings
from gencore.networks.coded import CodedNetwork
from gencore.training import distributed, rng


class Examples:
    """The endless stream of training examples; codes are made once, at the start.

    Parameters
    ----------
    recipe : AutoregressiveRecipe
        What is told, hidden, mirrored and shifted, and the seed.
    data : ImageSet
        The training images.
    model : Module
        The network; one that writes codes has its first stage.
    device : torch.device
        Where the examples live.

    Raises
    ------
    InputError
        If the data do not fit the network's conditions.
    """

    def __init__(self, recipe: AutoregressiveRecipe, data: ImageSet, model: nn.Module, device: torch.device) -> None:
        self.recipe, self.device, self.count = recipe, device, len(data)
        self._noise_shape = noise_shape(model)
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        self._batches = Batches(data, recipe.batch_size, recipe.seed, device, self._rank, self._world_size)
        self._table = conditions(recipe, data).to(device)  # (N, K)
        self._wordings = wordings(recipe, data).to(device)  # (N, P, L)
        self._codes = None
        if isinstance(model, CodedNetwork):
            x = to_float(data.images).to(device)
            shown = variants(x, recipe.mirror, recipe.jitter)
            self._codes = torch.stack([encode(model, each) for each in shown])  # (V, N, ...)

    def at(self, seen: int) -> tuple[Tensor, Tensor, Draw]:
        """Return this process's share of the batch that comes after ``seen`` images.

        Returns
        -------
        symbols : Tensor
            int64, ``(B, C, H, W)``.
        cond : Tensor
            Conditions, int64 ``(B, K)``, some of them hidden.
        draw : Draw
            What dropout takes, and what is hidden.
        """
        recipe, batch = self.recipe, self._batches.at(seen)
        x, cond = batch.x, self._table[batch.index]
        if self._wordings.shape[1] > 1:
            cond = reword(cond, self._wordings[batch.index], self._uniform(seen, "wording"))
        if recipe.told and recipe.drop:
            hidden = self._uniform(seen, "drop") < recipe.drop
            cond = torch.where(hidden[:, None], untold(recipe, cond), cond)
        mirrored = torch.zeros(len(x), dtype=torch.int64, device=self.device)
        if recipe.mirror:
            mirrored = (self._uniform(seen, "mirror") < 0.5).long()
            cond = with_mirrored(recipe, cond, mirrored)
        if self._codes is not None:
            shifts = (2 * recipe.jitter + 1) ** 2
            shift = (self._uniform(seen, "jitter") * shifts).long()
            symbols = self._codes[mirrored * shifts + shift, batch.index]
        else:
            x = torch.where(mirrored[:, None, None, None] == 1, x.flip(3), x) if recipe.mirror else x
            if recipe.augmentation is not None:
                x = recipe.augmentation(x, self._uniform(seen, "augmentation", *x.shape[1:]))
            symbols = recipe.pixels.write(x)
        dropped = self._uniform(seen, "dropout", *self._noise_shape) if self._noise_shape else None
        ratio = order = None
        if isinstance(recipe.objective, MaskedSymbols):
            ratio, order = self._uniform(seen, "ratio"), self._uniform(seen, "order", symbols[0].numel())
        return symbols, cond, Draw(dropped, ratio, order)

    def _uniform(self, seen: int, purpose: str, *shape: int) -> Tensor:
        whole = (self.recipe.batch_size, *shape)
        return rng.uniform(whole, self.recipe.seed, seen, purpose, self._rank, self._world_size, self.device)


def noise_shape(model: nn.Module) -> tuple[int, ...]:
    """Return the shape of the uniform numbers that one picture's dropout takes, empty if nothing is left out."""
    config = model.writer.config if isinstance(model, CodedNetwork) else model.config
    return getattr(config, "noise_shape", ())


def variants(x: Tensor, mirror: bool, jitter: int) -> list[Tensor]:
    """Return pictures ``(N, C, H, W)`` in all ways in which they are shown: shifted ones, then the same of mirrored ones."""
    shown = []
    for side in (x, x.flip(3)) if mirror else (x,):
        framed = pad(side, (jitter,) * 4, mode="replicate") if jitter else side
        height, width = x.shape[2:]
        span = range(2 * jitter + 1)
        shown += [framed[:, :, down : down + height, right : right + width] for down in span for right in span]
    return shown


@torch.no_grad()
def encode(model: CodedNetwork, x: Tensor, batch_size: int = 250) -> Tensor:
    """Return the symbols of pictures ``(N, C, H, W)`` in [-1, 1]."""
    return torch.cat([model.encode(piece) for piece in x.split(batch_size)])
