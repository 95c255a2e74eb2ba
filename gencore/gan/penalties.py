"""What is added to a player's objective, all the time or now and then: slopes of the critic, paths of the generator, codes.

Gradient penalty: Gulrajani et al. 2017, https://arxiv.org/abs/1704.00028, equation 3.
R1: Mescheder et al. 2018, https://arxiv.org/abs/1801.04406, equation 9, and R2, equation 10.
Path length: Karras et al. 2020 (StyleGAN2), https://arxiv.org/abs/1912.04958, equation 4 and appendix B.
Codes: Chen et al. 2016 (InfoGAN), https://arxiv.org/abs/1606.03657, equation 5.
Equation numbers (ST.n) are those of the chapter "Stability", (CO.n) those of "Asking for something" and (SB.n) those of
"Growing, then styles".

Each says whose turn it belongs to (``players``) and how often it is due (in every so many of that player's turns). One that
is due seldom weighs as much more, so that on average it pulls as if it were always there ("lazy regularisation", StyleGAN2,
section 3.1; the weight: appendix B).

Deviations: a lazy term is added to the loss of its step, where StyleGAN2 takes a step of its own for it; the path
length is due in every 4th turn, as in its code, where its appendix B has every 8th; a class and numbers have a weight
each, where InfoGAN has one, to be chosen smaller where there are numbers.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gencore.errors import InputError
from gencore.gan.objectives import Draw, Networks, ask, verdicts
from gencore.training.loss import Loss


def slopes(networks: Networks, x: Tensor, cond: Tensor | None) -> Tensor:
    """Return the discriminator's gradients at data ``(B, ...)``, of the same shape; they can be differentiated again."""
    x = x.detach().requires_grad_()
    verdict = verdicts(networks, x, cond)  # (B,)
    # Where a verdict depends on its own picture only, the gradient of the sum holds each one's own gradient. Statistics of
    # the batch (batch normalisation, `minibatch_std`) mix in a little of the others', as in all code that does this.
    return torch.autograd.grad(verdict.sum(), x, create_graph=True)[0]


