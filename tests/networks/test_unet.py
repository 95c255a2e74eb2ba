import pytest
import torch
from torch import nn
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.unet import AttendingBlock, MapAttention, UNet, UNetNetwork
from gencore.training import recipe_io


def trained(config: UNet, steps: int = 4) -> UNetNetwork:
    """A network after some steps towards a target that depends on image and condition."""
    torch.manual_seed(0)
    network = UNetNetwork(config)
    optimiser = torch.optim.Adam(network.parameters(), 1e-2)
    size = 4 * config.divisor
    for _ in range(steps):
        x = torch.randn(4, config.channels, size, size)
        embedding = torch.randn(4, config.embedding) if config.embedding else None
        output = network(x, embedding)
        target = x.mean(1, keepdim=True) + (0 if embedding is None else embedding[:, :1, None, None])
        optimiser.zero_grad()
        (output - target).square().mean().backward()
        optimiser.step()
    return network


@pytest.mark.parametrize(
    "config, size",
    [
        (UNet(width=8), (28, 28)),
        (UNet(width=8, multipliers=(1, 2)), (14, 10)),
        (UNet(channels=3, width=8, multipliers=(1, 1, 2, 2), blocks_per_level=2), (32, 16)),
        (UNet(channels=4, out_channels=6, width=8, multipliers=(2,)), (5, 7)),
        (UNet(channels=3, out_channels=1, width=16, multipliers=(1, 2), embedding=5, patch=2), (28, 28)),
        (UNet(channels=3, out_channels=1, width=8, multipliers=(1, 2), patch=2, heads=4, finish=5), (12, 8)),
        (UNet(width=8, multipliers=(1,), heads=2, finish=1), (5, 7)),
    ],
)
def test_shapes(config, size):
    embedding = torch.randn(2, config.embedding) if config.embedding else None
    output = UNetNetwork(config)(torch.randn(2, config.channels, *size), embedding)
    assert output.shape == (2, config.out_channels or config.channels, *size)


def test_a_new_network_says_zero():
    network = UNetNetwork(UNet(width=8))
    assert not network(torch.randn(2, 1, 28, 28)).any()
    assert trained(UNet(width=8))(torch.randn(2, 1, 28, 28)).any()


@pytest.mark.parametrize("size", [(27, 28), (28, 27), (30, 28)])
def test_a_size_that_does_not_halve_down_is_refused(size):
    with pytest.raises(InputError, match=f"image of {size[0]}x{size[1]}.*multiples of 4"):
        UNetNetwork(UNet(width=8, multipliers=(1, 2, 2)))(torch.zeros(1, 1, *size))


def test_the_patch_counts_as_a_halving():
    assert UNet(multipliers=(1, 2), patch=2).divisor == UNet(multipliers=(1, 2, 2)).divisor == 4
    with pytest.raises(InputError, match="multiples of 4"):
        UNetNetwork(UNet(width=8, multipliers=(1, 2), patch=2))(torch.zeros(1, 1, 30, 28))


