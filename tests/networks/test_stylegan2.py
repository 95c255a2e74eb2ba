import copy
import math

import pytest
import torch
from safetensors.torch import load, save
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks import stylegan2
from gencore.networks.stylegan2 import Mapping, ModulatedConv, StyledLayer, StyleGAN2

TINY = StyleGAN2(
    size=8, channels=2, style=3, mapping=2, width=4, max_width=8, judge_width=4, judge_max_width=6, conditions=(3, 2)
)
LEAN = {"size": 16, "convolutions": 1, "patch": 2}
NOISE = slice(3, 3 + 16 + 64 + 64)  # where TINY's latents hold the noise of its maps: 4x4, 8x8, 8x8


def config(**fields):
    return StyleGAN2(**{**{name: getattr(TINY, name) for name in TINY.__dataclass_fields__}, **fields})


def awake(config=TINY):
    """Both players in double precision, their biases and the strengths of the noise awake; in evaluation mode."""
    torch.manual_seed(0)
    players = [player.double().eval() for player in config.build()]
    for player in players:
        for name, parameter in player.named_parameters():
            if name.endswith(("bias", "strength")):
                amount = 50 if name.startswith("mapping") else 0.5  # of these, a hundredth is used
                parameter.data += amount * torch.randn_like(parameter)
    return players


def inputs(config=TINY, batch=4):
    torch.manual_seed(1)
    z = torch.randn(batch, config.latent).double()
    x = torch.randn(batch, config.channels, config.size, config.size).double()
    cond = [torch.randint(count, (batch,)) for count in config.conditions]
    return z, x, torch.stack(cond, 1) if cond else None


SIDES = {7: [7], 14: [7, 14], 28: [7, 14, 28], 16: [4, 8, 16], 32: [4, 8, 16, 32]}


