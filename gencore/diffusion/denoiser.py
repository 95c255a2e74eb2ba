"""The one place that knows what a network predicts: the clean picture, the noise, v, or the velocity.

All are linear in each other once the noised picture is known, so that samplers, guidance and likelihoods ask for the
clean picture alone. Salimans & Ho 2022, https://arxiv.org/abs/2202.00512 (v); Lipman et al. 2023,
https://arxiv.org/abs/2210.02747 (velocity); Karras et al. 2022, https://arxiv.org/abs/2206.00364, table 1
(preconditioning). Equation numbers (OV.n) are those of the chapter "One vector field".
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from gencore.diffusion.process import Process, beside

Prediction = Literal["x", "eps", "v", "velocity", "edm"]
Denoise = Callable[[Tensor, Tensor], Tensor]  # (x_t (B, ...), t ()) to the clean picture; samplers take nothing else
DATA_STD = 0.5  # of pixels in [-1, 1], for "edm"; Karras et al. 2022, table 1


def target(prediction: Prediction, process: Process, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Return what the network's output is to be, ``(B, ...)``, for data and noise ``(B, ...)`` and times ``(B,)``."""
    alpha, sigma = beside(process.alpha(t), x), beside(process.sigma(t), x)
    if prediction == "x":
        return x
    if prediction == "eps":
        return eps
    if prediction == "v":
        return alpha * eps - sigma * x  # (OV.4)
    if prediction == "velocity":
        return beside(process.alpha_rate(t), x) * x + beside(process.sigma_rate(t), x) * eps  # (OV.5)
    skip, out, _ = _precondition(alpha, sigma)
    return (x - skip * (alpha * x + sigma * eps)) / out


def clean(prediction: Prediction, process: Process, output: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Return the clean picture that an output stands for, ``(B, ...)``.

    Where the noised picture holds nothing of the data, an output "eps" says nothing of them either, and zero is returned,
    the middle of the value range.
    """
    alpha, sigma = beside(process.alpha(t), x_t), beside(process.sigma(t), x_t)
    if prediction == "x":
        return output
    if prediction == "eps":
        seen = alpha > 0
        return torch.where(seen, x_t - sigma * output, 0) / torch.where(seen, alpha, 1)
    if prediction == "v":
        return (alpha * x_t - sigma * output) / (alpha**2 + sigma**2)
    if prediction == "velocity":
        alpha_rate, sigma_rate = beside(process.alpha_rate(t), x_t), beside(process.sigma_rate(t), x_t)
        sigma_rate = torch.where(sigma > 0, sigma_rate, 1)  # without noise any rate gives x_t, but an infinite one nothing
        return (sigma_rate * x_t - sigma * output) / (alpha * sigma_rate - sigma * alpha_rate)
    skip, out, _ = _precondition(alpha, sigma)
    return skip * x_t + out * output


def scale_of_error(prediction: Prediction, process: Process, t: Tensor) -> Tensor:
    """Return by how much an error of the output moves the clean picture; of the shape of ``t``.

    Infinite for "eps" where alpha is 0.
    """
    alpha, sigma = process.alpha(t), process.sigma(t)
    if prediction == "x":
        return torch.ones_like(alpha)
    if prediction == "eps":
        return sigma / alpha
    if prediction == "v":
        return sigma / (alpha**2 + sigma**2)
    if prediction == "velocity":
        return sigma / (alpha * process.sigma_rate(t) - sigma * process.alpha_rate(t))
    return _precondition(alpha, sigma)[1]


def noise_in(process: Process, x_t: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Return the noise that is left when a clean picture is taken out, ``(B, ...)``; zero where there is no noise."""
    alpha, sigma = beside(process.alpha(t), x_t), beside(process.sigma(t), x_t)
    noisy = sigma > 0
    return torch.where(noisy, x_t - alpha * x, 0) / torch.where(noisy, sigma, 1)


def score(process: Process, x_t: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Return the gradient of log p_t at noised data, ``(B, ...)``, by Tweedie's formula, given the mean clean picture.

    Times are ``(B,)`` or ``()``. NaN where sigma is 0.
    """
    return -noise_in(process, x_t, x, t) / beside(process.sigma(t), x_t)  # (OV.2)


def velocity(process: Process, x_t: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Return dx/dt of the probability flow at noised data, ``(B, ...)``, given the mean clean picture.

    Times are ``(B,)`` or ``()``. NaN for `Linear` at t = 0, where its noise grows infinitely fast.
    """
    of_data, of_noise = beside(process.alpha_rate(t), x_t), beside(process.sigma_rate(t), x_t)
    return of_data * x + of_noise * noise_in(process, x_t, x, t)  # (OV.6)


def ddim_step(process: Process, x_t: Tensor, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """Return data at the earlier time s, of the same clean picture and noise as noised data at t, ``(B, ...)``.

    Song, Meng & Ermon 2021, https://arxiv.org/abs/2010.02502, equation 12 without fresh noise. Times are ``(B,)`` or ``()``.
    """
    alpha, sigma = beside(process.alpha(s), x_t), beside(process.sigma(s), x_t)
    return alpha * x + sigma * noise_in(process, x_t, x, t)  # (SA.3)


@dataclass(frozen=True)
class Denoiser:
    """A network together with what its output means.

    Attributes
    ----------
    network : Module
        ``network(x_t, t, cond)`` gives ``(B, C, H, W)``.
    process : Linear, Cosine, Flow or EDM
        How noise was added.
    prediction : {"x", "eps", "v", "velocity", "edm"}
        What the network was trained to give.
    """

    network: nn.Module
    process: Process
    prediction: Prediction

    def output(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the network's output, float32 ``(B, C, H, W)``, for times ``(B,)`` and conditions ``(B, K)``."""
        given = x_t
        if self.prediction == "edm":
            alpha, sigma = beside(self.process.alpha(t), x_t), beside(self.process.sigma(t), x_t)
            given = _precondition(alpha, sigma)[2] * x_t
        return self.network(given, t, cond).float()

    def __call__(self, x_t: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
        """Return the clean picture ``(B, C, H, W)`` as the network sees it at times ``(B,)``: its mean given the noised one."""
        return clean(self.prediction, self.process, self.output(x_t, t, cond), x_t, t)


def _precondition(alpha: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return Karras et al.'s c_skip, c_out and c_in, here for any alpha: unit variance for input and target."""
    variance = (alpha * DATA_STD) ** 2 + sigma**2  # of the noised data
    return alpha * DATA_STD**2 / variance, sigma * DATA_STD / variance.sqrt(), 1 / variance.sqrt()
