"""Benchmarks run, say what they time, and lie beside their last result."""

import ast
import math
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import gan_step
from gencore.data import Digits
from gencore.networks.dcgan import DCGAN

FOLDER = Path(gan_step.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.py")), ids=lambda path: path.stem)
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
