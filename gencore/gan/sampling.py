"""From latents to pictures, and from a folder to networks."""

from pathlib import Path

import torch
from torch import Tensor

from gencore.gan.objectives import Networks
from gencore.gan.recipes import GANRecipe
from gencore.networks.dcgan import Discriminator, Generator
from gencore.training import checkpoint, rng


def build(recipe: GANRecipe) -> Networks:
    """Build both networks with the weights that the recipe's seed draws."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        return Networks(Generator(recipe.network), Discriminator(recipe.network))


def load(folder: Path | str) -> tuple[Networks, GANRecipe]:
    """Load a trained pair from a zoo folder or from the newest checkpoint of a run.

    Parameters
    ----------
    folder : Path or str
        ``gencore.zoo.folder(name)``, or a run's folder.

    Returns
    -------
    networks : Networks
        The averaged (EMA) generator and the discriminator as last trained, in evaluation mode, float32.
    recipe : GANRecipe
        The recipe they were trained by.

    Raises
    ------
    InputError
        If a file is missing, damaged, or does not fit the recipe.
    """
    return checkpoint.load_model(folder, GANRecipe, build)


@torch.inference_mode()
def sample(
    model: tuple[Networks, GANRecipe], count: int, seed: int, first: int = 0, batch_size: int = 256
) -> Tensor:
    """Draw images; image ``i`` depends on ``(seed, i)`` only, not on how many are drawn with it.

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

    Returns
    -------
    Tensor
        float32 ``(count, C, H, W)`` in [-1, 1], on the CPU.
    """
    (generator, _), recipe = model
    device, end = next(generator.parameters()).device, first + count
    images = torch.empty(count, recipe.network.channels, recipe.network.size, recipe.network.size)
    for i in range(first, end, batch_size):
        z = rng.normal_per_image(min(batch_size, end - i), (recipe.network.latent,), seed, i)  # (B, latent)
        images[i - first : i - first + len(z)] = generator(z.to(device))  # (B, C, H, W)
    return images


def parameters(model: tuple[Networks, GANRecipe]) -> int:
    """Return how many parameters it takes to draw: the generator's."""
    (generator, _), _ = model
    return sum(p.numel() for p in generator.parameters())


def interpolate(z0: Tensor, z1: Tensor, t: Tensor) -> Tensor:
    """Walk from one latent vector to another along the sphere (Shoemake 1985; White 2016, arXiv:1609.04468).

    Parameters
    ----------
    z0, z1 : Tensor
        The ends ``(latent,)``, not parallel.
    t : Tensor
        Times in [0, 1], ``(T,)``.

    Returns
    -------
    Tensor
        ``(T, latent)``; the length goes evenly from that of ``z0`` to that of ``z1`` if they are alike.
    """
    angle = torch.arccos(torch.dot(z0, z1) / (z0.norm() * z1.norm()))
    return torch.outer(((1 - t) * angle).sin() / angle.sin(), z0) + torch.outer((t * angle).sin() / angle.sin(), z1)  # (DC.5)
