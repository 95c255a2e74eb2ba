"""Kernel distance: the unbiased squared maximum mean discrepancy (MMD²) with a cubic kernel.

Bińkowski et al. 2018, "Demystifying MMD GANs", https://arxiv.org/abs/1801.01401, section 4: kernel
k(x, y) = (x·y / D + 1)³, estimated without bias (Gretton et al. 2012, "A kernel two-sample test", equation 3) on
random subsets, mean and spread reported. Unlike the Fréchet distance its expected value does not depend on the number
of samples, and it needs no covariance: sets smaller than the feature dimension are no obstacle.

It is the *Kernel Inception Distance* only on Inception features. Values slightly below 0 are right: an unbiased
estimate of 0 is negative half of the time.

Subsets are drawn as torch-fidelity 0.4 draws them, so that equal seeds give equal numbers; only here they are
computed in float64.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.arrays import feature_pair


class KernelDistance(NamedTuple):
    """Mean and standard deviation of MMD² over subsets. The deviation is that of one subset, not of the mean."""

    mean: float
    sd: float


def cubic_kernel(a: Tensor, b: Tensor) -> Tensor:
    """Return (a·b / D + 1)³ for all pairs of rows, ``(N, D), (M, D) -> (N, M)``."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def mmd2(a: Tensor, b: Tensor) -> float:
    """Return the unbiased estimate of MMD² with the cubic kernel.

    Parameters
    ----------
    a, b : Tensor
        Features, ``(N, D)`` and ``(M, D)``, N and M at least 2.

    Raises
    ------
    InputError
        If they are not finite matrices of equal dimension with at least two rows each.
    """
    a, b = feature_pair(a, b, ("a", "b"), least=2)
    within = sum(_mean_off_diagonal(cubic_kernel(rows, rows)) for rows in (a, b))
    return (within - 2 * cubic_kernel(a, b).mean()).item()


def _mean_off_diagonal(kernel: Tensor) -> Tensor:
    """Average over pairs of different rows: a row's likeness to itself is what would make the estimate biased."""
    count = len(kernel)
    return (kernel.sum() - kernel.trace()) / (count * (count - 1))


def kernel_distance(
    features_a: Tensor, features_b: Tensor, subsets: int = 100, subset_size: int = 1000, seed: int = 2020
) -> KernelDistance:
    """Return the kernel distance between two sets of features.

    Parameters
    ----------
    features_a, features_b : Tensor
        Floating point, ``(N, D)`` and ``(M, D)``, both N and M at least ``subset_size``.
    subsets : int
        How many pairs of random subsets, drawn without replacement.
    subset_size : int
        Rows in each, at least 2.
    seed : int
        Decides the subsets.

    Returns
    -------
    KernelDistance
        Mean and standard deviation over the subsets.

    Raises
    ------
    InputError
        If the features are not finite matrices of equal dimension, or there are fewer rows than ``subset_size``.
    """
    if subsets < 1 or subset_size < 2:
        raise InputError(f"subsets is {subsets} and subset_size {subset_size}; they must be at least 1 and 2")
    a, b = feature_pair(features_a, features_b, ("features_a", "features_b"))
    if subset_size > min(len(a), len(b)):
        raise InputError(f"subset_size {subset_size} exceeds the {len(a)} and {len(b)} rows given; lower it or give more")
    random = np.random.RandomState(seed)

    def subset(rows: Tensor) -> Tensor:
        return rows[torch.from_numpy(random.choice(len(rows), subset_size, replace=False))]

    values = [mmd2(subset(a), subset(b)) for _ in range(subsets)]
    return KernelDistance(float(np.mean(values)), float(np.std(values)))
