"""From noise to pictures, and from a folder to networks."""

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.data import Shapes
from gencore.data.told import ask, asked_for, caption_length, check_conditions, conditions, untold, with_mirrored
from gencore.diffusion import samplers
from gencore.diffusion.denoiser import Denoise, Denoiser
from gencore.diffusion.guidance import classifier_free, conditional
from gencore.diffusion.objectives import Networks
from gencore.diffusion.process import Process
from gencore.diffusion.recipes import DiffusionRecipe, DistillRecipe, Sampling
from gencore.errors import InputError
from gencore.metrics.adherence import measure_adherence
from gencore.networks.first_stage import pass_in
from gencore.networks.latent import LatentNetwork, build_denoising
from gencore.training import checkpoint, rng

MEASURED = 1  # the series of pictures that is measured, as by ``gencore evaluate``


def build(recipe: DiffusionRecipe) -> Networks:
    """Build the network with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(build_denoising(recipe.network))


def begin(network: nn.Module, start: tuple[Networks, DiffusionRecipe] | None, name: str | None) -> None:
    """Give a network the weights of a trained one, wherever it has such a part; the others stay as they are.

    Conditions are counted from the last: a network that reads captions in place of classes still knows the style. A
    convolution that is given more channels begins with zeros for those that come after.

    Parameters
    ----------
    network : Module
        The network.
    start : tuple of Networks and DiffusionRecipe, or None
        What was passed in: what `load` returns.
    name : str or None
        The zoo's model that the recipe names.

    Raises
    ------
    InputError
        If the start is missing, out of place, or has no part in common.
    """
    if start is None and name is None:
        return
    if start is None:
        raise InputError(f"needs its start, the zoo's {name}; pass it as start")
    if name is None:
        raise InputError("start: this recipe begins with new weights, and takes none")
    own, (trained,) = network.state_dict(), start[0]
    later = len(start[1].conditions) - sum(".tables." in key for key in own)  # places by which a condition comes later there
    weights = {}
    for key, value in own.items():
        before, table, rest = key.partition(".tables.")
        number, dot, last = rest.partition(".")
        known = trained.state_dict().get(f"{before}{table}{int(number) + later}{dot}{last}" if table else key)
        if known is not None and known.shape == value.shape:
            weights[key] = known
        elif known is not None and _more_inputs(known.shape, value.shape):
            weights[key] = torch.cat([known, value.new_zeros(value[:, known.shape[1] :].shape)], 1)
    if not weights:
        raise InputError(f"start: {name} has no part in common with this network")
    network.load_state_dict(own | weights)


def _more_inputs(before: torch.Size, now: torch.Size) -> bool:
    """Whether two shapes are those of a convolution that is given more channels now."""
    return len(before) == len(now) == 4 and before[1] < now[1] and (before[0], *before[2:]) == (now[0], *now[2:])


def load(folder: Path | str, first_stage: nn.Module | None = None) -> tuple[Networks, DiffusionRecipe]:
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
    recipe : DiffusionRecipe or DistillRecipe
        The recipe it was trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe, or if the first stage is missing or another.
    """
    networks, recipe = checkpoint.load_model(folder, DiffusionRecipe | DistillRecipe, build)
    networks.model.to(memory_format=torch.channels_last)  # a tenth faster; and as in training, which then draws the same bits
    pass_in(networks.model, first_stage, recipe.first_stage)
    return networks, recipe


def denoiser(model: tuple[Networks, DiffusionRecipe]) -> Denoiser:
    """Return a model's network together with what its output means."""
    (network,), recipe = model
    return Denoiser(network, recipe.process, recipe.prediction)


