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

from benchmarks import (
    autoregressive_sample,
    autoregressive_step,
    diffusion_sample,
    diffusion_step,
    gan_step,
    turns,
    vae_step,
)
from gencore import autoregressive, diffusion
from gencore.autoregressive.sampling import build
from gencore.data import Digits
from gencore.diffusion.process import Linear, add_noise
from gencore.networks.dcgan import DCGAN
from gencore.networks.gated_pixelcnn import GatedPixelCNN
from gencore.networks.image_transformer import ImageTransformer
from gencore.networks.pixelcnn import PixelCNN
from gencore.networks.symbols import Grid
from gencore.networks.transformer import Transformer

FOLDER = Path(gan_step.__file__).parent
WRITERS = {  # small ones of the kinds that autoregressive benchmarks time
    "PixelCNN": PixelCNN(Grid(14), width=8, depth=2),
    "gated PixelCNN": GatedPixelCNN(Grid(14), width=8, depth=2),
    "transformer": ImageTransformer(Grid(14), Transformer(16, 2, 2, causal=True), near=1),
}


def writing(name):
    """A recipe that trains a small writer."""
    return replace(autoregressive_step.SHARED, data=Digits(14), network=WRITERS[name], batch_size=16)


def writer(name):
    """A small writer whose parameters, masked ones too, are all of a size that shows in what it says."""
    network, generator = build(writing(name)).model, torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


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


@pytest.mark.parametrize("name", WRITERS)
def test_both_sides_of_the_autoregressive_step_compute_one_function(name):
    """The same logits, loss and gradients, wherever a weight is not masked; ours is asked first: the peer masks in place."""
    network = writer(name)
    symbols = torch.randint(2, (3, 1, 14, 14), generator=torch.Generator().manual_seed(1))
    logits = network(symbols)
    draw = autoregressive.Draw()
    nats = autoregressive.NextSymbol()(autoregressive.Networks(network), symbols, None, draw).parts["nats"]
    of_ours = torch.autograd.grad(nats, list(network.parameters()))

    theirs = autoregressive_step.RESTATED[type(network)](network)
    assert {id(p) for p in theirs.parameters()} == {id(p) for p in network.parameters()}
    restated = theirs(symbols.float())
    torch.testing.assert_close(restated, logits, atol=1e-5, rtol=1e-4)
    loss = autoregressive_step.surprise(symbols.float(), restated)
    torch.testing.assert_close(loss, nats)
    of_peer = torch.autograd.grad(loss, list(network.parameters()))
    for (key, _), a, b in zip(network.named_parameters(), of_ours, of_peer, strict=True):
        seen = dict(network.named_buffers()).get(key.replace("weight", "mask"), torch.ones(()))
        torch.testing.assert_close(b * seen, a, atol=2e-4, rtol=1e-3)


def test_the_restated_transformer_attends_by_hand(monkeypatch):
    def fused(*arguments, **options):
        raise AssertionError("attention was left to PyTorch")

    network, symbols = writer("transformer"), torch.zeros(1, 1, 14, 14, dtype=torch.int64)
    monkeypatch.setattr("gencore.networks.transformer.scaled_dot_product_attention", fused)
    assert autoregressive_step.MapTransformer(network)(symbols.float()).shape == (1, 2, 14, 14)
    with pytest.raises(AssertionError, match="left to PyTorch"):
        network(symbols)


@pytest.mark.parametrize("name", WRITERS)
def test_both_sides_of_the_autoregressive_step_train(name):
    """With the same first weights both sides find digits equally surprising, and the peer's step brings that down too."""
    recipe = replace(writing(name), log_every=16)  # of the first block, no more than the batch before any step
    run = next(autoregressive_step.ours(recipe))
    assert run.images_seen == 16
    for restated in (True, False):
        blocks = autoregressive_step.peer(recipe, restated, workers=0)
        first = next(blocks)["loss"]
        assert first == pytest.approx(run.losses["nats"], rel=0.1)
        for _ in range(10):
            last = next(blocks)["loss"]
        assert last < 0.95 * first


def test_the_peers_pictures_are_training_digits_drawn_in_black_and_white():
    recipe = autoregressive_step.SHARED
    pictures, data = autoregressive_step.Pictures(recipe), recipe.data.load("train")
    grey, drawn = data.images[7] / 255, torch.stack([pictures[7][0] for _ in range(400)])
    assert len(pictures) == len(data) and pictures[7][1] == data.labels[7]
    assert drawn.shape[1:] == (1, 28, 28) and drawn.unique().tolist() == [0, 1]
    torch.testing.assert_close(drawn.mean(0), grey, atol=0.15, rtol=0)  # six standard errors


