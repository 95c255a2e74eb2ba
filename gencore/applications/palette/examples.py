"""What a network of this application learns from: pictures, what it is shown of them, and noise.

All of it follows from the recipe's seed and the images seen, and is made on the device.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from gencore.applications.palette.recipes import PaletteRecipe
from gencore.applications.palette.tasks import Instruct, Seen, to_drawn
from gencore.data import Batches, Photos, to_float
from gencore.data.edits import END
from gencore.data.photos import Squares, photos_of
from gencore.diffusion.objectives import Draw
from gencore.networks.latent_palette import LatentPaletteNetwork
from gencore.training import distributed, rng


def shrink(picture: Tensor, scale: float, least: int) -> Tensor:
    """Return a picture, uint8 ``(3, H, W)``, at a smaller scale (bicubic, antialiased), no side shorter than ``least``."""
    if scale == 1:
        return picture
    size = [max(least, round(side * scale)) for side in picture.shape[1:]]
    small = interpolate(picture[None].float(), size=size, mode="bicubic", antialias=True)[0]
    return small.clamp(0, 255).round().to(torch.uint8)


class Examples:
    """The endless stream of training examples; codes are made once, at the start.

    Parameters
    ----------
    recipe : PaletteRecipe
        What is spoiled, and the seed.
    model : Module
        The network; one that denoises codes has its first stage, and here measures their mean and standard deviation.
    device : torch.device
        Where the examples live.
    """

    def __init__(self, recipe: PaletteRecipe, model: nn.Module, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        self._squares = self._batches = self._before = self._place = self._words = self._codes = None
        if isinstance(recipe.data, Photos):
            size = recipe.data.size
            kept = [shrink(each.image, scale, size) for each in photos_of("train") for scale in recipe.scales]
            self._squares = Squares(kept, size, device)
            return
        if isinstance(recipe.task, Instruct):
            pairs = recipe.data.load_pairs("train")
            data = pairs.after
            self._before, self._place, self._words = (each.to(device) for each in (pairs.before, pairs.place, pairs.words))
            if isinstance(model, LatentPaletteNetwork):
                self._codes = model.standardise(to_float(data.images).to(device))
                self._before = model.encode(to_float(pairs.before).to(device))
        else:
            data = recipe.data.load("train")
        self._batches = Batches(data, recipe.batch_size, recipe.seed, device, self._rank, self._world_size)

    def at(self, images_seen: int) -> tuple[Tensor, Seen, Draw]:
        """Return this process's share of the batch that comes after ``images_seen`` images.

        Returns
        -------
        x : Tensor
            What is to be drawn, ``(B, C, H, W)``.
        seen : Seen
            What is shown.
        draw : Draw
            Noise and times.
        """
        recipe, task = self.recipe, self.recipe.task
        if self._squares is not None:
            x = to_float(self._squares.cut(self._uniform(images_seen, "patch", 3)))
        else:
            batch = self._batches.at(images_seen)
            x = batch.x
        if recipe.mirror:
            mirrored = self._uniform(images_seen, "mirror")[:, None, None, None] < 0.5
            x = torch.where(mirrored, x.flip(3), x)
        if self._words is not None:
            before = self._before[self._place[batch.index]]  # pictures, or codes
            if self._codes is None:
                before = to_float(before)
            else:
                x = self._codes[batch.index]
            seen = Seen(before, words=self._words[batch.index])
            seen = self._hidden(seen, self._uniform(images_seen, "drop"))
        else:
            u = self._uniform(images_seen, "task", task.numbers) if task.numbers else None
            seen = task.show(x, u, self._normal(images_seen, "damage", x.shape[1:]) if task.noisy else None)
        noise = self._normal(images_seen, "noise", x.shape[1:])
        return to_drawn(task, x, seen), seen, Draw(noise, self._uniform(images_seen, "time"))

    def _hidden(self, seen: Seen, u: Tensor) -> Seen:
        """Hide words, picture, or both, each for a share ``drop`` of the pictures."""
        drop = self.recipe.drop
        words_too = (u < drop) | (u >= 2 * drop) & (u < 3 * drop)
        picture_too = (u >= drop) & (u < 3 * drop)
        return Seen(
            torch.where(picture_too[:, None, None, None], 0, seen.source),
            words=torch.where(words_too[:, None], END, seen.words),
        )

    def _uniform(self, images_seen: int, purpose: str, *shape: int) -> Tensor:
        recipe = self.recipe
        whole = (recipe.batch_size, *shape)
        return rng.uniform(whole, recipe.seed, images_seen, purpose, self._rank, self._world_size, self.device)

    def _normal(self, images_seen: int, purpose: str, shape: torch.Size) -> Tensor:
        recipe = self.recipe
        whole = (recipe.batch_size, *shape)
        return rng.normal(whole, recipe.seed, images_seen, purpose, self._rank, self._world_size, self.device)
