"""Whose turn it is in a step of the game, and what each player then minimises."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from gencore.gan.objectives import Hinge, LeastSquares, NonSaturating, Relativistic, Saturating, Wasserstein
from gencore.gan.penalties import R1, R2, Codes, GradientPenalty, PathLength
from gencore.training.loss import Loss

Objective = NonSaturating | Saturating | LeastSquares | Hinge | Wasserstein | Relativistic
Penalties = tuple[GradientPenalty | R1 | R2 | PathLength | Codes, ...]


class Game(Protocol):
    """What a recipe says of the game."""

    objective: Objective
    penalties: Penalties
    generator_every: int


class Turns(NamedTuple):
    """The losses that each player adds up in a step.

    Attributes
    ----------
    discriminator, generator : list of callable
        Functions of networks, data, conditions, draw and generated data; none for a player who sits the step out.
    """

    discriminator: list[Callable[..., Loss]]
    generator: list[Callable[..., Loss]]


def turns(game: Game, step: int) -> Turns:
    """Return the turns of a step, numbered from 0: in step 0 everything is due."""
    due = Turns([game.objective.discriminator], [])
    turn = {"discriminator": step, "generator": step // game.generator_every}  # how many the player has had
    if step % game.generator_every == 0:
        due.generator.append(game.objective.generator)
    for penalty in game.penalties:
        for player in penalty.players:
            losses = getattr(due, player)
            if losses and turn[player] % penalty.every == 0:  # who sits a step out sits it out whole
                losses.append(penalty.loss)
    return due
