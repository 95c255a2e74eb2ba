import copy

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.progressive import PixelNorm, Progressive, reduce_to
from gencore.training import checkpoint
from gencore.training.ema import EMA

TINY = Progressive(size=16, channels=2, latent=3, width=4, max_width=8)


def build(config=TINY, level=0.0):
    """Both players in double precision, their biases awake."""
    torch.manual_seed(0)
    players = [player.double() for player in config.build()]
    for player in players:
        player.grow_to(level)
        for name, parameter in player.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.5)
    return players


def inputs(config=TINY, batch=4):
    torch.manual_seed(1)
    shape = batch, config.channels, config.size, config.size
    return torch.randn(batch, config.latent, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)


def twice(x, times=1):
    """Repeat each pixel in both directions, again and again."""
    return twice(x.repeat_interleave(2, 2).repeat_interleave(2, 3), times - 1) if times else x


def half(x):
    """Average squares of 2x2 pixels."""
    return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4


def leaky(h):
    return torch.where(h > 0, h, 0.2 * h)


@pytest.mark.parametrize("size, resolutions", [(28, [7, 14, 28]), (32, [4, 8, 16, 32]), (14, [7, 14]), (4, [4])])
def test_shapes_at_all_levels(size, resolutions):
    config = Progressive(size=size, channels=1, latent=8, width=4, max_width=16)
    assert config.resolutions == resolutions and config.levels == len(resolutions) - 1
    generator, discriminator = config.build()
    assert generator.level == discriminator.level == 0
    for quarter in range(4 * config.levels + 1):
        for player in (generator, discriminator):
            player.grow_to(quarter / 4)
        images = generator(torch.randn(3, 8))
        assert images.shape == (3, 1, size, size)
        assert discriminator(images).shape == (3,)
        assert discriminator.features(images).shape == (3, config.widths[0])


def test_widths_double_downwards_up_to_the_bound():
    assert Progressive(size=32, width=32, max_width=128).widths == [128, 128, 64, 32]
    assert Progressive(size=28, width=16, max_width=512).widths == [64, 32, 16]


@pytest.mark.parametrize("size", [30, 33, 2, 0, -8])
def test_a_size_that_does_not_halve_down_is_refused(size):
    with pytest.raises(InputError, match=f"size {size} is not"):
        Progressive(size=size)


@pytest.mark.parametrize("field", ["channels", "latent", "width", "max_width"])
def test_bad_sizes_are_named(field):
    with pytest.raises(InputError, match=f"{field} 0: must be"):
        Progressive(**{field: 0})


@pytest.mark.parametrize("level", [-0.1, 2.1, float("nan")])
def test_levels_that_are_not_there_are_refused(level):
    generator, discriminator = build(level=1)
    for grow in (generator.grow_to, discriminator.grow_to, lambda level: reduce_to(torch.zeros(1, 1, 16, 16), level)):
        with pytest.raises(InputError, match=f"level {level}: must be from 0 to 2"):
            grow(level)
    assert generator.level == 1


def generator_block(h, w, prefix, places):
    """Two 3x3 convolutions, or one, each followed by the activation, and by the normalisation of each place."""
    for place in places:
        weight, bias = w[f"{prefix}.{place}.weight"], w[f"{prefix}.{place}.bias"]
        h = leaky(F.conv2d(h, weight * (2 / (9 * h.shape[1])) ** 0.5, bias, padding=1))
        h = h / (h.square().mean(1, keepdim=True) + 1e-8).sqrt()
    return h


def to_rgb(h, w, level):
    return F.conv2d(h, w[f"to_rgb.{level}.weight"] / h.shape[1] ** 0.5, w[f"to_rgb.{level}.bias"])


@pytest.mark.parametrize("level", [0, 1, 1.5, 2])
def test_the_generator_written_plainly(level):
    """Table 2, generator, and figure 2: 4x4, 8x8, and 16x16 which is faded in."""
    generator, w = build(level=level)[0], dict(build()[0].named_parameters())
    z, _ = inputs()
    z = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()  # of length sqrt(3), on a sphere
    # The latent vector painted by one kernel for each channel: 16 taps of 3 numbers are counted.
    h = (z @ w["blocks.0.1.weight"].T * (2 / (16 * 3)) ** 0.5 + w["blocks.0.1.bias"]).view(4, 8, 4, 4)
    h = leaky(h)
    h = h / (h.square().mean(1, keepdim=True) + 1e-8).sqrt()
    h4 = generator_block(h, w, "blocks.0", [5])
    h8 = generator_block(twice(h4), w, "blocks.1", [1, 4])
    h16 = generator_block(twice(h8), w, "blocks.2", [1, 4])
    x4, x8, x16 = (to_rgb(h, w, k) for k, h in enumerate((h4, h8, h16)))
    expected = {0: twice(x4, 2), 1: twice(x8), 1.5: 0.5 * twice(x8) + 0.5 * x16, 2: x16}
    torch.testing.assert_close(generator(inputs()[0]), expected[level])


