"""Lossless compression with a hierarchical VAE: bits back with asymmetric numeral systems.

Townsend, Bird & Barber 2019, https://arxiv.org/abs/1901.04866 (bits back with ANS); Townsend et al. 2020, "HiLLoC",
https://arxiv.org/abs/1912.09953 (the posterior is built on the way down, many images at once); ANS: Duda 2013,
https://arxiv.org/abs/1311.2540. Equation numbers (HI.n) are those of the chapter "Hierarchies, and the VAE as a compressor".

A stack of bits holds everything. To write a batch, latent variables are popped with the posterior's probabilities, the
images are pushed with the likelihood's, and the latent variables are pushed with the prior's. To read it, the same is done
backwards, and the bits that the latent variables were popped from come back.

Latent variables lie on a grid: ``BINS`` steps to a standard deviation of the prior that holds where they are drawn. In
these units every prior is the same standard normal distribution, and no result of a network enters it.

What a network computes must be the same to the last bit in both directions: see `gencore.training.lossless`.
"""

import hashlib
import math
from collections.abc import Iterator

import numpy as np
import torch
from constriction import stream
from torch import Tensor

from gencore.data import to_float
from gencore.errors import InputError
from gencore.networks.hierarchical import HierarchicalVAE
from gencore.training.lossless import fingerprint, frame, one_thread, unframe
from gencore.vae.likelihoods import HALF_BIN, Bernoulli, DiscretisedLogistic
from gencore.vae.objectives import Networks
from gencore.vae.recipes import VAERecipe

BINS = 64  # steps of the latent grid to a standard deviation of the prior
REACH = 8 * BINS  # the grid ends eight standard deviations from the prior's mean
PAID = 24  # images whose bits lend one image enough for its latent variables
LARGEST = 64  # images computed at once
POSTERIOR = stream.model.QuantizedGaussian(-REACH, REACH)
PRIOR = stream.model.QuantizedGaussian(-REACH, REACH, 0.0, float(BINS))
PIXELS = stream.model.Categorical(perfect=False)

MAGIC = b"GCBB1\n"


