"""The next symbol's surprise: what a whole picture costs is the sum of what its places cost, each asked by itself."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from gencore.autoregressive import Categorical, Draw, Networks, NextSymbol
from gencore.autoregressive.sampling import build
from gencore.networks.symbols import Grid
from tests.autoregressive.tiny import COLOURED, WRITERS, fill


class Knowing(nn.Module):
    """Says the same of every place of every picture; remembers its questions."""

    def __init__(self, *probabilities):
        super().__init__()
        self.logits, self.asked = nn.Parameter(torch.tensor(probabilities).log()), []

    def forward(self, symbols, cond, *extra):
        self.asked.append((symbols, cond, *extra))
        return self.logits[None, :, None, None].expand(len(symbols), -1, *symbols.shape[2:])


SYMBOLS = torch.tensor([[[0, 0], [1, 0]], [[1, 1], [1, 1]]])[:, None]


def test_the_loss_of_a_hand_made_distribution():
    """Three zeros and a one, and four ones, where a one has a probability of a quarter."""
    loss = NextSymbol()(Networks(Knowing(0.75, 0.25)), SYMBOLS, None, Draw())
    nats = -(3 * math.log(0.75) + 5 * math.log(0.25)) / 2
    assert loss.parts.keys() == {"nats"} and loss.parts["nats"].item() == pytest.approx(nats, rel=1e-6)
    assert loss.total.item() == pytest.approx(nats / 4, rel=1e-6)  # of a place


def test_colours_of_a_place_count_together():
    symbols = torch.tensor([0, 1, 1])[None, :, None, None].expand(2, 3, 2, 2)
    loss = NextSymbol()(Networks(Knowing(0.75, 0.25, 0.5, 0.5, 0.9, 0.1)), symbols, None, Draw())
    assert loss.total.item() == pytest.approx(-math.log(0.75 * 0.5 * 0.1), rel=1e-6)


def test_its_gradient_goes_down_to_the_frequencies():
    """Of all constant distributions, that of the data costs least."""
    network = Knowing(0.375, 0.625)  # three zeros, five ones
    (gradient,) = torch.autograd.grad(NextSymbol()(Networks(network), SYMBOLS, None, Draw()).total, network.logits)
    torch.testing.assert_close(gradient, torch.zeros(2), atol=1e-6, rtol=0)
    network = Knowing(0.5, 0.5)
    (gradient,) = torch.autograd.grad(NextSymbol()(Networks(network), SYMBOLS, None, Draw()).total, network.logits)
    torch.testing.assert_close(gradient, torch.tensor([0.125, -0.125]))  # probability less frequency


def test_conditions_and_what_is_left_out_reach_the_network():
    network, cond, dropped = Knowing(0.5, 0.5), torch.tensor([[1], [2]]), torch.rand(2, 1, 2, 4)
    NextSymbol()(Networks(network), SYMBOLS, cond, Draw())
    NextSymbol()(Networks(network), SYMBOLS, cond, Draw(dropped))
    (plainly, dropping) = network.asked
    assert len(plainly) == 2 and plainly[0] is SYMBOLS and plainly[1] is cond
    assert len(dropping) == 3 and dropping[2] is dropped


def test_what_autocast_gives_is_computed_in_float32():
    class Narrow(Knowing):
        def forward(self, *arguments):
            return super().forward(*arguments).bfloat16()

    loss = NextSymbol()(Networks(Narrow(0.5, 0.5)), SYMBOLS, None, Draw())
    assert loss.total.dtype == torch.float32 and loss.total.item() == pytest.approx(math.log(2), rel=2e-3)


@pytest.mark.parametrize(
    ("name", "channels"), [(name, 1) for name in WRITERS] + [(name, 3) for name in COLOURED], ids=lambda value: str(value)
)
def test_the_loss_is_the_sum_over_places_each_asked_by_itself(name, channels):
    """What is not yet written is noise when a place is asked: the chain rule of the whole picture, by hand."""
    size = 4  # a multiple of 2: some networks have two resolutions
    grid = Grid(size, channels=channels, levels=4, conditions=(5,))
    likelihood, draw = NextSymbol().likelihood, torch.Generator().manual_seed(0)
    network = network_of(WRITERS[name](grid))
    symbols, cond = torch.randint(4, (6, *grid.shape), generator=draw), torch.arange(6)[:, None]
    total = torch.zeros(6)
    for row in range(size):
        for column in range(size):
            for channel in range(channels):
                written = torch.randint(4, symbols.shape, generator=draw)
                written[:, :, :row] = symbols[:, :, :row]
                written[:, :, row, :column] = symbols[:, :, row, :column]
                written[:, :channel, row, column] = symbols[:, :channel, row, column]
                p = likelihood.probabilities(network(written, cond), channels)[:, channel, :, row, column]
                total += p.gather(1, symbols[:, channel, row, column, None])[:, 0].log()
    loss = NextSymbol()(Networks(network), symbols, cond, Draw())
    torch.testing.assert_close(loss.parts["nats"], -total.mean(), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(loss.total, -total.mean() / size**2, rtol=1e-4, atol=1e-4)
    assert loss.parts["nats"] > 1.05 * size**2 * channels * math.log(4), "a network that says nothing would pass"


def network_of(config):
    """A network in which every weight matters."""
    return fill(build(SimpleNamespace(network=config, seed=0)).model, 0.5)


def test_how_many_numbers_it_needs():
    assert NextSymbol().needs(Grid(4, channels=3, levels=5)) == 15 == Categorical().numbers(Grid(4, channels=3, levels=5))
