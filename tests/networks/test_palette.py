"""The network that sees another picture and reads: beside a plain restatement, and what it refuses."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import conv2d, gelu, layer_norm, linear, scaled_dot_product_attention, silu

from gencore.errors import InputError
from gencore.networks.embeddings import sinusoidal
from gencore.networks.palette import Palette, PaletteNetwork
from gencore.networks.text import TextEncoder
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet

READER = TextEncoder(9, 5, Transformer(width=8, depth=1, heads=2))
UNET = UNet(5, out_channels=3, width=8, multipliers=(1, 2), embedding=8, heads=2, context=8)
TOLD, PLAIN = Palette(UNET, 3, READER), Palette(replace(UNET, heads=0, context=0))


def built(config):
    """A network none of whose weights is zero."""
    network = PaletteNetwork(config)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(0.3 * torch.randn(p.shape, generator=generator))
    return network


def given(height=8, width=8, seen=2):
    draw = torch.Generator().manual_seed(1)
    x_t, source = torch.randn(4, 3, height, width, generator=draw), torch.randn(4, seen, height, width, generator=draw)
    return x_t, torch.rand(4, generator=draw), source, torch.randint(0, 9, (4, 5), generator=draw)


def test_it_is_a_unet_on_both_pictures_told_time_and_words():
    """The words' vectors by hand; their mean joins the time's vector, and all of them are the U-Net's context."""
    network = built(TOLD)
    x_t, t, source, words = given()
    w = network.text.state_dict()
    h = w["table.weight"][words] + w["places"]
    block = {key.removeprefix("body.blocks.0."): value for key, value in w.items()}
    n = layer_norm(h, (8,), block["norm1.weight"], block["norm1.bias"])
    q = linear(n, block["attention.query.weight"])
    k, v = linear(n, block["attention.key_value.weight"]).chunk(2, 2)
    q, k, v = (part.view(4, 5, 2, 4).transpose(1, 2) for part in (q, k, v))
    gathered = scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(4, 5, 8)
    h = h + linear(gathered, block["attention.out.weight"], block["attention.out.bias"])
    n = layer_norm(h, (8,), block["norm2.weight"], block["norm2.bias"])
    h = h + linear(gelu(linear(n, block["mlp.0.weight"], block["mlp.0.bias"])), block["mlp.2.weight"], block["mlp.2.bias"])
    context = layer_norm(h, (8,), w["body.norm.weight"], w["body.norm.bias"])
    m = network.state_dict()
    told = network.time(t) + linear(context.mean(1), m["gist.weight"], m["gist.bias"])
    expected = network.unet(torch.cat([x_t, source], 1), told, context)
    torch.testing.assert_close(network(x_t, t, source, words), expected)


def test_the_time_is_told_by_waves():
    """The vector of the time by hand: waves of a thousand times the time through two layers."""
    network = built(PLAIN)
    x_t, t, source, _ = given()
    w = {key: value for key, value in network.time.state_dict().items()}
    first, second = [key for key in w if key.endswith("weight")]
    waves = sinusoidal(1000 * t, 8)
    told = linear(waves, w[first], w[first.replace("weight", "bias")])
    told = linear(silu(told), w[second], w[second.replace("weight", "bias")])
    expected = network.unet(torch.cat([x_t, source], 1), told)
    torch.testing.assert_close(network(x_t, t, source), expected)


def test_the_first_convolution_sees_the_noised_picture_first():
    network = built(PLAIN)
    x_t, t, source, _ = given()
    found = []
    network.unet.stem.register_forward_hook(lambda module, inputs, output: found.append(output))
    network(x_t, t, source)
    w = network.unet.stem
    by_hand = conv2d(x_t, w.weight[:, :3], w.bias, padding=1) + conv2d(source, w.weight[:, 3:], padding=1)
    torch.testing.assert_close(found[0], by_hand)


def test_with_coordinates_it_also_sees_where_each_pixel_lies():
    """From the left to the right and from the top to the bottom, -1 to 1, as the last two channels."""
    network = built(Palette(replace(UNET, channels=7), 3, READER, coordinates=True))
    x_t, t, source, words = given(height=6)
    x = torch.tensor([[2 * j / 7 - 1 for j in range(8)] for _ in range(6)])
    y = torch.tensor([[2 * i / 5 - 1] * 8 for i in range(6)])
    told, context = network.time(t), network.text(words)
    seen = torch.cat([x_t, source, torch.stack([x, y]).expand(4, -1, -1, -1)], 1)
    expected = network.unet(seen, told + network.gist(context.mean(1)), context)
    torch.testing.assert_close(network(x_t, t, source, words), expected)


@pytest.mark.parametrize("what", range(4))
def test_all_that_is_told_matters(what):
    network, told = built(TOLD), list(given())
    before = network(*told)
    told[what] = told[what].flip(0)
    assert not torch.allclose(network(*told), before, atol=1e-4)


def test_without_attention_it_takes_any_size():
    network = built(PLAIN)
    for height, width in ((8, 8), (2, 14), (20, 6)):
        x_t, t, source, _ = given(height, width)
        assert network(x_t, t, source).shape == (4, 3, height, width)


def test_a_new_network_says_nothing():
    torch.manual_seed(0)
    assert not PaletteNetwork(TOLD)(*given()).any()


@pytest.mark.parametrize(
    ("config", "change", "message"),
    [
        (TOLD, lambda x, t, s, w: (x, t, s[:, :1], w), r"source \(4, 1, 8, 8\): this network sees \(4, 2, 8, 8\)"),
        (TOLD, lambda x, t, s, w: (x, t, s[:, :, :4], w), "source"),
        (TOLD, lambda x, t, s, w: (x, t, s), "words: missing"),
        (PLAIN, lambda x, t, s, w: (x, t, s, w), "words: this network reads none"),
        (TOLD, lambda x, t, s, w: (x, t, s, w[:, :3]), "captions"),
    ],
)
def test_what_does_not_fit_is_refused(config, change, message):
    with pytest.raises(InputError, match=message):
        built(config)(*change(*given()))


@pytest.mark.parametrize(
    "wrong",
    [dict(unet=replace(UNET, channels=3)), dict(unet=replace(UNET, out_channels=5)), dict(text=None), dict(channels=0), dict(coordinates=True),
     dict(unet=replace(UNET, embedding=7)), dict(unet=replace(UNET, context=4))],
)  # fmt: skip
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(InputError):
        replace(TOLD, **wrong)