@torch.inference_mode()
def compress(trained: tuple[Networks, VAERecipe], images: Tensor) -> bytes:
    """Write images without loss, in about as many bits as the evidence lower bound says.

    Parameters
    ----------
    trained : tuple
        What `load` returns, for a hierarchical VAE on the CPU.
    images : Tensor
        uint8 ``(N, C, H, W)``. If the likelihood is Bernoulli, values are 0 and 255.

    Returns
    -------
    bytes
        A file, which only the same model can read. The first image's latent variables have no other image to borrow
        bits from: they cost once what a small picture costs.

    Raises
    ------
    InputError
        If the model is of another kind, or the images are.
    """
    model, likelihood, shape = _parts(trained)
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != shape:
        raise InputError(f"images {tuple(images.shape)} of {images.dtype}: must be uint8 (N, {', '.join(map(str, shape))})")
    if isinstance(likelihood, Bernoulli) and not ((images == 0) | (images == 255)).all():
        raise InputError("images: this model knows black and white alone; give values 0 and 255")
    coder = stream.stack.AnsCoder(_lent(model), seal=True)
    untouched, first = coder.num_words(), 0
    with one_thread():
        for size in batch_sizes(len(images)):
            batch = images[first : first + size]
            first += size
            seen, chosen = model.bottom_up(to_float(batch)), []

            def choose(number: int, h: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
                shift, stretch = _relative(model, number, h, seen[number], mean, log_std)
                chosen.append(coder.decode(POSTERIOR, shift, stretch))
                return _on_grid(chosen[-1], mean, log_std)

            params = model.top_down(size, choose)
            untouched = min(untouched, coder.num_words())
            coder.encode_reverse(_symbols(likelihood, batch), PIXELS, _probabilities(likelihood, params))
            for steps in reversed(chosen):
                coder.encode_reverse(steps, PRIOR)
    words = coder.get_compressed()[max(0, untouched - 3) :]  # what lies below the lowest level was never looked at
    return frame(MAGIC, len(images), shape, _fingerprint(model), words)


@torch.inference_mode()
def decompress(trained: tuple[Networks, VAERecipe], data: bytes) -> Tensor:
    """Read what `compress` wrote.

    Parameters
    ----------
    trained : tuple
        The model that the file was written with.
    data : bytes
        The file.

    Returns
    -------
    Tensor
        uint8 ``(N, C, H, W)``: the very same images.

    Raises
    ------
    InputError
        If the file is damaged or no such file, was written with another model, or on a machine whose arithmetic differs.
    """
    model, likelihood, shape = _parts(trained)
    count, theirs, words = unframe(MAGIC, shape, data)
    coder = stream.stack.AnsCoder(words)
    batches: list[Tensor] = []
    with one_thread():
        if theirs != _fingerprint(model):
            raise InputError("compressed images: written with other weights, or on a machine that computes otherwise")
        for size in reversed(list(batch_sizes(count))):
            chosen, waiting = [], []

            def choose(number: int, h: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
                chosen.append(coder.decode(PRIOR, mean.numel()))
                waiting.append((number, h, mean, log_std))
                return _on_grid(chosen[-1], mean, log_std)

            params = model.top_down(size, choose)
            symbols = coder.decode(PIXELS, _probabilities(likelihood, params))
            if coder.is_empty():
                raise InputError("compressed images: the file ends before its last image")
            batches.append(_images(likelihood, symbols, (size, *shape)))
            seen = model.bottom_up(to_float(batches[-1]))
            for steps, (number, h, mean, log_std) in zip(reversed(chosen), reversed(waiting), strict=True):
                shift, stretch = _relative(model, number, h, seen[number], mean, log_std)
                coder.encode_reverse(steps, POSTERIOR, shift, stretch)
    _check_returned(coder, _lent(model))
    return torch.cat(batches[::-1]) if batches else torch.empty(0, *shape, dtype=torch.uint8)


def batch_sizes(count: int) -> Iterator[int]:
    """Yield how many images are computed at once: one at first, more as those written before can lend their bits.

    The latent variables of a batch are popped before its images are pushed, so a batch of B borrows B times as many bits
    as one image does. Both directions derive the same sizes from the number of images.
    """
    done = 0
    while done < count:
        size = min(max(1, done // PAID), LARGEST, count - done)
        yield size
        done += size


def _parts(trained: tuple[Networks, VAERecipe]) -> tuple[HierarchicalVAE, Bernoulli | DiscretisedLogistic, tuple[int, int, int]]:
    """Return model, likelihood and an image's shape, if this model can compress."""
    (model,), recipe = trained
    likelihood = getattr(recipe.objective, "likelihood", None)
    if not isinstance(model, HierarchicalVAE) or not isinstance(likelihood, (Bernoulli, DiscretisedLogistic)):
        raise InputError("this model cannot compress: it needs latent variables drawn on a way down, and discrete pixels")
    return model, likelihood, (recipe.network.channels, recipe.network.size, recipe.network.size)


def _relative(
    model: HierarchicalVAE, number: int, h: Tensor, up: Tensor, mean: Tensor, log_std: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Return the posterior's mean and standard deviation in steps of the grid, float64 ``(n,)`` each."""
    posterior_mean, posterior_log_std = model.posterior(number, h, up, mean, log_std)
    shift = (posterior_mean - mean) * torch.exp(-log_std)
    stretch = torch.exp(posterior_log_std - log_std)
    return tuple((BINS * each).double().flatten().numpy() for each in (shift, stretch))


def _on_grid(steps: np.ndarray, mean: Tensor, log_std: Tensor) -> Tensor:
    """Return the latent variables that lie so many steps of the grid from the prior's mean."""
    return mean + log_std.exp() * torch.from_numpy(steps).view_as(mean) / BINS  # (HI.7)


def _probabilities(likelihood: Bernoulli | DiscretisedLogistic, params: Tensor) -> np.ndarray:
    """Return each pixel's probabilities, float32 ``(pixels, 2)`` or ``(pixels, 256)``."""
    if isinstance(likelihood, Bernoulli):
        white = params.float().sigmoid().flatten()
        return torch.stack([1 - white, white], 1).numpy()
    location, log_scale = (each.flatten()[:, None] for each in likelihood.split(params))
    edges = 2 * HALF_BIN * torch.arange(1, 256) - 1 - HALF_BIN  # between neighbouring levels
    below = torch.sigmoid((edges - location) * torch.exp(-log_scale))  # (pixels, 255)
    zero, one = below.new_zeros(len(below), 1), below.new_ones(len(below), 1)
    return torch.cat([zero, below, one], 1).diff(dim=1).clamp(min=0).numpy()


def _symbols(likelihood: Bernoulli | DiscretisedLogistic, images: Tensor) -> np.ndarray:
    """Return the places of the pixels' values among the likelihood's, int32 ``(pixels,)``."""
    values = images.flatten().to(torch.int32)
    return (values // 255 if isinstance(likelihood, Bernoulli) else values).numpy()


def _images(likelihood: Bernoulli | DiscretisedLogistic, symbols: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Undo `_symbols`."""
    values = torch.from_numpy(symbols) * (255 if isinstance(likelihood, Bernoulli) else 1)
    return values.to(torch.uint8).view(shape)


def _lent(model: HierarchicalVAE) -> np.ndarray:
    """Return the bits that the first images borrow: any would do, if both sides know them. Far more than are needed."""
    words = LARGEST * sum(math.prod(shape) for shape in model.latent_shapes)
    return np.frombuffer(hashlib.shake_256(MAGIC).digest(4 * words), "<u4").astype(np.uint32)


def _check_returned(coder: stream.stack.AnsCoder, lent: np.ndarray) -> None:
    """Raise unless the stack holds what was lent and nothing else: one wrong bit on the way, and it holds noise."""
    try:
        returned = coder.get_compressed(unseal=True)
    except Exception:  # the coder raises a bare one where the end of what was lent is not found
        returned = lent[:0]
    if not len(returned) or not np.array_equal(returned, lent[-len(returned) :]):
        raise InputError("compressed images: the file cannot be read here; what this machine computes differs")


def _fingerprint(model: HierarchicalVAE) -> bytes:
    return fingerprint(model, model.generate(tuple(torch.ones(1, *shape) for shape in model.latent_shapes)))
