"""What the tests of diffusion share: each process, times, and denoisers that are exact."""

import math

import pytest
import torch

from gencore.diffusion import EDM, Cosine, Flow, Linear
from gencore.diffusion.process import beside

PROCESSES = {"linear": Linear(), "cosine": Cosine(), "flow": Flow(), "edm": EDM()}
each_process = pytest.mark.parametrize("process", PROCESSES.values(), ids=PROCESSES)
each_preserving = pytest.mark.parametrize("process", [Linear(), Cosine()], ids=["linear", "cosine"])
each_prediction = pytest.mark.parametrize("prediction", ["x", "eps", "v", "velocity", "edm"])
INSIDE = torch.linspace(0.02, 0.98, 25, dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def std_at(process, t, std):
    """Standard deviation of noised data that are Gaussian."""
    return (process.alpha(t) ** 2 * std**2 + process.sigma(t) ** 2).sqrt()


def gaussian(process, std, mean=0.0):
    """The mean clean picture where each number of the data is N(mean, std^2), by Bayes' rule."""

    def denoise(x_t, t):
        alpha, variance = beside(process.alpha(t), x_t), beside(std_at(process, t, std), x_t) ** 2
        return mean + alpha * std**2 / variance * (x_t - alpha * mean)

    return denoise


def derivative(function, t):
    """Derivative of a function of the time, for each time by itself."""
    t = t.clone().requires_grad_()
    return torch.autograd.grad(function(t).sum(), t)[0]


def normal_cdf(x):
    return 0.5 * (1 + torch.erf(x / math.sqrt(2)))
