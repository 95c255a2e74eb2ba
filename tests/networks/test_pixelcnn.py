"""PixelCNN: what its masks hide, what it is blind to, and that it can be asked place by place."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.pixelcnn import MaskedConv2d, PixelCNN, PixelCNNNetwork, colours, mask
from gencore.networks.symbols import Grid
from tests.networks import writing
from tests.networks.writing import awake, pictures

pytestmark = pytest.mark.usefixtures("double_precision")

COLOUR = PixelCNN(Grid(5, channels=3, levels=4, conditions=(3, 2)), width=12, depth=2, kernel=5, inner=3)
NAMED = PixelCNN(Grid(4, channels=2, levels=3, named=True), width=8, depth=1, kernel=3)
GREY = PixelCNN(Grid(6, levels=4), width=8, depth=2, kernel=3)
WIDE = PixelCNN(Grid(3, conditions=(4,), outputs=5), width=6, depth=2, kernel=7, inner=5)
FLAT = PixelCNN(Grid(4, levels=3), width=4, depth=0, kernel=3)
ALL = pytest.mark.parametrize("config", [COLOUR, NAMED, GREY, WIDE, FLAT])


def make(config):
    return awake(PixelCNNNetwork(config)), *pictures(config.grid)


def may_see(kind, kernel, colours_in, colours_out):
    """The rule in words: what was written before, and of the same place the colours before, with B its own too."""
    seen, middle = torch.zeros(len(colours_out), len(colours_in), kernel, kernel), kernel // 2
    for o, i, row, column in product(range(len(colours_out)), range(len(colours_in)), range(kernel), range(kernel)):
        place, own = (row, column, colours_in[i]), (middle, middle, colours_out[o])
        seen[o, i, row, column] = place < own or kind == "B" and place == own
    return seen


@ALL
def test_shapes(config):
    network, symbols, cond = make(config)
    assert network(symbols, cond).shape == (3, config.grid.numbers, config.grid.size, config.grid.size)


@pytest.mark.parametrize("kind", ["A", "B"])
def test_masks(kind):
    """(PC.3) for each pair of colours."""
    expected = may_see(kind, 3, [0, 0, 1, 2], [0, 1, 1, 2, 2])
    assert torch.equal(mask(kind, 3, torch.tensor([0, 0, 1, 2]), torch.tensor([0, 1, 1, 2, 2])), expected)
    grey = mask(kind, 3, torch.tensor([0]), torch.tensor([0]))[0, 0]
    assert grey.tolist() == [[1, 1, 1], [1, kind == "B", 0], [0, 0, 0]]


def test_channels_are_shared_out_in_order():
    assert colours(6, 3).tolist() == [0, 0, 1, 1, 2, 2] and colours(4, 1).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", ["A", "B"])
def test_hidden_weights_have_no_effect_and_no_gradient(kind):
    layer, x = MaskedConv2d(4, 6, 5, kind, groups=2), torch.randn(2, 4, 7, 7)
    expected = may_see(kind, 5, [0, 0, 1, 1], [0, 0, 0, 1, 1, 1])
    torch.testing.assert_close(layer(x), F.conv2d(x, layer.weight * expected, layer.bias, padding=2))
    layer(x).square().sum().backward()
    assert torch.equal(layer.weight.grad != 0, expected.bool())
    assert list(layer.state_dict()) == ["weight", "bias"]


@ALL
def test_a_network_written_plainly(config):
    """Figure 5, left, and table 1 of the paper, on the same weights."""
    network, symbols, cond = make(config)
    w, grid = dict(network.named_parameters()), config.grid

    def conv(h, name, kind="B"):
        weight = w[f"{name}.weight"]
        shares = [[i * grid.channels // n for i in range(n)] for n in weight.shape[:2]]
        seen = may_see(kind, weight.shape[2], shares[1], shares[0])
        return F.conv2d(h, weight * seen, w[f"{name}.bias"], padding=weight.shape[2] // 2)

    if grid.named:
        x = torch.cat([w["embed.table.weight"][symbols[:, c]].permute(0, 3, 1, 2) for c in range(grid.channels)], 1)
    else:
        x = 2 * symbols / (grid.levels - 1) - 1
    h = conv(x, "stem", "A")
    for number in range(config.depth):
        block = f"blocks.{number}"
        r = conv(F.relu(conv(F.relu(h), f"{block}.squeeze")), f"{block}.look")
        for k in range(len(grid.conditions)):
            r = r + w[f"{block}.told.tables.{k}.weight"][cond[:, k], :, None, None]
        h = h + conv(F.relu(r), f"{block}.widen")
    expected = conv(F.relu(conv(F.relu(h), "mix")), "head")
    found, some = network(symbols, cond), torch.randn_like(expected)
    torch.testing.assert_close(found, expected)
    for ours, plain in zip(*(torch.autograd.grad((out * some).sum(), w.values()) for out in (found, expected)), strict=True):
        torch.testing.assert_close(ours, plain)


def test_gradients_are_the_same_in_both_memory_layouts(monkeypatch):
    """Maps lie with channels last, which is faster and changes nothing."""
    config, found, lies_so = PixelCNN(Grid(9, levels=4), width=16, depth=2, kernel=3), [], []
    for keep in (False, True):
        network, symbols, cond = make(config)
        network.float().blocks[1].squeeze.register_forward_pre_hook(
            lambda _, given: lies_so.append(given[0].is_contiguous(memory_format=torch.channels_last))
        )
        if keep:
            monkeypatch.setattr(torch.Tensor, "contiguous", lambda self, **_: self)
        network(symbols, cond).square().mean().backward()
        found.append([p.grad for p in network.parameters()])
    assert lies_so == [True, False]
    for last, first in zip(*found, strict=True):
        torch.testing.assert_close(last, first, rtol=1e-4, atol=1e-6 * first.abs().max().item())


def reachable(config):
    """For each place and colour, which places and colours reach it: supports of the kernels, one after the other."""
    size, count = config.grid.size, config.grid.channels
    nodes = list(product(range(size), range(size), range(count)))

    def looks_at(node, kernel, own):
        reach, (row, column, _) = kernel // 2, node
        near = product(range(row - reach, row + 1), range(column - reach, column + reach + 1), range(count))
        inside = (n for n in near if n[0] >= 0 and 0 <= n[1] < size)
        return {n for n in inside if n < node or own and n == node}

    seen = {node: looks_at(node, config.kernel, own=False) for node in nodes}
    for _ in range(config.depth):
        seen = {node: set().union(*(seen[n] for n in looks_at(node, config.inner, own=True))) for node in nodes}
    # kernels of side 1 in blocks and head: a colour hears what those before it have heard
    for row, column in product(range(size), repeat=2):
        for colour in range(1, count):
            seen[row, column, colour] |= seen[row, column, colour - 1]
    return seen


@pytest.mark.parametrize(
    "config",
    [
        PixelCNN(Grid(9, levels=7), width=8, depth=2, kernel=3),
        PixelCNN(Grid(9, levels=7), width=8, depth=1, kernel=5, inner=5),
        PixelCNN(Grid(4, channels=3, levels=5), width=18, depth=1, kernel=3),
        PixelCNN(Grid(5, channels=2, levels=5), width=8, depth=0, kernel=3),
    ],
)
def test_it_sees_exactly_what_its_kernels_reach(config):
    """Nothing of what comes later, and of what came before all but the blind spot."""
    grid, network = config.grid, awake(PixelCNNNetwork(config))
    x, expected = torch.rand(12, *grid.shape) * (grid.levels - 1), reachable(config)
    outputs = torch.arange(grid.numbers).chunk(grid.channels)
    for row, column, colour in expected:
        seen = writing.seen_by(network, x, (row, column), outputs[colour])
        found = {(r, c, k) for k, r, c in seen.nonzero().tolist()}
        assert max(found, default=(-1,)) < (row, column, colour)
        assert found == expected[row, column, colour], (row, column, colour)


def test_the_blind_spot_has_the_slope_of_the_kernels():
    """To the right, each row above brings one column more and no other; layers do not change that."""
    for depth in (1, 6):
        config = PixelCNN(Grid(9), width=8, depth=depth, kernel=3)
        seen = writing.seen_by(awake(PixelCNNNetwork(config)), torch.rand(12, 1, 9, 9), (8, 3))[0]
        rows, columns = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
        up, right, reach = 8 - rows, columns - 3, depth + 1
        assert torch.equal(seen, (up <= reach) & (right <= up) & (right >= -reach) & ((up > 0) | (right < 0)))
        assert not seen[7, 5:].any() and not seen[6, 6:].any()  # written, and never seen


@ALL
def test_place_by_place_it_says_the_same(config):
    network, symbols, cond = make(config)
    writing.check_written_in_turn(network, symbols, cond)
    writing.check_written_in_turn(network, symbols, None)


@pytest.mark.parametrize(
    "config",
    [
        PixelCNN(Grid(2), width=8, depth=1, kernel=3),
        PixelCNN(Grid(2, conditions=(3,)), width=8, depth=1, kernel=3),
        PixelCNN(Grid(1, channels=3, levels=3), width=12, depth=1, kernel=3),
        PixelCNN(Grid(2, channels=2), width=8, depth=1, kernel=3),
        PixelCNN(Grid(2, channels=2, named=True), width=8, depth=1, kernel=3),
    ],
)
def test_all_pictures_together_have_probability_one(config):
    writing.check_probabilities(awake(PixelCNNNetwork(config)), (1,) if config.grid.conditions else None)


@pytest.mark.parametrize("config", [COLOUR, WIDE])
def test_conditions_are_heard(config):
    writing.check_conditions(*make(config))


@ALL
def test_pictures_do_not_mix(config):
    writing.check_rows(*make(config))


@ALL
def test_every_parameter_learns(config):
    network = awake(PixelCNNNetwork(config))
    symbols, cond = pictures(config.grid, 30)
    writing.check_every_parameter_learns(network, symbols, cond)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(width=0), "width 0: must be a positive multiple of 6"),
        (dict(width=-6), "width -6"),
        (dict(width=15), "width 15"),
        (dict(width=8), "width 8"),
        (dict(depth=-1), "depth -1: must be 1 or more"),
        (dict(depth=0), "depth 0: must be 1 or more"),  # conditions would not be heard
        (dict(grid=Grid(5, channels=3), depth=-1), "depth -1: must be 0 or more"),
        (dict(kernel=4), "kernel 4: must be odd"),
        (dict(kernel=-1), "kernel -1"),
        (dict(inner=2), "inner 2: must be odd"),
        (dict(inner=0), "inner 0"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(COLOUR, **wrong)


def test_symbols_and_conditions_that_do_not_fit_are_refused():
    network, symbols, cond = make(COLOUR)
    for ask in (network, network.incremental):
        with pytest.raises(InputError, match=r"symbols of shape \(3, 4, 5\): this network takes \(3, 5, 5\)"):
            ask(symbols[:, :, :4], cond)
        with pytest.raises(InputError, match=r"conditions \(3, 1\): this network takes \(3, 2\)"):
            ask(symbols, cond[:, :1])
        with pytest.raises(InputError, match=r"conditions \(2, 2\)"):
            ask(symbols, cond[:2])
