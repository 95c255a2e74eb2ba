"""What generators and discriminators of pictures minimise: Isola et al. 2017 (pix2pix) and Zhu et al. 2017 (CycleGAN).

"Image-to-image translation with conditional adversarial networks", https://arxiv.org/abs/1611.07004, equations 1 to 4;
"Unpaired image-to-image translation using cycle-consistent adversarial networks", https://arxiv.org/abs/1703.10593,
equations 1 to 3, section 4 (least squares) and section 5.2 (identity). The games themselves are those of
`gencore.gan.objectives`. In names, a translator is a generator, and its judge the discriminator.

What is added: real and made pictures are changed at random before a discriminator sees them (`gencore.gan.augmentation`), a
pair as a whole; a discriminator may be held to an R1 penalty (`gencore.gan.penalties`); and noise, the veil, may be added to
a translation before it is translated back, against what is hidden in it at a low amplitude (Bashkirova, Usman & Saenko 2019,
"Adversarial self-defense for cycle-consistent GANs", https://arxiv.org/abs/1908.01517).

Deviations: translations are not squashed by tanh; as they are, with values beyond black and white, they go on to the
discriminators and to the way back. A cycle can therefore carry information where no picture shows it, and such noise does
not keep it from that: values of 1.5 stand far above a noise of 0.2, and both look white. What it carries there is measured
by `gencore.applications.translation.hidden.cycle_errors`. The least squares of `gencore.gan.objectives` are halved, those of
CycleGAN are not: see `cycle_loss`.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.gan.augmentation import Augmentation
from gencore.gan.objectives import Networks as Players
from gencore.gan.penalties import R1
from gencore.gan.turns import Objective
from gencore.networks.translator import given
from gencore.training.loss import Loss, add_losses


class Draw(NamedTuple):
    """The randomness of a step with pairs.

    Attributes
    ----------
    noise : Tensor
        Uniform numbers for the generator's dropout, ``(B, E)``.
    change : Tensor
        Uniform numbers for the augmentation, ``(B, 7)``: the same for the real and for the made half, which share a source.
    """

    noise: Tensor
    change: Tensor


class CycleDraw(NamedTuple):
    """The randomness of a step without pairs.

    Attributes
    ----------
    veil_a, veil_b : Tensor
        Standard normal numbers of the shape of pictures of either kind.
    change : Tensor
        Uniform numbers for the augmentation, ``(4, B, 7)``: of real a, made a, real b, made b.
    """

    veil_a: Tensor
    veil_b: Tensor
    change: Tensor


class CycleNetworks(NamedTuple):
    """The two generators: ``there`` from kind a to kind b (domains A and B), ``back`` from b to a."""

    there: nn.Module
    back: nn.Module


class Crossing(NamedTuple):
    """What two generators make of pictures of both kinds. None of it is clamped.

    Attributes
    ----------
    fake_b, fake_a : Tensor
        Translations of a and of b.
    back_a, back_b : Tensor
        Those, translated back: the reconstructions of a and of b.
    same_b, same_a : Tensor or None
        What a generator makes of a picture that is of its target's kind already.
    """

    fake_b: Tensor
    fake_a: Tensor
    back_a: Tensor
    back_b: Tensor
    same_b: Tensor | None
    same_a: Tensor | None


def judged(
    x: Tensor, cond: Tensor, picture: Tensor, conditions: tuple[int, ...], change: Augmentation | None, u: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what the discriminator of pairs sees: a target or a translation, and what it is given, both changed alike.

    Parameters
    ----------
    x, cond : Tensor
        Sources ``(B, C, H, W)`` and what is told, int64 ``(B, K)``.
    picture : Tensor
        Targets or translations.
    conditions : tuple of int
        How many values each condition has.
    change : Augmentation, optional
        How pairs are changed.
    u : Tensor
        Its numbers, ``(B, 7)``.
    """
    if change is not None:
        x, picture = change(torch.cat([x, picture.to(x)], 1), u).split([x.shape[1], picture.shape[1]], 1)
    return picture, given(x, cond, conditions)


def judge_of_pairs_loss(
    game: Objective, penalty: R1 | None, judge: nn.Module, y: Tensor, fake: Tensor, seen: Tensor
) -> Loss:
    """Return what the discriminator of pairs minimises.

    Parameters
    ----------
    game : objective of `gencore.gan.objectives`
        Its discriminator's side.
    penalty : R1, optional
        Added to it.
    judge : Module
        Gives logits for a picture and what is given.
    y, fake : Tensor
        Targets and translations ``(B, C, H, W)``, as `judged` returns them; the latter are held fixed.
    seen : Tensor
        What is given, ``(B, G, H, W)``.

    Returns
    -------
    Loss
        Parts ``real``, ``generated`` and ``accuracy``, or what the game has; and ``r1``.
    """
    players = Players(None, judge)
    loss = game.discriminator(players, y, seen, None, fake)  # equation 1 of pix2pix
    return loss if penalty is None else add_losses([loss, penalty.loss(players, y, seen, None, fake)])


