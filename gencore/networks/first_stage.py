"""What models of codes have below them: an autoencoder, trained before and held fixed, from pictures to codes and back.

Dai & Wipf 2019, "Diagnosing and enhancing VAE models", https://arxiv.org/abs/1903.05789, section 4, learn how codes are
distributed by a second VAE; Rombach et al. 2022, "High-resolution image synthesis with latent diffusion models",
https://arxiv.org/abs/2112.10752, section 3, by diffusion.

The first stage is passed in. It is no part of the module: its weights are neither trained nor saved again. Continuous codes
are the means that it gives, each channel brought to mean 0 and standard deviation 1. Of a first stage with an alphabet they
are the vectors before the choice of a letter, and the choice is the first thing that decoding does (Rombach et al., section
3.1: the quantisation layer is "absorbed by the decoder"): small errors of what draws codes are then no errors of the picture.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.vae import VAE
from gencore.networks.vqvae import VQ, VQVAE


def grid(sizes: Autoencoder | VQ) -> Autoencoder:
    """Return the sizes of a first stage's encoder and decoder."""
    return sizes.autoencoder if isinstance(sizes, VQ) else sizes


def check_first_stage(sizes: Autoencoder | VQ) -> None:
    """Raise `InputError` unless a first stage of these sizes makes a grid of codes, and a picture of nothing else."""
    sizes = grid(sizes)
    if sizes.flat or sizes.classes or sizes.out_channels not in (None, sizes.channels):
        raise InputError("first: must be an autoencoder with flat=False, without classes and out_channels")


class AboveFirstStage:
    """Sizes of a model that has a first stage below it: of its pictures, those are the sizes.

    Attributes
    ----------
    first : Autoencoder or VQ
        Sizes of the first stage.
    """

    first: Autoencoder | VQ

    @property
    def size(self) -> int:
        """Height and width of the pictures."""
        return self.first.size

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return self.first.channels


class OnFirstStage(nn.Module):
    """A network that works on what a first stage makes of pictures.

    Parameters
    ----------
    sizes : Autoencoder or VQ
        Those of the first stage.

    Attributes
    ----------
    first : VAE or VQVAE
        The first stage, once `adopt` has taken it.
    """

    def __init__(self, sizes: Autoencoder | VQ) -> None:
        super().__init__()
        self._sizes = sizes
        self._first: list[VAE | VQVAE] = []  # in a list, where a module's parts are not looked for

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.parameters()).device

    @property
    def first(self) -> VAE | VQVAE:
        if not self._first:
            raise InputError("first stage: missing; pass it in")
        return self._first[0].to(self.device)  # `to` does not find it by itself

    def adopt(self, first: nn.Module) -> None:
        """Take the trained first stage, an autoencoder with the sizes that the network was built for.

        Its pictures may have been larger or smaller: convolutions do not know the size of what they work on.

        Raises
        ------
        InputError
            If it has other sizes.
        """
        config = getattr(first, "config", None)
        if isinstance(config, Autoencoder) and isinstance(self._sizes, Autoencoder):
            config = replace(config, size=self._sizes.size)
        if config != self._sizes:
            raise InputError("first stage: has other sizes than network.first; give the model that the recipe names")
        self._first = [first.eval().requires_grad_(False).to(self.device)]


def pass_in(network: nn.Module, first: nn.Module | None, name: str | None) -> None:
    """Give a network that works on codes its first stage, and no other network any.

    Parameters
    ----------
    network : Module
        The network, codes or no codes.
    first : Module or None
        What was passed in.
    name : str or None
        The zoo's model that the recipe names.

    Raises
    ------
    InputError
        If the first stage is missing, out of place, or has other sizes.
    """
    if isinstance(network, OnFirstStage):
        if first is None:
            raise InputError(f"needs its first stage, the zoo's {name}; pass it as first_stage")
        network.adopt(first)
    elif first is not None:
        raise InputError("first_stage: this network works on pixels, and takes none")


class CodeModel(OnFirstStage):
    """A network that knows codes of continuous values, and by its first stage pictures.

    Parameters
    ----------
    sizes : Autoencoder or VQ
        Those of the first stage.
    """

    def __init__(self, sizes: Autoencoder | VQ) -> None:
        super().__init__(sizes)
        channels = grid(sizes).latent
        self.register_buffer("mean", torch.zeros(channels, 1, 1))  # of the codes' channels
        self.register_buffer("std", torch.ones(channels, 1, 1))

    @torch.no_grad()
    def standardise(self, images: Tensor) -> Tensor:
        """Measure the codes of the training images, ``(N, C, H, W)`` in [-1, 1], and return them standardised."""
        self.mean.zero_()
        self.std.fill_(1)
        codes = self.encode(images)
        self.mean.copy_(codes.mean((0, 2, 3))[:, None, None])
        self.std.copy_(codes.std((0, 2, 3))[:, None, None])
        return (codes - self.mean) / self.std

    @torch.no_grad()
    def encode(self, x: Tensor, batch_size: int = 250) -> Tensor:
        """Return codes ``(B, latent, side, side)``, standardised channel by channel."""
        first = self.first
        read = first.encoder if isinstance(first, VQVAE) else lambda piece: first.encode(piece)[0]
        codes = torch.cat([read(piece) for piece in x.split(batch_size)])
        return (codes - self.mean) / self.std

    def decode(self, codes: Tensor) -> Tensor:
        """Return pictures ``(B, channels, size, size)``, unbounded, of such codes."""
        first, z = self.first, codes * self.std + self.mean
        return first.decoder(first.quantiser(z).z) if isinstance(first, VQVAE) else first.decode(z)
