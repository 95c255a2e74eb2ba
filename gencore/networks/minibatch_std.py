"""Minibatch standard deviation: Karras et al. 2018, "Progressive growing of GANs", https://arxiv.org/abs/1710.10196.

Section 3: the discriminator is shown how much the pictures of a batch differ from each other. A generator whose
pictures are too much alike is found out by that; real and generated pictures are to be shown in batches of their own.

Deviations: groups are those of the paper's code; in its text the batch is one. A batch larger than a group that cannot
be cut into groups is one group (the paper's code cannot take it).
"""

import torch
from torch import Tensor


def minibatch_std(h: Tensor, group: int = 4) -> Tensor:
    """Append one map: the standard deviation over a group of pictures, averaged over channels and places.

    Parameters
    ----------
    h : Tensor
        Features ``(B, C, H, W)``.
    group : int
        Pictures that are compared with each other. As in the paper's code, B pictures are B / group groups, and a
        group is every (B / group)-th picture. If the group does not divide B, or is larger, the batch is one group.

    Returns
    -------
    Tensor
        ``(B, C + 1, H, W)``.
    """
    batch, _, height, width = h.shape
    size = group if batch % group == 0 else batch
    groups = h.to(torch.promote_types(h.dtype, torch.float32)).unflatten(0, (size, -1))  # (size, B / size, C, H, W)
    variance = (groups - groups.mean(0)).square().mean(0)  # (B / size, C, H, W)
    # The root's slope is infinite at 0, where pictures that are all alike would be.
    std = (variance + 1e-8).sqrt().mean((1, 2, 3))  # (B / size,)
    own = std.to(h.dtype).repeat(size)[:, None, None, None]  # (B, 1, 1, 1), each picture that of its group
    return torch.cat([h, own.expand(-1, -1, height, width)], 1)  # (B, C + 1, H, W)
