"""What variational autoencoders minimise: the evidence lower bound and its relatives.

Kingma & Welling 2014, https://arxiv.org/abs/1312.6114; beta: Higgins et al. 2017,
https://openreview.net/forum?id=Sy2fzU9gl; free bits: Kingma et al. 2016, https://arxiv.org/abs/1606.04934, appendix
C.8; importance weights: Burda et al. 2016, https://arxiv.org/abs/1509.00519. Equation numbers (VA.n) are those of the
chapter "Variational autoencoders", (VQ.n) of "Discrete codes".
"""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.errors import InputError
from gencore.networks.quantiser import perplexity
from gencore.networks.vae import Level
from gencore.training.loss import Loss
from gencore.vae.likelihoods import Bernoulli, DiscretisedLogistic, Gaussian


class Networks(NamedTuple):
    """The networks of this family. ``model`` is a VAE, a hierarchical VAE or a VQ-VAE."""

    model: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation: standard normal ``eps``, ``(B, *shape)`` for each latent level."""

    eps: tuple[Tensor, ...]


def kl_divergence(level: Level) -> Tensor:
    """Return KL(q || p) of each coordinate of a level, in nats, ``(B, *shape)``."""
    ratio = 2 * (level.log_std - level.prior_log_std)  # log of the ratio of variances
    shift = (level.mean - level.prior_mean) * torch.exp(-level.prior_log_std)
    return 0.5 * (ratio.exp() + shift.square() - 1 - ratio)  # (VA.10)


def log_prior_minus_posterior(level: Level) -> Tensor:
    """Return log p(z) - log q(z | x) of a level's draw, in nats, ``(B,)``."""
    prior = (level.z - level.prior_mean) * torch.exp(-level.prior_log_std)
    posterior = (level.z - level.mean) * torch.exp(-level.log_std)
    terms = 0.5 * (posterior.square() - prior.square()) + level.log_std - level.prior_log_std
    return terms.flatten(1).sum(1)


