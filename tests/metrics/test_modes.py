"""Modes counted by hand."""

import pytest
import torch

from gencore.analytic.mixture import GaussianMixture
from gencore.errors import InputError
from gencore.metrics.modes import modes_covered


def mixture(means, covariances, weights=None):
    means, covariances = torch.tensor(means), torch.tensor(covariances)
    weights = torch.full((len(means),), 1 / len(means)) if weights is None else torch.tensor(weights)
    return GaussianMixture(weights, means, covariances)


WIDE, TALL = [[4.0, 0.0], [0.0, 0.01]], [[0.01, 0.0], [0.0, 4.0]]  # standard deviations 2 and 0.1
CROSS = mixture([[0.0, 0.0], [8.0, 0.0]], [WIDE, TALL])


@pytest.mark.parametrize(
    "point, mode",
    [
        ((0.0, 0.0), 0),
        ((5.9, 0.0), 0),  # 2.95 standard deviations along the mode; the other mode is nearer, but 21 of its own away
        ((6.1, 0.0), None),
        ((-5.9, 0.0), 0),
        ((0.0, 0.29), 0),
        ((0.0, 0.31), None),  # 3.1 across
        ((4.4, 0.22), None),  # 2.2 both ways make 3.1
        ((4.0, 0.2), 0),  # 2.83
        ((8.0, 5.9), 1),
        ((8.29, 0.0), 1),
        ((8.0, -6.1), None),
    ],
)
def test_a_point_belongs_to_a_mode_within_three_standard_deviations(point, mode):
    found = modes_covered(torch.tensor([point]), CROSS)
    counts = [int(number == mode) for number in range(2)]
    assert found.counts.tolist() == counts and found.counts.dtype == torch.int64
    assert found.covered == found.on_modes == sum(counts)


def test_distance_is_measured_along_a_slanted_mode():
    """Correlation 0.9: along the diagonal the standard deviation is sqrt(1.9), across it sqrt(0.1)."""
    slanted = mixture([[0.0, 0.0]], [[[1.0, 0.9], [0.9, 1.0]]])
    for length, on in ((2.9, 1), (3.1, 0)):
        along, across = (torch.tensor([[length * std, sign * length * std]]) / 2**0.5
                         for std, sign in ((1.9**0.5, 1), (0.1**0.5, -1)))
        assert modes_covered(along, slanted).covered == modes_covered(across, slanted).covered == on


THREE = mixture([[0.0], [10.0], [20.0]], [[[1.0]]] * 3, [0.5, 0.3, 0.2])


def points(*counts):
    """So many points on the three modes' means, and far from all."""
    return torch.tensor([0.0, 10.0, 20.0, 100.0]).repeat_interleave(torch.tensor(counts))[:, None]


@pytest.mark.parametrize(
    "counts, covered",
    [
        ((50, 30, 20, 0), 3),
        ((5, 90, 2, 3), 3),  # a tenth of their due: 5, 3 and 2 of a hundred
        ((4, 90, 2, 4), 2),
        ((5, 90, 1, 4), 2),
        ((0, 100, 0, 0), 1),
        ((0, 0, 0, 100), 0),
    ],
)
def test_a_mode_is_covered_by_a_tenth_of_its_due(counts, covered):
    found = modes_covered(points(*counts), THREE)
    assert found.counts.tolist() == list(counts[:3])
    assert found.covered == covered
    assert found.on_modes == pytest.approx(1 - counts[3] / 100)


def test_both_thresholds_can_be_chosen():
    shifted = points(2, 30, 10, 0) + 2
    assert modes_covered(shifted, THREE).counts.tolist() == [2, 30, 10]
    assert modes_covered(shifted, THREE, radius=1.9).counts.tolist() == [0, 0, 0]
    assert [modes_covered(shifted, THREE, enough=enough).covered for enough in (0.05, 0.1, 1.0, 2.0)] == [3, 2, 2, 1]


def test_true_samples_lie_on_their_modes():
    """Within three standard deviations, in two dimensions: 1 - exp(-9 / 2)."""
    found = modes_covered(CROSS.sample(20_000, torch.Generator().manual_seed(0)), CROSS)
    assert found.covered == 2
    assert found.on_modes == pytest.approx(1 - 2.718281828 ** (-4.5), abs=0.002)
    assert found.counts[0].item() / found.counts.sum().item() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("shape", [(0, 2), (4, 3), (2,), (1, 4, 2)])
def test_points_that_do_not_fit_are_refused(shape):
    with pytest.raises(InputError, match=r"points \(.*\): the mixture takes \(N, 2\), N at least 1"):
        modes_covered(torch.zeros(shape), CROSS)
