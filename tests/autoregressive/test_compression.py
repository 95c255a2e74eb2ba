"""Arithmetic coding: what is written is read, bit for bit, in as many bits as the model says."""

import math
import struct
import zlib
from dataclasses import replace

import pytest
import torch

from gencore.autoregressive import AutoregressiveRecipe, LogisticMixture, NextSymbol, Pixels, recipes
from gencore.autoregressive.compression import compress, decompress
from gencore.autoregressive.sampling import build
from gencore.data import Binarise, Digits, to_float
from gencore.errors import InputError
from gencore.networks.gated_pixelcnn import GatedPixelCNN
from gencore.networks.pixelcnn_pp import PixelCNNPP
from gencore.networks.symbols import Grid
from gencore.training.lossless import HEADER

GREY = AutoregressiveRecipe(
    data=Digits(8),
    network=PixelCNNPP(Grid(8, levels=256, outputs=6), width=8, blocks=1, resolutions=2),
    objective=NextSymbol(LogisticMixture(2)),
)
SQUARES = AutoregressiveRecipe(
    data=Digits(8),
    network=GatedPixelCNN(Grid(4, levels=16, named=True), width=8, depth=2),
    pixels=Pixels(2, block=2),
    augmentation=Binarise(),
)


def make(recipe, seed=0, strength=0.2):
    """Return a model with weights at random, as if it were trained."""
    networks = build(recipe)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in networks.model.parameters():
            parameter.add_(strength * torch.randn_like(parameter))
    networks.model.eval().requires_grad_(False)
    return networks, recipe


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (260, 1, 8, 8), generator=generator, dtype=torch.uint8)  # more than are computed at once


def black_and_white(images):
    return (images > 127).to(torch.uint8) * 255


@pytest.mark.parametrize("count", [0, 1, 260])
def test_grey_levels_are_written_and_read(images, count):
    trained = make(GREY)
    data = compress(trained, images[:count])
    assert torch.equal(decompress(trained, data), images[:count])
    assert compress(trained, images[:count]) == data


def test_squares_of_black_and_white_are_written_and_read(images):
    trained, binary = make(SQUARES), black_and_white(images)
    assert torch.equal(decompress(trained, compress(trained, binary)), binary)


@pytest.mark.parametrize("recipe", [GREY, SQUARES], ids=["grey", "squares"])
def test_size_is_what_the_likelihood_says(images, recipe):
    trained = make(recipe, strength=0.02)  # a surer model has probabilities below what a coder can say
    (model,), _ = trained
    images = images if recipe is GREY else black_and_white(images)
    symbols = recipe.pixels.write(to_float(images))
    nats = -recipe.objective.likelihood.log_prob(model(symbols), symbols).double().sum().item()
    bits = 8 * (len(compress(trained, images)) - len(compress(trained, images[:0])))
    assert bits == pytest.approx(nats / math.log(2), rel=2e-3)


def test_a_better_model_writes_less(images):
    """One that knows that all is black, beside one that guesses at random."""
    binary = black_and_white(torch.zeros_like(images))
    sure, unsure = make(SQUARES), make(SQUARES)
    with torch.no_grad():
        sure[0].model.head.weight.zero_()
        sure[0].model.head.bias.zero_()[0] = 8.0  # black squares
    assert len(compress(sure, binary)) < 0.1 * len(compress(unsure, binary))


def _with(data, position, value):
    """The file with another byte, and a checksum that fits."""
    changed = bytearray(data)
    changed[position] ^= value
    head, body = bytes(changed[: HEADER.size]), bytes(changed[HEADER.size + 4 :])
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


def test_what_cannot_be_read_is_one_error(images):
    trained = make(GREY)
    data = compress(trained, images[:3])
    for bad, message in [
        (b"", "no such file"),
        (b"GCBB1\n" + data[6:], "no such file"),
        (data[:-4], "damaged"),
        (data[:-1] + bytes([data[-1] ^ 1]), "damaged"),
        (_with(data, 9, 1), "holds at most"),  # more than a million images
        (_with(data, 6, 64), "cannot be read|goes on after"),  # more images than were written
        (_with(data, 6, 1), "goes on after"),  # fewer
    ]:
        with pytest.raises(InputError, match=message):
            decompress(trained, bad)
    with pytest.raises(InputError, match="other weights"):
        decompress(make(GREY, seed=1), data)
    with pytest.raises(InputError, match=r"holds images of \[?\(?1, 8, 8"):
        decompress(make(replace(GREY, data=Digits(4), network=replace(GREY.network, grid=Grid(4, levels=256, outputs=6)))), data)


def test_what_cannot_be_written_is_one_error(images):
    with pytest.raises(InputError, match=r"must be uint8 \(N, 1, 8, 8\)"):
        compress(make(GREY), images.float())
    with pytest.raises(InputError, match="2 grey levels"):
        compress(make(SQUARES), images)
    with pytest.raises(InputError, match="cannot compress"):
        compress((build(recipes.tokens_emoji()), recipes.tokens_emoji()), images)
