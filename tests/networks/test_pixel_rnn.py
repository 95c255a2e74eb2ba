"""Pixel recurrent networks: the paper's equations, place by place, and what each place may know."""

from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.nn import functional as F

from gencore.autoregressive.likelihoods import Categorical
from gencore.errors import InputError
from gencore.networks.pixel_rnn import DiagonalBiLSTM, PixelRNN, PixelRNNNetwork, RowLSTM
from gencore.networks.symbols import Grid

ROW = PixelRNN(Grid(size=5, levels=3, conditions=(4, 2)), RowLSTM(), width=3, depth=2, kernel=3)
DIAGONAL = replace(ROW, layer=DiagonalBiLSTM())
both = pytest.mark.parametrize("config", [ROW, DIAGONAL], ids=["row", "diagonal"])


def awake(config):
    """A network with random weights everywhere, those of conditions included."""
    torch.manual_seed(0)
    network = PixelRNNNetwork(config)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return network


def written(config, batch=3):
    """Symbols and conditions; symbols as floats where they are amounts, in the precision of the test."""
    torch.manual_seed(1)
    symbols = torch.randint(config.grid.levels, (batch, *config.grid.shape))
    columns = [torch.randint(count + 1, (batch,)) for count in config.grid.conditions]
    cond = torch.stack(columns, 1) if columns else None
    return symbols if config.grid.named else symbols.to(torch.get_default_dtype()), cond


