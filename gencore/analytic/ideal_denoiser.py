r"""What a perfect denoiser of finitely many pictures returns: their mean, each as likely as it was the one noised.

.. math::
   E[x \mid x_t] = \sum_i w_i\, x_i, \qquad
   w = \operatorname{softmax}_i\left(-\frac{\|x_t - \alpha x_i\|^2}{2 \sigma^2}\right)

It minimises the denoising loss over all functions, for noised data :math:`x_t = \alpha x_i + \sigma \varepsilon` of
pictures that are all equally likely: Karras et al. 2022, https://arxiv.org/abs/2206.00364, appendix B.3, here for any
alpha. A sampler that follows it ends on the pictures themselves. It is what a `GaussianMixture` with a component of no
width at each picture would return.

Everything is differentiable in x_t.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gencore.errors import InputError


@dataclass(frozen=True, eq=False)
class IdealDenoiser:
    """The exact minimiser of the denoising loss for N pictures.

    Sums run in float64, since squared distances come from matrix products, whose rounding in float32 would choose
    between pictures at little noise. Pictures are widened in blocks: memory holds one block of them (where gradients are
    kept, all) and some matrices of the weights' shape, ``(B, N)``.

    Attributes
    ----------
    data : Tensor
        The pictures, floats ``(N, ...)``.
    block : int
        How many pictures are widened to float64 at once.

    Raises
    ------
    InputError
        If the data are no pictures or the block holds none.
    """

    data: Tensor
    block: int = 1024

    def __post_init__(self) -> None:
        if self.data.ndim < 2 or not len(self.data) or not self.data.is_floating_point():
            raise InputError(f"data: {self.data.dtype} {tuple(self.data.shape)} are not floats (N, ...), N at least 1")
        if self.block < 1:
            raise InputError(f"block {self.block}: must be at least 1")

    def denoise(self, alpha: float | Tensor, sigma: float | Tensor, x_t: Tensor) -> Tensor:
        """Return the mean of the pictures given noised ones, ``(B, ...)``, in the format of ``x_t``.

        Parameters
        ----------
        alpha, sigma : float or Tensor
            Factors of data and noise, ``()`` or ``(B,)``. Where ``sigma`` is 0, the nearest picture is returned.
        x_t : Tensor
            Noised pictures, ``(B, ...)``.

        Raises
        ------
        InputError
            If noised pictures have another shape than the data.
        """
        weights = self._weights(alpha, sigma, x_t)  # (B, N)
        pieces = zip(weights.split(self.block, 1), self.data.flatten(1).split(self.block), strict=True)
        mean = sum(weight @ pictures.double() for weight, pictures in pieces)  # (B, D)
        return mean.view_as(x_t).to(x_t)

    def posterior(self, alpha: float | Tensor, sigma: float | Tensor, x_t: Tensor) -> Tensor:
        """Return the probability that a noised picture was made from each of the data, ``(B, N)``; sums to 1.

        Parameters and errors as for `denoise`.
        """
        return self._weights(alpha, sigma, x_t).to(x_t)

    def _weights(self, alpha: float | Tensor, sigma: float | Tensor, x_t: Tensor) -> Tensor:
        """Return `posterior` in float64."""
        if x_t.shape[1:] != self.data.shape[1:]:
            raise InputError(f"x_t: shape {tuple(x_t.shape)} does not fit data {tuple(self.data.shape)}")
        alpha, sigma = (torch.as_tensor(each, dtype=torch.float64, device=x_t.device) for each in (alpha, sigma))
        alpha, variance = alpha.reshape(-1, 1), sigma.reshape(-1, 1) ** 2  # (B, 1) or (1, 1)
        rows, farther = x_t.flatten(1).double(), []
        for pictures in self.data.flatten(1).split(self.block):
            pictures = pictures.double()
            farther.append(alpha**2 * pictures.square().sum(1) - 2 * alpha * rows @ pictures.T)
        squared = torch.cat(farther, 1)  # (B, N): |x_t - alpha x_i|^2, but for |x_t|^2, the same for all pictures
        nearest = squared.argmin(1, keepdim=True)
        noisy = variance > 0
        # From the nearest: a noise too small to divide by must not make infinity minus infinity.
        logits = (squared.gather(1, nearest).detach() - squared) / (2 * torch.where(noisy, variance, 1))
        return torch.where(noisy, logits.softmax(1), torch.zeros_like(logits).scatter(1, nearest, 1.0))
