"""What each player of the adversarial game minimises: Goodfellow et al. 2014, https://arxiv.org/abs/1406.2661.

The discriminator returns a logit s(x), so D(x) = sigmoid(s(x)) is its probability that x is real, and
-log D = softplus(-s), -log(1 - D) = softplus(s), which stay finite where the logarithms would not.
Equation numbers (AG.n) are those of the chapter "The adversarial game".

Both players are shown the same ``fake = networks.generator(draw.z)``, which the caller makes once.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.functional import softplus

from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The two players. ``generator(z)`` gives data, ``discriminator(x)`` gives logits ``(B,)``."""

    generator: nn.Module
    discriminator: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation: latents ``(B, latent)``, standard normal."""

    z: Tensor


def discriminator_loss(networks: Networks, x: Tensor, fake: Tensor) -> Loss:
    """Binary cross-entropy of telling real from generated; its negative estimates V(G, D).

    Parameters
    ----------
    networks : Networks
        Only the discriminator is asked.
    x : Tensor
        Real data ``(B, ...)``.
    fake : Tensor
        Generated data ``(B, ...)``; no gradient goes back to the generator.

    Returns
    -------
    Loss
        Total in nats, parts ``real``, ``generated`` and ``accuracy`` (share of right verdicts).
    """
    on_real, on_fake = networks.discriminator(x), networks.discriminator(fake.detach())
    real = softplus(-on_real).mean()  # -E log D(x)
    generated = softplus(on_fake).mean()  # -E log(1 - D(G(z)))
    accuracy = ((on_real > 0).float().mean() + (on_fake < 0).float().mean()) / 2
    return Loss(real + generated, {"real": real, "generated": generated, "accuracy": accuracy})  # (AG.1), -V


@dataclass(frozen=True)
class NonSaturating:
    """The generator maximises E log D(G(z)) (the paper, end of section 3): strong gradients from the first step."""

    def discriminator(self, networks: Networks, x: Tensor, cond: None, draw: Draw, fake: Tensor) -> Loss:
        """Return `discriminator_loss`."""
        return discriminator_loss(networks, x, fake)

    def generator(self, networks: Networks, x: Tensor, cond: None, draw: Draw, fake: Tensor) -> Loss:
        """Return -E log D(G(z)), in nats; the real data ``x`` take no part."""
        total = softplus(-networks.discriminator(fake)).mean()  # (AG.6)
        return Loss(total, {"generator": total})


@dataclass(frozen=True)
class Saturating:
    """The generator minimises E log(1 - D(G(z))), as the value V of the game has it: gradients vanish when D wins."""

    def discriminator(self, networks: Networks, x: Tensor, cond: None, draw: Draw, fake: Tensor) -> Loss:
        """Return `discriminator_loss`."""
        return discriminator_loss(networks, x, fake)

    def generator(self, networks: Networks, x: Tensor, cond: None, draw: Draw, fake: Tensor) -> Loss:
        """Return E log(1 - D(G(z))), in nats; the real data ``x`` take no part."""
        total = -softplus(networks.discriminator(fake)).mean()  # (AG.5)
        return Loss(total, {"generator": total})
