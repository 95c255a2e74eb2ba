"""Benchmarks run, say what they time, and lie beside their last result."""

import ast
import math
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import diffusion_sample, diffusion_step, gan_step, turns, vae_step
from gencore import diffusion
from gencore.data import Digits
from gencore.diffusion.process import Linear, add_noise
from gencore.networks.dcgan import DCGAN

FOLDER = Path(gan_step.__file__).parent


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*_*.py")), ids=lambda path: path.stem)
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


@pytest.mark.parametrize("name", diffusion_step.RECIPES)
def test_our_side_of_the_diffusion_step_trains(name):
    recipe = replace(diffusion_step.RECIPES[name], batch_size=16, log_every=32)
    assert next(diffusion_step.ours(recipe)).images_seen == 32


@pytest.mark.parametrize("name", diffusion_step.RECIPES)
def test_the_peers_of_the_diffusion_step_read_the_training_pictures(name):
    recipe = diffusion_step.RECIPES[name]
    pictures, images = list(diffusion_step.as_pictures(recipe)), recipe.data.load("train").images
    assert len(pictures) == len(images)
    assert (np.array(pictures[7]) == images[7].permute(1, 2, 0).squeeze(2).numpy()).all()


def test_operations_of_a_diffusion_step_grow_with_the_batch_and_the_square_of_the_width():
    recipe = diffusion_step.RECIPES["digits"]
    less, more = (diffusion_step.operations(replace(recipe, batch_size=size)) for size in (2, 4))
    assert more == 2 * less
    thin = replace(recipe.network, unet=replace(recipe.network.unet, width=16))
    wide = replace(recipe.network, unet=replace(recipe.network.unet, width=32))
    ratio = diffusion_step.operations(replace(recipe, network=wide)) / diffusion_step.operations(
        replace(recipe, network=thin)
    )
    assert 3 < ratio < 4  # nearly all are of convolutions between maps whose widths doubled


def test_shares_are_of_the_rate_of_the_product(capsys):
    flops = 2 * diffusion_step.SIDE**3
    times = {"a": [(40.0, 1.0), (20.0, 1.0)], "product": [(10.0, 1.0), (30.0, 1.0)]}
    diffusion_step.report_shares(times, flops)
    said = capsys.readouterr().out
    assert f"{flops / 1e7:.0f} GFLOP/s; a step has {flops / 1e9:.1f} GFLOP" in said
    assert f"a: {flops / 2e7:.0f} GFLOP/s, 50% of that" in said


def test_our_side_of_the_sampling_benchmark_draws_blocks():
    drawn = next(diffusion_sample.blocks("ours", 2))
    assert drawn.shape == (diffusion_sample.BLOCK, 1, 28, 28) and drawn.dtype == torch.uint8


def test_a_lent_network_answers_with_the_noise_of_the_other_process():
    """A network that knows x and eps, and gives the velocity only where it is shown what lies on the straight line."""
    x, eps = torch.randn(2, 5, 1, 28, 28, generator=torch.Generator().manual_seed(0))

    class Knowing(nn.Module):
        def forward(self, x_t, t, cond=None):
            torch.testing.assert_close(x_t, add_noise(diffusion.Flow(), x, eps, t), atol=1e-5, rtol=1e-5)
            return eps - x

    process, steps = Linear(), torch.arange(1, 1001) / 1000
    model = diffusion.Networks(Knowing()), diffusion_step.RECIPES["digits"]
    lent = diffusion_sample.Lent(model, process.alpha(steps) ** 2)
    for step in (0, 20, 500, 980, 999):
        x_t = add_noise(process, x, eps, steps[step])
        torch.testing.assert_close(lent(x_t, torch.tensor(step)), eps, atol=1e-4, rtol=1e-4)


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


def nap(seconds):
    """A loop for a process of its own, which expects the number of threads that it was given."""
    assert torch.get_num_threads() == 1
    while True:
        time.sleep(seconds)
        yield


def test_a_loop_in_a_process_of_its_own_is_timed_there():
    loop = turns.Apart(1, False, nap, 0.2)
    times = turns.in_turns({"nap": loop}, steps=2, rounds=1)
    loop.close()
    ((wall, cores),) = times["nap"]
    assert wall >= 100 and cores < 50
    assert not loop._process.is_alive()


def test_a_loop_that_fails_in_its_process_ends_the_benchmark():
    loop = turns.Apart(2, False, nap, 0.2)
    with pytest.raises(EOFError):
        loop.advance()
    loop.close()


def test_speeds_are_compared_within_a_round():
    """A slow round slows both sides: the median of ratios does not see it, a ratio of means would."""
    times = {"a": [(1.0, 1.0), (10.0, 10.0), (1.0, 1.0)], "b": [(2.0, 2.0), (40.0, 40.0), (2.0, 3.0)]}
    assert turns.compare(times, "a", "b") == (3.0, 2.0)
