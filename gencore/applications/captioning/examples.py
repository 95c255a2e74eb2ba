"""What a captioner learns from: pictures, moved and mirrored, and their captions.

All of it follows from the recipe's seed and the images seen.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from gencore.applications.captioning.objectives import Draw
from gencore.applications.captioning.recipes import CaptioningRecipe
from gencore.data import Batches, ImageSet, wording
from gencore.training import rng

WHITE = 1.0  # what surrounds an emoji

# A name with one of these says a direction or a time; some groups of symbols hold writing, or mean directions.
_DIRECTIONS = ("left", "right", "clockwise", "leftwards", "rightwards", "o'clock", "thirty", "flag", "map", "moon")
_NEVER = ("Symbols",)


class Examples:
    """The endless stream of training examples.

    Parameters
    ----------
    recipe : CaptioningRecipe
        Languages, how pictures are varied, and the seed.
    data : ImageSet
        The training images.
    device : torch.device
        Where the examples live.
    """

    def __init__(self, recipe: CaptioningRecipe, data: ImageSet, device: torch.device) -> None:
        self.recipe, self.device = recipe, device
        self._batches = Batches(data, recipe.batch_size, recipe.seed, device)
        self._captions = captions_of(recipe, data).to(device)  # (N, P, L)
        self._mirror = may_be_mirrored(data).to(device) if recipe.mirror else None  # (N,)
        self._reach = torch.arange(data.images.shape[2], device=device)

    def at(self, seen: int) -> tuple[Tensor, Tensor, Draw]:
        """Return the batch that comes after ``seen`` images.

        Returns
        -------
        x : Tensor
            Pictures ``(B, C, H, W)`` in [-1, 1].
        captions : Tensor
            int64 ``(B, L)``.
        draw : Draw
            Their languages, and what dropout takes.
        """
        recipe, batch = self.recipe, self._batches.at(seen)
        x = batch.x
        if self._mirror is not None:
            mirrored = (self._uniform(seen, "mirror") < 0.5) & self._mirror[batch.index]
            x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
        if recipe.shift:
            x = self._shifted(x, (self._uniform(seen, "shift", 2) * (2 * recipe.shift + 1)).long())
        language = (self._uniform(seen, "language") * len(recipe.languages)).long()
        noise = recipe.network.noise_shape
        dropped = self._uniform(seen, "dropout", *noise) if noise else None
        return x, self._captions[batch.index, language], Draw(language, dropped)

    def _shifted(self, x: Tensor, corner: Tensor) -> Tensor:
        """Return squares of framed pictures, whose upper left corners ``(B, 2)`` lie in the frame."""
        framed = pad(x, (self.recipe.shift,) * 4, value=WHITE)
        rows = (corner[:, :1] + self._reach)[:, None, :, None]  # (B, 1, H, 1)
        columns = (corner[:, 1:] + self._reach)[:, None, None, :]  # (B, 1, 1, W)
        numbers, channels = (torch.arange(count, device=x.device) for count in x.shape[:2])
        return framed[numbers[:, None, None, None], channels[:, None, None], rows, columns]

    def _uniform(self, seen: int, purpose: str, *shape: int) -> Tensor:
        return rng.uniform((self.recipe.batch_size, *shape), self.recipe.seed, seen, purpose, device=self.device)


def captions_of(recipe: CaptioningRecipe, data: ImageSet) -> Tensor:
    """Return each picture's caption in each of the recipe's languages, int64 ``(N, languages, L)``.

    Raises
    ------
    InputError
        If a caption is too long.
    """
    texts = {"en": data.captions, "zh": data.meta.get("zh", ())}
    length = recipe.network.length
    return torch.stack([wording.encode(recipe.data, texts[each], length) for each in recipe.languages], 1)


def may_be_mirrored(data: ImageSet) -> Tensor:
    """Return which emoji mean the same in a mirror, bool ``(N,)``: no writing, no direction, no time."""
    kinds = [data.classes[label] for label in data.labels.tolist()]
    words = [wording.split_words(name) for name in data.captions]
    pairs = zip(kinds, words, strict=True)
    return torch.tensor([kind not in _NEVER and not set(name) & set(_DIRECTIONS) for kind, name in pairs])
