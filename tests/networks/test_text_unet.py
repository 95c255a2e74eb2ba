"""The U-Net that reads: what it is told and how, the empty caption, and where it looks for each word."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.latent import Latent, LatentNetwork, build_denoising
from gencore.networks.text import TextEncoder
from gencore.networks.text_unet import TextUNet, TextUNetNetwork, attention_maps
from gencore.networks.transformer import Transformer
from gencore.networks.unet import AttendingBlock, UNet
from gencore.training import recipe_io

UNET = UNet(3, width=8, multipliers=(1, 2), embedding=6, heads=2, context=8)
SMALL = TextUNet(8, UNET, TextEncoder(9, 5, Transformer(8, 1, 2)), conditions=(4, 2))


@pytest.fixture
def network():
    """One in which nothing is zero any more."""
    torch.manual_seed(0)
    network = TextUNetNetwork(SMALL)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    return network.double()


def case():
    generator = torch.Generator().manual_seed(1)
    x_t = torch.randn(3, 3, 8, 8, generator=generator, dtype=torch.float64)
    cond = torch.tensor([[3, 4, 5, 0, 0, 0, 1], [8, 0, 0, 0, 0, 3, 0], [1, 2, 3, 4, 5, 4, 2]])
    return x_t, torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64), cond


def test_it_is_a_unet_that_reads_written_plainly(network):
    """The words go to the places; their mean, through one linear layer, goes to time and conditions."""
    x_t, t, cond = case()
    words = network.text(cond[:, :5])
    mean = (words[:, 0] + words[:, 1] + words[:, 2] + words[:, 3] + words[:, 4]) / 5
    vector = network.teller.time(t) + network.teller.tables[0].weight[cond[:, 5]] + network.teller.tables[1].weight[cond[:, 6]]
    vector = vector + mean @ network.whole.weight.T + network.whole.bias
    output = network(x_t, t, cond)
    torch.testing.assert_close(output, network.unet(x_t, vector, words))
    assert output.shape == x_t.shape


def test_both_ways_of_telling_matter(network):
    x_t, t, cond = case()
    before = network(x_t, t, cond)
    with torch.no_grad():
        network.whole.weight.zero_()
    without_mean = network(x_t, t, cond)
    assert (without_mean - before).abs().amax((1, 2, 3)).min() > 1e-3
    other = cond.clone()
    other[:, 1] = 7
    assert (network(x_t, t, other) - without_mean).abs().amax((1, 2, 3)).min() > 1e-3  # by attention alone


def test_nothing_told_is_the_empty_caption_and_the_last_row_of_each_table(network):
    x_t, t, _ = case()
    nothing = torch.tensor([[0, 0, 0, 0, 0, 4, 2]]).expand(3, 7)
    assert torch.equal(network(x_t, t, nothing), network(x_t, t))


def test_each_picture_keeps_its_own_caption(network):
    x_t, t, cond = case()
    torch.testing.assert_close(network(x_t[1:2], t[1:2], cond[1:2]), network(x_t, t, cond)[1:2])


def test_the_maps_say_where_each_word_is_looked_at(network):
    """Over all words, each place gives one; written plainly, the mean of five layers' softmaxes over both heads."""
    x_t, t, cond = case()
    maps = attention_maps(network, x_t, t, cond)
    assert maps.shape == (3, 5, 4, 4)
    torch.testing.assert_close(maps.sum(1), torch.ones(3, 4, 4, dtype=torch.float64))
    seen = []
    blocks = [block for block in network.modules() if isinstance(block, AttendingBlock)]
    hooks = [block.cross.register_forward_hook(lambda _, given, out: seen.append(given)) for block in blocks]
    network(x_t, t, cond)
    expected = torch.zeros(3, 5, 4, 4, dtype=torch.float64)
    for block, (h, words) in zip(blocks, seen, strict=True):
        attention = block.cross.attention
        places = block.cross.norm(h).permute(0, 2, 3, 1)
        query, key = places @ attention.query.weight.T, words @ attention.key_value.weight[:16].T
        for part in (slice(0, 8), slice(8, 16)):
            scores = torch.einsum("bijc,blc->bijl", query[..., part], key[..., part]) / 8**0.5
            expected += scores.softmax(3).permute(0, 3, 1, 2) / (2 * len(blocks))
    assert len(blocks) == 5
    torch.testing.assert_close(maps, expected)
    for hook in hooks:
        hook.remove()
    assert not any(block.cross._forward_hooks for block in blocks)  # nothing is left behind


def test_hooks_are_taken_off_when_the_network_fails(network):
    x_t, t, cond = case()
    with pytest.raises(InputError):
        attention_maps(network, x_t, t, cond[:, :3])
    assert not any(module._forward_hooks for module in network.modules())


def test_every_parameter_gets_a_gradient(network):
    x_t, t, cond = case()
    (network(x_t, t, cond) * torch.randn_like(x_t)).sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def test_it_denoises_codes_too():
    first = Autoencoder(size=16, channels=3, latent=3, flat=False, width=8, multipliers=(1, 2))
    config = Latent(first, SMALL)
    assert config.captions == SMALL.text and config.conditions == (4, 2) and config.shape == (3, 8, 8)
    network = build_denoising(config)
    assert isinstance(network, LatentNetwork) and isinstance(network.denoiser, TextUNetNetwork)
    x_t, t, cond = case()
    assert network(x_t.float(), t.float(), cond).shape == x_t.shape
    assert Latent().captions is None
    assert recipe_io.from_dict(Latent, recipe_io.to_dict(config)) == config
    assert isinstance(build_denoising(SMALL), TextUNetNetwork)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(size=7), "size 7: this U-Net takes multiples of 2"),
        (dict(unet=replace(UNET, embedding=5)), "unet.embedding 5: .* an even number"),
        (dict(unet=replace(UNET, embedding=0)), "unet.embedding 0"),
        (dict(unet=replace(UNET, context=6)), "unet.context 6: must be 8, the length of a word in text.transformer"),
        (dict(conditions=(4, 0)), r"conditions \(4, 0\): each has at least one value"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        replace(SMALL, **fields)


@pytest.mark.parametrize("columns", [6, 8])
def test_more_or_fewer_columns_are_refused(network, columns):
    x_t, t, _ = case()
    with pytest.raises(InputError, match=rf"conditions \(3, {columns}\): this network takes \(3, 7\), 5 for the caption"):
        network(x_t, t, torch.zeros(3, columns, dtype=torch.int64))


def test_sizes():
    assert SMALL.channels == 3 and SMALL.shape == (3, 8, 8) and SMALL.captions == SMALL.text
