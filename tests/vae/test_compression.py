"""Bits back: what is written is read, bit for bit, in as many bits as the model says."""

import math
import struct
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from gencore.data import Digits, to_float
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.hierarchical import Hierarchical
from gencore.vae import ELBO, Bernoulli, DiscretisedLogistic, compression, recipes
from gencore.training.lossless import HEADER
from gencore.vae.compression import batch_sizes, compress, decompress
from gencore.vae.objectives import log_weights
from gencore.vae.sampling import build

SMALL = Hierarchical(
    size=8, channels=1, out_channels=2, latent=2, width=8, multipliers=(1, 1), blocks=(1, 2), patch=2, top=(3, 2), top_width=16
)


def make(likelihood=DiscretisedLogistic(), seed=0, **sizes):
    """Return a model whose heads are not zero, as if it were trained."""
    network = replace(SMALL, out_channels=SMALL.channels * likelihood.per_channel, **sizes)
    recipe = recipes.VAERecipe(data=Digits(size=network.size), network=network, objective=ELBO(likelihood))
    networks = build(recipe)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in networks.model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    networks.model.eval().requires_grad_(False)
    return networks, recipe


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (70, 1, 8, 8), generator=generator, dtype=torch.uint8)


def test_what_is_written_is_read(images):
    trained = make()
    data = compress(trained, images)
    assert torch.equal(decompress(trained, data), images)
    assert compress(trained, images) == data


def test_black_and_white(images):
    trained = make(Bernoulli())
    binary = (images > 127).to(torch.uint8) * 255
    assert torch.equal(decompress(trained, compress(trained, binary)), binary)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_images(images, count):
    trained = make()
    assert torch.equal(decompress(trained, compress(trained, images[:count])), images[:count])


def test_size_is_what_the_bound_says(images):
    """Between n and 2n images, the file grows by what -log2 of the weights says: what was lent cancels out."""
    trained = make()
    (model,), recipe = trained
    images = images.repeat(10, 1, 1, 1)
    eps = tuple(torch.randn(len(images), *shape, generator=torch.Generator().manual_seed(2)) for shape in model.latent_shapes)
    nats = -log_weights(model, recipe.objective.likelihood, to_float(images), None, eps, 1).double().sum()
    bits = 8 * (len(compress(trained, images)) - len(compress(trained, images[:100])))
    expected = nats / math.log(2) * (len(images) - 100) / len(images)
    assert bits == pytest.approx(expected.item(), rel=0.01)


def test_latent_variables_pay_with_what_they_return(images):
    """Without the bits that come back, every image would cost what the first one does."""
    trained = make()
    one, all = len(compress(trained, images[:1])), len(compress(trained, images))
    assert all < 0.8 * one * len(images)


def test_probabilities_are_those_of_the_likelihood():
    params = 2 * torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    table = compression._probabilities(DiscretisedLogistic(), params)
    assert table.sum(1) == pytest.approx(np.ones(48), abs=1e-5)
    for level in (0, 1, 100, 254, 255):
        x = to_float(torch.full((3, 1, 4, 4), level, dtype=torch.uint8))
        each = [DiscretisedLogistic().log_prob(params[..., i : i + 1, j : j + 1], x[..., i : i + 1, j : j + 1]).exp()
                for i in range(4) for j in range(4)]  # fmt: skip
        assert table[:, level].reshape(3, 16) == pytest.approx(torch.stack(each, 1).numpy(), abs=1e-6)
    logits = params[:, :1]
    white = compression._probabilities(Bernoulli(), logits)[:, 1].reshape(3, 16)
    assert np.log(white).sum(1) == pytest.approx(Bernoulli().log_prob(logits, torch.ones(3, 1, 4, 4)).numpy(), rel=1e-5)


def test_batches_grow_no_faster_than_bits_come_in():
    sizes = list(batch_sizes(5000))
    assert sum(sizes) == 5000
    done = 0
    for size in sizes[:-1]:
        assert size == max(1, min(compression.LARGEST, done // compression.PAID))
        done += size


def _raises(trained, data, words):
    with pytest.raises(InputError, match=words):
        decompress(trained, data)


def _with(data, position, value):
    """Change a byte, and put the checksum right again."""
    changed = bytearray(data)
    changed[position] ^= value
    head, body = bytes(changed[: HEADER.size]), bytes(changed[HEADER.size + 4 :])
    return head + struct.pack("<I", zlib.crc32(head + body)) + body


def test_damaged_files_are_refused(images):
    trained = make()
    data = compress(trained, images[:5])
    _raises(trained, b"", "no such file")
    _raises(trained, b"PNG" + data, "no such file")
    _raises(trained, data[:20], "no such file")
    _raises(trained, data[:-4], "damaged")
    _raises(trained, data[:-1], "damaged")
    for position in (8, HEADER.size + 1, HEADER.size + 9, len(data) - 1):
        changed = bytearray(data)
        changed[position] ^= 1
        _raises(trained, bytes(changed), "damaged")


def test_files_whose_checksum_lies_are_refused(images):
    trained = make()
    data = compress(trained, images[:5])
    _raises(trained, _with(data, HEADER.size + 4 + 1, 4), "cannot be read|differs")  # what was lent
    _raises(trained, _with(data, len(data) - 8, 1), "cannot be read|differs|ends before")  # an image
    _raises(trained, _with(data, 9, 255), "at most")  # four billion images
    _raises(trained, _with(data, 8, 3), "ends before|cannot be read")  # 200,000 images
    _raises(trained, _with(data, 10, 1), "images of")  # another shape


def test_another_model_is_refused(images):
    data = compress(make(), images[:5])
    _raises(make(seed=1), data, "other weights")
    _raises(make(size=16), data, "images of")


def test_another_batch_size_is_noticed(images, monkeypatch):
    """The arithmetic of a batch differs in its last bits from that of single images, and one bit spoils all."""
    trained = make(width=16, top_width=64)
    data = compress(trained, images.repeat(4, 1, 1, 1))
    monkeypatch.setattr(compression, "PAID", 10**9)
    _raises(trained, data, "cannot be read here|ends before")


def test_wrong_images_and_models_are_refused(images):
    with pytest.raises(InputError, match="uint8"):
        compress(make(), images.float())
    with pytest.raises(InputError, match="uint8"):
        compress(make(), images[..., :4])
    with pytest.raises(InputError, match="black and white"):
        compress(make(Bernoulli()), images)
    recipe = recipes.VAERecipe(data=Digits(), network=Autoencoder(size=28, channels=1), objective=ELBO())
    with pytest.raises(InputError, match="cannot compress"):
        compress((build(recipe), recipe), torch.zeros(1, 1, 28, 28, dtype=torch.uint8))


def test_threads_are_given_back(images):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compress(make(), images[:2])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
