"""What tests of the training loops share: what was trained, and whether two trainings are the same."""

import torch

from gencore.training import checkpoint


def weights(state):
    """All weights of a run, averages included, by name."""
    return checkpoint.flatten({**state.networks._asdict(), "ema": state.averaged.model})


def assert_same(a, b, **tolerance):
    """Weights are the same bit by bit, or within a tolerance."""
    assert a.keys() == b.keys()
    for key in a:
        if tolerance:
            torch.testing.assert_close(a[key], b[key], msg=lambda message, key=key: f"{key}: {message}", **tolerance)
        else:
            assert torch.equal(a[key], b[key]), key


def gradients_of(train):
    """Call ``train()``, and return every step's gradients as they were before clipping, and what it returned."""
    clip, steps = torch.nn.utils.clip_grad_norm_, []

    def spy(parameters, norm):
        parameters = list(parameters)
        steps.append([p.grad.clone() for p in parameters])
        return clip(parameters, norm)

    torch.nn.utils.clip_grad_norm_ = spy
    try:
        return steps, train()
    finally:
        torch.nn.utils.clip_grad_norm_ = clip
