"""Density and coverage by hand, against a plain restatement, and against what equal distributions must give."""

import math
from statistics import fmean

import pytest
import torch

from gencore.errors import InputError
from gencore.metrics import density_coverage, precision_recall


def features(count, dimension, seed, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=draw, dtype=torch.float64) + shift


def test_by_hand():
    real = torch.tensor([[0.0], [1.0], [10.0]])  # radii to the nearest neighbour: 1, 1, 9
    generated = torch.tensor([[0.5], [2.0], [-1.5], [30.0]])
    # 0.5 lies in the balls of 0 and 1, 2 (on the edges) in those of 1 and 10; -1.5 and 30 in none.
    assert density_coverage(generated, real, neighbours=1) == (4 / (1 * 4), 1.0)
    # With two neighbours the radii are 10, 9 and 10: 0.5, 2 and -1.5 lie in three, three and two balls.
    assert density_coverage(generated, real, neighbours=2) == (8 / (2 * 4), 1.0)
    assert density_coverage(generated[2:], real, neighbours=1) == (0.0, 0.0)
    assert density_coverage(generated[:1], real, neighbours=1) == (2.0, pytest.approx(2 / 3))


@pytest.mark.parametrize("neighbours", [1, 5])
def test_equals_the_definitions_word_by_word(neighbours):
    generated, real = features(90, 3, 1, shift=1), features(70, 3, 2)
    radius = [sorted(math.dist(x, other) for other in real.tolist())[neighbours] for x in real.tolist()]
    balls = [[math.dist(x, y) <= r for y in generated.tolist()] for x, r in zip(real.tolist(), radius)]
    density = sum(map(sum, balls)) / (neighbours * len(generated))
    coverage = fmean(any(ball) for ball in balls)
    assert density_coverage(generated, real, neighbours) == (pytest.approx(density), pytest.approx(coverage))
    assert 0.1 < coverage < 0.9 and 0.1 < density < 0.95


@pytest.mark.parametrize("count, dimension", [(40, 1), (40, 8), (80, 3)])
def test_equal_distributions_give_what_theory_says(count, dimension):
    real_count, k = 60, 5
    found = [
        density_coverage(features(count, dimension, 2 * seed), features(real_count, dimension, 2 * seed + 1))
        for seed in range(200)
    ]
    missed = math.prod((real_count - i) / (count + real_count - i) for i in range(1, k + 1))
    assert fmean(each.density for each in found) == pytest.approx(1, abs=0.04)
    assert fmean(each.coverage for each in found) == pytest.approx(1 - missed, abs=0.01)


def test_default_is_five_neighbours():
    a, b = features(200, 4, 1, shift=0.5), features(200, 4, 2)
    assert density_coverage(a, b) == density_coverage(a, b, neighbours=5)
    assert density_coverage(a, b) != density_coverage(a, b, neighbours=4)


def test_chunks_change_nothing():
    a, b = features(100, 3, 1, shift=1), features(130, 3, 2)
    assert density_coverage(a, b, chunk=7) == density_coverage(a, b, chunk=1000)


def test_wider_balls_hold_more_and_more_samples_cover_more():
    a, b = features(100, 3, 1, shift=1), features(130, 3, 2)
    by_neighbours = [density_coverage(a, b, k).coverage for k in (1, 2, 4, 8, 16)]
    by_samples = [density_coverage(a[:count], b).coverage for count in (5, 20, 50, 100)]
    by_shift = [density_coverage(a + shift, b) for shift in (0, 1, 2, 10)]
    assert by_neighbours == sorted(set(by_neighbours)) and by_samples == sorted(set(by_samples))
    assert list(map(list, zip(*by_shift))) == [sorted(set(values), reverse=True) for values in zip(*by_shift)]


def test_stray_samples_cover_nothing_although_recall_says_they_do():
    real, stray = features(300, 4, 1), 20 * features(300, 4, 2)
    assert precision_recall(stray, real).recall > 0.95
    result = density_coverage(stray, real)
    assert result.coverage < 0.05 and result.density < 0.05


def test_an_outlier_among_the_reals_lends_precision_but_little_density():
    real = torch.cat([features(300, 4, 1), torch.full((1, 4), 20.0)])
    stray = features(300, 4, 2, shift=12)
    assert precision_recall(stray, real).precision > 0.95
    assert density_coverage(stray, real).density < 0.25


def test_tells_a_dropped_mode_from_bad_samples():
    left, right = features(200, 2, 1, shift=-10), features(200, 2, 2, shift=10)
    real = torch.cat([left, right])
    one_mode = density_coverage(features(400, 2, 3, shift=-10), real)
    assert one_mode.density > 0.9 and 0.4 < one_mode.coverage < 0.55
    half_bad = density_coverage(torch.cat([left + 0.01, right - 0.01, features(400, 2, 4, shift=60)]), real)
    assert half_bad.density < 0.75 and half_bad.coverage > 0.9


@pytest.mark.parametrize(
    "a, b, neighbours, message",
    [
        (features(0, 2, 1), features(9, 2, 1), 3, "generated: 0 rows"),
        (features(9, 2, 1), features(5, 2, 1), 5, "real: 5 rows, but at least 6"),
        (features(9, 2, 1), features(9, 2, 1), 0, "neighbours is 0"),
        (features(9, 2, 1), features(9, 3, 1), 3, "dimensions 2 and 3 differ"),
        (features(9, 2, 1), features(9, 2, 1) * math.nan, 3, "real: holds NaN"),
    ],
)
def test_bad_input_is_named(a, b, neighbours, message):
    with pytest.raises(InputError, match=message):
        density_coverage(a, b, neighbours)