@dataclass(frozen=True)
class ELBO:
    """The negative evidence lower bound, with the divergence in closed form.

    Attributes
    ----------
    likelihood : Bernoulli, Gaussian or DiscretisedLogistic
        Distribution of a picture given the latent variables.
    beta : float
        Weight of the divergence; 1 gives a bound on log p(x).
    free_bits : float
        Nats that each latent channel may carry without paying: its divergence, averaged over the images of one call,
        counts as this much at least.
    warm_up : int
        Images over which ``beta`` rises from zero, in a line.
    """

    likelihood: Bernoulli | Gaussian | DiscretisedLogistic = Bernoulli()
    beta: float = 1.0
    free_bits: float = 0.0
    warm_up: int = 0

    def __post_init__(self) -> None:
        for field in ("beta", "free_bits", "warm_up"):
            if getattr(self, field) < 0:
                raise InputError(f"{field} {getattr(self, field)}: must be 0 or more")

    def after(self, images_seen: int) -> "ELBO":
        """Return the objective as it is after so many images of the warm-up."""
        share = min(1.0, images_seen / self.warm_up) if self.warm_up else 1.0
        return replace(self, beta=share * self.beta)

    def __call__(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the loss in nats for each image, averaged over the batch.

        Parameters
        ----------
        networks : Networks
            The model.
        x : Tensor
            Images ``(B, C, H, W)`` in [-1, 1].
        cond : Tensor or None
            Classes ``(B,)`` for a conditional model.
        draw : Draw
            Noise.

        Returns
        -------
        Loss
            Parts: ``bound`` (the negative ELBO, whatever beta is), ``reconstruction`` and ``kl``, all in nats.
        """
        params, levels = networks.model(x, draw.eps, cond)
        reconstruction = -self.likelihood.log_prob(params, x).mean()
        kls = [kl_divergence(level).mean(0) for level in levels]  # (channels, ...) each
        kls = [each.reshape(len(each), -1).sum(1) for each in kls]  # (channels,) each
        kl = sum(each.sum() for each in kls)
        charged = sum(each.clamp(min=self.free_bits).sum() for each in kls)  # (VA.17)
        parts = {"bound": reconstruction + kl, "reconstruction": reconstruction, "kl": kl}
        return Loss(reconstruction + self.beta * charged, parts, picture=self.likelihood.location(params))  # (VA.11), (HI.8)


@dataclass(frozen=True)
class VectorQuantised:
    """Squared error of the reconstruction, and the encoder's commitment to its codewords.

    Attributes
    ----------
    commitment : float
        Weight of the commitment term; the paper's beta.
    """

    commitment: float = 0.25

    def __post_init__(self) -> None:
        if self.commitment < 0:
            raise InputError(f"commitment {self.commitment}: must be 0 or more")

    def after(self, images_seen: int) -> "VectorQuantised":
        """Return the objective itself: it has no warm-up."""
        return self

    def __call__(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the mean loss of a pixel's channel.

        Parameters
        ----------
        networks : Networks
            A VQ-VAE.
        x : Tensor
            Images ``(B, C, H, W)`` in [-1, 1].
        cond : Tensor or None
            Classes ``(B,)`` for a conditional model.
        draw : Draw
            Takes no part: nothing is random here.

        Returns
        -------
        Loss
            Parts: ``squared_error``, ``commitment`` (without its weight) and ``perplexity``, the number of codewords that
            the batch uses, in effect. If the codebook learns, ``moves`` hold ``counts``, ``sums`` and ``vectors``. What
            the quantiser's own weights minimise joins the total with weight 1.
        """
        decoded, _, quantised = networks.model(x, cond)
        squared = (x - decoded.float()).square().mean()
        parts = {"squared_error": squared, "commitment": quantised.distance, "perplexity": perplexity(quantised.counts)}
        moves = {}
        if quantised.sums is not None:
            moves = {"counts": quantised.counts, "sums": quantised.sums, "vectors": quantised.vectors}
        total = squared + self.commitment * quantised.distance  # (VQ.4)
        if quantised.fit is not None:
            total = total + quantised.fit
        return Loss(total, parts, moves, decoded.float().clamp(-1, 1))


@dataclass(frozen=True)
class IWAE:
    """The negative importance-weighted bound: several latent draws for each image, weighted by how they explain it.

    Attributes
    ----------
    likelihood : Bernoulli, Gaussian or DiscretisedLogistic
        Distribution of a picture given the latent variables.
    draws : int
        K: how many; 1 gives the evidence lower bound, its divergence estimated by the draw.
    """

    likelihood: Bernoulli | Gaussian | DiscretisedLogistic = Bernoulli()
    draws: int = 5

    def __post_init__(self) -> None:
        if self.draws < 1:
            raise InputError(f"draws {self.draws}: must be 1 or more")

    def after(self, images_seen: int) -> "IWAE":
        """Return the objective itself: it has no warm-up."""
        return self

    def __call__(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw) -> Loss:
        """Return the loss in nats; ``draw.eps`` hold ``draws`` rows for each image, ``(B * draws, *shape)``."""
        weights = log_weights(networks.model, self.likelihood, x, cond, draw.eps, self.draws)  # (B, K)
        bound = -(weights.logsumexp(1) - math.log(self.draws)).mean()  # (VA.13)
        return Loss(bound, {"bound": bound, "elbo": -weights.mean()})


def log_weights(
    model: nn.Module,
    likelihood: Bernoulli | Gaussian | DiscretisedLogistic,
    x: Tensor,
    cond: Tensor | None,
    eps: tuple[Tensor, ...],
    draws: int,
) -> Tensor:
    """Return log p(x | z) + log p(z) - log q(z | x) for several draws of z, ``(B, draws)``, in nats.

    Row ``i * draws + k`` of each ``eps`` belongs to draw ``k`` of image ``i``.
    """
    params, levels = model(x, eps, cond)
    given_z = likelihood.log_prob(params, x.repeat_interleave(draws, 0))  # (B * draws,)
    total = given_z + sum(log_prior_minus_posterior(level) for level in levels)  # (VA.13), the weight's logarithm
    return total.unflatten(0, (-1, draws))
