"""Density and coverage: plausibility and variety, measured by the balls around real images only.

Naeem et al. 2020, "Reliable fidelity and diversity metrics for generative models", https://arxiv.org/abs/2002.09797,
section 3. Like precision and recall they count points in balls that reach to the k-th nearest neighbour, but no ball is
drawn around a generated sample: samples that stray have wide ones. Density counts in how many real balls a sample lies,
so that a single outlier among the reals lends little; coverage is the share of real images that have a sample in their
own ball.

If both sets come from one continuous distribution, density is 1 in expectation, and coverage of N reals by M samples is
1 - (N-1)...(N-k) / (M+N-1)...(M+N-k), whatever the distribution and its dimension (the paper's lemma 2): 0.97 for k = 5
and large M = N. Coverage grows with the number of samples, so sets of equal size are compared, beside real images in the
place of samples.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.arrays import feature_pair, feature_rows, squared_distances, squared_radii


class DensityCoverage(NamedTuple):
    """Density, at least 0 and about 1 for perfect samples (more is possible), and coverage, a share in [0, 1]."""

    density: float
    coverage: float


def density_coverage(generated: Tensor, real: Tensor, neighbours: int = 5, chunk: int = 2048) -> DensityCoverage:
    """Return density and coverage.

    Parameters
    ----------
    generated, real : Tensor
        Features, floating point, ``(M, D)`` and ``(N, D)``, M at least 1 and N greater than ``neighbours``.
    neighbours : int
        k: balls reach to the k-th nearest neighbour. The default is the paper's choice; precision and recall use 3.
    chunk : int
        Rows of the distance matrix held in memory at once; changes no result.

    Raises
    ------
    InputError
        If the features are not finite matrices of equal dimension, or there are too few rows.
    """
    if neighbours < 1:
        raise InputError(f"neighbours is {neighbours}; it must be at least 1")
    generated, real = feature_pair(generated, real, ("generated", "real"))
    radii = squared_radii(feature_rows(real, "real", least=neighbours + 1), neighbours, chunk)  # (N,)
    visits = torch.zeros(len(real), dtype=torch.int64)  # how many samples each real ball holds
    for rows in generated.split(chunk):
        visits += (squared_distances(rows, real) <= radii).sum(0)
    density = visits.sum().item() / (neighbours * len(generated))
    return DensityCoverage(density, (visits > 0).double().mean().item())
