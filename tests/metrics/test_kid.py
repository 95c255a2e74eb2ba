"""The kernel distance against torch-fidelity, and its estimator's freedom from bias, exactly."""

import inspect
import itertools

import pytest
import torch
from torch_fidelity.defaults import DEFAULTS
from torch_fidelity.metric_kid import kid_features_to_metric

from gencore.errors import InputError
from gencore.metrics import cubic_kernel, kernel_distance, mmd2


def features(count, dimension, seed, shift=0.0):
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(count, dimension, generator=draw, dtype=torch.float64).relu() + shift


@pytest.mark.parametrize("seed, subsets, size", [(2020, 20, 50), (7, 5, 120)])
def test_equals_torch_fidelity(seed, subsets, size):
    a, b = features(300, 16, 1), features(120, 16, 2, shift=0.2)
    theirs = kid_features_to_metric(
        a, b, kid_subsets=subsets, kid_subset_size=size, rng_seed=seed, verbose=False
    )
    ours = kernel_distance(a, b, subsets, size, seed)
    assert ours.mean == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-9)
    assert ours.sd == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-9)


def test_defaults_are_those_of_torch_fidelity():
    ours = {name: parameter.default for name, parameter in inspect.signature(kernel_distance).parameters.items()}
    theirs = {"subsets": "kid_subsets", "subset_size": "kid_subset_size", "seed": "rng_seed"}
    assert {name: ours[name] for name in theirs} == {name: DEFAULTS[key] for name, key in theirs.items()}


def test_kernel():
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0], [0.0, 0.0]])
    torch.testing.assert_close(cubic_kernel(a, b), torch.tensor([[1.5**3, 1.0]]))


def test_estimate_has_no_bias():
    # Two distributions on three points each. Averaged over all samples of two and three draws, weighted by their
    # probability, an unbiased estimate is the true MMD² = p'Kp + q'Kq - 2 p'Kq.
    points = features(6, 2, 3)
    p, q = torch.tensor([[0.5, 0.3, 0.2], [0.1, 0.3, 0.6]], dtype=torch.float64)
    left, right = points[:3], points[3:]
    true = p @ cubic_kernel(left, left) @ p + q @ cubic_kernel(right, right) @ q - 2 * p @ cubic_kernel(left, right) @ q
    average = 0.0
    for i in itertools.product(range(3), repeat=2):
        for j in itertools.product(range(3), repeat=3):
            weight = p[list(i)].prod() * q[list(j)].prod()
            average += weight * mmd2(left[list(i)], right[list(j)])
    assert float(average) == pytest.approx(float(true), rel=1e-12)


def test_grows_with_the_difference_and_is_reproducible():
    real = features(400, 8, 1)
    values = [kernel_distance(features(400, 8, 2, shift), real, 10, 200).mean for shift in (0.0, 0.2, 0.5)]
    assert values[0] < values[1] < values[2]
    assert kernel_distance(real, real + 1, 5, 100, seed=3) == kernel_distance(real, real + 1, 5, 100, seed=3)
    assert kernel_distance(real, real + 1, 5, 100, seed=3) != kernel_distance(real, real + 1, 5, 100, seed=4)


@pytest.mark.parametrize(
    "a, b, options, message",
    [
        (features(9, 3, 1), features(20, 3, 1), {"subset_size": 10}, "subset_size 10 exceeds the 9 and 20 rows"),
        (features(9, 3, 1), features(9, 3, 1), {"subset_size": 1}, "must be at least 1 and 2"),
        (features(9, 3, 1), features(9, 3, 1), {"subsets": 0}, "must be at least 1 and 2"),
        (features(9, 3, 1), features(9, 4, 1), {"subset_size": 5}, "dimensions 3 and 4 differ"),
        (features(0, 3, 1), features(9, 3, 1), {"subset_size": 5}, "features_a: 0 rows"),
    ],
)
def test_bad_input_is_named(a, b, options, message):
    with pytest.raises(InputError, match=message):
        kernel_distance(a, b, **options)


def test_a_single_row_has_no_mmd():
    with pytest.raises(InputError, match="b: 1 rows, but at least 2"):
        mmd2(features(5, 3, 1), features(1, 3, 1))