@both
@pytest.mark.parametrize(
    "change",
    [
        dict(),
        dict(grid=Grid(size=1)),
        dict(grid=Grid(size=4, levels=6, named=True)),
        dict(grid=Grid(size=7, outputs=5, conditions=(3,)), kernel=5, depth=1),
    ],
)
def test_shapes(config, change):
    config = replace(config, **change)
    network, (symbols, cond) = PixelRNNNetwork(config), written(config)
    assert network(symbols.long(), cond).shape == (3, config.grid.numbers, config.grid.size, config.grid.size)
    assert network.incremental(symbols.long(), cond)(0, 0).shape == (3, config.grid.numbers)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(width=0), "width 0"),
        (dict(depth=0), "depth 0"),
        (dict(kernel=4), "kernel 4: must be odd"),
        (dict(kernel=1), "kernel 1: must be odd, and 3 or more"),
        (dict(grid=Grid(channels=3)), "grid.channels 3"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        replace(ROW, **wrong)


@pytest.mark.parametrize("reach", [0, 2, -1])
def test_a_row_is_convolved_by_an_odd_width(reach):
    with pytest.raises(InputError, match=f"reach {reach}: must be odd"):
        RowLSTM(reach)


@both
def test_symbols_and_conditions_that_do_not_fit_are_refused(config):
    network, (symbols, cond) = PixelRNNNetwork(config), written(config)
    for way in (network, network.incremental):
        with pytest.raises(InputError, match=r"symbols of shape \(1, 4, 5\)"):
            way(symbols[:, :, :4], cond)
        with pytest.raises(InputError, match="conditions"):
            way(symbols, cond[:, :1])


class Plain:
    """The paper's formulas for one picture, on the same weights: maps are dictionaries, zero outside of the grid."""

    def __init__(self, network, symbols, cond):
        self.w, self.n, self.h = dict(network.named_parameters()), network.config.grid.size, network.config.width
        self.x, self.cond, self.config = 2 * symbols[0] / (network.config.grid.levels - 1) - 1, cond, network.config

    def get(self, values, r, c):
        size = len(next(iter(values.values()))) if values else self.h
        return values.get((r, c), torch.zeros(size))

    def told(self, name):
        return sum(self.w[f"{name}.conditions.tables.{k}.weight"][value] for k, value in enumerate(self.cond))

    def cell(self, total, c):
        """Equation 3: gates in the paper's order o, f, i, g."""
        o, f, i, g = total.split(self.h)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def first(self):
        """Mask A (section 3.4): the full square kernel, with zeros from its centre on."""
        k = self.config.kernel
        mask = torch.zeros(2 * self.h, 1, k, k)
        mask[:, :, : k // 2] = self.w["first.above.weight"]
        mask[:, :, k // 2, : k // 2] = self.w["first.left.weight"][:, :, 0]
        out = F.conv2d(self.x[None, None], mask, self.w["first.above.bias"], padding=k // 2)[0]
        return {(r, c): out[:, r, c] for r in range(self.n) for c in range(self.n)}

    def row_lstm(self, x, name):
        """Section 3.1."""
        half = self.config.layer.reach // 2
        k_is = self.w[f"{name}.from_input.weight"].split(2 * self.h, 1)  # from left to right, the last at the place
        k_ss = self.w[f"{name}.from_state.weight"].split(self.h, 1)
        h, cells = {}, {}
        for r, c in product(range(self.n), repeat=2):
            total = self.w[f"{name}.from_input.bias"] + self.told(name)
            for j in range(half + 1):
                total = total + k_is[j] @ self.get(x, r, c - half + j)
            for j in range(2 * half + 1):
                total = total + k_ss[j] @ self.get(h, r - 1, c - half + j)
            h[r, c], cells[r, c] = self.cell(total, self.get(cells, r - 1, c))
        return h

    def diagonal_bilstm(self, x, name):
        """Section 3.2."""
        maps = []
        for number, beside in enumerate((-1, 1)):
            k_is, bias, told = (
                part.chunk(2)[number]
                for part in (
                    self.w[f"{name}.from_input.weight"],
                    self.w[f"{name}.from_input.bias"],
                    self.told(name),
                )
            )
            above, side = self.w[f"{name}.from_state.weight"].chunk(2)[number].chunk(2, 1)
            h, cells = {}, {}
            for r, c in product(range(self.n), range(self.n)[::-beside]):
                total = k_is @ x[r, c] + bias + told
                total = total + above @ self.get(h, r - 1, c) + side @ self.get(h, r, c + beside)
                h[r, c], cells[r, c] = self.cell(total, self.get(cells, r, c + beside))
            maps.append(h)
        left, right = maps
        return {(r, c): left[r, c] + self.get(right, r - 1, c) for r, c in left}

    def __call__(self):
        x = self.first()
        for number in range(self.config.depth):
            name = f"layers.{number}"
            h = (self.row_lstm if isinstance(self.config.layer, RowLSTM) else self.diagonal_bilstm)(x, name)
            weight, bias = self.w[f"{name}.out.weight"], self.w[f"{name}.out.bias"]
            x = {place: x[place] + weight @ h[place] + bias for place in x}  # section 3.3
        out = torch.empty(self.config.grid.numbers, self.n, self.n)
        for (r, c), v in x.items():
            v = self.w["head.1.weight"] @ v.relu() + self.w["head.1.bias"]
            out[:, r, c] = self.w["head.3.weight"] @ v.relu() + self.w["head.3.bias"]
        return out


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    "config",
    [ROW, replace(ROW, layer=RowLSTM(5), kernel=5), DIAGONAL, replace(DIAGONAL, kernel=5, depth=1)],
    ids=["row", "wide row", "diagonal", "one diagonal"],
)
def test_a_network_written_plainly(config):
    network, (symbols, cond) = awake(config), written(config)
    with torch.no_grad():
        expected = torch.stack([Plain(network, *one)() for one in zip(symbols, cond, strict=True)])
        torch.testing.assert_close(network(symbols, cond), expected)


def seen_by_rows(config, r, c):
    """The Row LSTM's receptive field, as its docstring states it."""
    n, k, half = config.grid.size, config.kernel // 2, config.layer.reach // 2
    seen = {(r, j) for j in range(c - config.depth * half - k, c)}
    for d in range(1, r + 1):
        last = max(min(n - 1, c + d * half) - 1, c + (d - 1) * half + k)
        seen |= {(r - d, j) for j in range(c - (d + config.depth) * half - k, last + 1)}
    return {(i, j) for i, j in seen if 0 <= j < n}


def seen_by_diagonals(config, r, c):
    """The Diagonal BiLSTM's receptive field, as its docstring states it."""
    n, k = config.grid.size, config.kernel // 2
    before = {(i, j) for i, j in product(range(n), repeat=2) if (i, j) < (r, c)}
    return before if c >= n - 1 - k else before - {(r - 1, n - 1)}


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize(
    ("change", "seen"),
    [
        (dict(layer=RowLSTM(), depth=1), seen_by_rows),
        (dict(layer=RowLSTM(), depth=2), seen_by_rows),
        (dict(layer=RowLSTM(), depth=1, kernel=5), seen_by_rows),
        (dict(layer=RowLSTM(1), depth=2), seen_by_rows),
        (dict(layer=RowLSTM(5), depth=1), seen_by_rows),
        (dict(layer=DiagonalBiLSTM(), depth=1), seen_by_diagonals),
        (dict(layer=DiagonalBiLSTM(), depth=2), seen_by_diagonals),
        (dict(layer=DiagonalBiLSTM(), depth=1, kernel=5), seen_by_diagonals),
    ],
)
def test_a_place_depends_on_its_receptive_field_and_on_nothing_else(change, seen):
    config = replace(ROW, grid=Grid(size=7), width=8, **change)  # so wide that some unit is awake at each place
    network, (symbols, _) = awake(config), written(config, 2)
    symbols.requires_grad_()
    numbers = network(symbols).sin().sum((0, 1))  # (7, 7); of sums alone, gradients might cancel
    fields = 0
    for r, c in product(range(7), repeat=2):
        (slope,) = torch.autograd.grad(numbers[r, c], symbols, retain_graph=True)
        found = {(i, j) for _, _, i, j in slope.nonzero().tolist()}
        assert all(place < (r, c) for place in found)
        assert found == seen(config, r, c), (r, c)
        fields += len(found)
    assert fields > 0


@both
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("conditions", [(), (4, 2)])
@pytest.mark.parametrize("change", [dict(), dict(kernel=7)], ids=["near", "far"])
def test_place_by_place_it_says_what_it_says_at_once(config, named, conditions, change):
    """The caller writes symbols as they come; what stands there before is rubbish, and not looked at."""
    config = replace(config, grid=replace(config.grid, named=named, conditions=conditions), **change)
    network, (symbols, cond) = awake(config), written(config)
    symbols = symbols.long()
    with torch.no_grad():
        expected = network(symbols, cond)
        begun = (symbols + 1) % config.grid.levels
        at = network.incremental(begun, cond)
        for r, c in product(range(config.grid.size), repeat=2):
            torch.testing.assert_close(at(r, c), expected[:, :, r, c], atol=1e-5, rtol=1e-5)
            begun[:, :, r, c] = symbols[:, :, r, c]


@both
def test_a_wider_row_place_by_place(config):
    config = replace(config, layer=RowLSTM(5) if isinstance(config.layer, RowLSTM) else config.layer, depth=3)
    network, (symbols, cond) = awake(config), written(config)
    with torch.no_grad():
        expected, at = network(symbols, cond), network.incremental(symbols, cond)
        for r, c in product(range(config.grid.size), repeat=2):
            torch.testing.assert_close(at(r, c), expected[:, :, r, c], atol=1e-5, rtol=1e-5)


@both
def test_what_is_told_changes_what_is_expected(config):
    network, (symbols, cond) = awake(config), written(config)
    for number, count in enumerate(config.grid.conditions):
        other = cond.clone()
        other[:, number] = (cond[:, number] + 1) % (count + 1)
        assert (network(symbols, other) - network(symbols, cond)).flatten(1).abs().amax(1).gt(1e-3).all()
    nothing = torch.tensor([config.grid.conditions] * 3)
    assert torch.equal(network(symbols), network(symbols, nothing))
    torch.testing.assert_close(network(symbols, cond)[1:], network(symbols[1:], cond[1:]))


@both
@pytest.mark.usefixtures("double_precision")
def test_probabilities_of_all_small_pictures_sum_to_one(config):
    config = replace(config, grid=Grid(size=2))
    pictures = torch.tensor(list(product(range(2), repeat=4))).view(16, 1, 2, 2)
    with torch.no_grad():
        log_p = Categorical().log_prob(awake(config)(pictures.double()), pictures).sum((1, 2))
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0))
    assert log_p.std() > 0.1


@both
def test_a_new_network_remembers_and_is_told_nothing(config):
    network, (symbols, cond) = PixelRNNNetwork(config), written(config)
    for layer in network.layers:
        gates = layer.from_input.bias.view(-1, 4, config.width)  # o, f, i, g
        assert (gates[:, 1] == 1).all() and (gates[:, [0, 2, 3]] != 1).all()
    assert torch.equal(network(symbols, cond), network(symbols))
    assert not {"order", "back"} & {name.split(".")[-1] for name in network.state_dict()}


@both
def test_every_parameter_learns(config):
    config = replace(config, grid=replace(config.grid, named=True))
    network, (symbols, cond) = awake(config), written(config, 8)
    Categorical().log_prob(network(symbols, cond), symbols).sum().backward()
    assert [name for name, p in network.named_parameters() if not p.grad.any()] == []


@both
def test_half_precision_gives_nearly_the_same(config):
    network, (symbols, cond) = awake(config), written(config)
    with torch.autocast("cpu", torch.bfloat16):
        half = network(symbols, cond)
        at = network.incremental(symbols, cond)
        steps = [at(r, c) for r, c in product(range(5), repeat=2)]
    full = network(symbols, cond)
    assert (half.float() - full).norm() < 0.05 * full.norm()
    steps = torch.stack(steps, 2).view_as(full)
    assert (steps.float() - full).norm() < 0.05 * full.norm()
