"""Randomness that is a function of the seed and of the images seen, of nothing else.

A run that is stopped and resumed draws what it would have drawn, without storing any generator state; and because each
process draws for the global batch and keeps its slice, two processes draw what one does.
"""

import hashlib

import torch
from torch import Tensor


def generator(seed: int, images_seen: int, purpose: str, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a fresh generator for one purpose at one moment of training.

    Parameters
    ----------
    seed : int
        The recipe's seed.
    images_seen : int
        How many training images came before this step.
    purpose : str
        What is drawn, such as ``"latent"``; different purposes get independent streams.
    device : torch.device or str
        Where the generator lives. CPU and GPU generators give different numbers.
    """
    digest = hashlib.blake2b(f"{seed}/{images_seen}/{purpose}".encode(), digest_size=7).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest, "little"))


def normal(
    shape: tuple[int, ...],
    seed: int,
    images_seen: int,
    purpose: str,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw standard normal numbers for the global batch and return this process's slice.

    They are drawn on the device that uses them: numbers made on the processor and sent over at each step make a GPU wait.

    Parameters
    ----------
    shape : tuple of int
        Shape for the global batch; ``shape[0]`` is divisible by ``world_size``.
    seed, images_seen, purpose
        As for `generator`.
    rank, world_size : int
        Which slice to return.
    device : torch.device or str
        Where to draw. CPU and GPU give different numbers.

    Returns
    -------
    Tensor
        float32, ``(shape[0] // world_size, *shape[1:])``.
    """
    draw = generator(seed, images_seen, purpose, device)
    return torch.randn(shape, generator=draw, dtype=torch.float32, device=device).chunk(world_size)[rank]


def uniform(
    shape: tuple[int, ...],
    seed: int,
    images_seen: int,
    purpose: str,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw uniform numbers in [0, 1) for the global batch and return this process's slice, as `normal` does."""
    draw = generator(seed, images_seen, purpose, device)
    return torch.rand(shape, generator=draw, dtype=torch.float32, device=device).chunk(world_size)[rank]


def normal_per_image(count: int, shape: tuple[int, ...], seed: int, first: int = 0, purpose: str = "image") -> Tensor:
    """Draw standard normal numbers such that image ``i`` gets the same ones whatever batch it is drawn in.

    Parameters
    ----------
    count : int
        How many images.
    shape : tuple of int
        Shape for one image.
    seed : int
        Seed of the whole series.
    first : int
        Number of the first image.
    purpose : str
        What is drawn, as for `generator`: numbers for different purposes are independent.

    Returns
    -------
    Tensor
        float32, ``(count, *shape)``.
    """
    rows = [torch.randn(shape, generator=generator(seed, first + i, purpose), dtype=torch.float32) for i in range(count)]
    return torch.stack(rows) if rows else torch.empty(0, *shape)


def uniform_per_image(count: int, shape: tuple[int, ...], seed: int, first: int = 0, purpose: str = "image") -> Tensor:
    """Draw uniform numbers in [0, 1) such that image ``i`` gets the same ones in any batch, as `normal_per_image` does."""
    rows = [torch.rand(shape, generator=generator(seed, first + i, purpose), dtype=torch.float32) for i in range(count)]
    return torch.stack(rows) if rows else torch.empty(0, *shape)
