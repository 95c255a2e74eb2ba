"""Grids of symbols: what they are, and what networks read of them."""

from dataclasses import replace

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.symbols import Grid, SymbolEmbedding, check_symbols


def test_what_a_grid_asks_for():
    grid = Grid(5, channels=3, levels=4)
    assert (grid.shape, grid.numbers) == ((3, 5, 5), 12)
    assert replace(grid, outputs=7).numbers == 7
    assert (Grid().shape, Grid().numbers) == ((1, 28, 28), 2)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (dict(size=0), "size 0: must be 1 or more"),
        (dict(channels=0), "channels 0: must be 1 or more"),
        (dict(levels=1), "levels 1: a symbol takes at least 2 values"),
        (dict(outputs=0), "outputs 0: must be 1 or more"),
        (dict(conditions=(10, 0)), r"conditions \(10, 0\): each has at least one value"),
    ],
)
def test_grids_that_cannot_be_written_are_refused(wrong, sentence):
    with pytest.raises(InputError, match=sentence):
        Grid(**wrong)


def test_the_smallest_grid_is_a_grid():
    assert Grid(1, channels=1, levels=2, outputs=1, conditions=(1,)).shape == (1, 1, 1)


def test_amounts_lie_between_minus_one_and_one():
    embed, symbols = SymbolEmbedding(Grid(2, levels=4), 8), torch.tensor([[[[0, 1], [2, 3]]]])
    assert embed.channels == 1 and not list(embed.parameters()) and not embed.state_dict()
    expected = torch.tensor([[[[-1, -1 / 3], [1 / 3, 1]]]])
    torch.testing.assert_close(embed(symbols), expected)
    torch.testing.assert_close(embed(symbols.double()), expected.double(), rtol=0, atol=1e-7)
    assert SymbolEmbedding(Grid(2, channels=3), 8).channels == 3


def test_amounts_have_the_number_format_of_the_network():
    embed, symbols = SymbolEmbedding(Grid(2, levels=4), 8).double(), torch.tensor([[[[0, 1], [2, 3]]]])
    expected = torch.tensor([[[[-1, -1 / 3], [1 / 3, 1]]]], dtype=torch.float64)
    torch.testing.assert_close(embed(symbols), expected, rtol=0, atol=1e-15)


def test_amounts_can_be_differentiated_by():
    amounts = torch.tensor([[[[0.0, 1.0], [2.0, 3.0]]]], requires_grad=True)
    SymbolEmbedding(Grid(2, levels=5), 8)(amounts).sum().backward()
    torch.testing.assert_close(amounts.grad, torch.full_like(amounts, 0.5))


def test_names_get_vectors_one_channel_after_the_other():
    embed = SymbolEmbedding(Grid(2, channels=3, levels=5, named=True), 4)
    symbols = torch.randint(5, (2, 3, 2, 2))
    x = embed(symbols)
    assert embed.channels == 12 and x.shape == (2, 12, 2, 2)
    for channel in range(3):
        for row, column in ((0, 0), (0, 1), (1, 0)):
            vectors = embed.table.weight[symbols[:, channel, row, column]]
            assert torch.equal(x[:, 4 * channel : 4 * channel + 4, row, column], vectors)


@pytest.mark.parametrize("shape", [(2, 1, 4, 5), (2, 1, 5, 4), (2, 3, 5, 5), (2, 5, 5), (1, 2, 1, 5, 5)])
def test_symbols_of_other_shapes_are_refused(shape):
    check_symbols(Grid(5), torch.zeros(2, 1, 5, 5))
    with pytest.raises(InputError, match=r"symbols of shape .*: this network takes \(1, 5, 5\)"):
        check_symbols(Grid(5), torch.zeros(shape))
