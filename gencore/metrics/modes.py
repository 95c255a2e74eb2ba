"""How many modes of a known mixture a set of points covers: Srivastava et al. 2017 (VEEGAN), section 4.1.

https://arxiv.org/abs/1705.07761. A point belongs to the nearest mode if it lies within three standard deviations of it; a
mode is covered if enough points belong to it.

Deviation: "enough" is a tenth of the mode's fair share of the points, where the paper asks for one point: one point among
thousands may be a stray.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from gencore.analytic.mixture import GaussianMixture
from gencore.errors import InputError

RADIUS = 3.0  # standard deviations
ENOUGH = 0.1  # of a mode's fair share


class Modes(NamedTuple):
    """What `modes_covered` finds.

    Attributes
    ----------
    covered : int
        How many modes have enough points.
    on_modes : float
        Share of points that belong to any mode.
    counts : Tensor
        How many points belong to each mode, int64 ``(K,)``.
    """

    covered: int
    on_modes: float
    counts: Tensor


def modes_covered(points: Tensor, mixture: GaussianMixture, radius: float = RADIUS, enough: float = ENOUGH) -> Modes:
    """Count the modes that points cover.

    Parameters
    ----------
    points : Tensor
        ``(N, D)``.
    mixture : GaussianMixture
        Its components are the modes.
    radius : float
        How far from a mode's mean its points may lie, in standard deviations (Mahalanobis).
    enough : float
        How many of them cover the mode, as a share of the points that are its due.

    Returns
    -------
    Modes

    Raises
    ------
    InputError
        If the points have another dimension than the mixture, or there are none.
    """
    if points.ndim != 2 or points.shape[1] != mixture.means.shape[1] or not len(points):
        raise InputError(f"points {tuple(points.shape)}: the mixture takes (N, {mixture.means.shape[1]}), N at least 1")
    offset = points.to(mixture.means)[:, None] - mixture.means  # (N, K, D)
    factors = torch.linalg.cholesky(mixture.covariances)  # (K, D, D)
    whitened = torch.linalg.solve_triangular(factors, offset.permute(1, 2, 0), upper=False)  # (K, D, N)
    distance, nearest = whitened.norm(dim=1).min(0)  # (N,)
    belong = distance <= radius
    counts = torch.bincount(nearest[belong], minlength=len(mixture.means))
    covered = counts >= enough * len(points) * mixture.weights
    return Modes(int(covered.sum()), belong.double().mean().item(), counts)
