"""What each player of the adversarial game minimises: Goodfellow et al. 2014, and what came after.

The first game is https://arxiv.org/abs/1406.2661. Its discriminator returns a logit s(x), so D(x) = sigmoid(s(x)) is its
probability that x is real, and -log D = softplus(-s), -log(1 - D) = softplus(s), which stay finite where the logarithms
would not. Other games give s another meaning: a number to be 1 or 0 (Mao et al. 2017, https://arxiv.org/abs/1611.04076),
a margin (Lim & Ye 2017, https://arxiv.org/abs/1705.02894; Miyato et al. 2018, https://arxiv.org/abs/1802.05957), or a
height whose slope is bounded (Arjovsky et al. 2017, https://arxiv.org/abs/1701.07875).
Equation numbers (AG.n) are those of the chapter "The adversarial game", (ST.n) those of "Stability".

Both players are shown the same ``fake = networks.generator(draw.z)``, which the caller makes once.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from gencore.training.loss import Loss


class Networks(NamedTuple):
    """The two players.

    ``generator(z)`` gives data, ``discriminator(x)`` gives logits ``(B,)``. Networks that are told something take the
    conditions as a second argument, int64 ``(B, K)``.
    """

    generator: nn.Module
    discriminator: nn.Module


class Draw(NamedTuple):
    """The randomness of one loss evaluation.

    Attributes
    ----------
    z : Tensor
        Latents ``(B, latent)``, standard normal.
    between : Tensor, optional
        Uniform numbers in [0, 1), ``(B,)``: where, between real and generated, a slope is measured.
    direction : Tensor, optional
        Standard normal numbers of the shape of the data: along which change of the picture a path is measured.
    """

    z: Tensor
    between: Tensor | None = None
    direction: Tensor | None = None


def ask(network: nn.Module, given: Tensor, cond: Tensor | None) -> Tensor:
    """Return what a network makes of latents or data; only one that is told something takes conditions."""
    return network(given) if cond is None else network(given, cond)


def verdicts(networks: Networks, data: Tensor, cond: Tensor | None) -> Tensor:
    """Return the discriminator's numbers for data, ``(B,)``, in float32 at least: sums of half-precision numbers drift."""
    numbers = ask(networks.discriminator, data, cond)
    return numbers.to(torch.promote_types(numbers.dtype, torch.float32))


