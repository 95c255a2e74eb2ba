"""What a painting network learns from: windows of photographs, and for each a style and how much of it is wanted.

All of it follows from the recipe's seed and the images seen, and lies on the device.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from gencore.applications.style_transfer.features import StyleFeatures
from gencore.applications.style_transfer.objectives import Brushes, Examples, Maps, grams
from gencore.applications.style_transfer.recipes import StyleRecipe
from gencore.data import Batches, to_float
from gencore.networks.image_transform import ImageTransform
from gencore.training import distributed, rng

OF_PAINTINGS = 0.6  # share of the styles that are paintings, if others are there
RECOLOURED = 0.5  # share of the styles whose colours are turned


class Stream:
    """The endless stream of training examples.

    Parameters
    ----------
    recipe : StyleRecipe
        What is shown, and the seed.
    features : StyleFeatures
        The fixed network; paintings that have a row of their own are looked at once, at the start.
    device : torch.device
        Where the examples live.
    """

    def __init__(self, recipe: StyleRecipe, features: StyleFeatures, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self._rank, self._world_size = distributed.rank(), distributed.world_size()
        data = recipe.data.load("train")
        self._batches = Batches(data, recipe.batch_size, recipe.seed, device, self._rank, self._world_size)
        if isinstance(recipe.network, ImageTransform):
            self._grams = painting_grams(recipe, features, device)
        else:
            patches, self._of_paintings = recipe.styles.patches(recipe.seed)
            self._patches = patches.to(device)

    def at(self, seen: int) -> tuple[Tensor, Brushes | Examples]:
        """Return this process's share of the batch that comes after ``seen`` images.

        Returns
        -------
        x : Tensor
            Photographs in [-1, 1], ``(B, 3, window, window)``.
        draw : Brushes or Examples
            What each is to become.
        """
        recipe = self.recipe
        x = windows(self._batches.at(seen).x, self._uniform(seen, "window", 4), recipe.window)
        u = self._uniform(seen, "style", 4)  # (B, 4)
        strength = (2 * u[:, 0]).clamp(max=1)  # half of them in full, the others evenly spread over what is less
        if isinstance(recipe.network, ImageTransform):
            number = (u[:, 1] * recipe.styles.count).long()  # (B,)
            wanted = {layer: matrices[number] for layer, matrices in self._grams.items()}  # (B, C, C) each
            return x, Brushes(mixture(number, strength, recipe.network.styles), wanted, strength)
        pick, share = u[:, 1], OF_PAINTINGS if recipe.styles.others else 1.0
        others = len(self._patches) - self._of_paintings
        painted, other = pick / share * self._of_paintings, (pick - share) / max(1 - share, 1e-6) * others
        number = torch.where(pick < share, painted, self._of_paintings + other).long().clamp(max=len(self._patches) - 1)
        pictures = windows(to_float(self._patches[number]), self._uniform(seen, "style window", 4), recipe.window)
        if recipe.styles.others:
            turns = torch.where(u[:, 2] < RECOLOURED, 2 * math.pi * u[:, 3], 0.0)
            pictures = turn_colours(pictures, turns)
        return x, Examples(pictures, strength)

    def _uniform(self, seen: int, purpose: str, count: int) -> Tensor:
        """Draw ``(B, count)`` uniform numbers."""
        shape = (self.recipe.batch_size, count)
        return rng.uniform(shape, self.recipe.seed, seen, purpose, self._rank, self._world_size, self.device)


@torch.no_grad()
def painting_grams(recipe: StyleRecipe, features: StyleFeatures, device: torch.device) -> Maps:
    """Return the Gram matrices of a recipe's paintings, ``(count, C, C)`` for each layer of style."""
    found = [grams(features(picture.to(device)), recipe.objective.layers) for picture in recipe.styles.whole()]
    return {layer: torch.cat([each[layer] for each in found]) for layer in recipe.objective.layers.style}


def mixture(number: Tensor, strength: Tensor, styles: int) -> Tensor:
    """Return shares of a network's styles: so much of one, and the rest of the last, which is the photograph as it is.

    Parameters
    ----------
    number : Tensor
        Which style, int64 ``(B,)``.
    strength : Tensor
        How much of it, ``(B,)`` in [0, 1].
    styles : int
        How many there are, the photograph included.

    Returns
    -------
    Tensor
        float32 ``(B, styles)``; rows sum to 1.
    """
    mix = torch.zeros(len(number), styles, device=number.device)
    mix[:, -1] = 1 - strength
    return mix.scatter_add_(1, number[:, None], strength[:, None].float())  # (STY.12)


def windows(x: Tensor, u: Tensor, size: int) -> Tensor:
    """Cut a window out of each square picture, of a size and at a place drawn by chance, half of them mirrored.

    Parameters
    ----------
    x : Tensor
        ``(B, C, S, S)``.
    u : Tensor
        Uniform numbers in [0, 1), ``(B, 4)``: size, place across and down, mirror.
    size : int
        Side of the window in pixels, at most ``S``. What is shown in it had a side between ``size`` and ``S``.

    Returns
    -------
    Tensor
        ``(B, C, size, size)``.
    """
    least = size / x.shape[3]
    share = least + (1 - least) * u[:, 0]
    across, down = ((2 * each - 1) * (1 - share) for each in (u[:, 1], u[:, 2]))  # a side is 2 units long
    turned = torch.where(u[:, 3] < 0.5, -share, share)
    nothing = torch.zeros_like(share)
    rows = torch.stack([turned, nothing, across], 1), torch.stack([nothing, share, down], 1)  # (B, 3) each
    grid = affine_grid(torch.stack(rows, 1), [len(x), x.shape[1], size, size], align_corners=False)
    return grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)


def turn_colours(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the colours of each picture ``(B, 3, H, W)`` around the grey axis by an angle ``(B,)``, in [-1, 1]."""
    cosine, sine, third = angles.cos(), angles.sin(), (1 - angles.cos()) / 3
    plus, minus = third + sine / math.sqrt(3), third - sine / math.sqrt(3)
    same = cosine + third
    rows = [torch.stack(row, 1) for row in ((same, minus, plus), (plus, same, minus), (minus, plus, same))]
    return torch.einsum("bij,bjhw->bihw", torch.stack(rows, 1), x).clamp(-1, 1)
