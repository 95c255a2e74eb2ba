"""Energy distance: closed form, definition, freedom from bias."""

import itertools
import math

import pytest
import torch
from scipy.stats import energy_distance as scipy_energy_distance

from gencore.errors import InputError
from gencore.metrics import energy_distance


def points(count, dimension, seed, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=draw, dtype=torch.float64) + shift


def mean_absolute_normal(mean, sd):
    """E|X| for X ~ N(mean, sd²), the mean of the folded normal."""
    tail = 0.5 * math.erfc(mean / sd / math.sqrt(2))
    return sd * math.sqrt(2 / math.pi) * math.exp(-0.5 * (mean / sd) ** 2) + mean * (1 - 2 * tail)


def test_closed_form_of_gaussians():
    # Differences of Gaussians are Gaussian: E|X - Y| is a folded normal's mean. Quantiles replace random draws.
    quantiles = torch.special.ndtri((torch.arange(2000, dtype=torch.float64) + 0.5) / 2000)[:, None]
    exact = 2 * mean_absolute_normal(1.0, math.sqrt(1 + 4)) - sum(mean_absolute_normal(0.0, math.sqrt(2) * sd) for sd in (1, 2))
    assert energy_distance(quantiles, 2 * quantiles + 1) == pytest.approx(exact, rel=0.01)


def test_equals_scipy_after_counting_the_diagonal():
    # scipy: square root of the V-statistic, in which each point also meets itself at distance 0.
    a, b = points(60, 1, 1), points(80, 1, 2, shift=0.5)
    v_statistic = scipy_energy_distance(a[:, 0], b[:, 0]) ** 2
    within = [torch.cdist(rows, rows).sum().item() for rows in (a, b)]
    diagonal = sum(total / (n * (n - 1)) - total / n**2 for total, n in zip(within, (60, 80), strict=True))
    assert energy_distance(a, b) == pytest.approx(v_statistic - diagonal, rel=1e-9)


def test_estimate_has_no_bias():
    # All samples of two and three draws from distributions on three points, weighted by their probability.
    left, right = points(3, 2, 3), points(3, 2, 4)
    p, q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], dtype=torch.float64)
    true = 2 * p @ torch.cdist(left, right) @ q - p @ torch.cdist(left, left) @ p - q @ torch.cdist(right, right) @ q
    average = 0.0
    for i in itertools.product(range(3), repeat=2):
        for j in itertools.product(range(3), repeat=3):
            weight = p[list(i)].prod() * q[list(j)].prod()
            average += weight * energy_distance(left[list(i)], right[list(j)])
    assert float(average) == pytest.approx(float(true), rel=1e-12)


def test_symmetric_rotation_invariant_and_proportional_to_the_unit():
    a, b = points(50, 2, 1), points(70, 2, 2, shift=1)
    distance = energy_distance(a, b)
    angle = torch.tensor(0.7, dtype=torch.float64)
    rotation = torch.stack([torch.stack([angle.cos(), -angle.sin()]), torch.stack([angle.sin(), angle.cos()])])
    assert energy_distance(b, a) == pytest.approx(distance, rel=1e-12)
    assert energy_distance(a @ rotation, b @ rotation) == pytest.approx(distance, rel=1e-12)
    assert energy_distance(3 * a, 3 * b) == pytest.approx(3 * distance, rel=1e-12)
    assert energy_distance(a, b, chunk=7) == pytest.approx(distance, rel=1e-12)


@pytest.mark.parametrize(
    "a, b, message",
    [
        (points(1, 2, 1), points(5, 2, 1), "a: 1 rows, but at least 2"),
        (points(5, 2, 1), points(5, 1, 1), "dimensions 2 and 1 differ"),
        (points(5, 2, 1), points(5, 2, 1) / 0, "b: holds NaN or infinity"),
    ],
)
def test_bad_input_is_named(a, b, message):
    with pytest.raises(InputError, match=message):
        energy_distance(a, b)
