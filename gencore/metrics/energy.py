"""Energy distance: a two-sample distance for points in few dimensions that needs no features, kernel or fit.

Székely & Rizzo 2013, "Energy statistics: a class of statistics based on distances", Journal of Statistical Planning
and Inference 143(8), definition 1:

    E(X, Y) = 2 E|X - Y| - E|X - X'| - E|Y - Y'|

with Euclidean norms and independent copies X', Y'. It is 0 exactly when the two distributions are equal. Estimated here
by a U-statistic: no point is compared with itself, so the expected value does not depend on the number of points, and an
estimate of 0 is as often slightly negative as positive. (Some authors, and ``scipy.stats.energy_distance``, report the
square root of the V-statistic, which counts those zero distances.)
"""

import torch
from torch import Tensor

from gencore.metrics.arrays import feature_pair


def energy_distance(a: Tensor, b: Tensor, chunk: int = 1024) -> float:
    """Return the unbiased estimate of the energy distance between two samples.

    Parameters
    ----------
    a, b : Tensor
        Points, floating point, ``(N, D)`` and ``(M, D)``, N and M at least 2.
    chunk : int
        Rows of the distance matrix held in memory at once; changes no result but for rounding.

    Returns
    -------
    float
        In the units of the points; 0 in expectation for equal distributions, possibly slightly negative.

    Raises
    ------
    InputError
        If they are not finite matrices of equal dimension with at least two rows each.
    """
    a, b = feature_pair(a, b, ("a", "b"), least=2)
    across = _sum_of_distances(a, b, chunk) / (len(a) * len(b))
    within = sum(_sum_of_distances(rows, rows, chunk) / (len(rows) * (len(rows) - 1)) for rows in (a, b))
    return 2 * across - within  # (GM.1)


def _sum_of_distances(a: Tensor, b: Tensor, chunk: int) -> float:
    # Differences, not the matrix-product formula: near points must not lose their distance to cancellation.
    mode = "donot_use_mm_for_euclid_dist"
    return sum(torch.cdist(rows, b, compute_mode=mode).sum().item() for rows in a.split(chunk))
