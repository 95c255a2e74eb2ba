"""Weights in eight bits: a row of a matrix, or a filter, becomes whole numbers from -127 to 127 and one step between them.

This halves a file of half-precision weights. A weight moves by at most half a step, 1/254 of the largest of its row.
"""

import torch
from torch import Tensor

WHOLE, STEP = ".8bit", ".step"  # what the keys of a weight's two tensors add to its own


def shrink(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what takes a quarter of the place: whole numbers and steps for all that has rows, half precision for the rest.

    Parameters
    ----------
    tensors : dict of str to Tensor
        Weights. Those that are whole numbers already stay as they are.
    """
    small = {}
    for key, weight in tensors.items():
        if weight.is_floating_point() and weight.ndim > 1:
            step = weight.float().abs().flatten(1).amax(1) / 127  # (rows,)
            whole = weight.float().flatten(1) / step.clamp(min=torch.finfo(step.dtype).tiny)[:, None]
            small[key + WHOLE], small[key + STEP] = whole.round().to(torch.int8).view(weight.shape), step
        else:
            small[key] = weight.half() if weight.is_floating_point() else weight
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
