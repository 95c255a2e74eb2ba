import math

import pytest
import torch

from gencore.errors import InputError
from gencore.networks.embeddings import (
    Conditions,
    TimeEmbedding,
    condition_tables,
    patchify,
    sinusoidal,
    sinusoidal_grid,
    tell,
    unpatchify,
)


def test_sinusoidal_entries():
    """(AT.8), entry by entry."""
    table = sinusoidal(torch.arange(5.0, dtype=torch.float64), 6)
    for place in range(5):
        for i in range(3):
            angle = place * 10_000 ** (-2 * i / 6)
            assert table[place, i].item() == pytest.approx(math.sin(angle), abs=1e-12)
            assert table[place, 3 + i].item() == pytest.approx(math.cos(angle), abs=1e-12)


def test_sinusoidal_keeps_shape_and_type():
    assert sinusoidal(torch.zeros(2, 3), 8).shape == (2, 3, 8)
    assert sinusoidal(torch.zeros(2, dtype=torch.float64), 8).dtype == torch.float64
    assert sinusoidal(torch.arange(4), 8).dtype == torch.float32


def test_similarity_depends_on_the_distance_only():
    table = sinusoidal(torch.arange(30, dtype=torch.float64), 16)
    similarity = table @ table.T
    torch.testing.assert_close(similarity[:-4, :-4], similarity[4:, 4:])


def test_a_grid_tells_rows_from_columns():
    grid = sinusoidal_grid(3, 5, 16).view(3, 5, 16)
    assert torch.equal(grid[1, :, :8], grid[1, :1, :8].expand(5, 8))  # the first half is the row's
    assert torch.equal(grid[:, 2, 8:], grid[:1, 2, 8:].expand(3, 8))
    assert len(grid.flatten(0, 1).unique(dim=0)) == 15
    torch.testing.assert_close(grid[2, 4], torch.cat([sinusoidal(torch.tensor(2), 8), sinusoidal(torch.tensor(4), 8)]))


def test_time_embedding_tells_near_times_apart():
    torch.manual_seed(0)
    embedding = TimeEmbedding(32)
    near = embedding(torch.tensor([0.500, 0.501]))
    assert near.shape == (2, 32)
    assert (near[0] - near[1]).norm() > 0.1 * near[0].norm()


@pytest.mark.parametrize("channels, height, width, patch", [(3, 8, 8, 4), (1, 12, 6, 3), (2, 4, 10, 2), (3, 5, 5, 1)])
def test_patches_put_together_are_the_picture(channels, height, width, patch):
    x = torch.randn(2, channels, height, width)
    tokens = patchify(x, patch)
    assert tokens.shape == (2, height // patch * width // patch, channels * patch**2)
    assert torch.equal(unpatchify(tokens, patch, height // patch, width // patch), x)


def test_a_patch_is_a_square_of_the_picture():
    x = torch.randn(1, 3, 8, 12)
    assert torch.equal(patchify(x, 4)[0, 4], x[0, :, 4:8, 4:8].flatten())  # row 1, column 1 of three columns


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: sinusoidal(torch.zeros(1), 7), "width 7"),
        (lambda: sinusoidal_grid(2, 2, 6), "width 6"),
        (lambda: patchify(torch.zeros(1, 1, 9, 8), 4), "do not fill images of 9x8"),
        (lambda: unpatchify(torch.zeros(1, 5, 16), 4, 2, 2), "5 tokens"),
        (lambda: unpatchify(torch.zeros(1, 4, 15), 4, 2, 2), "length 15"),
    ],
)
def test_bad_sizes_are_refused(call, sentence):
    with pytest.raises(InputError, match=sentence):
        call()


def test_the_time_embedding_written_plainly():
    """Two linear maps with a SiLU between them, of the sines and cosines of 1000 t."""
    embedding = TimeEmbedding(6).double()
    t, (w1, b1, w2, b2) = torch.rand(4, dtype=torch.float64), embedding.parameters()
    angle = 1000 * t[:, None] * torch.tensor([1, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)], dtype=torch.float64)
    hidden = torch.cat([angle.sin(), angle.cos()], 1) @ w1.T + b1
    torch.testing.assert_close(embedding(t), hidden * hidden.sigmoid() @ w2.T + b2)


def test_what_is_told_is_a_sum_of_vectors():
    """One vector for each value of each condition; the last row of a table stands for "not told"."""
    tables, vectors = condition_tables((3, 2), 4), torch.randn(5, 4)
    assert [tuple(table.weight.shape) for table in tables] == [(4, 4), (3, 4)]
    cond = torch.tensor([[0, 0], [1, 2], [3, 1], [3, 2], [2, 0]])
    told = tell(vectors, tables, cond)
    for row, (first, second) in enumerate(cond.tolist()):
        torch.testing.assert_close(told[row], vectors[row] + tables[0].weight[first] + tables[1].weight[second])
    torch.testing.assert_close(tell(vectors, tables, None), vectors + tables[0].weight[3] + tables[1].weight[2])
    assert torch.equal(tell(vectors, condition_tables((), 4), None), vectors)


def test_conditions_are_one_vector_that_begins_small():
    torch.manual_seed(0)
    told, cond = Conditions((30, 20), 64), torch.tensor([[0, 19], [30, 3]])
    first, second = (table.weight for table in told.tables)
    torch.testing.assert_close(told(cond, 2), first[cond[:, 0]] + second[cond[:, 1]])
    torch.testing.assert_close(told(None, 3), (first[30] + second[20]).expand(3, 64))
    assert 0.09 < first.std() < 0.11 and 0.09 < second.std() < 0.11
    assert list(told.state_dict()) == ["tables.0.weight", "tables.1.weight"]


def test_without_conditions_nothing_is_added():
    told = Conditions((), 4)
    assert torch.equal(told(None, 3), torch.zeros(3, 4))
    assert torch.equal(told(torch.empty(3, 0, dtype=torch.int64), 3), torch.zeros(3, 4))
    assert told.double()(None, 3).dtype == torch.float64 and not told.state_dict()


@pytest.mark.parametrize("shape", [(3, 1), (3, 3), (2, 2), (3,)])
def test_more_or_fewer_conditions_are_refused(shape):
    cond = torch.zeros(shape, dtype=torch.int64)
    with pytest.raises(InputError, match=r"conditions \(.*\): this network takes \(3, 2\)"):
        Conditions((3, 2), 4)(cond, 3)


@pytest.mark.parametrize("value", [-1, 4])
def test_conditions_that_do_not_exist_are_refused(value):
    with pytest.raises(IndexError):
        Conditions((3,), 4)(torch.tensor([[value]]), 1)
