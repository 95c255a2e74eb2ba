"""What can be had without a network: sources left as they are, mean pictures, and the best linear map of small patches.

A generator that is not clearly nearer to its targets than these has learned nothing that is worth a network. Means and map
are fitted to true pairs, which one trained without pairs never sees: beside a cycle they have an advantage.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad, unfold

from gencore.applications.translation.pairs import Pairs
from gencore.data import to_float

PATCH = 5  # side of the patches that the linear map sees
RIDGE = 1e-3  # share of the mean square that keeps the linear map's equations solvable


def unchanged(pairs: Pairs) -> Tensor | None:
    """Return the sources as they are, float ``(N, C, H, W)`` in [-1, 1]; None if they have not the targets' channels."""
    return to_float(pairs.source) if pairs.source.shape == pairs.target.shape else None


def mean_targets(train: Pairs, heldout: Pairs) -> Tensor:
    """Return for each held-out pair the mean training target of its group (such as a category) that is told the same.

    Where there is none, the mean of all training targets.
    """
    targets = to_float(train.target)
    keys = [tuple(key) for key in torch.cat([train.cond, train.group[:, None]], 1).tolist()]
    number = {key: place for place, key in enumerate(dict.fromkeys(keys))}
    place = torch.tensor([number[key] for key in keys])
    sums = torch.zeros(len(number), *targets.shape[1:]).index_add_(0, place, targets)
    means = sums / place.bincount()[:, None, None, None]
    means = torch.cat([means, targets.mean(0, keepdim=True)])
    asked = torch.cat([heldout.cond, heldout.group[:, None]], 1).tolist()
    return means[torch.tensor([number.get(tuple(key), len(number)) for key in asked])]


def linear_patches(train: Pairs, heldout: Pairs) -> Tensor:
    """Return held-out targets as the best linear map of patches makes them: from 5x5 source pixels to one target pixel.

    There is one map for each way of being told (such as a style to draw in), fitted by least squares to the training pixels.
    """
    made = torch.empty(len(heldout.source), *heldout.target.shape[1:])
    for told in dict.fromkeys(map(tuple, heldout.cond.tolist())):
        ours, theirs = ((pairs.cond == pairs.cond.new_tensor(told)).all(1) for pairs in (train, heldout))
        weights = _fit(to_float(train.source[ours]), to_float(train.target[ours]))  # (P, C)
        made[theirs] = (_patches(to_float(heldout.source[theirs])) @ weights).mT.unflatten(2, made.shape[2:])
    return made.clamp(-1, 1)


def _fit(x: Tensor, y: Tensor) -> Tensor:
    """Return the weights of the map from patches of pictures to pixels of others, ``(P, C)``."""
    square, product = 0.0, 0.0
    for source, target in zip(x.split(128), y.split(128), strict=True):
        rows = _patches(source).flatten(0, 1).double()  # (b * H * W, P)
        square = square + rows.mT @ rows
        product = product + rows.mT @ target.flatten(2).mT.flatten(0, 1).double()
    keep = RIDGE * square.diagonal().mean() * torch.eye(len(square), dtype=torch.float64)
    return torch.linalg.solve(square + keep, product).float()


def _patches(x: Tensor) -> Tensor:
    """Return the patch around each pixel, and a one, ``(B, H * W, C * 25 + 1)``; the border is repeated."""
    x = pad(x, (PATCH // 2,) * 4, mode="replicate")
    return pad(unfold(x, PATCH).mT, (0, 1), value=1.0)