def from_rgb(x, w, level):
    return leaky(
        F.conv2d(x, w[f"from_rgb.{level}.0.weight"] * (2 / x.shape[1]) ** 0.5, w[f"from_rgb.{level}.0.bias"])
    )


def discriminator_block(h, w, level):
    for place in (0, 2):
        weight, bias = w[f"blocks.{level}.{place}.weight"], w[f"blocks.{level}.{place}.bias"]
        h = leaky(F.conv2d(h, weight * (2 / (9 * h.shape[1])) ** 0.5, bias, padding=1))
    return half(h)


@pytest.mark.parametrize("level", [0, 1, 1.5, 2])
def test_the_discriminator_written_plainly(level):
    """Table 2, discriminator, and figure 2."""
    discriminator, w = build(level=level)[1], dict(build()[1].named_parameters())
    _, x16 = inputs()
    x8, x4 = half(x16), half(half(x16))
    old, new = from_rgb(x8, w, 1), discriminator_block(from_rgb(x16, w, 2), w, 2)
    h8 = {1: old, 1.5: 0.5 * old + 0.5 * new, 2: new}.get(level)
    h = from_rgb(x4, w, 0) if level == 0 else discriminator_block(h8, w, 1)  # (4, 8, 4, 4)
    std = h.var(0, unbiased=False).sqrt().mean()
    h = torch.cat([h, std.expand(4, 1, 4, 4)], 1)
    h = leaky(F.conv2d(h, w["blocks.0.0.weight"] * (2 / (9 * 9)) ** 0.5, w["blocks.0.0.bias"], padding=1))
    h = leaky(F.conv2d(h, w["blocks.0.2.weight"] * (2 / (8 * 16)) ** 0.5, w["blocks.0.2.bias"])).flatten(1)
    torch.testing.assert_close(discriminator.features(inputs()[1]), h)
    logits = h @ w["verdict.weight"][0] / 8**0.5 + w["verdict.bias"]
    torch.testing.assert_close(discriminator(inputs()[1]), logits)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_fade_begins_where_the_last_stage_ended_and_ends_where_the_next_begins(stage):
    for player, x in zip(build(), inputs(), strict=True):
        stages, ends = [], []
        for k in (stage, stage + 1):
            player.grow_to(k)
            stages.append(player(x))
            player.grow_to(stage + 0.5)
            player.level.fill_(k)  # the mix is drawn with the weight 0 or 1
            ends.append(player(x))
        torch.testing.assert_close(ends, stages)
        assert not torch.allclose(*stages, rtol=0.1)
        for level, there in ((stage + 1e-6, stages[0]), (stage + 1 - 1e-6, stages[1])):
            player.grow_to(level)
            torch.testing.assert_close(player(x), there, rtol=1e-4, atol=1e-4)


def test_features_are_normalised_at_each_place_and_latents_lie_on_a_sphere():
    h = torch.randn(2, 5, 3, 3) * (1 + torch.rand(2, 1, 3, 3))
    torch.testing.assert_close(PixelNorm()(h).square().mean(1), torch.ones(2, 3, 3))
    torch.testing.assert_close(F.cosine_similarity(PixelNorm()(h), h), torch.ones(2, 3, 3))
    generator, (z, _) = build()[0], inputs()
    torch.testing.assert_close(generator(z), generator(3 * z))
    assert not torch.allclose(generator(z), generator(-z), rtol=0.1)
    assert PixelNorm()(torch.zeros(1, 5)).isfinite().all()
    many = (30 + torch.rand(1, 999, 1, 1)).bfloat16()  # a sum of squares that bf16 would round to 3 digits
    assert PixelNorm()(many).dtype == torch.bfloat16
    torch.testing.assert_close(PixelNorm()(many).float(), F.normalize(many.float()) * 999**0.5, rtol=0.01, atol=0)


USED = {  # numbers of the blocks, and of the layers from and to colours
    0: ([0], [0]),
    0.5: ([0, 1], [0, 1]),
    1: ([0, 1], [1]),
    1.5: ([0, 1, 2], [1, 2]),
    2: ([0, 1, 2], [2]),
}


@pytest.mark.parametrize("level", USED)
def test_only_what_takes_part_learns(level):
    blocks, colours = USED[level]
    used = {"blocks": blocks, "to_rgb": colours, "from_rgb": colours}
    for player, x in zip(build(level=level), inputs(), strict=True):
        player(x).square().sum().backward()
        optimiser = torch.optim.Adam(player.parameters(), fused=True)
        before = copy.deepcopy(dict(player.named_parameters()))
        optimiser.step()
        for name, parameter in player.named_parameters():
            room, number, *_ = name.split(".")
            learns = room == "verdict" or int(number) in used[room]
            assert (parameter.grad is not None) == learns, name
            assert (parameter != before[name]).any() == learns, name
            assert not learns or parameter.grad.abs().max() > 0, name


