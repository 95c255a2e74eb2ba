"""The order of the data: a function of the seed and the images seen, of nothing else."""

from itertools import islice

import pytest
import torch

from gencore.data import Batches, ImageSet, to_float
from gencore.errors import InputError


def numbered(n):
    """Images whose only pixel is their number."""
    return ImageSet("numbers", torch.arange(n, dtype=torch.uint8).reshape(n, 1, 1, 1), torch.arange(n) * 2, ("x",))


def indices(batches, first, count):
    return [batches.at(first + place * batches.batch_size).index.tolist() for place in range(count)]


def test_image_label_and_index_belong_together():
    batch = Batches(numbered(10), 4, seed=0).at(0)
    assert batch.x.shape == (4, 1, 1, 1)
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x.flatten(), to_float(batch.index.to(torch.uint8)))
    assert torch.equal(batch.labels, batch.index * 2)


@pytest.mark.parametrize("batch_size", [1, 3, 7, 10, 23])
def test_every_epoch_visits_each_image_once(batch_size):
    batches = Batches(numbered(10), batch_size, seed=1)
    stream = sum(indices(batches, 0, 40 // batch_size + 2), [])
    epochs = [stream[10 * epoch : 10 * epoch + 10] for epoch in range(4)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4  # shuffled anew each time


def test_order_does_not_depend_on_the_batch_size():
    one, other = Batches(numbered(10), 4, seed=2), Batches(numbered(10), 6, seed=2)
    assert sum(indices(one, 0, 9), []) == sum(indices(other, 0, 6), [])


def test_at_is_stateless():
    ahead = Batches(numbered(10), 4, seed=3)
    expected = indices(ahead, 0, 12)
    again = Batches(numbered(10), 4, seed=3)
    for place in (11, 2, 7, 7, 0):  # forwards and backwards through the epochs
        assert again.at(4 * place).index.tolist() == expected[place]


def test_iteration_begins_at_zero_and_does_not_end():
    batches = Batches(numbered(5), 4, seed=4)
    assert [batch.index.tolist() for batch in islice(batches, 7)] == indices(batches, 0, 7)


@pytest.mark.parametrize("world_size", [2, 4])
def test_slices_of_the_processes_make_the_global_batch(world_size):
    whole = Batches(numbered(10), 8, seed=5)
    parts = [Batches(numbered(10), 8, seed=5, rank=rank, world_size=world_size) for rank in range(world_size)]
    for seen in (0, 8, 16, 80):
        assert sum((part.at(seen).index.tolist() for part in parts), []) == whole.at(seen).index.tolist()


def test_seed_decides_the_order():
    one, other = (Batches(numbered(50), 50, seed=seed) for seed in (0, 1))
    assert indices(one, 0, 1) != indices(other, 0, 1)


def test_bad_sizes_are_refused():
    with pytest.raises(InputError, match="holds no images"):
        Batches(numbered(0), 4, seed=0)
    with pytest.raises(InputError, match="batch_size 3: must be a positive multiple of the 2 processes"):
        Batches(numbered(5), 3, seed=0, world_size=2)
    with pytest.raises(InputError, match="batch_size 0"):
        Batches(numbered(5), 0, seed=0)
