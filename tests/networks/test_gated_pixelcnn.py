"""Gated PixelCNN: two stacks, gates, no blind spot, and the same place by place."""

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from gencore.errors import InputError
from gencore.networks.gated_pixelcnn import GatedPixelCNN, GatedPixelCNNNetwork, gate
from gencore.networks.symbols import Grid
from tests.networks import writing
from tests.networks.writing import awake, pictures

pytestmark = pytest.mark.usefixtures("double_precision")

TOLD = GatedPixelCNN(Grid(6, levels=4, conditions=(3, 2)), width=4, depth=3, kernel=5, inner=3)
NAMED = GatedPixelCNN(Grid(5, levels=6, named=True), width=4, depth=2, kernel=3, inner=5)
NARROW = GatedPixelCNN(Grid(3, outputs=5), width=3, depth=1, kernel=7, inner=3)
LONE = GatedPixelCNN(Grid(1, levels=3, named=True, conditions=(2,)), width=3, depth=1, kernel=3)
ALL = pytest.mark.parametrize("config", [TOLD, NAMED, NARROW, LONE])


def make(config):
    return awake(GatedPixelCNNNetwork(config)), *pictures(config.grid)


@ALL
def test_shapes(config):
    network, symbols, cond = make(config)
    assert network(symbols, cond).shape == (3, config.grid.numbers, config.grid.size, config.grid.size)


def test_a_gate():
    """Equation 2, (PC.5): tanh of the first half, and a sigmoid as its door."""
    h = torch.tensor([[0.5, -2.0, 1.0, 3.0]])
    expected = [(0.5, 1.0), (-2.0, 3.0)]
    torch.testing.assert_close(gate(h)[0], torch.tensor([math.tanh(a) / (1 + math.exp(-b)) for a, b in expected]))
    assert gate(torch.randn(2, 6, 4, 5)).shape == (2, 3, 4, 5)


