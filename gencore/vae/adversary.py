"""What a fixed and a learning network add to an autoencoder's loss: Esser et al. 2021, VQ-GAN.

"Taming transformers for high-resolution image synthesis", https://arxiv.org/abs/2012.09841, section 3.1: squared error is joined by a perceptual distance, and by a discriminator of
patches, whose weight follows from the gradients at the decoder's last layer. Hinge losses: Lim & Ye 2017,
https://arxiv.org/abs/1705.02894. Equation numbers (VQ.n) are those of the chapter "Discrete codes".

The terms join whatever objective an autoencoder has, so the first stage of latent diffusion uses them too (Rombach et al.
2022, https://arxiv.org/abs/2112.10752, appendix G).

Deviation: the discriminator learns from the first step, and what it says counts from ``start``; in the paper's code it
does neither before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

from gencore.errors import InputError
from gencore.networks.patchgan import PatchGAN
from gencore.training.loss import Loss
from gencore.training.optimiser import AdamW

DELTA = 1e-4  # keeps the adaptive weight finite
LARGEST_WEIGHT = 1e4  # as in the paper's code


@dataclass(frozen=True)
class Adversary:
    """A discriminator that plays against an autoencoder's reconstructions.

    Attributes
    ----------
    network : PatchGAN
        Its sizes.
    weight : float
        Share of the adversarial gradient at the decoder's last layer, in units of all else that speaks there.
    start : int
        Images of the training after which its verdict counts.
    optimiser : AdamW
        How it learns.
    """

    network: PatchGAN = PatchGAN(width=32, strided=1)
    weight: float = 0.8
    start: int = 0
    optimiser: AdamW = AdamW(lr=5e-4, weight_decay=0.0, beta1=0.5, beta2=0.9)

    def __post_init__(self) -> None:
        for field in ("weight", "start"):
            if getattr(self, field) < 0:
                raise InputError(f"{field} {getattr(self, field)}: must be 0 or more")

    def weight_after(self, images_seen: int) -> float:
        """Return the weight after so many images of the training."""
        return self.weight if images_seen >= self.start else 0.0


def with_perceptual(loss: Loss, x: Tensor, distance: nn.Module, weight: float) -> Loss:
    """Return a loss with the perceptual distance between images and their reconstructions added to it.

    Parameters
    ----------
    loss : Loss
        What the objective returned, ``picture`` included.
    x : Tensor
        The images, ``(B, C, H, W)`` in [-1, 1].
    distance : Module
        Such as `gencore.metrics.image_quality.PerceptualDistance`: ``(B,)`` for two batches of images.
    weight : float
        Its weight, in units of the loss.

    Returns
    -------
    Loss
        With one more part, ``perceptual``, without the weight.
    """
    perceptual = distance(loss.picture, x).mean()
    return loss._replace(total=loss.total + weight * perceptual, parts={**loss.parts, "perceptual": perceptual})


def with_adversary(loss: Loss, discriminator: nn.Module, last: nn.Parameter, weight: float) -> Loss:
    """Return a loss with the generator's side of the game added to it.

    Parameters
    ----------
    loss : Loss
        All other terms, and the ``picture``.
    discriminator : Module
        Gives logits for images; it receives no gradient.
    last : Parameter
        Weights of the decoder's last layer, where gradients are compared.
    weight : float
        Share of the adversarial gradient there, in units of the rest.

    Returns
    -------
    Loss
        With two more parts: ``adversarial``, the mean logit with its sign turned, and ``adaptive_weight``. Averages over
        several pieces of a batch, or over processes, each weigh by their own gradients.
    """
    with _frozen(discriminator):
        adversarial = -discriminator(loss.picture).float().mean()  # (VQ.11), the generator's side
    factor = adaptive_weight(loss.total, adversarial, last)
    parts = {**loss.parts, "adversarial": adversarial, "adaptive_weight": factor}
    return loss._replace(total=loss.total + weight * factor * adversarial, parts=parts)  # (VQ.13)


def adaptive_weight(reconstruction: Tensor, adversarial: Tensor, last: nn.Parameter) -> Tensor:
    """Return the factor that makes two losses pull equally hard at a layer's weights; no gradient flows through it."""
    of_reconstruction, of_adversarial = (
        torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (reconstruction, adversarial)
    )
    return (of_reconstruction / (of_adversarial + DELTA)).clamp(max=LARGEST_WEIGHT)  # (VQ.12)


def discriminator_loss(discriminator: nn.Module, x: Tensor, picture: Tensor) -> Loss:
    """Hinge loss of telling patches of images from patches of reconstructions: beyond a margin of 1 nothing is gained.

    Parameters
    ----------
    discriminator : Module
        Gives logits.
    x, picture : Tensor
        Images and their reconstructions, ``(B, C, H, W)`` in [-1, 1]; the latter are held fixed.

    Returns
    -------
    Loss
        Parts: ``discriminator``, and ``accuracy``, the share of patches judged rightly.
    """
    on_real, on_made = discriminator(x).float(), discriminator(picture.detach()).float()
    total = (relu(1 - on_real).mean() + relu(1 + on_made).mean()) / 2  # (VQ.11)
    accuracy = ((on_real > 0).float().mean() + (on_made < 0).float().mean()) / 2
    return Loss(total, {"discriminator": total, "accuracy": accuracy})


@contextmanager
def _frozen(network: nn.Module) -> Iterator[None]:
    """Keep gradients away from a network that only gives its verdict."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)