@dataclass(frozen=True)
class GradientPenalty:
    """Hold the critic's slope near 1 between real and generated data.

    Attributes
    ----------
    weight : float
        Lambda in the paper.
    every : int
        Turns of its player from one time to the next.
    """

    weight: float = 10.0
    every: int = 1
    players: ClassVar[tuple[str, ...]] = ("discriminator",)

    def __post_init__(self) -> None:
        _check(self.weight, self.every)

    def loss(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the penalty; the part ``slope`` is the mean length of the gradient."""
        share = draw.between.view(-1, *[1] * (x.dim() - 1))
        between = torch.lerp(x, fake.detach().to(x), share)
        length = slopes(networks, between, cond).flatten(1).norm(dim=1)  # (B,)
        total = self.every * self.weight * (length - 1).square().mean()  # (ST.8)
        return Loss(total, {"slope": length.mean()})


@dataclass(frozen=True)
class R1:
    """Flatten the discriminator where the data are, so that it can come to rest when the generator is right.

    Attributes
    ----------
    gamma : float
        Twice the weight of the squared gradient.
    every : int
        Turns of its player from one time to the next.
    """

    gamma: float = 1.0
    every: int = 16
    players: ClassVar[tuple[str, ...]] = ("discriminator",)

    def __post_init__(self) -> None:
        _check(self.gamma, self.every)

    def loss(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the penalty; the part ``r1`` is the mean squared length of the gradient at real data."""
        return self._flat("r1", networks, x, cond)

    def _flat(self, part: str, networks: Networks, data: Tensor, cond: Tensor | None) -> Loss:
        """Return the penalty on the slopes at some data."""
        square = slopes(networks, data, cond).flatten(1).square().sum(1).mean()
        return Loss(self.every * self.gamma / 2 * square, {part: square})  # (ST.9)


@dataclass(frozen=True)
class R2(R1):
    """Flatten the discriminator where generated data are; ``gamma`` and ``every`` as in `R1`."""

    def loss(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the penalty; the part ``r2`` is the mean squared length of the gradient at generated data."""
        return self._flat("r2", networks, fake, cond)


@dataclass(frozen=True)
class PathLength:
    """Ask that a step in W changes the picture by the same amount everywhere, whatever that amount is.

    The generator has ``styles(z)`` and ``paint(w, z)``, and remembers the usual length as its buffer ``mean_path``.

    Attributes
    ----------
    weight : float
        Of the squared deviation from the usual length.
    every : int
        Turns of its player from one time to the next.
    decay : float
        How far the usual length moves each time.
    share : int
        The term is measured on one picture in so many, to save time.
    """

    weight: float = 2.0
    every: int = 4
    decay: float = 0.01
    share: int = 2
    players: ClassVar[tuple[str, ...]] = ("generator",)

    def __post_init__(self) -> None:
        _check(self.weight, self.every)
        if not 0 < self.decay <= 1 or self.share < 1:
            raise InputError(f"decay {self.decay}, share {self.share}: decay is above 0, up to 1; share is 1 or more")

    def loss(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the penalty; the part ``path`` is the mean length, and ``mean_path`` moves."""
        count = math.ceil(len(draw.z) / self.share)
        generator, told = networks.generator, None if cond is None else cond[:count]
        w = ask(generator.styles, draw.z[:count], told)  # (b, layers, W)
        images = generator.paint(w, draw.z[:count]).float()
        direction = draw.direction[:count] / math.sqrt(images[0, 0].numel())  # y: its length does not grow with the picture
        (towards,) = torch.autograd.grad((images * direction).sum(), w, create_graph=True)  # J'y, (b, layers, W)
        lengths = towards.float().square().sum(2).mean(1).sqrt()  # (b,)
        usual = generator.mean_path.lerp(lengths.detach().mean(), self.decay)
        total = self.every * self.weight * (lengths - usual).square().mean()  # (SB.8)
        return Loss(total, {"path": lengths.mean()}, moves={"mean_path": usual})


@dataclass(frozen=True)
class Codes:
    """Ask that the codes in the latent can be read off the picture: a lower bound of their mutual information.

    The generator has ``codes(z)``, the discriminator ``read(x)``; both players gain by it, the one by painting what can be
    read, the other by reading it.

    Attributes
    ----------
    weight : float
        Of the nats that reading the class costs.
    number_weight : float
        Of the nats that reading the numbers costs, which are on another scale: those of a density.
    every : int
        Turns of its player from one time to the next.
    """

    weight: float = 1.0
    number_weight: float = 0.1
    every: int = 1
    players: ClassVar[tuple[str, ...]] = ("discriminator", "generator")

    def __post_init__(self) -> None:
        _check(self.weight, self.every)
        _check(self.number_weight, self.every)

    def loss(self, networks: Networks, x: Tensor, cond: Tensor | None, draw: Draw, fake: Tensor) -> Loss:
        """Return the weighted cost of the codes under the reading; parts, in nats, are ``class_nats`` and ``number_nats``."""
        chosen, numbers = networks.generator.codes(draw.z)  # (B, classes) one-hot, (B, continuous)
        logits, mean, log_std = (each.float() for each in networks.discriminator.read(fake))
        class_nats = -(chosen * logits.log_softmax(1)).sum(1).mean()
        number_nats = (((numbers - mean) / log_std.exp()).square() / 2 + log_std + math.log(2 * math.pi) / 2).sum(1).mean()
        total = self.every * (self.weight * class_nats + self.number_weight * number_nats)  # (CO.12)
        return Loss(total, {"class_nats": class_nats, "number_nats": number_nats})


def _check(weight: float, every: int) -> None:
    if weight < 0:
        raise InputError(f"a penalty's weight is {weight}; it must be 0 or more")
    if every < 1:
        raise InputError(f"every is {every}; a penalty is due every step (1), every second (2), ...")