@pytest.mark.parametrize("convolutions", [1, 2])
@pytest.mark.parametrize("patch", [1, 2])
@pytest.mark.parametrize("size", [14, 28, 32])
def test_shapes(size, patch, convolutions):
    smallest, *others = SIDES[size // patch]
    sides = [smallest] + [side for side in others for _ in range(convolutions)]
    for conditions, noise in (((), True), ((), False), ((3, 2), True), ((3, 2), False)):
        own = config(size=size, patch=patch, convolutions=convolutions, conditions=conditions, noise=noise)
        assert (own.sides, own.layers, own.levels) == (sides, len(sides), len(others))
        assert own.latent == 3 + 3 + 1 + (sum(side**2 for side in sides) if noise else 0)
        generator, discriminator = own.build()
        z, _, cond = inputs(own, 3)
        images = generator(z.float(), cond)
        assert images.shape == (3, 2, size, size)
        assert discriminator(images, cond).shape == (3,)
        assert generator.styles(z.float(), cond).shape == (3, len(sides), 3)


def test_widths_double_downwards_up_to_the_bound():
    own = StyleGAN2(size=32, width=16, max_width=64, judge_width=8, judge_max_width=512)
    generator, discriminator = own.build()
    assert [colours.weight.shape[1] for colours in generator.colours] == [64, 64, 32, 16]
    assert [block.plain.weight.shape[:2] for block in discriminator.blocks] == [(16, 8), (32, 16), (64, 32)]


@pytest.mark.parametrize("convolutions, patch, paints, sees", [(2, 1, 1, 1), (1, 1, 3, 3), (2, 2, 3, 4), (1, 2, 3, 4)])
def test_what_a_place_paints_and_sees(convolutions, patch, paints, sees):
    """Itself, where there are two convolutions; else its neighbours, too: around 2x2 pixels, a ring of one pixel."""
    generator, discriminator = config(size=16, convolutions=convolutions, patch=patch).build()
    assert {colours.weight.shape[2:] for colours in generator.colours} == {(paints, paints)}
    assert discriminator.stem.weight.shape[2:] == (sees, sees)


def leaky(h):
    return torch.where(h > 0, h, 0.2 * h)


def unit(vectors):
    return vectors / (vectors.square().mean(1, keepdim=True) + 1e-8).sqrt()


def twice(h):
    """Fill up with zeros and filter by [1, 3, 3, 1] in both directions; the edge is repeated."""
    line = torch.tensor([1.0, 3, 3, 1]).double() / 4
    kernel = torch.outer(line, line).expand(h.shape[1], 1, 4, 4)
    return F.conv_transpose2d(F.pad(h, (1, 1, 1, 1), mode="replicate"), kernel, stride=2, padding=3, groups=h.shape[1])


def modulated(h, style, p, name, demodulate=True):
    """Each picture is convolved by weights of its own, all at once, in groups."""
    weight, affine, bias = (p[f"{name}.{part}"] for part in ("weight", "affine.weight", "affine.bias"))
    s = style @ affine.T / style.shape[1] ** 0.5 + bias
    own = s[:, None, :, None, None] * (weight / weight[0].numel() ** 0.5)  # equation 1, (B, out, in, k, k)
    if demodulate:
        deviation = (own.square().sum((2, 3, 4), keepdim=True) + 1e-8).sqrt()  # equation 2
        own = own / deviation  # equation 3
    out = F.conv2d(h.flatten(0, 1)[None], own.flatten(0, 1), padding=weight.shape[2] // 2, groups=len(h))
    return out.view(len(h), -1, *out.shape[2:])


def plain_generator(config, p, z, cond):
    tables = [p[f"mapping.told.tables.{number}.weight"] for number in range(2)]
    told = torch.stack([tables[0][a] + tables[1][b] for a, b in cond.tolist()])
    w = torch.cat([unit(z[:, :3]), unit(told)], 1)
    for number in range(2):
        weight, bias = p[f"mapping.layers.{number}.weight"], p[f"mapping.layers.{number}.bias"]
        w = leaky(w @ (weight / 100).T * (2 / w.shape[1]) ** 0.5 + bias / 100)
    h, picture, noise, patch = p["constant"].repeat(len(z), 1, 1, 1), 0, z[:, 3:], config.patch
    for number, side in enumerate([4, 8] if config.convolutions == 1 else [4, 8, 8]):
        h = modulated(h, w, p, f"layers.{number}.conv")
        h = twice(h) if number == 1 else h
        if config.noise:
            own, noise = noise[:, : side**2], noise[:, side**2 :]
            h = h + p[f"layers.{number}.strength"] * own.reshape(-1, 1, side, side)
        h = 2**0.5 * leaky(h + p[f"layers.{number}.bias"].view(1, -1, 1, 1))
        if number != 1 or config.convolutions == 1:  # the last layer of its resolution
            colours = modulated(h, w, p, f"colours.{min(number, 1)}", demodulate=False)
            colours = colours.view(-1, 2, patch, patch, side, side).permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)
            picture = colours if number == 0 else twice(picture) + colours
    return picture + p["colour_bias"]


def half(h):
    return (h[:, :, ::2, ::2] + h[:, :, 1::2, ::2] + h[:, :, ::2, 1::2] + h[:, :, 1::2, 1::2]) / 4


def scaled(h, p, name, gain=2, **where):
    weight = p[f"{name}.weight"]
    return F.conv2d(h, weight * (gain / weight[0].numel()) ** 0.5, p.get(f"{name}.bias"), **where)


def plain_discriminator(config, p, x, cond):
    padding = 0 if (config.convolutions, config.patch) == (2, 1) else 1
    h = leaky(scaled(x, p, "stem", stride=config.patch, padding=padding))  # (4, 4, 8, 8)
    r = leaky(scaled(h, p, "blocks.0.first", padding=1)) if config.convolutions == 2 else h
    r = leaky(scaled(half(r), p, "blocks.0.second", padding=1))
    h = (r + scaled(half(h), p, "blocks.0.plain", gain=1)) / 2**0.5  # (4, 6, 4, 4)
    std = (h.var(0, unbiased=False) + 1e-8).sqrt().mean().expand(4, 1, 4, 4)
    h = leaky(scaled(torch.cat([h, std], 1), p, "conv", padding=1)).flatten(1)
    h = leaky(h @ p["dense.weight"].T * (2 / 96) ** 0.5 + p["dense.bias"])
    logits = h @ p["verdict.weight"][0] / 6**0.5 + p["verdict.bias"]
    for number in range(2):
        told = unit(p[f"told.tables.{number}.weight"])[cond[:, number]]
        logits = logits + torch.einsum("bc,bc->b", told, h) / 6**0.5
    return logits


PLAIN = [{}, {"noise": False}, {"size": 8, "convolutions": 1}, {"size": 16, "patch": 2}, LEAN]


@pytest.mark.parametrize("fields", PLAIN)
def test_the_generator_written_plainly(fields):
    """Figures 2(c) and 7(b), with weights that are modulated and demodulated for each picture."""
    own = config(**fields)
    (generator, _), (z, _, cond) = awake(own), inputs(own)
    torch.testing.assert_close(generator(z, cond), plain_generator(own, dict(generator.named_parameters()), z, cond))


@pytest.mark.parametrize("fields", PLAIN)
def test_the_discriminator_written_plainly(fields):
    """Figure 7(c)."""
    own = config(**fields)
    (_, discriminator), (_, x, cond) = awake(own), inputs(own)
    expected = plain_discriminator(own, dict(discriminator.named_parameters()), x, cond)
    torch.testing.assert_close(discriminator(x, cond), expected)


@pytest.mark.parametrize("size", [0.01, 1.0, 100.0])
def test_demodulated_maps_have_variance_1_whatever_the_style_s_size(size):
    torch.manual_seed(0)
    conv, plain = ModulatedConv(64, 96, 3, 8), ModulatedConv(64, 96, 3, 8, demodulate=False)
    torch.nn.init.zeros_(conv.affine.bias)
    torch.nn.init.zeros_(plain.affine.bias)
    h, w = torch.randn(8, 64, 18, 18), size * torch.randn(8, 8)
    out = conv(h, w)[:, :, 1:-1, 1:-1]
    torch.testing.assert_close(out.var((1, 2, 3)), torch.ones(8), atol=0.05, rtol=0)  # of each picture
    torch.testing.assert_close(out.var((0, 2, 3)), torch.ones(96), atol=0.15, rtol=0)  # and of each channel
    without = plain(h, w)[:, :, 1:-1, 1:-1].var((1, 2, 3)) / size**2
    assert without.max() > 2 * without.min()  # else a style has a size of its own


def test_new_layers_scale_by_about_1():
    torch.manual_seed(0)
    conv, h = ModulatedConv(64, 96, 3, 8), torch.randn(2, 64, 4, 4)
    assert torch.equal(conv.affine(torch.zeros(2, 8)), torch.ones(2, 64))
    scales = conv.affine(torch.randn(500, 8))
    assert scales.mean().item() == pytest.approx(1, abs=0.1) and scales.std().item() == pytest.approx(1, abs=0.1)
    weight = conv.weight / conv.weight.square().sum((1, 2, 3), keepdim=True).sqrt()
    torch.testing.assert_close(conv(h, torch.zeros(2, 8)), F.conv2d(h, weight, padding=1))


def test_a_style_s_scale_is_seen_in_the_colours_only():
    (generator, _), (z, _, cond) = awake(), inputs()
    before = generator(z, cond)
    for layer in generator.layers:
        for parameter in layer.conv.affine.parameters():
            parameter.data *= 7
    torch.testing.assert_close(generator(z, cond), before, rtol=1e-5, atol=1e-5)  # but for equation 3's epsilon
    for colours in generator.colours:
        for parameter in colours.affine.parameters():
            parameter.data *= 7
    bias = generator.colour_bias
    torch.testing.assert_close(generator(z, cond) - bias, 7 * (before - bias), rtol=1e-5, atol=1e-5)


def test_noise_without_strength_is_not_seen_and_a_new_network_has_none():
    (generator, _), (z, _, cond) = awake(), inputs()
    other = z.clone()
    other[:, NOISE] = torch.randn_like(z[:, NOISE])
    assert (generator(z, cond) - generator(other, cond)).abs().min() > 1e-6
    for layer, fresh in zip(generator.layers, TINY.build()[0].layers, strict=True):
        assert fresh.strength == 0
        layer.strength.data.zero_()
    assert torch.equal(generator(z, cond), generator(other, cond))


def test_noise_changes_its_own_place_by_its_strength():
    """The Jacobian of a layer by its noise: strength times the activation's slope at the same place, 0 elsewhere."""
    torch.manual_seed(0)
    for double, strength in ((False, 1.0), (True, 1.0), (False, -0.3)):
        layer = StyledLayer(4, 5, 3, double, noise=True).double()
        layer.strength.data.fill_(strength)
        h, w = torch.randn(1, 4, 2, 2).double(), torch.randn(1, 3).double()
        side = 4 if double else 2
        noise = torch.randn(1, 1, side, side).double()
        slopes = torch.autograd.functional.jacobian(lambda noise: layer(h, w, noise), noise)  # (1, 5, s, s, 1, 1, s, s)
        slopes = slopes.view(5, side**2, side**2)
        active = torch.where(layer(h, w, noise).view(5, side**2) > 0, 1.0, 0.2).double()
        torch.testing.assert_close(slopes, torch.diag_embed(strength * 2**0.5 * active))


def noise_seen(generator, z, cond, number):
    """How often each number of a picture's latent is seen in each place of a layer's map, ``(places, latent)``."""
    maps = []
    hook = generator.layers[number].register_forward_hook(lambda _, given, out: maps.append(out))
    generator.paint(generator.styles(z, cond).detach(), z.requires_grad_())
    hook.remove()
    places = maps[0].square().sum(1).flatten()
    return torch.stack([torch.autograd.grad(place, z, retain_graph=True)[0][0] for place in places]) != 0


@pytest.mark.parametrize("number, start, side", [(0, 3, 4), (1, 19, 8), (2, 83, 8)])
def test_each_layer_s_noise_has_its_place_in_the_latent(number, start, side):
    """Read row by row, and not seen by the layers before."""
    generator = awake()[0]
    for other in (each for each in range(3) if each != number):
        generator.layers[other].strength.data.zero_()
    for layer in range(number + 1):
        z, _, cond = inputs(batch=1)
        seen = noise_seen(generator, z, cond, layer)
        expected = torch.zeros_like(seen)
        if layer == number:
            expected[:, start : start + side**2] = torch.eye(side**2, dtype=torch.bool)
        assert torch.equal(seen, expected)


def taken(generator, z, cond=None):
    """Which layers take the second style, ``(B, layers)``; all others are found to have the first."""
    w = generator.styles(z, cond)  # (B, layers, style)
    first, second = (generator.mapping(part, cond)[:, None] for part in (z[:, :3], z[:, -4:-1]))
    over = torch.isclose(w, second).all(2)
    assert torch.equal(torch.isclose(w, first).all(2), ~over)
    return over


@pytest.mark.parametrize("mixing", [0.0, 0.3, 0.9, 1.0])
def test_the_share_of_mixed_pictures_and_the_layers_where_styles_change(mixing):
    """All within four standard deviations; layers 1 to 4 of five are equally likely."""
    own = config(size=16, conditions=(), noise=False, mixing=mixing)
    generator, count = awake(own)[0].train(), 20_000
    torch.manual_seed(2)
    over = taken(generator, torch.randn(count, own.latent).double())
    assert not over[:, 0].any()
    assert (over[:, 1:] >= over[:, :-1]).all(), "a picture does not change back"
    starts = torch.bincount(5 - over.sum(1), minlength=6)[1:]  # at layer 1, ..., at layer 4, never
    expected = torch.tensor([mixing / 4] * 4 + [1 - mixing]).double()
    deviation = (expected * (1 - expected) / count).sqrt()
    assert ((starts / count - expected).abs() <= 4 * deviation).all()


def test_the_last_number_says_where_styles_change():
    """Its uniform rank over the share: of three layers, the first half change at layer 1, the second at 2."""
    own = config(conditions=(), mixing=0.8)
    generator = awake(own)[0].train()
    z = torch.randn(5, own.latent).double()
    z[:, -1] = torch.special.ndtri(torch.tensor([1e-9, 0.39, 0.41, 0.79, 0.81])).double()
    assert taken(generator, z).int().tolist() == [[0, 1, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1], [0, 0, 0]]


def test_styles_are_mixed_in_training_only():
    (generator, _), (z, _, cond) = awake(), inputs()
    z[:, -1] = 0
    other = z.clone()
    other[:, -4:] = torch.randn(4, 4)
    assert torch.equal(generator(z, cond), generator(other, cond))
    alone = generator(z, cond)
    generator.train()
    assert (generator(z, cond) - generator(other, cond)).abs().amax((1, 2, 3)).min() > 1e-3
    assert (generator(z, cond) - alone).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(generator(z, cond), generator.paint(generator.styles(z, cond), z))
    never = awake(config(mixing=0.0))[0].train()
    assert torch.equal(never(z, cond), alone)


def test_the_coarse_layers_keep_the_first_style_and_the_fine_ones_take_the_second():
    """From the outside: a picture that changes over at layer 2 of 3 has the coarse map of its first style."""
    (generator, _), (z, _, cond) = awake(), inputs()
    w = generator.styles(z, cond)
    mixed = torch.cat([w[:, :2], w.flip(0)[:, 2:]], 1)
    seen = []
    for layer in generator.layers:
        layer.register_forward_hook(lambda _, given, out: seen.append(out))
    generator.paint(w, z), generator.paint(mixed, z)
    for number in range(3):
        assert torch.equal(seen[number], seen[3 + number]) == (number < 2)


def test_a_latent_is_read_to_its_last_number_and_no_further():
    (generator, _), (z, _, cond) = awake(), inputs()
    assert TINY.latent == 3 + (16 + 64 + 64) + 3 + 1 == z.shape[1]
    z.requires_grad_()
    (read,) = torch.autograd.grad(generator(z, cond).square().sum(), z)
    assert ((read != 0).any(0) == (torch.arange(TINY.latent) < NOISE.stop)).all()
    generator.train()
    at = z.detach().clone()
    at[:, -1] = -1  # all pictures change over
    at.requires_grad_()
    (read,) = torch.autograd.grad(generator(at, cond).square().sum(), at)
    assert ((read != 0).any(0) == (torch.arange(TINY.latent) < TINY.latent - 1)).all()
    never = at.detach().clone()
    never[:, -1] = 9
    assert not torch.allclose(generator(never, cond), generator(at, cond))


def test_the_mapping_looks_at_the_direction_of_its_latent_only():
    mapping, (z, _, cond) = awake()[0].mapping, inputs()
    w = mapping(z[:, :3], cond)
    torch.testing.assert_close(mapping(30 * z[:, :3], cond), w, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(mapping(-z[:, :3], cond), w, rtol=0.1)
    for table in mapping.told.tables:
        table.weight.data *= 30
    torch.testing.assert_close(mapping(z[:, :3], cond), w, rtol=1e-5, atol=1e-5)
    assert mapping(torch.zeros(4, 3).double(), cond).isfinite().all()


def test_the_mapping_keeps_the_size_of_what_passes_and_learns_a_hundred_times_more_slowly():
    torch.manual_seed(0)
    mapping = Mapping(StyleGAN2(style=128, mapping=3))
    w = mapping(torch.randn(500, 128), None)
    assert 0.8 < w.square().mean().item() < 1.25
    before = [layer.scale * layer.weight.detach().clone() for layer in mapping.layers]
    w.square().mean().backward()
    torch.optim.Adam(mapping.parameters(), lr=0.002).step()
    for layer, old in zip(mapping.layers, before, strict=True):
        moved = (layer.scale * layer.weight.detach() - old).abs().median().item()
        assert moved == pytest.approx(0.01 * 0.002 * math.sqrt(2 / 128), rel=0.01)


@pytest.mark.parametrize("number", [0, 1])
def test_each_condition_is_heard_by_its_own_picture_only(number):
    z, x, cond = inputs()
    other = cond.clone()
    other[1, number] = (cond[1, number] + 1) % (3, 2)[number]
    for player, given in zip(awake(), (z, x), strict=True):
        first, then = player(given, cond), player(given, other)
        assert (first[1] - then[1]).abs().min() > 1e-6
        torch.testing.assert_close(first[[0, 2, 3]], then[[0, 2, 3]], rtol=0, atol=1e-12)


def test_two_labels_differ_by_the_projection_of_the_features():
    own = config(conditions=(4,))
    (_, discriminator), (_, x, _) = awake(own), inputs(own)
    seen = []
    discriminator.verdict.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    logits = torch.stack([discriminator(x, torch.full((4, 1), y)) for y in range(4)])
    table = discriminator.told.tables[0].weight[:4]
    table = table / table.norm(dim=1, keepdim=True)  # of length 1: sqrt(C) over sqrt(C)
    for a in range(4):
        for b in range(4):
            torch.testing.assert_close(logits[a] - logits[b], seen[0] @ (table[a] - table[b]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fields", [{}, LEAN])
def test_pictures_hear_of_each_other_by_the_minibatch_s_standard_deviation_only(fields, monkeypatch):
    own = config(**fields)
    (generator, discriminator), (z, x, cond) = awake(own), inputs(own)
    for mode in (True, False):
        images = generator.train(mode)(z, cond)
        torch.testing.assert_close(torch.cat([generator(z[i : i + 1], cond[i : i + 1]) for i in range(4)]), images)

    def alone():
        return torch.cat([discriminator(x[i : i + 1], cond[i : i + 1]) for i in range(4)])

    assert (alone() - discriminator(x, cond)).abs().min() > 1e-6
    monkeypatch.setattr(stylegan2, "minibatch_std", lambda h: F.pad(h, (0, 0, 0, 0, 0, 1)))
    torch.testing.assert_close(alone(), discriminator(x, cond))


def modulated_keys(name):
    return [f"{name}.weight", f"{name}.affine.weight", f"{name}.affine.bias"]


def test_what_is_kept_has_plain_names_and_gives_the_players_back():
    (generator, discriminator), (z, x, cond) = awake(), inputs()
    names = ["constant", "colour_bias", "mean_path", "mapping.told.tables.0.weight", "mapping.told.tables.1.weight"]
    names += [f"mapping.layers.{number}.{part}" for number in range(2) for part in ("weight", "bias")]
    for number in range(3):
        names += [f"layers.{number}.bias", f"layers.{number}.strength", *modulated_keys(f"layers.{number}.conv")]
    names += [*modulated_keys("colours.0"), *modulated_keys("colours.1")]
    assert set(generator.state_dict()) == set(names)
    layers = ["stem", "blocks.0.first", "blocks.0.second", "conv", "dense", "verdict"]
    names = ["blocks.0.plain.weight", "told.tables.0.weight", "told.tables.1.weight"]
    assert set(discriminator.state_dict()) == {*names, *(f"{a}.{b}" for a in layers for b in ("weight", "bias"))}
    generator.mean_path.fill_(3)
    for player, fresh, given in zip((generator, discriminator), TINY.build(), (z, x), strict=True):
        fresh = fresh.double().eval()
        assert not torch.allclose(fresh(given, cond), player(given, cond))
        fresh.load_state_dict(load(save(player.state_dict())))
        assert all(torch.equal(tensor, player.state_dict()[name]) for name, tensor in fresh.state_dict().items())
        assert torch.equal(fresh(given, cond), player(given, cond))
        assert torch.equal(copy.deepcopy(player)(given, cond), player(given, cond))


@pytest.mark.parametrize("fields", [{}, LEAN])
def test_every_parameter_learns_and_gradients_are_the_same_channels_last(fields):
    own = config(**fields)
    z, x, cond = inputs(own)
    for player, given in zip(awake(own), (z, x), strict=True):
        gradients = []
        for layout in (torch.contiguous_format, torch.channels_last):
            player = copy.deepcopy(player).train().to(memory_format=layout)
            player.zero_grad()
            torch.manual_seed(3)
            out = player(given, cond)
            (out * torch.randn(out.shape)).sum().backward()
            gradients.append({name: parameter.grad for name, parameter in player.named_parameters()})
        assert [name for name, gradient in gradients[0].items() if gradient is None or not gradient.any()] == []
        torch.testing.assert_close(*gradients)


def test_gradients_of_gradients():
    """What penalties on slopes and on paths need."""
    (generator, discriminator), (z, x, cond) = awake(), inputs()
    w = generator.train().styles(z, cond)
    (path,) = torch.autograd.grad(generator.paint(w, z).square().sum(), w, create_graph=True)
    (slope,) = torch.autograd.grad(discriminator(x.requires_grad_(), cond).sum(), x, create_graph=True)
    path.square().sum().backward()
    slope.square().sum().backward()
    for weight in (generator.mapping.layers[0].weight, generator.layers[1].conv.weight, discriminator.stem.weight):
        assert weight.grad.isfinite().all() and weight.grad.abs().max() > 1e-6


def test_players_compute_in_bf16_under_autocast():
    z, x, cond = inputs()
    for player, given in zip(awake(), (z.float(), x.float()), strict=True):
        player = player.float()
        exact = player(given, cond)
        with torch.autocast("cpu", torch.bfloat16):
            halved = player(given, cond)
        assert (halved - exact).abs().max() < 0.05 * exact.abs().max()
        halved.float().square().sum().backward()
        assert all(parameter.grad.isfinite().all() for parameter in player.parameters())


@pytest.mark.parametrize("patch", [1, 2, 3, 4])
def test_patches_are_seen_from_all_sides_alike(patch):
    """A mirrored kernel sees the mirrored picture as the kernel sees the picture."""
    own = config(size=8 * patch, patch=patch, convolutions=1)
    (_, discriminator), (_, x, _) = awake(own), inputs(own)
    seen = discriminator.stem(x)
    assert seen.shape[2:] == (8, 8)
    discriminator.stem.weight.data = discriminator.stem.weight.flip(2, 3)
    torch.testing.assert_close(discriminator.stem(x.flip(2, 3)), seen.flip(2, 3))


@pytest.mark.parametrize("shape", [(4, 1), (4, 3), (3, 2), (4,), None])
def test_more_or_fewer_conditions_are_refused(shape):
    z, x, _ = inputs()
    cond = None if shape is None else torch.zeros(shape, dtype=torch.int64)
    for player, given in zip(awake(), (z, x), strict=True):
        with pytest.raises(InputError, match=r"conditions .*: this network takes \(4, 2\)"):
            player(given, cond)


def test_networks_that_are_told_nothing_take_no_conditions():
    own = config(conditions=())
    z, x, _ = inputs(own)
    for player, given in zip(awake(own), (z, x), strict=True):
        with pytest.raises(InputError, match=r"conditions \(4, 1\): this network takes \(4, 0\)"):
            player(given, torch.zeros(4, 1, dtype=torch.int64))


@pytest.mark.parametrize("length", [3, TINY.latent - 1, TINY.latent + 1])
def test_latents_of_another_length_are_refused(length):
    (generator, _), (_, _, cond) = awake(), inputs()
    with pytest.raises(InputError, match=rf"latents \(4, {length}\): this generator takes \(B, {TINY.latent}\)"):
        generator(torch.randn(4, length).double(), cond)


@pytest.mark.parametrize(
    "fields, sentence",
    [
        ({"size": 30}, "size 30 over patch 1 is not"),
        ({"size": 3}, "size 3 over patch 1 is not"),
        ({"size": 0}, "size 0 over patch 1 is not"),
        ({"size": -8}, "size -8 over patch 1 is not"),
        ({"size": 6, "patch": 2}, "size 6 over patch 2 is not"),
        ({"patch": 3}, "patch 3 does not divide the size 8"),
        ({"patch": 0}, "patch 0 does not divide"),
        ({"convolutions": 3}, "convolutions is 3"),
        ({"mapping": 0}, "mapping is 0"),
        ({"mapping": -1, "conditions": ()}, "mapping is -1"),
        ({"conditions": (3, 0)}, r"conditions \(3, 0\)"),
        ({"mixing": 1.1}, "mixing is 1.1"),
        ({"mixing": -0.1}, "mixing is -0.1"),
        ({"mixing": math.nan}, "mixing is nan"),
        *(({name: 0}, f"^{name} is 0") for name in ("channels", "style", "width", "max_width")),
        *(({name: 0}, f"^{name} is 0") for name in ("judge_width", "judge_max_width")),
    ],
)
def test_bad_sizes_are_named(fields, sentence):
    with pytest.raises(InputError, match=sentence):
        config(**fields)


def test_without_a_mapping_network_w_is_the_normalised_latent():
    own = config(mapping=0, conditions=())
    (generator, _), (z, _, _) = awake(own), inputs(own)
    torch.testing.assert_close(generator.styles(z)[:, 1], unit(z[:, :3]))