def both_verdicts(networks: Networks, x: Tensor, cond: Tensor | None, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return `verdicts` for real and for generated data; no gradient goes back to the generator."""
    return verdicts(networks, x, cond), verdicts(networks, fake.detach(), cond)


def discriminator_loss(networks: Networks, x: Tensor, fake: Tensor, cond: Tensor | None = None) -> Loss:
    """Binary cross-entropy of telling real from generated; its negative estimates V(G, D).

    Parameters
    ----------
    networks : Networks
        Only the discriminator is asked.
    x : Tensor
        Real data ``(B, ...)``.
    fake : Tensor
        Generated data ``(B, ...)``; no gradient goes back to the generator.
    cond : Tensor, optional
        What the networks are told, int64 ``(B, K)``.

    Returns
    -------
    Loss
        Total in nats, parts ``real``, ``generated`` and ``accuracy`` (share of right verdicts).
    """
    on_real, on_fake = both_verdicts(networks, x, cond, fake)
    real = softplus(-on_real).mean()  # -E log D(x)
    generated = softplus(on_fake).mean()  # -E log(1 - D(G(z)))
    return Loss(real + generated, _parts(real, generated, on_real, on_fake))  # (AG.1), -V


def _parts(real: Tensor, generated: Tensor, on_real: Tensor, on_fake: Tensor, middle: float = 0.0) -> dict[str, Tensor]:
    """Return both halves of a discriminator's loss, and the share of verdicts on the right side of the middle."""
    accuracy = ((on_real > middle).float().mean() + (on_fake < middle).float().mean()) / 2
    return {"real": real, "generated": generated, "accuracy": accuracy}


@dataclass(frozen=True)
class NonSaturating:
    """The generator maximises E log D(G(z)) (the paper, end of section 3): strong gradients from the first step."""

    def discriminator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return `discriminator_loss`."""
        return discriminator_loss(networks, x, fake, cond)

    def generator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return -E log D(G(z)), in nats; the real data ``x`` take no part."""
        total = softplus(-verdicts(networks, fake, cond)).mean()  # (AG.6)
        return Loss(total, {"generator": total})


@dataclass(frozen=True)
class Saturating:
    """The generator minimises E log(1 - D(G(z))), as the value V of the game has it: gradients vanish when D wins."""

    def discriminator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return `discriminator_loss`."""
        return discriminator_loss(networks, x, fake, cond)

    def generator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return E log(1 - D(G(z))), in nats; the real data ``x`` take no part."""
        total = -softplus(verdicts(networks, fake, cond)).mean()  # (AG.5)
        return Loss(total, {"generator": total})


@dataclass(frozen=True)
class LeastSquares:
    """LSGAN: the discriminator is to say 1 of real and 0 of generated data, and is fined by the square of its error."""

    def discriminator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return half the squared errors; parts ``real``, ``generated`` and ``accuracy``."""
        on_real, on_fake = both_verdicts(networks, x, cond, fake)
        real, generated = (on_real - 1).square().mean() / 2, on_fake.square().mean() / 2
        return Loss(real + generated, _parts(real, generated, on_real, on_fake, middle=0.5))  # (ST.1)

    def generator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return half the squared distance of the verdicts on generated data from 1."""
        total = (verdicts(networks, fake, cond) - 1).square().mean() / 2  # (ST.2)
        return Loss(total, {"generator": total})


@dataclass(frozen=True)
class Hinge:
    """The discriminator is fined until it is right by a margin of 1, and not beyond; the generator wants high verdicts."""

    def discriminator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return what lacks to the margin; parts ``real``, ``generated`` and ``accuracy``."""
        on_real, on_fake = both_verdicts(networks, x, cond, fake)
        real, generated = relu(1 - on_real).mean(), relu(1 + on_fake).mean()
        return Loss(real + generated, _parts(real, generated, on_real, on_fake))  # (ST.3)

    def generator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the mean verdict on generated data with its sign turned."""
        total = -verdicts(networks, fake, cond).mean()  # (ST.4)
        return Loss(total, {"generator": total})


@dataclass(frozen=True)
class Wasserstein:
    """The critic maximises the difference of its means; if its slope is at most 1, that is at most the Wasserstein distance.

    Something else must bound the slope: `gencore.gan.penalties.GradientPenalty`, or a network with spectral norms.
    """

    def discriminator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the difference of means with its sign turned; the part ``estimate`` is the difference itself."""
        on_real, on_fake = both_verdicts(networks, x, cond, fake)
        estimate = on_real.mean() - on_fake.mean()  # (ST.5)
        return Loss(-estimate, {"estimate": estimate})

    def generator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the mean height of generated data with its sign turned."""
        total = -verdicts(networks, fake, cond).mean()  # (ST.4)
        return Loss(total, {"generator": total})


@dataclass(frozen=True)
class Relativistic:
    """Both players look at the difference of a real and a generated picture's verdicts: Jolicoeur-Martineau 2019.

    https://arxiv.org/abs/1807.00734; paired and logistic as in Huang et al. 2024 ("The GAN is dead; long live the GAN!"),
    https://arxiv.org/abs/2501.05441, equation 3: it leaves no basin in which all verdicts on generated data are low and a
    mode of the data can be left out for good.
    """

    def discriminator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the cross-entropy of saying which of a pair is real; the part ``accuracy`` counts right answers."""
        on_real, on_fake = both_verdicts(networks, x, cond, fake)
        total = softplus(on_fake - on_real).mean()  # (ST.6)
        return Loss(total, {"discriminator": total, "accuracy": (on_real > on_fake).float().mean()})

    def generator(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the cross-entropy of the wrong answer; here the real data take part."""
        on_real, on_fake = verdicts(networks, x, cond), verdicts(networks, fake, cond)
        total = softplus(on_real - on_fake).mean()  # (ST.7)
        return Loss(total, {"generator": total})