@pytest.mark.parametrize(
    "wrong, field",
    [
        (dict(width=12), "width 12"),
        (dict(width=0), "width 0"),
        (dict(multipliers=()), "multipliers"),
        (dict(multipliers=(1, 0)), "multipliers"),
        (dict(channels=0), "channels 0"),
        (dict(out_channels=0), "out_channels 0"),
        (dict(blocks_per_level=0), "blocks_per_level 0"),
        (dict(patch=0), "patch 0"),
        (dict(embedding=-1), "embedding -1"),
        (dict(heads=-1), "heads -1"),
        (dict(width=8, multipliers=(1, 3), heads=5), "heads 5: must be 0 .* or a divisor"),
        (dict(finish=-1), "finish -1"),
        (dict(context=-1), "context -1"),
        (dict(context=4), "context 4: must be 0 .*heads to attend"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, field):
    with pytest.raises(InputError, match=field):
        UNet(**wrong)


@pytest.mark.parametrize("embedding", [None, torch.zeros(2, 4), torch.zeros(1, 5), torch.zeros(5)])
def test_an_embedding_that_does_not_fit_is_refused(embedding):
    with pytest.raises(InputError, match=r"embedding: this U-Net takes \(2, 5\)"):
        UNetNetwork(UNet(width=8, embedding=5))(torch.zeros(2, 1, 8, 8), embedding)


def test_an_embedding_that_nobody_expects_is_refused():
    with pytest.raises(InputError, match="embedding: this U-Net takes none"):
        UNetNetwork(UNet(width=8))(torch.zeros(2, 1, 8, 8), torch.zeros(2, 5))


@pytest.mark.parametrize(
    "config",
    [
        UNet(width=8, multipliers=(1, 2), blocks_per_level=2, embedding=5, patch=2),
        UNet(width=8, multipliers=(1, 2), embedding=5, patch=2, heads=2, finish=4),
    ],
)
def test_every_parameter_gets_a_gradient_once_the_zeros_have_moved(config):
    network = trained(config, steps=3)  # the head moves first, then the blocks' last convolutions, then the rest
    network.zero_grad()
    network(torch.randn(4, 1, 16, 16), torch.randn(4, 5)).square().mean().backward()
    silent = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
    assert not silent


def test_at_first_only_the_head_gets_a_gradient():
    network = UNetNetwork(UNet(width=8))
    (network(torch.randn(2, 1, 8, 8)) - 1).square().mean().backward()
    moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"head"}


def test_at_first_only_the_last_convolution_gets_a_gradient():
    network = UNetNetwork(UNet(width=8, multipliers=(1, 2), heads=2, finish=4))
    assert not network(torch.randn(2, 1, 8, 8)).any()
    (network(torch.randn(2, 1, 8, 8)) - 1).square().mean().backward()
    moved = {name.split(".")[0] for name, p in network.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {"last"}


def test_new_attention_is_the_identity_and_stands_at_the_lowest_resolution():
    network = UNetNetwork(UNet(width=8, multipliers=(1, 2, 2), blocks_per_level=2, heads=2))
    attending = [name for name, layer in network.named_modules() if isinstance(layer, MapAttention)]
    assert {tuple(name.split(".")[:2]) for name in attending} == {
        ("down", "6"), ("down", "7"), ("middle", "0"), ("middle", "1"), ("up", "0"), ("up", "1"), ("up", "2")
    }  # after four blocks and two halvings; before two doublings
    h = torch.randn(2, 16, 3, 5)
    assert all(torch.equal(network.get_submodule(name)(h), h) for name in attending)


def test_attention_written_plainly():
    """Every place gathers from all, whatever the shape of the map; the sum stays free of the norm."""
    layer = MapAttention(16, 2).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    h, w = torch.randn(2, 16, 3, 5, dtype=torch.float64), dict(layer.named_parameters())
    expected = h.clone()
    tokens = F.group_norm(h, 8, w["norm.weight"], w["norm.bias"])
    key, value = w["attention.key_value.weight"].chunk(2)
    for image in range(2):
        flat = torch.stack([tokens[image, :, i, j] for i in range(3) for j in range(5)])  # (15, 16)
        gathered = []
        for part in (slice(0, 8), slice(8, 16)):
            q, k, v = (flat @ matrix[part].T for matrix in (w["attention.query.weight"], key, value))
            gathered.append((q @ k.T / 8**0.5).softmax(1) @ v)
        out = torch.cat(gathered, 1) @ w["attention.out.weight"].T + w["attention.out.bias"]
        for place in range(15):
            expected[image, :, place // 5, place % 5] += out[place]
    torch.testing.assert_close(layer(h), expected)


def test_attention_to_a_context_written_plainly():
    """Every place gathers from the words instead: keys and values are theirs."""
    layer = MapAttention(16, 2, context=5).double()
    for parameter in layer.parameters():
        nn.init.normal_(parameter, std=0.5)
    h, context = torch.randn(2, 16, 3, 5, dtype=torch.float64), torch.randn(2, 7, 5, dtype=torch.float64)
    w = dict(layer.named_parameters())
    places = F.group_norm(h, 8, w["norm.weight"], w["norm.bias"]).permute(0, 2, 3, 1)  # (2, 3, 5, 16)
    key, value = (context @ part.T for part in w["attention.key_value.weight"].chunk(2))  # (2, 7, 16) each
    query, gathered = places @ w["attention.query.weight"].T, []
    for part in (slice(0, 8), slice(8, 16)):
        scores = torch.einsum("bijc,bmc->bijm", query[..., part], key[..., part]) / 8**0.5
        gathered.append(torch.einsum("bijm,bmc->bijc", scores.softmax(3), value[..., part]))
    out = torch.cat(gathered, 3) @ w["attention.out.weight"].T + w["attention.out.bias"]
    torch.testing.assert_close(layer(h, context), h + out.permute(0, 3, 1, 2))


def test_a_block_attends_to_places_and_then_to_words():
    network = UNetNetwork(UNet(width=8, multipliers=(1, 2), embedding=5, heads=2, context=3)).double()
    blocks = [block for block in network.modules() if isinstance(block, AttendingBlock)]
    assert len(blocks) == 5  # one down, two in the middle, two up; all at the lowest resolution
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    h, vector, words = (torch.randn(2, *shape, dtype=torch.float64) for shape in ((16, 4, 4), (5,), (6, 3)))
    block = network.middle[0]
    expected = block.cross(block.attention(block.block(h, vector)), words)
    torch.testing.assert_close(block(h, vector, words), expected)
    assert (block(h, vector, words) - block(h, vector, words.flip(2))).abs().max() > 1e-3


def test_words_matter_as_a_bag_of_any_number_and_each_picture_keeps_its_own():
    network = UNetNetwork(UNet(width=8, multipliers=(1, 2), embedding=5, heads=2, context=3)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    x, vector, words = (torch.randn(3, *shape, dtype=torch.float64) for shape in ((1, 8, 8), (5,), (6, 3)))
    output = network(x, vector, words)
    assert (output - network(x, vector, words.roll(1, 0))).abs().amax((1, 2, 3)).min() > 1e-4
    torch.testing.assert_close(network(x, vector, words.flip(1)), output)  # what tells places apart is the reader's
    torch.testing.assert_close(network(x[1:2], vector[1:2], words[1:2]), output[1:2])
    torch.testing.assert_close(network(x, vector, words.repeat(1, 2, 1)), output)  # twice the same says the same


def test_new_attention_to_words_is_the_identity():
    network = UNetNetwork(UNet(width=8, multipliers=(1, 2), heads=2, context=3))
    h, words = torch.randn(2, 16, 3, 5), torch.randn(2, 6, 3)
    crossing = [block.cross for block in network.modules() if isinstance(block, AttendingBlock)]
    assert crossing and all(torch.equal(layer(h, words), h) for layer in crossing)


@pytest.mark.parametrize(("context", "given"), [(3, None), (3, torch.zeros(2, 6, 4)), (0, torch.zeros(2, 6, 4))])
def test_a_context_that_does_not_fit_is_refused(context, given):
    network = UNetNetwork(UNet(width=8, multipliers=(1, 2), heads=2, context=context))
    length = 0 if given is None else 4
    with pytest.raises(InputError, match=f"context of length {length}: this U-Net takes {context}"):
        network(torch.zeros(2, 1, 8, 8), None, given)


def test_with_attention_a_far_pixel_is_seen():
    """A network without it, one block a level, reaches some pixels only; with it a corner depends on the opposite one."""
    reach = {}
    for heads in (0, 2):
        network = trained(UNet(width=8, multipliers=(1,), heads=heads)).double()
        for layer in network.modules():
            if isinstance(layer, nn.GroupNorm):  # statistics of the whole picture let everything see everything
                layer.forward = lambda h: h
        x = torch.randn(1, 1, 40, 40, dtype=torch.float64, requires_grad=True)
        (gradient,) = torch.autograd.grad(network(x)[0, 0, 0, 0], x)
        reach[heads] = bool(gradient[0, 0, -1, -1])
    assert reach == {0: False, 2: True}


def test_the_condition_matters_once_trained():
    network, x = trained(UNet(width=8, multipliers=(1, 2), embedding=5)), torch.randn(1, 1, 8, 8)
    one, other = torch.zeros(1, 5), torch.ones(1, 5)
    assert (network(x, one) - network(x, other)).abs().max() > 1e-2


def test_every_image_keeps_its_own_condition():
    network, x, embedding = trained(UNet(width=8, embedding=5)), torch.randn(3, 1, 8, 8), torch.randn(3, 5)
    torch.testing.assert_close(network(x, embedding)[1:2], network(x[1:2], embedding[1:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("config", [UNet(width=8, multipliers=(1, 2, 2)), UNet(width=8, multipliers=(1, 2), patch=2)])
def test_a_shift_by_the_divisor_shifts_the_output(config):
    """Exact on a torus; smaller shifts fall between the strides."""
    network = trained(config).double()
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):
            layer.padding_mode = "circular"
    x = torch.randn(1, 1, 16, 16, dtype=torch.float64)
    errors = {shift: (network(x.roll(shift, 2)) - network(x).roll(shift, 2)).abs().max() for shift in (1, 2, 4, 8)}
    assert errors[4] < 1e-9 and errors[8] < 1e-9
    assert errors[1] > 1e-4 and errors[2] > 1e-4


def test_every_map_of_the_way_down_is_carried_across_once():
    """The way up takes what the way down made, in the opposite order: cutting any one changes the output."""
    network = trained(UNet(width=8, multipliers=(1, 2), blocks_per_level=2)).double()
    x = torch.randn(1, 1, 8, 8, dtype=torch.float64)
    maps = []
    hooks = [layer.register_forward_hook(lambda *a: maps.append(a[2])) for layer in (network.stem, *network.down)]
    output = network(x)
    for hook in hooks:
        hook.remove()
    inputs = []
    blocks = [layer for layer in network.up if hasattr(layer, "conv1")]
    hooks = [block.register_forward_pre_hook(lambda _, args: inputs.append(args[0])) for block in blocks]
    assert torch.equal(network(x), output)
    for hook in hooks:
        hook.remove()
    assert len(maps) == len(inputs)
    for carried, received in zip(maps, reversed(inputs), strict=True):
        assert torch.equal(received[:, -carried.shape[1] :], carried)


def test_a_recipe_can_hold_the_sizes():
    config = UNet(channels=3, multipliers=(1, 2), embedding=64, patch=2)
    assert recipe_io.from_dict(UNet, recipe_io.to_dict(config)) == config


def test_a_network_written_plainly():
    """Figure 1 of the paper with the blocks of Ho et al.; the blocks themselves are written plainly in test_blocks."""
    network = UNetNetwork(UNet(channels=2, width=8, multipliers=(1, 2), embedding=3, patch=2)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x, e = torch.randn(2, 2, 8, 12, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    pixels = [x[:, c, i::2, j::2] for c in range(2) for i in range(2) for j in range(2)]  # (B, 4, 6) each
    fine0 = network.stem(torch.stack(pixels, 1))
    fine1 = network.down[0](fine0, e)
    coarse0 = network.down[1](fine1)
    coarse1 = network.down[2](coarse0, e)
    h = network.middle[1](network.middle[0](coarse1, e), e)
    h = network.up[0](torch.cat([h, coarse1], 1), e)
    h = network.up[2](network.up[1](torch.cat([h, coarse0], 1), e))
    h = network.up[3](torch.cat([h, fine1], 1), e)
    h = network.up[4](torch.cat([h, fine0], 1), e)
    h = network.head(F.silu(F.group_norm(h, 8, network.norm.weight, network.norm.bias)))  # (B, 8, 4, 6)
    expected = torch.empty_like(x)
    for number in range(8):
        expected[:, number // 4, number // 2 % 2 :: 2, number % 2 :: 2] = h[:, number]
    torch.testing.assert_close(network(x, e), expected)


def test_attention_and_finish_written_plainly():
    """At the lowest resolution each block is followed by attention; two convolutions at full resolution see the input."""
    network = UNetNetwork(UNet(channels=2, out_channels=3, width=8, multipliers=(1, 2), patch=2, heads=2, finish=5)).double()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.randn(2, 2, 8, 12, dtype=torch.float64)

    def attending(layer, h):
        return layer.attention(layer.block(h))

    w = dict(network.named_parameters())
    fine0 = network.stem(F.pixel_unshuffle(x, 2))
    fine1 = network.down[0](fine0)
    coarse0 = network.down[1](fine1)
    coarse1 = attending(network.down[2], coarse0)
    h = attending(network.middle[1], attending(network.middle[0], coarse1))
    h = attending(network.up[0], torch.cat([h, coarse1], 1))
    h = network.up[2](attending(network.up[1], torch.cat([h, coarse0], 1)))
    h = network.up[3](torch.cat([h, fine1], 1))
    h = network.up[4](torch.cat([h, fine0], 1))
    h = F.conv2d(F.silu(F.group_norm(h, 8, w["norm.weight"], w["norm.bias"])), w["head.weight"], w["head.bias"], padding=1)
    h = F.silu(F.pixel_shuffle(h, 2))  # (B, 5, 8, 12)
    h = F.silu(F.conv2d(torch.cat([h, x], 1), w["finish.weight"], w["finish.bias"], padding=1))
    torch.testing.assert_close(network(x), F.conv2d(h, w["last.weight"], w["last.bias"], padding=1))
