"""From a spoiled picture to mended ones, and from a folder to networks."""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.applications.palette.objectives import Networks, seeing
from gencore.applications.palette.recipes import PaletteRecipe
from gencore.applications.palette.tasks import Instruct, Seen, to_picture
from gencore.data import Emoji, ImageSet, Photos, to_float, to_uint8
from gencore.data.edits import END, EditPairs, Edits
from gencore.diffusion.denoiser import Denoise
from gencore.diffusion.guidance import ROUNDING, conditional
from gencore.diffusion.recipes import Sampling
from gencore.diffusion.sampling import walk
from gencore.errors import InputError
from gencore.networks.first_stage import pass_in
from gencore.networks.latent_palette import LatentPalette, LatentPaletteNetwork
from gencore.networks.palette import PaletteNetwork
from gencore.training import checkpoint, rng

SERIES = 7  # seed of how held-out pictures are spoiled, and of the noise from which they are mended


def build(recipe: PaletteRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        latent = isinstance(recipe.network, LatentPalette)
        return Networks((LatentPaletteNetwork if latent else PaletteNetwork)(recipe.network))


def first_stage(recipe: PaletteRecipe) -> str | None:
    """Name of the zoo's model that `train` and `load` are to be given as ``first_stage``, or None."""
    return recipe.first_stage


def load(folder: Path | str, first_stage: nn.Module | None = None) -> tuple[Networks, PaletteRecipe]:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.
    first_stage : Module, optional
        For a model that denoises codes: the network of the model that ``recipe.first_stage`` names.

    Returns
    -------
    networks : Networks
        The averaged (EMA) network in evaluation mode, float32, without gradients.
    recipe : PaletteRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe, or if the first stage is missing or another.
    """
    networks, recipe = checkpoint.load_model(folder, PaletteRecipe, build)
    networks.model.to(memory_format=torch.channels_last)  # as in training, which then draws the same bits
    pass_in(networks.model, first_stage, recipe.first_stage)
    return networks, recipe


@torch.inference_mode()
def mend(
    model: tuple[Networks, PaletteRecipe],
    seen: Seen,
    seed: int,
    first: int = 0,
    batch_size: int = 100,
    sampling: Sampling | None = None,
    picture_guidance: float | None = None,
) -> Tensor:
    """Mend pictures; the result of picture ``i`` depends on what is shown of it, on the seed and on its number only.

    Parameters
    ----------
    model : tuple of Networks and PaletteRecipe
        What `load` returns.
    seen : Seen
        What is shown of each picture, from the recipe's task; sides, or those of its codes, are multiples of the U-Net's
        divisor.
    seed : int
        Which series of noise.
    first : int
        Number of the first picture in the series.
    batch_size : int
        Pictures computed at once.
    sampling : Sampling, optional
        How to walk from noise to data, and the words' guidance; by default ``recipe.sampling``. It may clip only where the
        values of pixels are drawn.
    picture_guidance : float, optional
        Weight of the guidance by the picture; by default ``recipe.picture_guidance``.

    Returns
    -------
    Tensor
        float32 ``(N, C, H, W)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If pictures are to be guided without words, what is no pixel is to be held to the range of pixels, or something does
        not fit the network.
    """
    (network,), recipe = model
    how = recipe.sampling if sampling is None else sampling
    by_picture = recipe.picture_guidance if picture_guidance is None else picture_guidance
    device, (count, _, height, width) = next(network.parameters()).device, seen.source.shape
    codes = isinstance(network, LatentPaletteNetwork)
    if not how.guidance == by_picture == 1 and seen.words is None:
        raise InputError(f"guidance {how.guidance} by words, {by_picture} by the picture: takes words; without, both are 1")
    if how.clip and (codes or seen.base is not None):
        what = "codes" if codes else "differences"
        raise InputError(f"sampling.clip: it holds to the range of pixels, but what is drawn here are {what}")
    channels = (recipe.network.palette if codes else recipe.network).channels  # of what is drawn
    mended = torch.empty(count, recipe.network.channels, height, width)
    for start in range(0, count, batch_size):
        part = Seen(*(None if each is None else each[start : start + batch_size].to(device) for each in seen))
        shown = part._replace(source=network.encode(part.source)) if codes else part
        draws = how.steps if how.random else 1  # the first noise, and a fresh one for each step that asks for it
        noise = rng.normal_per_image(len(part.source), (draws, channels, *shown.source.shape[2:]), seed, first + start).to(device)
        drawn = walk(guided(model, shown, how.guidance, by_picture, how.interval), recipe.process, how, noise)
        drawn = network.decode(drawn) if codes else drawn
        mended[start : start + batch_size] = to_picture(recipe.task, drawn, part)
    return mended


def guided(
    model: tuple[Networks, PaletteRecipe],
    seen: Seen,
    words: float = 1.0,
    picture: float = 1.0,
    interval: tuple[float, float] = (0.0, 1.0),
) -> Denoise:
    """Return the denoiser that is shown this, guided by words and by the picture: Brooks et al. 2023, equation 3.

    https://arxiv.org/abs/2211.09800; (IE.11) of the chapter "What was never there". It takes one time for all pictures,
    ``()``.

    Parameters
    ----------
    model : tuple of Networks and PaletteRecipe
        The network and its recipe; one that reads if a weight is not 1.
    seen : Seen
        What is shown, ``(B, ...)``.
    words : float
        Weight of the way from what the network draws without words to what it draws with them; 1 is conditional.
    picture : float
        Weight of the way from what it draws seeing nothing to what it draws seeing the picture.
    interval : tuple of float
        First and last time at which the weights count; elsewhere they are 1.
    """
    (network,), recipe = model
    denoiser = seeing(network, recipe.process, recipe.prediction, seen)
    plain = conditional(denoiser)
    if words == picture == 1:
        return plain
    silent = seen._replace(words=torch.full_like(seen.words, END))
    blank = silent._replace(source=torch.zeros_like(seen.source))
    several = (seen, silent) if picture == 1 else (seen, silent, blank)  # of weight 1, the picture takes no detour
    together = Seen(*(None if each[0] is None else torch.cat(each) for each in zip(*several, strict=True)))
    of_several = conditional(seeing(network, recipe.process, recipe.prediction, together))

    def denoise(x_t: Tensor, t: Tensor) -> Tensor:
        if not interval[0] - ROUNDING <= float(t) <= interval[1] + ROUNDING:
            return plain(x_t, t)
        told, untold, *unseen = of_several(torch.cat([x_t] * len(several)), t).chunk(len(several))
        by_picture = unseen[0] + picture * (untold - unseen[0]) if unseen else untold
        return by_picture + words * (told - untold)  # (IE.11)

    return denoise


def heldout(recipe: PaletteRecipe, count: int | None = None) -> tuple[Tensor, Seen]:
    """Return held-out pictures, float ``(N, C, H, W)`` in [-1, 1], evenly spread over the set, and what is shown of them.

    Picture ``i`` is spoiled in a way that follows from its place in the whole set. ``count`` None gives all.
    """
    task = recipe.task
    pairs = _heldout_pairs(recipe.data) if isinstance(task, Instruct) else None
    data = _heldout_set(recipe.data) if pairs is None else pairs.after
    index = torch.arange(len(data)) if count is None else torch.linspace(0, len(data) - 1, count).long()
    x = to_float(data.images[index])
    if pairs is not None:
        return x, Seen(to_float(pairs.before[pairs.place[index]]), words=pairs.words[index])
    u = noise = None
    # Damage has purposes of its own: `mend` begins with the noise of the same seed and number, which must not be in it too.
    # Holes are cut as they were for the recorded models.
    if task.numbers:
        purpose = "task" if task.noisy else "image"
        u = torch.cat([rng.uniform_per_image(1, (task.numbers,), SERIES, i, purpose) for i in index.tolist()])
    if task.noisy:
        noise = torch.cat([rng.normal_per_image(1, tuple(x.shape[1:]), SERIES, i, "damage") for i in index.tolist()])
    return x, task.show(x, u, noise)


def heldout_pairs(model: tuple[Networks, PaletteRecipe], count: int) -> tuple[Tensor, Tensor]:
    """Return held-out pictures as the network is shown them, uint8 ``(count, C, H, W)``, and what it makes of them."""
    _, recipe = model
    _, seen = heldout(recipe, count)
    return to_uint8(seen.source[:, : recipe.network.channels]), mend(model, seen, SERIES)


@functools.lru_cache(maxsize=2)  # a run looks at them at each halving, and they take a second to read or draw
def _heldout_set(data: Emoji | Photos) -> ImageSet:
    return data.load("heldout")


@functools.lru_cache(maxsize=2)
def _heldout_pairs(data: Edits) -> EditPairs:
    return data.load_pairs("heldout")
