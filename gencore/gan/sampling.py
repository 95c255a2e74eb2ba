"""From latents to pictures, and from a folder to networks."""

from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.data.told import asked_for, check_conditions, with_mirrored
from gencore.errors import InputError
from gencore.gan.objectives import Networks, ask
from gencore.gan.recipes import GANRecipe
from gencore.networks.first_stage import CodeModel, pass_in
from gencore.training import checkpoint, rng


def build(recipe: GANRecipe) -> Networks:
    """Build both networks with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(*recipe.network.build())


def load(folder: Path | str, first_stage: nn.Module | None = None) -> tuple[Networks, GANRecipe]:
    """Load a trained pair from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.
    first_stage : Module, optional
        For a generator of codes: the network of the model that ``recipe.first_stage`` names.

    Returns
    -------
    networks : Networks
        The averaged (EMA) generator and the discriminator as last trained, in evaluation mode, float32; None for a
        discriminator that the zoo leaves out.
    recipe : GANRecipe
        The recipe they were trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe, or if the first stage is missing or another.
    """
    networks, recipe = checkpoint.load_model(folder, GANRecipe, build)
    pass_in(networks.generator, first_stage, recipe.first_stage)
    return networks, recipe


@torch.inference_mode()
def sample(
    model: tuple[Networks, GANRecipe],
    count: int,
    seed: int,
    first: int = 0,
    batch_size: int = 256,
    cond: Tensor | None = None,
) -> Tensor:
    """Draw images; image ``i`` depends on ``(seed, i)`` and on its condition only, not on how many are drawn with it.

    Parameters
    ----------
    model : tuple of Networks and GANRecipe
        What `load` returns; the generator is in evaluation mode.
    count, seed : int
        How many images, and from which series.
    first : int
        Number of the first image in the series.
    batch_size : int
        Images computed at once.
    cond : Tensor, optional
        What each picture is to show, int64 ``(count, len(recipe.told))``. By default what training pictures show, drawn
        from them at random.

    Returns
    -------
    Tensor
        float32 ``(count, C, H, W)`` in [-1, 1], on the CPU.

    Raises
    ------
    InputError
        If the conditions do not fit.
    """
    (generator, _), recipe = model
    device = next(generator.parameters()).device
    cond = asked_for(recipe, count, seed, first) if cond is None else cond
    check_conditions(recipe, cond, count)
    if (cond == cond.new_tensor(recipe.conditions[: len(recipe.told)])).any():
        raise InputError(f"cond: the networks of this family are always told; {recipe.told} have {recipe.conditions} values")
    told = with_mirrored(recipe, cond, torch.zeros(count, dtype=torch.int64)).to(device)
    images = torch.empty(count, recipe.network.channels, recipe.network.size, recipe.network.size)
    for start in range(0, count, batch_size):
        size = min(batch_size, count - start)
        z = rng.normal_per_image(size, (recipe.network.latent,), seed, first + start).to(device)  # (B, latent)
        drawn = ask(generator, z, told[start : start + size] if recipe.conditions else None)
        if isinstance(generator, CodeModel):
            drawn = generator.decode(drawn)
        images[start : start + size] = drawn.clamp(-1, 1)  # (B, C, H, W)
    return images


def parameters(model: tuple[Networks, GANRecipe]) -> int:
    """Return how many parameters it takes to draw: the generator's, and its first stage's decoder's if it has one."""
    (generator, _), _ = model
    parts = [generator, generator.first.decoder] if isinstance(generator, CodeModel) else [generator]
    return sum(p.numel() for part in parts for p in part.parameters())


def first_stage(recipe: GANRecipe) -> str | None:
    """Name of the zoo's model that `train` and `load` are to be given as ``first_stage``, or None."""
    return recipe.first_stage


def interpolate(z0: Tensor, z1: Tensor, t: Tensor) -> Tensor:
    """Walk from one latent vector to another along the sphere (Shoemake 1985; White 2016, arXiv:1609.04468).

    Parameters
    ----------
    z0, z1 : Tensor
        The ends ``(latent,)``, or those of many walks ``(T, latent)``, not parallel.
    t : Tensor
        Times in [0, 1], ``(T,)``.

    Returns
    -------
    Tensor
        ``(T, latent)``; the length goes evenly from that of ``z0`` to that of ``z1`` if they are alike.
    """
    cosine = (z0 * z1).sum(-1, keepdim=True) / (z0.norm(dim=-1, keepdim=True) * z1.norm(dim=-1, keepdim=True))
    angle, t = torch.arccos(cosine.clamp(-1, 1)), t[:, None]
    return ((1 - t) * angle).sin() / angle.sin() * z0 + (t * angle).sin() / angle.sin() * z1  # (DC.5)
