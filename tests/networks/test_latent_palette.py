"""A network that edits in codes: pictures to codes, the inner network's very answer, and what it refuses."""

from dataclasses import replace

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.latent_palette import LatentPalette, LatentPaletteNetwork
from gencore.networks.palette import Palette
from gencore.networks.quantiser import Codebook
from gencore.networks.text import TextEncoder
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.networks.vqvae import VQ, VQVAE

READER = TextEncoder(9, 5, Transformer(width=8, depth=1, heads=2))
INNER = Palette(UNet(4, out_channels=2, width=8, multipliers=(1,), embedding=8, heads=2, context=8), 2, READER)
SIZES = LatentPalette(VQ(Autoencoder(size=16, channels=3, latent=2, flat=False, width=8, multipliers=(1, 1)), Codebook(7)), INNER)


def test_it_answers_as_its_inner_network_and_owns_no_first_stage():
    torch.manual_seed(0)
    network, first = LatentPaletteNetwork(SIZES), VQVAE(SIZES.first)
    first.quantiser.codebook.copy_(torch.randn(7, 2))
    network.adopt(first)
    for p in network.palette.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    x_t, source, t, words = torch.randn(4, 2, 8, 8), torch.randn(4, 2, 8, 8), torch.rand(4), torch.randint(0, 9, (4, 5))
    assert torch.equal(network(x_t, t, source, words), network.palette(x_t, t, source, words))
    assert not torch.equal(network(x_t, t, source, words), network(source, t, x_t, words))
    assert {key.split(".")[0] for key in network.state_dict()} == {"mean", "std", "palette"}
    images = torch.rand(20, 3, 16, 16) * 2 - 1
    network.standardise(images)
    torch.testing.assert_close(network.decode(network.encode(images)), first.decode(first.encode(images)), atol=1e-4, rtol=1e-4)
    assert (SIZES.size, SIZES.channels, SIZES.seen, SIZES.text) == (16, 3, 3, READER)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(palette=replace(INNER, unet=replace(INNER.unet, channels=5))), r"noises and sees \(2, 3\) channels, but codes have 2"),
        (dict(palette=replace(INNER, unet=replace(INNER.unet, patch=16))), "takes multiples of 16, but codes are 8x8"),
        (dict(first=replace(SIZES.first.autoencoder, flat=True)), "flat=False"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(wrong, message):
    with pytest.raises(InputError, match=message):
        replace(SIZES, **wrong)
