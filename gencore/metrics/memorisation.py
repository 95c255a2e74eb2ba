"""Does a model repeat its training images? The nearest training image of each sample answers."""

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.metrics.arrays import squared_distances
from gencore.metrics.features import Features, check_images


def nearest_neighbours(
    samples: Tensor, train_images: Tensor, features: Features | None = None, chunk: int = 1024
) -> tuple[Tensor, Tensor]:
    """Find the training image nearest to each sample.

    Distances are read beside those from held-out images to the same training images: samples that lie much closer than
    new real images do are copies. Pixel distance finds plain copies; feature distance also shifted or recoloured ones.

    Parameters
    ----------
    samples : Tensor
        uint8 ``(N, C, H, W)``.
    train_images : Tensor
        uint8 ``(M, C, H, W)``.
    features : Features, optional
        Where to measure; None measures between pixels.
    chunk : int
        Samples compared at once; changes no result.

    Returns
    -------
    distances : Tensor
        float32 ``(N,)``: Euclidean distance, between images scaled to [-1, 1] or between features. Exactly 0 for an
        exact copy.
    indices : Tensor
        int64 ``(N,)`` into ``train_images``.

    Raises
    ------
    InputError
        If images are not uint8, there are none, or their shapes differ.
    """
    check_images(samples, "samples")
    check_images(train_images, "train_images")
    if samples.shape[1:] != train_images.shape[1:]:
        shapes = f"{tuple(samples.shape[1:])} and {tuple(train_images.shape[1:])}"
        raise InputError(f"samples and train_images: shapes {shapes} differ; bring them to one size and colour")
    if features is None:
        # Sums of products of bytes are whole numbers far below 2^53, so float64 makes pixel distances exact.
        ours, theirs, unit = samples.flatten(1).double(), train_images.flatten(1).double(), 127.5
    else:
        ours, theirs, unit = features(samples).double(), features(train_images).double(), 1.0
    found = torch.cat([squared_distances(rows, theirs).argmin(1) for rows in ours.split(chunk)])  # (N,)
    pieces = zip(ours.split(chunk), found.split(chunk), strict=True)
    distances = torch.cat([(rows - theirs[index]).norm(dim=1) for rows, index in pieces])
    return (distances / unit).float(), found
