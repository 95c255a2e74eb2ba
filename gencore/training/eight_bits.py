"""Weights in eight bits: a row of a matrix, or a filter, becomes whole numbers from -127 to 127 and one step between them.

A file takes a quarter of the place of single precision. A weight moves by at most half a step, 1/254 of the largest of its
row. What has no rows, such as a bias, is kept in half precision, and moves by at most 1/2,048 of itself (near 0 by 3e-8).
"""

import torch
from torch import Tensor

from gencore.errors import InputError

WHOLE, STEP = ".8bit", ".step"  # what the keys of a weight's two tensors add to its own


def shrink(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what takes less place: whole numbers and steps for all that has rows, half precision for the rest.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Weights. Those that are whole numbers already stay as they are.

    Raises
    ------
    InputError
        If half precision cannot hold a value; the message names its key.
    """
    small = {}
    for key, weight in tensors.items():
        if weight.is_floating_point() and weight.ndim > 1:
            step = weight.float().abs().flatten(1).amax(1) / 127  # (rows,)
            # A row of zeros has a step of 0, and 0 / 0 is no number.
            whole = weight.float().flatten(1) / step.clamp(min=torch.finfo(step.dtype).tiny)[:, None]
            small[key + WHOLE], small[key + STEP] = whole.round().to(torch.int8).view(weight.shape), step
        else:
            small[key] = weight.half() if weight.is_floating_point() else weight
            if not small[key].isfinite().all():
                raise InputError(f"{key!r}: half precision holds no more than 65,504, and nothing that is not finite")
    return small


def grow(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights under their own keys again: what `shrink` made them, to its rounding, and all others unchanged."""
    weights = {}
    for key, value in tensors.items():
        name = key.removesuffix(WHOLE)
        if name != key and name + STEP in tensors:
            weights[name] = (value.flatten(1) * tensors[name + STEP][:, None]).view(value.shape)
        elif not (key.endswith(STEP) and key.removesuffix(STEP) + WHOLE in tensors):
            weights[key] = value
    return weights