def test_the_deep_pixelcnn_has_the_size_of_the_peers():
    """Its default experiment: a kernel of 7, 15 blocks of 32 channels and 16 inside, a head of 32; one logit, ours has two."""
    block = (32 * 16 + 16) + (16 * 16 * 9 + 16) + (16 * 32 + 32)
    theirs = (49 * 32 + 32) + 15 * block + (32 * 32 + 32) + (32 + 1)
    network = build(autoregressive_step.RECIPES["PixelCNN, peer's sizes"]).model
    assert sum(p.numel() for p in network.parameters()) == theirs + 32 + 1


def test_a_process_goes_through_all_recipes_and_numbers_of_threads():
    def loop(recipe, word):
        for number in range(10):
            yield torch.get_num_threads(), recipe, word, number

    before = torch.get_num_threads()
    seen = list(autoregressive_step.through(["a", "b"], [2, 1], 2, loop, "x"))
    torch.set_num_threads(before)
    assert seen == [(threads, recipe, "x", number) for threads in (2, 1) for recipe in "ab" for number in range(2)]


@pytest.mark.parametrize("bf16", [True, False])
def test_the_autoregressive_step_prints_its_table(bf16, capsys, monkeypatch):
    """All loops in this process, none with workers, one step each."""
    monkeypatch.setattr(autoregressive_step, "RECIPES", {"small": writing("PixelCNN")})
    monkeypatch.setattr(autoregressive_step, "Apart", lambda threads, keep_memory, loop, *arguments: loop(*arguments))
    monkeypatch.setattr(autoregressive_step, "has_bf16", lambda: bf16)
    monkeypatch.setattr(autoregressive_step.os, "cpu_count", lambda: 0)
    monkeypatch.setattr("sys.argv", ["autoregressive_step", "--threads", "1", "--steps", "1", "--rounds", "1"])
    before = torch.get_num_threads()
    autoregressive_step.main()
    torch.set_num_threads(before)
    said = capsys.readouterr().out
    assert "1 thread; torch" in said and "batch 16; 1 rounds of 1 steps each" in said
    assert said.count("ours fp32 is") == 3 and said.count("ours bf16 is") == 3 * bf16
    assert said.count("pictures a second") == 1 and ("bf16 was not timed" in said) != bf16


@pytest.mark.parametrize("name", WRITERS)
def test_cached_and_naive_drawing_give_the_same_symbols(name):
    network = writer(name)
    u = autoregressive_sample.uniform(network, 3)
    with torch.inference_mode():
        cached, naive = autoregressive_sample.cached(network, u), autoregressive_sample.naive(network, u)
        assert (cached == naive).all() and 0.2 < cached.float().mean() < 0.8
        some = autoregressive_sample.naive(network, u, 5)
        assert (some.flatten(1)[:, :5] == naive.flatten(1)[:, :5]).all() and not some.flatten(1)[:, 5:].any()
        assert autoregressive_sample.differing(network, cached, u) == 0
        cached[1, 0, 13, 13] = 1 - cached[1, 0, 13, 13]  # the last place, which no other sees
        assert autoregressive_sample.differing(network, cached, u) == 1


def test_naive_seconds_are_scaled_to_all_places(monkeypatch):
    """A network of one second a pass, which draws 196 places: 196 seconds, shared by the pictures of a batch."""
    clock, network = [0.0], writer("PixelCNN")

    def slow(*arguments):
        clock[0] += 1

    network.register_forward_hook(slow)
    monkeypatch.setattr(autoregressive_sample.time, "perf_counter", lambda: clock[0])
    with torch.inference_mode():
        assert autoregressive_sample.seconds_naive(network, 1, 4) == 196 / 4


def test_the_best_of_each_way_to_draw_stand_against_each_other(capsys, monkeypatch):
    spent = {(1, 2): 8.0, (2, 2): 6.0, (1, 4): 10.0, (2, 4): 7.0}
    monkeypatch.setattr(autoregressive_sample, "seconds_naive", lambda network, threads, batch: spent[threads, batch])
    quick = {key: seconds / key[0] ** 2 / key[1] for key, seconds in spent.items()}
    monkeypatch.setattr(autoregressive_sample, "seconds_cached", lambda network, threads, batch: quick[threads, batch])
    autoregressive_sample.compare("small", writer("PixelCNN"), [1, 2], [2, 4], [2, 4])
    said = capsys.readouterr().out
    assert "naive 6.00 s (batch 2, threads: 2), cached 0.438 s (batch 4, threads: 2): 14 times as fast" in said
    assert "naive, 1 thread, seconds a picture by batch size: 2 8.00; 4 10.0" in said
    pictures = autoregressive_sample.COMPARED
    both = pictures * autoregressive_sample.PLACES
    assert f"symbols that differ: 0 of {both} that both drew, 0 of {pictures * 196:,} beside" in said


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
