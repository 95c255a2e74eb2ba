from dataclasses import replace

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.quantiser import FSQ, Codebook
from gencore.networks.vqvae import VQ, VQVAE

SIZES = Autoencoder(size=16, channels=3, latent=3, flat=False, width=8, multipliers=(1, 2, 2))


@pytest.mark.parametrize("quantiser", [Codebook(20), FSQ((3, 4, 5))])
def test_images_to_codes_to_images(quantiser):
    torch.manual_seed(0)
    network = VQVAE(VQ(SIZES, quantiser))
    x = torch.randn(2, 3, 16, 16)
    decoded, z, quantised = network(x)
    codes = network.encode(x)
    assert codes.shape == (2, 4, 4) and codes.dtype == torch.int64 and 0 <= codes.min() <= codes.max() < quantiser.size
    assert torch.equal(codes, quantised.codes)
    assert decoded.shape == x.shape
    torch.testing.assert_close(network.decode(codes), decoded, rtol=1e-3, atol=1e-4)  # straight-through rounds once more
    torch.testing.assert_close(z, network.encoder(x))
    torch.testing.assert_close(decoded, network.decoder(network.quantiser(z).z))


def test_classes_reach_both_halves():
    torch.manual_seed(0)
    network = VQVAE(VQ(replace(SIZES, classes=3), Codebook(20)))
    for module in network.modules():  # new blocks are identities; a condition shows once they are not
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, 0, 0.1)
    x, one, other = torch.randn(1, 3, 16, 16), torch.tensor([0]), torch.tensor([1])
    assert not torch.equal(network(x, one)[1], network(x, other)[1])
    codes = network.encode(x, one)
    assert not torch.equal(network.decode(codes, one), network.decode(codes, other))


@pytest.mark.parametrize(
    ("change", "quantiser", "word"),
    [
        ({"flat": True}, Codebook(), "autoencoder.flat"),
        ({"out_channels": 6}, Codebook(), "autoencoder.out_channels"),
        ({"latent": 4}, FSQ((8, 8, 8)), "quantiser.levels"),
    ],
)
def test_bad_sizes_are_named(change, quantiser, word):
    with pytest.raises(InputError, match=word):
        VQ(replace(SIZES, **change), quantiser)
