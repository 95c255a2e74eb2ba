"""What the metrics ask of the arrays they are given."""

import torch
from torch import Tensor

from gencore.errors import InputError


def feature_rows(features: Tensor, name: str, least: int = 1) -> Tensor:
    """Return features as float64 on the CPU, or say what is wrong with them.

    Float64 because distances between nearby distributions are small differences of large sums.

    Parameters
    ----------
    features : Tensor
        Floating point, ``(N, D)``.
    name : str
        What to call them in a message.
    least : int
        The smallest N that makes sense.

    Raises
    ------
    InputError
        If they are not a matrix, have fewer than ``least`` rows, or hold NaN or infinity.
    """
    if features.ndim != 2 or not features.is_floating_point():
        raise InputError(f"{name}: expected a floating-point tensor (N, D), got {features.dtype} {tuple(features.shape)}")
    if len(features) < least:
        raise InputError(f"{name}: {len(features)} rows, but at least {least} are needed; give more samples")
    if not features.isfinite().all():
        raise InputError(f"{name}: holds NaN or infinity; check the images or the network they come from")
    return features.detach().to("cpu", torch.float64)


def feature_pair(a: Tensor, b: Tensor, names: tuple[str, str], least: int = 1) -> tuple[Tensor, Tensor]:
    """Check two sets of features as `feature_rows` does, and that they have the same dimension."""
    a, b = feature_rows(a, names[0], least), feature_rows(b, names[1], least)
    if a.shape[1] != b.shape[1]:
        raise InputError(f"{names[0]} and {names[1]}: dimensions {a.shape[1]} and {b.shape[1]} differ; use one feature network")
    return a, b


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return all squared Euclidean distances between rows, ``(N, D), (M, D) -> (N, M)``.

    By |a - b|² = |a|² + |b|² - 2 a·b, one matrix product. In float64 the cancellation this risks stays below what
    matters here; identical rows may still come out as a tiny number instead of 0.
    """
    return torch.addmm(a.square().sum(1)[:, None] + b.square().sum(1), a, b.T, alpha=-2).clamp_(min=0)


def squared_radii(centres: Tensor, neighbours: int, chunk: int) -> Tensor:
    """Return the squared distance of each row to its k-th nearest other row, ``(N, D) -> (N,)``, in chunks of rows."""
    # The nearest of all is the row itself, hence the neighbour after the k-th.
    pieces = [squared_distances(rows, centres).kthvalue(neighbours + 1).values for rows in centres.split(chunk)]
    return torch.cat(pieces)
