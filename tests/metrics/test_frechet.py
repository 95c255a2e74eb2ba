"""The Fréchet distance against closed forms, against torch-fidelity, and its invariances."""

import math

import pytest
import torch
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric

from gencore.errors import InputError
from gencore.metrics import frechet_distance, frechet_distance_of, gaussian


def relu_features(count, dimension, seed):
    """Correlated, non-negative, with a scale that differs between features, like those of a network."""
    draw = torch.Generator().manual_seed(seed)
    mixing = torch.randn(dimension, dimension, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    rows = torch.randn(count, dimension, generator=draw, dtype=torch.float64) @ mixing
    return rows.relu() * torch.linspace(0.01, 1, dimension, dtype=torch.float64) + 0.1 * seed


@pytest.mark.parametrize("count, dimension", [(500, 8), (1000, 64), (700, 256)])
def test_equals_torch_fidelity(count, dimension):
    a, b = relu_features(count, dimension, 1), relu_features(count + 100, dimension, 2)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(a), fid_features_to_statistics(b), verbose=False)
    assert frechet_distance_of(a, b) == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)


def test_gaussian_is_mean_and_unbiased_covariance():
    features = torch.tensor([[0.0, 1.0], [2.0, 1.0], [4.0, 7.0]])
    mean, covariance = gaussian(features)
    assert mean.dtype == covariance.dtype == torch.float64
    torch.testing.assert_close(mean, torch.tensor([2.0, 3.0], dtype=torch.float64))
    torch.testing.assert_close(covariance, torch.tensor([[4.0, 6.0], [6.0, 12.0]], dtype=torch.float64))


def test_commuting_gaussians():
    # Diagonal covariances: sum of (m1 - m2)² + (s1 - s2)² over axes.
    mean1, mean2 = torch.tensor([0.0, 1.0, -2.0]), torch.tensor([3.0, 1.0, 0.0])
    sd1, sd2 = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([4.0, 0.0, 0.5])
    distance = frechet_distance(mean1, sd1.square().diag(), mean2, sd2.square().diag())
    assert distance == pytest.approx(9 + 4 + 9 + 4, rel=1e-12)


def test_gaussians_that_do_not_commute():
    """(DC.4) where the order of the matrices matters."""
    # In two dimensions tr (C1 C2)^½ = sqrt(tr(C1 C2) + 2 sqrt(det C1 det C2)).
    c1 = torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64)
    c2 = torch.tensor([[1.0, -0.5], [-0.5, 3.0]], dtype=torch.float64)
    assert not torch.allclose(c1 @ c2, c2 @ c1)
    zero = torch.zeros(2)
    root_trace = math.sqrt((c1 @ c2).trace() + 2 * math.sqrt(c1.det() * c2.det()))
    assert frechet_distance(zero, c1, zero, c2) == pytest.approx(7 - 2 * root_trace, rel=1e-12)


def test_is_symmetric():
    a, b = gaussian(relu_features(300, 16, 1)), gaussian(relu_features(300, 16, 3))
    assert frechet_distance(*a, *b) == pytest.approx(frechet_distance(*b, *a), rel=1e-12)
    assert frechet_distance(*a, *b) > 0.1


@pytest.mark.parametrize("count", [20, 400])  # fewer and more than dimensions
def test_is_zero_on_equal_sets(count):
    features = relu_features(count, 64, 1)
    shuffled = features[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    assert frechet_distance_of(features, shuffled) < 1e-12 * gaussian(features)[1].trace()


def test_does_not_change_under_rotation_and_shift():
    a, b = relu_features(300, 24, 1), relu_features(300, 24, 3)
    draw = torch.Generator().manual_seed(5)
    rotation = torch.linalg.qr(torch.randn(24, 24, generator=draw, dtype=torch.float64)).Q
    moved = frechet_distance_of(a @ rotation + 7, b @ rotation + 7)
    assert moved == pytest.approx(frechet_distance_of(a, b), rel=1e-10)


@pytest.mark.parametrize("count_a, count_b", [(30, 40), (30, 400), (400, 30), (300, 400)])
@pytest.mark.parametrize("decades", [0, 4, 6])
def test_is_accurate_for_singular_and_nearly_singular_covariances(count_a, count_b, decades):
    # tr (C1 C2)^½ is the nuclear norm of A B', which squares nothing. Scales of features that span six decades give
    # C1 C2 eigenvalues that span 24, most of them below the rounding error of the largest.
    scales = torch.logspace(0, -decades, 100, dtype=torch.float64)
    rotation = torch.linalg.qr(relu_features(100, 100, 5)).Q
    a, b = ((relu_features(count, 100, seed) * scales) @ rotation for count, seed in ((count_a, 1), (count_b, 3)))
    (mean_a, cov_a), (mean_b, cov_b) = gaussian(a), gaussian(b)
    cross = (a - mean_a) @ (b - mean_b).T / math.sqrt((count_a - 1) * (count_b - 1))
    expected = (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - 2 * torch.linalg.svdvals(cross).sum()
    for distance in (frechet_distance_of(a, b), frechet_distance_of(b, a)):
        assert distance == pytest.approx(expected.item(), abs=1e-11 * (cov_a.trace() + cov_b.trace()).item())


def test_a_gaussian_without_variance():
    point, nothing, eye = torch.zeros(3), torch.zeros(3, 3), torch.eye(3)
    assert frechet_distance(point, nothing, point, eye) == frechet_distance(point, eye, point, nothing) == 3
    assert frechet_distance(point, nothing, point + 2, nothing) == 12


def test_computes_in_float64_whatever_it_is_given():
    features = relu_features(300, 8, 1)
    near = features + 1e-3
    both = [(rows + 1000).float() for rows in (features, near)]  # in float32, sums of squares would drown the difference
    assert frechet_distance_of(*both) == pytest.approx(8e-6, rel=0.1)


@pytest.mark.parametrize(
    "a, b, message",
    [
        (torch.zeros(1, 3), torch.zeros(5, 3), "features_a: 1 rows, but at least 2"),
        (torch.zeros(5, 3), torch.zeros(0, 3), "features_b: 0 rows"),
        (torch.zeros(5, 3), torch.zeros(5, 4), "dimensions 3 and 4 differ"),
        (torch.zeros(5, 3), torch.full((5, 3), torch.nan), "features_b: holds NaN"),
        (torch.zeros(5), torch.zeros(5, 3), r"features_a: expected a floating-point tensor \(N, D\)"),
        (torch.zeros(5, 3, dtype=torch.uint8), torch.zeros(5, 3), "torch.uint8"),
    ],
)
def test_bad_input_is_named(a, b, message):
    with pytest.raises(InputError, match=message):
        frechet_distance_of(a, b)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(InputError, match="do not fit"):
        frechet_distance(torch.zeros(3), torch.eye(3), torch.zeros(3), torch.eye(2))
    with pytest.raises(InputError, match="NaN"):
        frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.eye(2) * torch.inf)
