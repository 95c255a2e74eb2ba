"""Benchmarks run, say what they time, and lie beside their last result."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gan_step, turns, vae_step
from gencore.data import Digits
from gencore.networks.dcgan import DCGAN

FOLDER = Path(gan_step.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_step.py")), ids=lambda path: path.stem)
def test_a_benchmark_names_its_peer_and_has_a_last_result(path):
    said = ast.get_docstring(ast.parse(path.read_text("utf-8")))
    assert "https://" in said and f"{path.stem}.txt" in said
    result = path.with_suffix(".txt").read_text("utf-8")
    assert "torch" in result and "thread" in result and "batch" in result


def test_both_sides_of_the_gan_step_train():
    recipe = replace(
        gan_step.RECIPE, data=Digits(14), network=DCGAN(size=14, latent=8, width=8), batch_size=16, log_every=32
    )
    run, numbers = next(gan_step.ours(recipe)), next(gan_step.peer(recipe))
    assert run.images_seen == 32
    assert run.losses["real"] + run.losses["generated"] == pytest.approx(math.log(4), rel=0.1)
    assert numbers["d"] == pytest.approx(math.log(4), rel=0.1)
    assert run.losses["generator"] == pytest.approx(numbers["g"], rel=0.1)


def test_our_side_of_the_vae_step_trains():
    recipe = replace(vae_step.RECIPES["digits"], batch_size=16, log_every=32)
    assert next(vae_step.ours(recipe)).images_seen == 32


def test_loops_are_timed_in_turns_and_the_first_round_does_not_count(monkeypatch):
    clock, order = [0.0], []

    def loop(name, seconds):
        while True:
            order.append(name)
            clock[0] += seconds
            yield

    monkeypatch.setattr(turns.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(turns.time, "process_time", lambda: 2 * clock[0])
    times = turns.in_turns({"a": loop("a", 1.0), "b": loop("b", 3.0)}, steps=10, rounds=2)
    assert order == ["a", "b"] * 3
    assert times["a"] == [(100.0, 200.0)] * 2 and times["b"] == [(300.0, 600.0)] * 2
    assert turns.compare(times, "a", "b") == (3.0, 3.0)


def test_speeds_are_compared_within_a_round():
    """A slow round slows both sides: the median of ratios does not see it, a ratio of means would."""
    times = {"a": [(1.0, 1.0), (10.0, 10.0), (1.0, 1.0)], "b": [(2.0, 2.0), (40.0, 40.0), (2.0, 3.0)]}
    assert turns.compare(times, "a", "b") == (3.0, 2.0)
