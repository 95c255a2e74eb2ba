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
        others = torch.cat([e(a) for a in heard], 1)
        y = y + torch.einsum("oc,bchw->bohw", w[f"{name}.listen.weight"][:, :, 0, 0], others)
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

    w = {f"block.{name}": parameter for name, parameter in block.named_parameters()}
    expected = plain_block(h, others, told, w, "block", up_sides if right else up_left)
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

    u, ul = [seen("rows_above", (1, 1, 2, -1))], [seen("row_above", (1, 1, 1, -1)) + seen("left", (1, -1, 1, 0))]

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


def dependence(config, places=None):
    """Whether numbers at some places, or all, change with the channels of any: ``(places, C, size, size)``."""
    network, (symbols, cond) = build(config).double(), given(config, 1)
    places = torch.arange(config.grid.size**2) if places is None else places
    copies = symbols.double().expand(len(places), -1, -1, -1).clone().requires_grad_()
    out = network(copies, None if cond is None else cond.expand(len(places), -1)).sum(1).flatten(1)
    out[torch.arange(len(places)), places].sum().backward()
    return copies.grad.ne(0)


def stated(places, size, field):
    """The same by a rule: ``field(r, c, row, column)`` tells which rows and columns place (r, c) depends on."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return torch.stack([field(*divmod(place, size), row, column) for place in places.tolist()])


def before(r, c, row, column):
    return (row < r) | (row == r) & (column < c)


def test_of_a_small_picture_every_channel_before_a_place_counts():
    """No channel of the place itself, and none after it, but each before it."""
    grid = Grid(4, 3, 4, conditions=(3,))
    for resolutions in (1, 2, 3):
        expected = stated(torch.arange(16), 4, before)[:, None].expand(-1, 3, -1, -1)
        assert torch.equal(dependence(PixelCNNPP(grid, 2, 1, resolutions)), expected)


@pytest.mark.parametrize(("blocks", "size"), [(1, 15), (2, 23)])
def test_with_one_resolution_a_place_depends_on_what_is_stated(blocks, size):
    reach = 4 * blocks

    def field(r, c, row, column):
        left = (row == r) & (column < c) & (column >= c - reach - 1)
        above = (row < r) & (row >= r - reach - 3) & (column >= c - reach - 2) & (column <= c + reach + 1)
        return left | above

    places = torch.arange(size**2) if blocks == 1 else torch.arange(size**2 - size, size**2)
    expected = stated(places, size, field)
    assert not expected[-1, -1].all() and not expected[-1, :, -3].all()  # it ends within the picture
    assert torch.equal(dependence(PixelCNNPP(Grid(size, 1, 4), 2, blocks, 1), places)[:, 0], expected)


def test_with_two_resolutions_a_place_depends_on_what_is_stated():
    """On all before it, but in odd rows, for which the lower resolution has nothing new."""

    def field(r, c, row, column):
        far_left = (row == r) & (column < c - 6)
        far_right = (row == r - 1) & (column > c + 6)
        return before(r, c, row, column) & ~((far_left | far_right) if r % 2 else torch.zeros_like(far_left))

    expected = stated(torch.arange(256), 16, field)
    assert torch.equal(dependence(PixelCNNPP(Grid(16, 1, 4), 2, 1, 2))[:, 0], expected)


def test_with_three_resolutions_nothing_leaks_and_nothing_is_forgotten():
    """Rows above the last that is a multiple of four are known in full."""
    depends = dependence(PixelCNNPP(Grid(20, 1, 4), 2, 1, 3))[:, 0]
    assert not (depends & ~stated(torch.arange(400), 20, before)).any()
    assert depends[stated(torch.arange(400), 20, lambda r, c, row, column: row < r - r % 4)].all()


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
    calls = dict.fromkeys(("first", "second", "first.below", "second.below"), 0)

    def count(name):
        calls[name] += 1

    for name in calls:
        network.get_submodule(name).enlarge.register_forward_hook(lambda *_, name=name: count(name))
    at = network.incremental(symbols, cond)
    for place in range(64):
        at(*divmod(place, 8))
    assert calls == {"first": 4, "second": 16, "first.below": 2, "second.below": 4}


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
