"""From pictures to their translations, and from a folder to networks."""

from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.applications.translation.objectives import CycleNetworks
from gencore.applications.translation.recipes import CycleRecipe, TranslationRecipe
from gencore.data import to_float
from gencore.errors import InputError
from gencore.networks.patchgan import PatchDiscriminator
from gencore.networks.translator import PairDiscriminator, TranslatorNetwork
from gencore.training import checkpoint, rng


class Networks(NamedTuple):
    """What translates pairs: the generator."""

    generator: nn.Module


class Players(NamedTuple):
    """What learns from pairs: the generator, and the discriminator. Only the generator is averaged, shipped and loaded."""

    generator: nn.Module
    judge: nn.Module


Model = tuple[Networks | CycleNetworks, TranslationRecipe | CycleRecipe]


def build(recipe: TranslationRecipe | CycleRecipe) -> Networks | CycleNetworks:
    """Build what translates, with the weights that the recipe's seed draws."""
    return build_cycle(recipe) if isinstance(recipe, CycleRecipe) else Networks(build_players(recipe).generator)


def build_players(recipe: TranslationRecipe) -> Players:
    """Build both players of a training on pairs."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Players(TranslatorNetwork(recipe.network), PairDiscriminator(recipe.judge))


def build_cycle(recipe: CycleRecipe) -> CycleNetworks:
    """Build both generators of a cycle."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return CycleNetworks(TranslatorNetwork(recipe.there), TranslatorNetwork(recipe.back))


def build_judges(recipe: CycleRecipe) -> tuple[nn.Module, nn.Module]:
    """Build the discriminators of both kinds of a cycle."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return PatchDiscriminator(recipe.judge_a), PatchDiscriminator(recipe.judge_b)


def load(folder: Path | str) -> Model:
    """Load a trained model from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.

    Returns
    -------
    networks : Networks or CycleNetworks
        The averaged (EMA) generators in evaluation mode, float32, without gradients.
    recipe : TranslationRecipe or CycleRecipe
        The recipe they were trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    networks, recipe = checkpoint.load_model(folder, TranslationRecipe | CycleRecipe, build)
    for network in networks:
        network.to(memory_format=torch.channels_last)  # as in training, which then draws the same bits
    return networks, recipe


@torch.inference_mode()
def translate(
    model: Model,
    x: Tensor,
    cond: Tensor | None = None,
    seed: int | None = None,
    first: int = 0,
    batch_size: int = 128,
    back: bool = False,
    clamp: bool = True,
) -> Tensor:
    """Translate pictures; what becomes of one depends on it, on its condition, and on ``(seed, its number)`` only.

    Parameters
    ----------
    model : tuple of networks and recipe
        What `load` returns.
    x : Tensor
        Sources ``(N, C, H, W)``, uint8 or float in [-1, 1]; height and width are multiples of the U-Net's divisor.
    cond : Tensor, optional
        What the generator is told, int64 ``(N, K)``; may be left out if it is told nothing.
    seed : int, optional
        Which series of dropout; by default nothing is dropped, unlike in pix2pix.
    first : int
        Number of the first picture in the series.
    batch_size : int
        Pictures computed at once.
    back : bool
        Of a cycle: from kind b to kind a.
    clamp : bool
        Whether translations are held to [-1, 1]. In training they are not.

    Returns
    -------
    Tensor
        float32 ``(N, C, H, W)``, in [-1, 1] if clamped, on the CPU.

    Raises
    ------
    InputError
        If the pictures or conditions do not fit, or ``back`` is asked of a model that goes one way.
    """
    networks, recipe = model
    if back and not isinstance(recipe, CycleRecipe):
        raise InputError("back: this model was trained on pairs and translates one way only")
    network = networks[1] if back else networks[0]
    config = network.config
    if x.ndim != 4 or x.shape[1] != config.unet.channels:
        raise InputError(f"pictures {tuple(x.shape)}: this model translates (N, {config.unet.channels}, H, W)")
    if config.conditions:
        _check_conditions(cond, len(x), config.conditions)
    device = next(network.parameters()).device
    x = to_float(x) if x.dtype == torch.uint8 else x
    made = torch.empty(len(x), config.out_channels, *x.shape[2:])
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        size, noise = len(x[part]), None
        if seed is not None and config.dropout:
            noise = rng.uniform_per_image(size, (config.unet.embedding,), seed, first + start).to(device)
        told = cond[part].to(device) if config.conditions else None
        made[part] = network(x[part].to(device), told, noise)
    return made.clamp(-1, 1) if clamp else made


def _check_conditions(cond: Tensor | None, count: int, conditions: tuple[int, ...]) -> None:
    if cond is None or tuple(cond.shape) != (count, len(conditions)):
        given = None if cond is None else tuple(cond.shape)
        raise InputError(f"cond {given}: this model is told {len(conditions)} things of each of {count} pictures")
    if (cond < 0).any() or (cond >= cond.new_tensor(conditions)).any():
        raise InputError(f"cond: the values are from 0 to below {conditions}")
