"""Improved precision and recall against torch-fidelity and by hand."""

import pytest
import torch
from torch_fidelity.metric_prc import prc_features_to_metric

from gencore.errors import InputError
from gencore.metrics import precision_recall


def features(count, dimension, seed, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=draw, dtype=torch.float64) + shift


@pytest.mark.parametrize("neighbours", [1, 3, 5])
def test_equals_torch_fidelity(neighbours):
    a, b = features(300, 6, 1, shift=0.5), features(400, 6, 2)
    theirs = prc_features_to_metric(
        a, b, prc_neighborhood=neighbours, prc_batch_size=10_000, save_cpu_ram=False, verbose=False
    )
    ours = precision_recall(a, b, neighbours)
    assert ours.precision == pytest.approx(theirs["precision"], abs=1e-6)  # theirs averages in float32
    assert ours.recall == pytest.approx(theirs["recall"], abs=1e-6)
    assert 0.1 < ours.recall < 0.95 and ours.precision != ours.recall


def test_default_is_three_neighbours():
    a, b = features(200, 4, 1, shift=0.5), features(200, 4, 2)
    assert precision_recall(a, b) == precision_recall(a, b, neighbours=3)
    assert precision_recall(a, b) != precision_recall(a, b, neighbours=4)


def test_by_hand():
    real = torch.tensor([[0.0], [1.0], [10.0]])  # radii to the nearest neighbour: 1, 1, 9
    generated = torch.tensor([[1.5], [2.5], [-1.5], [30.0]])  # radii 1, 1, 3, 27.5
    result = precision_recall(generated, real, neighbours=1)
    # 1.5 lies in the ball of 1, 2.5 in that of 10; -1.5 and 30 in none.
    assert result.precision == 2 / 4
    # 0 lies in the ball of -1.5, 1 in that of 1.5, 10 in that of 30.
    assert result.recall == 3 / 3


def test_chunks_change_nothing():
    a, b = features(100, 3, 1, shift=1), features(130, 3, 2)
    assert precision_recall(a, b, chunk=7) == precision_recall(a, b, chunk=1000)


def test_tells_a_dropped_mode_from_bad_samples():
    left, right = features(200, 2, 1, shift=-10), features(200, 2, 2, shift=10)
    real = torch.cat([left, right])
    one_mode = precision_recall(features(400, 2, 3, shift=-10), real)
    assert one_mode.precision > 0.9 and one_mode.recall < 0.55
    half_bad = precision_recall(torch.cat([left + 0.01, right - 0.01, features(400, 2, 4, shift=60)]), real)
    assert half_bad.precision < 0.55 and half_bad.recall > 0.9


@pytest.mark.parametrize(
    "a, b, neighbours, message",
    [
        (features(3, 2, 1), features(9, 2, 1), 3, "generated: 3 rows, but at least 4"),
        (features(9, 2, 1), features(0, 2, 1), 3, "real: 0 rows"),
        (features(9, 2, 1), features(9, 2, 1), 0, "neighbours is 0"),
        (features(9, 2, 1), features(9, 3, 1), 3, "dimensions 2 and 3 differ"),
    ],
)
def test_bad_input_is_named(a, b, neighbours, message):
    with pytest.raises(InputError, match=message):
        precision_recall(a, b, neighbours)