def translation_loss(
    game: Objective,
    adversarial: float,
    l1: float,
    judge: nn.Module | None,
    y: Tensor,
    fake: Tensor,
    shown: tuple[Tensor, Tensor, Tensor] | None,
) -> Loss:
    """Return what the generator of pairs minimises: distance from the target, and what the discriminator says.

    Parameters
    ----------
    game : objective of `gencore.gan.objectives`
        Its generator's side.
    adversarial, l1 : float
        Weights of the two terms.
    judge : Module, optional
        Not asked if ``adversarial`` is 0.
    y, fake : Tensor
        Targets and translations ``(B, C, H, W)``.
    shown : tuple of Tensor, optional
        Target, translation and what is given, as `judged` returns them.

    Returns
    -------
    Loss
        Parts ``l1``, mean absolute difference in units of half the range of grey levels, and ``generator``.
    """
    distance = _distance(fake, y)  # equation 3 of pix2pix
    loss = Loss(l1 * distance, {"l1": distance})
    if not adversarial:
        return loss
    real, made, seen = shown
    says = game.generator(Players(None, judge), real, seen, None, made)
    return Loss(loss.total + adversarial * says.total, loss.parts | says.parts)  # equation 4 of pix2pix


def cross(networks: CycleNetworks, a: Tensor, b: Tensor, veil: float, draw: CycleDraw, identity: bool) -> Crossing:
    """Translate pictures of both kinds there and back; what goes back is not held to [-1, 1].

    Parameters
    ----------
    networks : CycleNetworks
        Both generators.
    a, b : Tensor
        Pictures ``(B, C, H, W)`` and ``(B, D, H, W)``.
    veil : float
        Standard deviation of the noise that is put on a translation before it is translated back.
    draw : CycleDraw
        The noise.
    identity : bool
        Whether each generator is also shown pictures of its target's kind, which takes C = D.
    """
    fake_b, fake_a = networks.there(torch.cat([a, b]) if identity else a), networks.back(
        torch.cat([b, a]) if identity else b
    )
    same_b = same_a = None
    if identity:
        (fake_b, same_b), (fake_a, same_a) = fake_b.chunk(2), fake_a.chunk(2)
    veiled_b, veiled_a = (fake_b + veil * draw.veil_b, fake_a + veil * draw.veil_a) if veil else (fake_b, fake_a)
    return Crossing(fake_b, fake_a, networks.back(veiled_b), networks.there(veiled_a), same_b, same_a)


def cycle_loss(a: Tensor, b: Tensor, crossing: Crossing, cycle: float, identity: float) -> Loss:
    """Return the price of not coming back (cycle consistency), and of changing what needs no change (identity).

    Parameters
    ----------
    a, b : Tensor
        The pictures.
    crossing : Crossing
        What was made of them.
    cycle : float
        Weight of the cycle terms. The paper's lambda is the weight beside squares that are not halved: with `LeastSquares`
        it is twice this weight over that of the game, so that 5 is the paper's 10.
    identity : float
        Weight of the identity terms, in the same units; half of ``cycle`` where the paper turns paintings into photographs.

    Returns
    -------
    Loss
        Parts ``cycle`` and, if it weighs something, ``identity``: mean absolute differences, added up over both kinds.
    """
    come_back = _distance(crossing.back_a, a) + _distance(crossing.back_b, b)  # equation 2 of CycleGAN
    loss = Loss(cycle * come_back, {"cycle": come_back})
    if not identity:
        return loss
    stay = _distance(crossing.same_b, b) + _distance(crossing.same_a, a)  # section 5.2
    return Loss(loss.total + identity * stay, loss.parts | {"identity": stay})


def cycle_generators_loss(
    game: Objective,
    judges: tuple[nn.Module, nn.Module],
    change: Augmentation | None,
    a: Tensor,
    b: Tensor,
    crossing: Crossing,
    draw: CycleDraw,
) -> Loss:
    """Return what the discriminators of both kinds say of the translations; parts ``generator_a`` and ``generator_b``.

    Equation 1 of CycleGAN, generator's side; with `LeastSquares`, section 4.
    """
    total, parts = 0.0, {}
    sides = ((judges[0], a, crossing.fake_a, 0, "a"), (judges[1], b, crossing.fake_b, 2, "b"))
    for judge, real, fake, row, name in sides:
        if change is not None:
            real, fake = change(real, draw.change[row]), change(fake, draw.change[row + 1])
        loss = game.generator(Players(None, judge), real, None, None, fake)
        total, parts = total + loss.total, parts | {f"generator_{name}": loss.total}
    return Loss(total, parts)


def cycle_judges_loss(
    game: Objective,
    penalty: R1 | None,
    judges: tuple[nn.Module, nn.Module],
    change: Augmentation | None,
    a: Tensor,
    b: Tensor,
    fake_a: Tensor,
    fake_b: Tensor,
    draw: CycleDraw,
) -> Loss:
    """Return what the discriminators of both kinds minimise; parts ``judge_a``, ``judge_b`` and, with a penalty, ``r1``."""
    total, parts = 0.0, {}
    for judge, real, fake, row, name in ((judges[0], a, fake_a, 0, "a"), (judges[1], b, fake_b, 2, "b")):
        if change is not None:
            real, fake = change(real, draw.change[row]), change(fake, draw.change[row + 1])
        loss = game.discriminator(Players(None, judge), real, None, None, fake)
        total, parts = total + loss.total, parts | {f"judge_{name}": loss.total}
        if penalty is not None:
            slope = penalty.loss(Players(None, judge), real, None, None, fake)
            total, parts["r1"] = total + slope.total, parts.get("r1", 0.0) + slope.parts["r1"]
    return Loss(total, parts)


def _distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean absolute difference, in the finer of both number formats."""
    return (made - wanted).abs().mean()
