"""PixelCNN++: the paper's network, what a place may know, and that one place at a time says what all at once do."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gencore.autoregressive.likelihoods import Categorical
from gencore.errors import InputError
from gencore.networks.pixelcnn_pp import Block, PixelCNNPP, PixelCNNPPNetwork
from gencore.networks.symbols import Grid

TINY = PixelCNNPP(Grid(8, 3, 4, outputs=5, conditions=(3, 2)), width=3, blocks=1, resolutions=2)


def build(config, seed=0):
    torch.manual_seed(seed)
    return PixelCNNPPNetwork(config)


def given(config, batch=3):
    """Symbols and conditions, of which some are not told."""
    generator, grid = torch.Generator().manual_seed(1), config.grid
    symbols = torch.randint(grid.levels, (batch, *grid.shape), generator=generator)
    columns = [torch.randint(count + 1, (batch,), generator=generator) for count in grid.conditions]
    return symbols, torch.stack(columns, 1) if columns else None


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        PixelCNNPP(width=2),
        PixelCNNPP(Grid(5, 1, 256), 2, 1, 1),
        PixelCNNPP(Grid(4, 1, 7, named=True), 2, 2, 3),
    ],
)
def test_shapes(config):
    symbols, cond = given(config)
    assert build(config)(symbols, cond).shape == (3, config.grid.numbers, config.grid.size, config.grid.size)


def up_sides(h, w, name, stride=1):
    return F.conv2d(F.pad(h, (1, 1, 1, 0)), w[f"{name}.weight"], w[f"{name}.bias"], stride)


def up_left(h, w, name, stride=1):
    return F.conv2d(F.pad(h, (1, 0, 1, 0)), w[f"{name}.weight"], w[f"{name}.bias"], stride)


def plain_block(h, heard, told, w, name, conv):
    """A gated residual block: concatenated ELU, convolution, what is heard, concatenated ELU, convolution, gate."""

    def e(h):
        return torch.cat([torch.where(h > 0, h, h.exp() - 1), torch.where(h < 0, -h, (-h).exp() - 1)], 1)

    y = conv(e(h), w, f"{name}.first")
    if heard:
        y = y + torch.einsum("oc,bchw->bohw", w[f"{name}.listen.weight"][:, :, 0, 0], torch.cat([e(a) for a in heard], 1))
    y = conv(e(y), w, f"{name}.second") + (told @ w[f"{name}.tell.weight"].T)[:, :, None, None]
    p, q = y.chunk(2, 1)
    return h + p / (1 + (-q).exp())


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(("kernel", "right", "heard"), [((2, 3), 1, 0), ((2, 2), 0, 2)])
def test_a_block_written_plainly(kernel, right, heard):
    block = Block(4, kernel, right, 8 * heard, told=True)
    h, told, others = torch.randn(2, 4, 5, 6), torch.randn(2, 4), [torch.randn(2, 4, 5, 6) for _ in range(heard)]

    def e(h):
        return torch.cat([F.elu(h), F.elu(-h)], 1)

    expected = plain_block(h, others, told, {f"b.{k}": v for k, v in block.named_parameters()}, "b", (up_sides, up_left)[not right])
    torch.testing.assert_close(block(h, e(h), [e(other) for other in others], told), expected)


@pytest.mark.usefixtures("double_precision")
def test_a_network_written_plainly():
    """Figure 2 of the paper on the same weights, as lists of maps: two blocks a resolution, two resolutions."""
    config = replace(TINY, blocks=2)
    network, (symbols, cond) = build(config), given(config)
    symbols = symbols.double()
    w = dict(network.named_parameters())
    told = w["conditions.tables.0.weight"][cond[:, 0]] + w["conditions.tables.1.weight"][cond[:, 1]]
    x = torch.cat([symbols * 2 / 3 - 1, torch.ones(3, 1, 8, 8)], 1)

    def seen(name, pad):  # zeros left, right, above, below; below zero: cut off
        return F.conv2d(F.pad(x, pad), w[f"{name}.weight"], w[f"{name}.bias"])

    u, ul = [seen("rows_above", (1, 1, 2, -1))], [seen("row_above", (1, 1, 1, -1)) + seen("left", (1, -1, 0, 0))]

    def down(level):
        for k in range(2):
            u.append(plain_block(u[-1], [], told, w, f"first{level}.down.{k}", up_sides))
            ul.append(plain_block(ul[-1], [u[-1]], told, w, f"second{level}.down.{k}", up_left))

    def up(level, blocks, h, g):
        for k in range(blocks):
            h = plain_block(h, [u.pop()], told, w, f"first{level}.up.{k}", up_sides)
            g = plain_block(g, [ul.pop(), h], told, w, f"second{level}.up.{k}", up_left)
        return h, g

    down("")
    u.append(up_sides(u[-1], w, "first.halve", 2))
    ul.append(up_left(ul[-1], w, "second.halve", 2))
    down(".below")
    h, g = up(".below", 2, u.pop(), ul.pop())
    # What a transposed convolution of 2x3 has beyond the picture lies one column to the left, as its kernel does.
    wide = F.conv_transpose2d(h, w["first.enlarge.weight"], stride=2)  # (B, 3, 8, 9)
    h = wide[:, :, :, 1:] + w["first.enlarge.bias"].view(-1, 1, 1)
    g = F.conv_transpose2d(g, w["second.enlarge.weight"], w["second.enlarge.bias"], stride=2)
    h, g = up("", 3, h, g)
    assert not u and not ul
    expected = F.conv2d(F.elu(g), w["head.weight"], w["head.bias"])
    torch.testing.assert_close(network(symbols, cond), expected)


def dependence(config):
    """Whether numbers at place i change with a channel at place j, both counted row by row: ``(places, C, places)``."""
    network, (symbols, cond) = build(config).double(), given(config, 1)
    places = config.grid.size**2
    copies = symbols.double().expand(places, -1, -1, -1).clone().requires_grad_()
    out = network(copies, None if cond is None else cond.expand(places, -1)).flatten(2)  # (places, outputs, places)
    (out.sum(1).diagonal()).sum().backward()
    return copies.grad.flatten(2).ne(0)


def test_with_lower_resolutions_a_place_depends_on_all_before_it():
    depends = dependence(TINY)
    before = torch.ones(64, 64, dtype=torch.bool).tril(-1)
    assert torch.equal(depends, before[:, None].expand(-1, 3, -1))


def test_with_three_resolutions_nothing_leaks():
    """The receptive field is larger than any small picture; that it never reaches ahead is what counts."""
    depends = dependence(PixelCNNPP(Grid(12, 1, 4), 2, 1, 3))
    assert torch.equal(depends[:, 0], torch.ones(144, 144, dtype=torch.bool).tril(-1))


@pytest.mark.parametrize("blocks", [1, 2])
def test_with_one_resolution_a_place_depends_on_what_is_stated(blocks):
    size, reach = 15 + 6 * (blocks - 1), 2 * (2 * blocks)  # of M blocks, 2 M; as many on the way up as on the way down
    depends = dependence(PixelCNNPP(Grid(size, 1, 4), 2, blocks, 1)).view(size, size, size, size)
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    stated = torch.empty_like(depends)
    for r in range(size):
        for c in range(size):
            left = (row == r) & (column < c) & (column >= c - reach - 1)
            above = (row < r) & (row >= r - reach - 3) & (column >= c - reach - 2) & (column <= c + reach + 1)
            stated[r, c] = left | above
    assert not stated[-1, -1].all() and not stated[size // 2, 0, 0].all()  # it ends within the picture
    assert torch.equal(depends, stated)


def test_conditions_enter_everywhere():
    network, (symbols, cond) = build(TINY).double(), given(TINY)
    symbols = symbols.double()
    for column, count in enumerate(TINY.grid.conditions):
        other = cond.clone()
        other[:, column] = (cond[:, column] + 1) % (count + 1)
        assert (network(symbols, other) != network(symbols, cond)).all()
    untold = torch.tensor([TINY.grid.conditions] * 3)
    assert torch.equal(network(symbols), network(symbols, untold))
    torch.testing.assert_close(network(symbols, cond)[1:], network(symbols[1:], cond[1:]))


@pytest.mark.parametrize(
    "config",
    [
        TINY,
        PixelCNNPP(Grid(8, 1, 2), 3, 2, 1),
        PixelCNNPP(Grid(12, 1, 256, outputs=9, conditions=(4,)), 4, 2, 3),
        PixelCNNPP(Grid(4, 1, 5, named=True), 4, 1, 3),
        PixelCNNPP(Grid(1, 1, 5), 4, 1, 1),
    ],
)
def test_place_by_place_is_all_at_once(config):
    """Symbols are written as it goes; what stands at a place before its turn is read by nobody."""
    network, (symbols, cond) = build(config), given(config)
    expected = network(symbols, cond)
    written = (symbols + 1) % config.grid.levels
    at = network.incremental(written, cond)
    for row in range(config.grid.size):
        for column in range(config.grid.size):
            said = at(row, column)
            assert not said.requires_grad
            torch.testing.assert_close(said, expected[:, :, row, column], rtol=1e-4, atol=1e-6)
            written[:, :, row, column] = symbols[:, :, row, column]


def test_lower_resolutions_are_computed_only_where_they_have_something_new():
    """Of 64 places, 16 and 4 at the lower resolutions; of 8 rows, 4 and 2."""
    config = replace(TINY, resolutions=3)
    network, (symbols, cond) = build(config), given(config)
    calls = {}
    for name in ("first.halve", "second.halve", "first.below.halve", "second.below.halve"):
        level = network.get_submodule(name.removesuffix(".halve"))
        level.enlarge.register_forward_hook(lambda *_, name=name: calls.update({name: calls.get(name, 0) + 1}))
    at = network.incremental(symbols, cond)
    for place in range(64):
        at(*divmod(place, 8))
    assert list(calls.values()) == [2, 4, 4, 16] or sorted(calls.values()) == [2, 4, 4, 16]


@pytest.mark.usefixtures("double_precision")
def test_probabilities_of_all_pictures_sum_to_one():
    config = PixelCNNPP(Grid(2, 1, 2, conditions=(3,)), 4, 1, 1)
    pictures = torch.cartesian_prod(*[torch.arange(2)] * 4).view(16, 1, 2, 2)
    params = build(config)(pictures.double(), torch.full((16, 1), 2))
    log_p = Categorical().log_prob(3 * params, pictures).sum((1, 2))  # (16,)
    assert log_p.exp().std() > 0.01
    assert log_p.exp().sum().item() == pytest.approx(1, abs=1e-12)


def test_every_parameter_learns():
    for config in (TINY, PixelCNNPP(Grid(4, 1, 5, named=True), 4, 1, 3)):
        network, (symbols, cond) = build(config), given(config, 16)
        network(symbols, cond).square().mean().backward()
        assert [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_gives_nearly_the_same():
    network, (symbols, cond) = build(TINY), given(TINY)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(symbols, cond)
    full = network(symbols, cond)
    assert (half.float() - full).norm() < 0.05 * full.norm()


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(width=0), "width 0"),
        (dict(blocks=0), "blocks 0"),
        (dict(resolutions=0), "resolutions 0"),
        (dict(resolutions=5), "size 8: 5 resolutions take multiples of 16"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(TINY, **wrong)


def test_symbols_and_conditions_that_do_not_fit_are_refused():
    network, (symbols, cond) = build(TINY), given(TINY)
    for way in (network, network.incremental):
        with pytest.raises(InputError, match=r"symbols of shape \(3, 8, 6\): this network takes \(3, 8, 8\)"):
            way(symbols[..., :6], cond)
        with pytest.raises(InputError, match="conditions"):
            way(symbols, cond[:, :1])
