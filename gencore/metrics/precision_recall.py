"""Improved precision and recall: is each sample plausible, and is each real image reachable?

Kynkäänniemi et al. 2019, "Improved precision and recall metric for assessing generative models",
https://arxiv.org/abs/1904.06991, section 2 and equations 1 and 2. A set of features stands for the region covered by
balls, one around each feature, that reach to its k-th nearest neighbour in the set. Precision is the share of samples
that lie in the region of the real images; recall is the share of real images that lie in the region of the samples.

Both grow with the number of images and one outlier among the reals can widen the region, so they are read beside the
values of real images against real images, from sets of the same size. And samples that stray have wide balls, which
cover real images without being like them: a high recall beside a low precision says little. `density_coverage` has no
balls around samples.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.arrays import feature_pair, squared_distances, squared_radii


class PrecisionRecall(NamedTuple):
    """Two shares in [0, 1]."""

    precision: float
    recall: float


def precision_recall(
    generated: Tensor, real: Tensor, neighbours: int = 3, chunk: int = 2048
) -> PrecisionRecall:
    """Return improved precision and recall.

    Parameters
    ----------
    generated, real : Tensor
        Features, floating point, ``(N, D)`` and ``(M, D)``, N and M greater than ``neighbours``.
    neighbours : int
        k: balls reach to the k-th nearest neighbour.
    chunk : int
        Rows of the distance matrix held in memory at once; changes no result.

    Raises
    ------
    InputError
        If the features are not finite matrices of equal dimension with more than ``neighbours`` rows each.
    """
    if neighbours < 1:
        raise InputError(f"neighbours is {neighbours}; it must be at least 1")
    generated, real = feature_pair(generated, real, ("generated", "real"), least=neighbours + 1)
    precision = _share_covered(generated, real, neighbours, chunk)
    recall = _share_covered(real, generated, neighbours, chunk)
    return PrecisionRecall(precision, recall)


def _share_covered(points: Tensor, centres: Tensor, neighbours: int, chunk: int) -> float:
    """Return the share of points that lie in at least one centre's ball."""
    radii = squared_radii(centres, neighbours, chunk)  # (M,)
    covered = [(squared_distances(rows, centres) <= radii).any(1) for rows in points.split(chunk)]
    return torch.cat(covered).double().mean().item()
