"""Lossless compression with an autoregressive model: its probabilities, symbol by symbol, drive an arithmetic coder.

Rissanen & Langdon 1979, "Arithmetic coding", https://doi.org/10.1147/rd.232.0149; as a range coder, Martin 1979. A file takes
as many bits as -log2 of the images' probability, and a few more. Equation numbers (PC.n) are those of the chapter "Masked
convolutions".

To write, the network is asked place by place, just as when it draws: only so do writer and reader compute the same numbers, to
the last bit; see `gencore.training.lossless`.
"""

from collections.abc import Iterator

import numpy as np
import torch
from constriction import stream
from torch import Tensor

from gencore.autoregressive.objectives import Networks
from gencore.autoregressive.recipes import AutoregressiveRecipe
from gencore.data import to_float, to_uint8
from gencore.errors import InputError
from gencore.networks.coded import CodedNetwork
from gencore.training.lossless import fingerprint, frame, one_thread, unframe

MAGIC = b"GCAR1\n"
AT_ONCE = 250  # images computed at once
SYMBOLS = stream.model.Categorical(perfect=False)  # no symbol gets probability zero, so that all can be written


@torch.inference_mode()
def compress(trained: tuple[Networks, AutoregressiveRecipe], images: Tensor) -> bytes:
    """Write images without loss, in about as many bits as -log2 of their probability.

    Parameters
    ----------
    trained : tuple
        What `load` returns, for a model that writes grey or black and white pixels, on the CPU; nothing is told to it.
    images : Tensor
        uint8 ``(N, 1, H, W)``, of levels that the model knows.

    Returns
    -------
    bytes
        A file, which only the same model can read.

    Raises
    ------
    InputError
        If the model is of another kind, or the images are.
    """
    (model,), recipe = _check(trained)
    shape = recipe.data.channels, recipe.data.size, recipe.data.size
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != shape:
        raise InputError(f"images {tuple(images.shape)} of {images.dtype}: must be uint8 (N, {', '.join(map(str, shape))})")
    symbols = recipe.pixels.write(to_float(images))
    if not torch.equal(to_uint8(recipe.pixels.read(symbols)), images):
        raise InputError(f"images: this model knows {recipe.pixels.levels} grey levels alone")
    coder = stream.queue.RangeEncoder()
    with one_thread():
        for batch in symbols.split(AT_ONCE):
            written = torch.zeros_like(batch)
            for row, column, table in _tables(trained, written):
                here = batch[:, 0, row, column]
                coder.encode(here.to(torch.int32).numpy(), SYMBOLS, table)
                written[:, 0, row, column] = here
        return frame(MAGIC, len(images), shape, _fingerprint(trained), coder.get_compressed())


@torch.inference_mode()
def decompress(trained: tuple[Networks, AutoregressiveRecipe], data: bytes) -> Tensor:
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
        uint8 ``(N, 1, H, W)``: the very same images.

    Raises
    ------
    InputError
        If the file is damaged or no such file, was written with another model, or on a machine whose arithmetic differs.
    """
    (model,), recipe = _check(trained)
    shape = recipe.data.channels, recipe.data.size, recipe.data.size
    count, theirs, words = unframe(MAGIC, shape, data)
    coder = stream.queue.RangeDecoder(words)
    images = torch.empty(count, *shape, dtype=torch.uint8)
    with one_thread():
        if theirs != _fingerprint(trained):
            raise InputError("compressed images: written with other weights, or on a machine that computes otherwise")
        for batch in images.split(AT_ONCE):
            written = torch.zeros(len(batch), *model.config.grid.shape, dtype=torch.int64)
            for row, column, table in _tables(trained, written):
                written[:, 0, row, column] = torch.from_numpy(_decode(coder, table)).long()
            batch.copy_(to_uint8(recipe.pixels.read(written)))
    if not coder.maybe_exhausted():
        raise InputError("compressed images: the file goes on after its last image, or what this machine computes differs")
    return images


def _tables(
    trained: tuple[Networks, AutoregressiveRecipe], written: Tensor
) -> Iterator[tuple[int, int, np.ndarray]]:
    """Yield each place with the probabilities of its symbols, float32 ``(B, levels)``, given what is written before."""
    (model,), recipe = trained
    at = model.incremental(written, None)
    for row in range(model.config.grid.size):
        for column in range(model.config.grid.size):
            p = recipe.objective.likelihood.probabilities(at(row, column))  # (B, 1, levels)
            yield row, column, np.ascontiguousarray(p[:, 0].float().numpy())


def _decode(coder: stream.queue.RangeDecoder, table: np.ndarray) -> np.ndarray:
    """Return the symbols of one place, int32 ``(B,)``."""
    try:
        return coder.decode(SYMBOLS, table)
    except AssertionError:  # the coder's word for bits that no such symbols can have made
        raise InputError("compressed images: the file cannot be read here; what this machine computes differs") from None


def _check(trained: tuple[Networks, AutoregressiveRecipe]) -> tuple[Networks, AutoregressiveRecipe]:
    """Return the model, if it can compress."""
    (model,), recipe = trained
    if isinstance(model, CodedNetwork) or model.config.grid.channels != 1 or not hasattr(model, "incremental"):
        raise InputError("this model cannot compress: it must write pixels of one channel, place by place")
    return trained


def _fingerprint(trained: tuple[Networks, AutoregressiveRecipe]) -> bytes:
    (model,), _ = trained
    return fingerprint(model, model(torch.zeros(1, *model.config.grid.shape, dtype=torch.int64), None))
