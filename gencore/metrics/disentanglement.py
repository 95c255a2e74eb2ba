"""Disentanglement: does each known factor of the pictures live in one coordinate of the code?

Mutual information gap: Chen et al. 2018, "Isolating sources of disentanglement in variational autoencoders",
https://arxiv.org/abs/1802.04942, section 4.1. For each factor, take the two coordinates of the code that tell most
about it; the gap between what they tell, in units of the factor's entropy, is 1 if one coordinate tells all and no
other tells anything, and 0 if two tell equally much.

Deviation: the paper computes the densities of its codes; here codes are put into bins that hold equally many of them,
so that no coordinate's unit matters. Give it draws from the encoder's Gaussians rather than their means: a coordinate
that carries nothing still has a mean, which may follow a factor by amounts far below the noise. Equation numbers (LS.n)
are those of the chapter "The latent space".
"""

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.arrays import feature_rows


def mutual_information(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """Return the mutual information of each coordinate of the code and each factor.

    Parameters
    ----------
    codes : Tensor
        Floating point, ``(N, L)``: N codes, at least ``bins``.
    factors : Tensor
        int64 ``(N, K)``: the values of K factors, counted from 0.
    bins : int
        Into how many bins of equally many codes each coordinate is cut, at least 2.

    Returns
    -------
    Tensor
        float64 ``(L, K)``, in nats; estimated from counts, and so too high by about
        ``(bins - 1) * (values - 1) / (2 * N)``.

    Raises
    ------
    InputError
        If the shapes or types differ from these.
    """
    if bins < 2:
        raise InputError(f"bins is {bins}; give at least 2")
    codes = feature_rows(codes, "codes", least=bins)
    factors = _check_factors(factors, len(codes))
    binned = codes.argsort(dim=0, stable=True).argsort(dim=0) * bins // len(codes)  # (N, L), ranks cut into bins
    return torch.stack([_information(binned, values, bins) for values in factors.T], 1)


def mutual_information_gap(codes: Tensor, factors: Tensor, bins: int = 20) -> Tensor:
    """Return the mutual information gap of each factor; their mean is the score of the paper.

    Parameters
    ----------
    codes, factors, bins
        As in `mutual_information`; at least two coordinates, and no factor with a single value.

    Returns
    -------
    Tensor
        float64 ``(K,)``, from 0 to 1.

    Raises
    ------
    InputError
        If there is one coordinate only, a factor never changes, or as in `mutual_information`.
    """
    information = mutual_information(codes, factors, bins)
    if len(information) < 2:
        raise InputError("codes: a gap needs at least two coordinates")
    entropies = torch.stack([-_negative_entropy(_shares(values)) for values in factors.cpu().T])  # (K,)
    if not (entropies > 0).all():
        raise InputError(f"factors: number {int(entropies.argmin())} has one value only; leave it out")
    first, second = information.topk(2, dim=0).values  # (K,) each
    return (first - second) / entropies  # (LS.10)


def _information(binned: Tensor, values: Tensor, bins: int) -> Tensor:
    """Mutual information of each column of ``binned`` and one factor, in nats, ``(L,)``."""
    kinds = int(values.max()) + 1
    cells = [torch.bincount(column * kinds + values, minlength=bins * kinds) for column in binned.T]
    joint = torch.stack(cells).view(-1, bins, kinds).double() / len(values)  # (L, bins, kinds)
    parts = (joint, joint.sum(2), joint.sum(1))
    both, code, factor = (_negative_entropy(part.flatten(1)) for part in parts)
    return (both - code - factor).clamp(min=0)


def _negative_entropy(shares: Tensor) -> Tensor:
    return torch.special.xlogy(shares, shares).sum(-1)


def _shares(values: Tensor) -> Tensor:
    return values.bincount().double() / len(values)


def _check_factors(factors: Tensor, count: int) -> Tensor:
    if factors.ndim != 2 or factors.dtype != torch.int64 or len(factors) != count:
        raise InputError(f"factors: expected int64 ({count}, K), got {factors.dtype} {tuple(factors.shape)}")
    if factors.numel() and factors.min() < 0:
        raise InputError("factors: values count from 0; one is negative")
    return factors.cpu()