@ALL
def test_a_network_written_plainly(config):
    """Figure 2 of the paper by square kernels with zeros where nothing may be seen, and a map that is moved down."""
    network, symbols, cond = make(config)
    w, grid, width = dict(network.named_parameters()), config.grid, config.width

    def square(h, name, side, last=None):
        """A whole kernel: the rows above and its own, or of its own row what stands left of column ``last``."""
        given, middle = w[f"{name}.weight"], side // 2
        full = torch.zeros(*given.shape[:2], side, side)
        if last is None:
            full[:, :, : middle + 1] = given
        else:
            full[:, :, middle, :last] = given[:, :, 0]
        return F.conv2d(h, full, w[f"{name}.bias"], padding=middle)

    def point(h, name):
        return torch.einsum("bihw,oi->bohw", h, w[f"{name}.weight"][:, :, 0, 0])

    def bias(name):
        return w[f"{name}.bias"][:, None, None]

    def down(h):
        moved = torch.zeros_like(h)
        moved[:, :, 1:] = h[:, :, :-1]
        return moved

    def gated(h):
        return torch.tanh(h[:, :width]) / (1 + torch.exp(-h[:, width:]))

    x = 2 * symbols / (grid.levels - 1) - 1
    if grid.named:
        x = w["embed.table.weight"][symbols[:, 0]].permute(0, 3, 1, 2)
    v = square(x, "vertical", config.kernel)
    h = square(x, "horizontal", config.kernel, last=config.kernel // 2) + down(v)
    for number in range(config.depth):
        layer, told = f"layers.{number}", torch.zeros(3, 4 * width, 1, 1)
        for k in range(len(grid.conditions)):
            told = told + w[f"{layer}.told.tables.{k}.weight"][cond[:, k], :, None, None]
        seen = square(v, f"{layer}.vertical", config.inner)
        beside = square(h, f"{layer}.horizontal", config.inner, last=config.inner // 2 + 1)
        v = v + gated(seen + told[:, : 2 * width])
        mixed = beside + point(down(seen), f"{layer}.hand_over") + told[:, 2 * width :]
        h = h + point(gated(mixed), f"{layer}.out") + bias(f"{layer}.out")
    h = point(F.relu(point(F.relu(h), "mix") + bias("mix")), "head") + bias("head")
    torch.testing.assert_close(network(symbols, cond), h)


@pytest.mark.parametrize(("depth", "kernel", "inner"), [(1, 3, 3), (3, 3, 3), (1, 5, 3), (2, 3, 5), (6, 5, 3)])
def test_it_sees_a_rectangle_above_and_what_lies_left(depth, kernel, inner):
    """The first kernel reaches so far, and each layer adds its own reach: as many columns, one row more above.

    There is no slope and no blind spot; with enough layers everything before is seen, and nothing else ever.
    """
    config = GatedPixelCNN(Grid(9, levels=7), width=4, depth=depth, kernel=kernel, inner=inner)
    network, x = awake(GatedPixelCNNNetwork(config)), 6 * torch.rand(3, 1, 9, 9)
    reach = kernel // 2 + depth * (inner // 2)
    rows, columns = torch.meshgrid(torch.arange(9), torch.arange(9), indexing="ij")
    for row in range(9):
        for column in range(9):
            up, right = row - rows, columns - column
            above = (up >= 1) & (up <= reach + 1) & (right.abs() <= reach)
            left = (up == 0) & (right < 0) & (right >= -reach)
            seen = writing.seen_by(network, x, (row, column))[0]
            assert torch.equal(seen, above | left), (row, column)
            if depth == 6:
                assert torch.equal(seen.flatten(), torch.arange(81) < 9 * row + column)


@ALL
def test_place_by_place_it_says_the_same(config):
    network, symbols, cond = make(config)
    writing.check_written_in_turn(network, symbols, cond)
    writing.check_written_in_turn(network, symbols, None)


@pytest.mark.parametrize("grid", [Grid(2), Grid(2, named=True), Grid(2, conditions=(3,))])
def test_all_pictures_together_have_probability_one(grid):
    network = awake(GatedPixelCNNNetwork(GatedPixelCNN(grid, width=4, depth=1, kernel=3)), 0.7)
    writing.check_probabilities(network, (1,) if grid.conditions else None)


@pytest.mark.parametrize("config", [TOLD, LONE])
def test_conditions_are_heard(config):
    writing.check_conditions(*make(config))


def test_each_stack_is_told_by_itself():
    """Equation 4: the first half of the vector is for the vertical stack, the second for the horizontal one."""
    network, symbols, cond = make(TOLD)
    network.layers[0].told.tables[0].weight.data[:, :8] += 1  # the vertical stack of a first layer speaks to later ones
    lower = network(symbols, cond) - make(TOLD)[0](symbols, cond)
    assert not lower[:, :, 0].any() and lower[:, :, 1:].any()  # nothing lies above the first row


@ALL
def test_pictures_do_not_mix(config):
    writing.check_rows(*make(config))


@pytest.mark.parametrize("config", [TOLD, NAMED, NARROW])
def test_every_parameter_learns(config):
    network = awake(GatedPixelCNNNetwork(config))
    writing.check_every_parameter_learns(network, *pictures(config.grid, 30))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(grid=Grid(6, channels=3)), "grid.channels 3: this network writes one symbol"),
        (dict(width=0), "width 0: must be 1 or more"),
        (dict(depth=0), "depth 0: must be 1 or more"),
        (dict(kernel=1), "kernel 1: must be odd and at least 3"),
        (dict(kernel=4), "kernel 4"),
        (dict(inner=1), "inner 1: must be odd and at least 3"),
        (dict(inner=6), "inner 6"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(TOLD, **wrong)


def test_symbols_and_conditions_that_do_not_fit_are_refused():
    network, symbols, cond = make(TOLD)
    for ask in (network, network.incremental):
        with pytest.raises(InputError, match=r"symbols of shape \(1, 6, 5\): this network takes \(1, 6, 6\)"):
            ask(symbols[..., :5], cond)
        with pytest.raises(InputError, match=r"conditions \(3, 1\): this network takes \(3, 2\)"):
            ask(symbols, cond[:, :1])