def test_the_level_is_saved_and_loaded(tmp_path):
    """Both by PyTorch and by a checkpoint on disk, into players that stand elsewhere."""
    config = Progressive(size=16, channels=1, latent=8, width=4)
    players = dict(zip(("generator", "discriminator"), config.build(), strict=True))
    x = {"generator": torch.randn(4, 8), "discriminator": torch.randn(4, 1, 16, 16)}
    for level in (1.3, 1.0, 0.0):
        for player in players.values():
            player.grow_to(level)
        folder = checkpoint.save(tmp_path / str(level), 1, players, players, {})
        tensors = checkpoint.read_tensors(folder / "weights.safetensors")
        filled, loaded = (dict(zip(players, config.build(), strict=True)) for _ in range(2))
        for name, player in players.items():
            filled[name].grow_to(2)
            loaded[name].load_state_dict(player.state_dict())
        checkpoint.fill(filled, tensors, folder)
        for name, player in players.items():
            assert torch.equal(loaded[name](x[name]), player(x[name])), (name, level)
            assert torch.equal(filled[name](x[name]), player(x[name])), (name, level)


def test_a_saved_level_that_is_not_there_is_refused():
    generator, _ = build()
    with pytest.raises(InputError, match="level 7.0: must be from 0 to 2"):
        generator.load_state_dict({**generator.state_dict(), "level": torch.tensor(7.0)})


def test_a_copy_stands_where_its_original_does_and_an_average_where_it_is_told_to():
    generator, (z, _) = build(level=0.7)[0], inputs()
    assert torch.equal(copy.deepcopy(generator)(z), generator(z))
    average = EMA(generator, 1)
    generator.grow_to(1.6)
    average.update(generator, 1_000, 1_000)  # keeps next to nothing of the old weights
    average.network.grow_to(1.6)
    torch.testing.assert_close(average.network(z), generator(z))
    generator.grow_to(0)  # the copy has grown for itself
    assert average.network.level == pytest.approx(1.6)


def test_to_move_on_with_a_fade_is_not_to_compile_again():
    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    torch._dynamo.reset()
    for player, x in zip(build(), inputs(), strict=True):
        plain = copy.deepcopy(player)
        player.compile(backend=backend, fullgraph=True)
        compiled.clear()
        for count, level in enumerate((0, 1, 1.2, 1.4, 1.6, 2), start=1):
            player.grow_to(level)
            plain.grow_to(level)
            torch.testing.assert_close(player(x), plain(x))
            assert len(compiled) == (count if level < 1.3 else 4 if level == 2 else 3)


def test_players_compute_in_bf16_under_autocast():
    generator, discriminator = TINY.build()
    for level in (0, 1.3, 2):
        generator.grow_to(level)
        discriminator.grow_to(level)
        with torch.autocast("cpu", torch.bfloat16):
            logits = discriminator(generator(torch.randn(4, 3)))
        logits.sum().backward()
        assert logits.dtype == torch.bfloat16 and logits.isfinite().all()


def test_real_pictures_at_a_level():
    """By hand, on 8x8 pixels of 4x4 blocks of one value: there are levels 0 and 1."""
    x = torch.arange(64.0).view(1, 1, 8, 8)  # row i, column j: 8 i + j
    coarse = torch.tensor([[4.5 + 16 * i + 2 * j for j in range(4)] for i in range(4)])  # means of 2x2 pixels
    at0 = coarse.repeat_interleave(2, 0).repeat_interleave(2, 1)[None, None]
    torch.testing.assert_close(reduce_to(x, 0), at0)
    torch.testing.assert_close(reduce_to(x, 1), x)
    torch.testing.assert_close(reduce_to(x, 0.25), 0.75 * at0 + 0.25 * x)


def test_real_pictures_between_two_levels_below_the_full_size():
    _, x = inputs()
    at0, at1 = twice(half(half(x)), 2), twice(half(x))
    torch.testing.assert_close(reduce_to(x, 0), at0)
    torch.testing.assert_close(reduce_to(x, 1), at1)
    torch.testing.assert_close(reduce_to(x, 0.3), 0.7 * at0 + 0.3 * at1)
    torch.testing.assert_close(reduce_to(x, 1.3), 0.7 * at1 + 0.3 * x)
    assert torch.equal(reduce_to(x, 2), x)


@pytest.mark.parametrize("level", [0, 1])
def test_at_a_whole_level_nothing_finer_is_seen_or_drawn(level):
    """The discriminator judges pictures as their reduction, and the generator's pictures are their own."""
    (generator, discriminator), (z, x) = build(level=level), inputs()
    torch.testing.assert_close(discriminator(reduce_to(x, level)), discriminator(x))
    torch.testing.assert_close(reduce_to(generator(z), level), generator(z))


def test_gradients_of_gradients():
    """What a penalty on the discriminator's slope needs, in the middle of a fade."""
    (_, discriminator), (_, x) = build(level=1.5), inputs(batch=2)
    x = x[:, :, :16, :16].requires_grad_()
    (slope,) = torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)
    slope.square().sum().backward()
    weight = discriminator.from_rgb[2][0].weight
    assert weight.grad.isfinite().all() and weight.grad.abs().max() > 0
