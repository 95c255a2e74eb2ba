"""Editing by arithmetic on codes: Larsen et al. 2016, "Autoencoding beyond pixels using a learned similarity metric".

https://arxiv.org/abs/1512.09300, section 4.2: the mean code of pictures that show something, less that of pictures that do
not, is a direction along which codes gain it.

Deviation: what the autoencoder cannot draw is kept. The picture is changed by the difference between two decoded codes, so
that a walk of length 0 gives the picture back.
"""

import torch
from torch import Tensor

from gencore import vae
from gencore.data import to_float
from gencore.errors import InputError
from gencore.networks.vae import VAE
from gencore.vae.recipes import VAERecipe


def direction(codes: Tensor, shows: Tensor) -> Tensor:
    """Return the mean of the codes that show something, less that of the others: ``(...)`` for codes ``(N, ...)``.

    Parameters
    ----------
    codes : Tensor
        ``(N, ...)``.
    shows : Tensor
        bool ``(N,)``.

    Raises
    ------
    InputError
        If all of them show it, or none.
    """
    if shows.all() or not shows.any():
        raise InputError("shows: needs pictures that show it and pictures that do not")
    return codes[shows].mean(0) - codes[~shows].mean(0)


@torch.no_grad()
def encode(model: tuple[vae.Networks, VAERecipe], images: Tensor) -> Tensor:
    """Return the codes of pictures, uint8 ``(N, C, H, W)``: the means that the encoder gives, ``(N, *latent_shape)``.

    Raises
    ------
    InputError
        If the model has no single Gaussian code, or is told classes.
    """
    (network,), _ = model
    if not isinstance(network, VAE) or network.config.classes:
        raise InputError("model: needs a plain variational autoencoder, such as the zoo's vae_digits")
    return network.encode(to_float(images))[0]


@torch.inference_mode()
def walk(model: tuple[vae.Networks, VAERecipe], images: Tensor, along: Tensor, amount: float) -> Tensor:
    """Return pictures whose codes have walked ``amount`` times a direction.

    Parameters
    ----------
    model : tuple of Networks and VAERecipe
        A plain variational autoencoder.
    images : Tensor
        uint8 ``(N, C, H, W)``.
    along : Tensor
        The direction, ``latent_shape``.
    amount : float
        How far; 0 gives the pictures back.

    Returns
    -------
    Tensor
        float32 ``(N, C, H, W)`` in [-1, 1].
    """
    (network,), recipe = model
    z, location = encode(model, images), recipe.objective.likelihood.location
    x = to_float(images)
    if amount == 0:
        return x
    change = location(network.decode(z + amount * along)) - location(network.decode(z))
    return (x + change).clamp(-1, 1)