@torch.inference_mode()
def sample(
    model: tuple[Networks, DiffusionRecipe],
    count: int,
    seed: int,
    first: int = 0,
    batch_size: int = 100,
    cond: Tensor | None = None,
    sampling: Sampling | None = None,
) -> Tensor:
    """Draw pictures by the recipe's sampler, or by another; image ``i`` depends on ``(seed, i)`` and on its condition only.

    Parameters
    ----------
    model : tuple of Networks and DiffusionRecipe
        What `load` returns.
    count, seed : int
        How many images, and from which series.
    first : int
        Number of the first image in the series.
    batch_size : int
        Images computed at once.
    cond : Tensor, optional
        What each picture is to show, int64 ``(count, len(recipe.told))``; a condition's number of values means *not told*.
        By default what training pictures show, drawn from them at random.
    sampling : Sampling, optional
        How to walk from noise to data; by default ``recipe.sampling``.

    Returns
    -------
    Tensor
        float32 ``(count, C, H, W)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If the conditions do not fit, or clean codes are to be held to the range of pixels.
    """
    (network,), recipe = model
    how = recipe.sampling if sampling is None else sampling
    if how.clip and recipe.first_stage:
        raise InputError("sampling.clip: it holds to the range of pixels, but what is drawn here are codes")
    device, shape = next(network.parameters()).device, recipe.network.shape  # of a picture, or of its codes
    cond = asked_for(recipe, count, seed, first) if cond is None else cond
    check_conditions(recipe, cond, count)
    cond = with_mirrored(recipe, cond, torch.zeros(count, dtype=torch.int64)).to(device)
    images = torch.empty(count, recipe.network.channels, recipe.network.size, recipe.network.size)
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        # The first noise, and a fresh one for each step that asks for it.
        draws = how.steps if how.random else 1
        noise = rng.normal_per_image(size, (draws, *shape), seed, first + start).to(device)
        told = cond[start : start + size]
        if how.guidance == 1 or not recipe.told:
            denoise = conditional(denoiser(model), told)
        else:
            denoise = classifier_free(denoiser(model), told, untold(recipe, told), how.guidance, how.interval)
        drawn = walk(denoise, recipe.process, how, noise)  # (B, *shape)
        if isinstance(network, LatentNetwork):
            drawn = network.decode(drawn)
        images[start : start + size] = drawn.clamp(-1, 1)
    return images


def walk(denoise: Denoise, process: Process, how: Sampling, noise: Tensor) -> Tensor:
    """Walk from noise to data ``(B, ...)``.

    Parameters
    ----------
    denoise : callable
        The mean clean picture.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    how : Sampling
        Sampler, steps, and whether clean pictures are held to the range of pixels on the way.
    noise : Tensor
        Standard normal, ``(B, how.steps or 1, ...)``: the first row starts, the others are the steps' own.
    """
    times = samplers.even_times(how.steps, bend=how.bend)
    start = process.sigma(times[0]).to(noise) * noise[:, 0]

    def fresh(step: int) -> Tensor:
        return noise[:, step + 1]

    def held(x_t: Tensor, t: Tensor) -> Tensor:
        return denoise(x_t, t).clamp(-1, 1)

    return sampler(how, fresh)(held if how.clip else denoise, process, times, start)


def sampler(how: Sampling, fresh: samplers.Noise) -> Callable[[Denoise, Process, Tensor, Tensor], Tensor]:
    """Return the sampler that is meant, ``sampler(denoise, process, times, x)``; ``fresh`` gives the noise of its steps."""
    if how.sampler == "ancestral":
        return functools.partial(samplers.ancestral, noise=fresh)
    if how.sampler == "consistency":
        return functools.partial(samplers.consistency, noise=fresh)
    if how.sampler == "ddim":
        return functools.partial(samplers.ddim, noise=fresh, eta=how.eta)
    return {"euler": samplers.euler, "heun": samplers.heun, "dpm_solver": samplers.dpm_solver}[how.sampler]


def measure(model: tuple[Networks, DiffusionRecipe]) -> list[dict]:
    """Measure what a card says beside the judgement on pictures: whether models that read show what is asked for.

    Only captions of shapes can be checked; of other models there is nothing to say.
    """
    _, recipe = model
    if not (caption_length(recipe) and isinstance(recipe.data, Shapes)):
        return []

    def draw(captions: tuple[str, ...]) -> Tensor:
        return sample(model, len(captions), MEASURED, cond=ask(recipe, captions))

    return measure_adherence(recipe.data, draw)


def parameters(model: tuple[Networks, DiffusionRecipe]) -> int:
    """Return how many parameters it takes to draw: of the network, and of its first stage's decoder if it has one."""
    (network,), _ = model
    parts = [network, network.first.decoder] if isinstance(network, LatentNetwork) else [network]
    return sum(p.numel() for part in parts for p in part.parameters())


def first_stage(recipe: DiffusionRecipe) -> str | None:
    """Name of the zoo's model that `train` and `load` are to be given as ``first_stage``, or None."""
    return recipe.first_stage


def start(recipe: DiffusionRecipe) -> str | None:
    """Name of the zoo's model that `train` is to be given as ``start``, to begin with its weights, or None."""
    return recipe.start


def teacher(recipe: DiffusionRecipe) -> str | None:
    """Name of the zoo's model that `train` is to be given as ``teacher``, or None."""
    return recipe.teacher if isinstance(recipe, DistillRecipe) else None
