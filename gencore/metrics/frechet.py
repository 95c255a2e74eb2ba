"""The Fréchet distance between two Gaussians, which are fitted to features of two sets of images.

Heusel et al. 2017, "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
https://arxiv.org/abs/1706.08500, equation 6; the closed form is Dowson & Landau 1982, "The Fréchet distance between
multivariate normal distributions". Also called the squared 2-Wasserstein distance of Gaussians:

    d² = |m1 - m2|² + tr(C1 + C2 - 2 (C1 C2)^½)

The result may be called FID only if the features are those of the Inception network that the paper used. It depends on
the number of samples (fewer samples, larger distance), so only sets of equal size may be compared.

Deviation: the usual code takes the square root of the non-symmetric product C1 C2, and then drops imaginary parts that
rounding left. Here nothing can become imaginary. With any F for which C1 = F F', the product C1 C2 has the eigenvalues
of the symmetric matrix F' C2 F, apart from zeros, and the trace of (C1 C2)^½ is the sum of their roots. F comes from
one eigendecomposition of C1, with the directions left out in which it has no variance. `_trace_of_root` says how that
stays accurate to rounding although a root makes 1e-8 of 1e-16, for singular covariances and for nearly singular ones.
"""

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.arrays import feature_pair, feature_rows


def gaussian(features: Tensor) -> tuple[Tensor, Tensor]:
    """Fit a Gaussian to features.

    Parameters
    ----------
    features : Tensor
        Floating point, ``(N, D)``, N at least 2.

    Returns
    -------
    mean : Tensor
        float64 ``(D,)``.
    covariance : Tensor
        float64 ``(D, D)``, with the unbiased divisor N - 1. It is singular when N <= D.

    Raises
    ------
    InputError
        If the features are not a finite matrix or have fewer than two rows.
    """
    features = feature_rows(features, "features", least=2)
    mean = features.mean(0)  # (D,)
    centred = features - mean  # (N, D)
    return mean, centred.T @ centred / (len(features) - 1)  # (D,), (D, D)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    """Return the (squared) Fréchet distance between two Gaussians.

    Parameters
    ----------
    mean1, mean2 : Tensor
        ``(D,)``.
    cov1, cov2 : Tensor
        ``(D, D)``, symmetric, no negative eigenvalues; they may be singular.

    Returns
    -------
    float
        At least 0; in squared units of the features. Symmetric in the two Gaussians.

    Raises
    ------
    InputError
        If shapes do not fit or a number is not finite.
    """
    mean1, mean2, cov1, cov2 = (part.detach().to("cpu", torch.float64) for part in (mean1, mean2, cov1, cov2))
    size = mean1.numel()
    if mean1.shape != (size,) or mean2.shape != (size,) or cov1.shape != (size, size) or cov2.shape != (size, size):
        shapes = ", ".join(str(tuple(part.shape)) for part in (mean1, cov1, mean2, cov2))
        raise InputError(f"means and covariances: shapes {shapes} do not fit; expected (D,), (D, D), (D,), (D, D)")
    if not all(part.isfinite().all() for part in (mean1, mean2, cov1, cov2)):
        raise InputError("means and covariances: hold NaN or infinity; check the features")
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * _trace_of_root(cov1, cov2)
    return max(0.0, distance.item())  # of equal Gaussians rounding can leave about -1e-14


def _trace_of_root(cov1: Tensor, cov2: Tensor) -> Tensor:
    """Return tr (C1 C2)^½ for symmetric matrices without negative eigenvalues."""
    rounding = len(cov1) * torch.finfo(cov1.dtype).eps  # relative to the largest
    values, vectors = torch.linalg.eigh(cov1)  # values grow
    kept = values > values[-1:] * rounding
    values, factor = values[kept], vectors[:, kept] * values[kept].sqrt()  # (R,), (D, R): C1 = factor factor'
    # Small entries come first in the product, and LAPACK's reduction of the upper triangle, which starts at the last
    # row, keeps eigenvalues accurate in proportion to them: no small root is lost beside large ones.
    squares = torch.linalg.eigvalsh(factor.T @ cov2 @ factor, UPLO="U")  # (R,)
    # Each lies between the extreme eigenvalues of C2, times that of C1 (Ostrowski's theorem), so a ratio as small as
    # this is a zero of C2 with a rounding error of either sign.
    return squares.where(squares > values * rounding * cov2.norm(), 0).sqrt().sum()


def frechet_distance_of(features_a: Tensor, features_b: Tensor) -> float:
    """Return the Fréchet distance between Gaussians fitted to two sets of features, ``(N, D)`` and ``(M, D)``.

    Raises
    ------
    InputError
        As `gaussian`, and if the dimensions differ.
    """
    features_a, features_b = feature_pair(features_a, features_b, ("features_a", "features_b"), least=2)
    return frechet_distance(*gaussian(features_a), *gaussian(features_b))
