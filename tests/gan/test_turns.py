"""Who has a turn when, and what is due in it."""

from dataclasses import dataclass

from gencore.gan.objectives import Hinge
from gencore.gan.penalties import R1, R2, Codes, GradientPenalty, PathLength
from gencore.gan.turns import turns


@dataclass(frozen=True)
class Game:
    objective: Hinge = Hinge()
    penalties: tuple = ()
    generator_every: int = 1


def due(game, player):
    """What is due for a player in the first twelve steps: names of the losses' owners."""
    return [[type(loss.__self__).__name__ for loss in getattr(turns(game, step), player)] for step in range(12)]


def test_both_players_have_a_turn_in_each_step():
    assert due(Game(), "discriminator") == due(Game(), "generator") == [["Hinge"]] * 12
    step = turns(game := Game(), 0)
    assert step.discriminator == [game.objective.discriminator] and step.generator == [game.objective.generator]


def test_the_generator_may_sit_out():
    game = Game(generator_every=5)
    assert due(game, "discriminator") == [["Hinge"]] * 12
    assert [step for step, losses in enumerate(due(game, "generator")) if losses] == [0, 5, 10]


def test_penalties_come_at_their_steps_for_their_players():
    game = Game(penalties=(R1(every=4), GradientPenalty(every=1), PathLength(every=3), R2(every=6)))
    found = due(game, "discriminator")
    assert found[0] == ["Hinge", "R1", "GradientPenalty", "R2"]
    assert found[4] == found[8] == ["Hinge", "R1", "GradientPenalty"] and found[6] == ["Hinge", "GradientPenalty", "R2"]
    assert all(found[step] == ["Hinge", "GradientPenalty"] for step in (1, 2, 3, 5, 7, 9, 10, 11))
    paths = [["Hinge", "PathLength"], ["Hinge"], ["Hinge"]] * 4
    assert due(game, "generator") == paths
    assert turns(game, 0).generator[1] == game.penalties[2].loss


def test_codes_are_written_only_in_the_generators_turns():
    game = Game(penalties=(Codes(every=2),), generator_every=3)
    assert due(game, "discriminator") == [["Hinge", "Codes"], ["Hinge"]] * 6
    written = [step for step, losses in enumerate(due(game, "generator")) if "Codes" in losses]
    assert written == [0, 6]  # its turns are steps 0, 3, 6 and 9
    assert due(game, "generator")[3] == ["Hinge"] and due(game, "generator")[2] == []


def test_a_penalty_counts_its_players_own_turns():
    """The generator has its turns at steps 0, 2, 4, ...; paths are measured in every third of them."""
    game = Game(penalties=(PathLength(every=3), R1(every=3)), generator_every=2)
    assert [step for step, losses in enumerate(due(game, "generator")) if "PathLength" in losses] == [0, 6]
    assert [step for step, losses in enumerate(due(game, "discriminator")) if "R1" in losses] == [0, 3, 6, 9]
    game = Game(penalties=(PathLength(every=2),), generator_every=2)  # by steps it would be due in each turn
    assert [step for step, losses in enumerate(due(game, "generator")) if "PathLength" in losses] == [0, 4, 8]
