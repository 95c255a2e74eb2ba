"""The loop: resuming, killing, splitting a batch over pieces and processes; what is shown and told; what options do."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from gencore import autoregressive, cli, families, zoo
from gencore.autoregressive import AutoregressiveRecipe, LogisticMixture, NextSymbol, Pixels, Sampling
from gencore.autoregressive.examples import encode, variants
from gencore.autoregressive.masked import MaskedSymbols
from gencore.autoregressive.sampling import build
from gencore.data import BinarisedMnist, Cifar10, Digits, Emoji, FashionMnist, Mnist, Shapes, to_float, to_uint8
from gencore.data.told import conditions
from gencore.errors import InputError
from gencore.networks.symbols import Grid
from gencore.training import checkpoint, rng
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss
from tests.autoregressive.tiny import CODED, COLOUR, HIDDEN, KINDS, PLAIN, SQUARES, TOLD, WRITERS, first_stage
from tests.comparing import assert_same, gradients_of, weights

each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def run(recipe, folder=None, **options):
    options = first_stage(recipe) | options
    for state in autoregressive.train(recipe, folder, device="cpu", **options):
        pass
    return state


def gradients(recipe):
    return gradients_of(lambda: run(recipe))


def same_gradients(ours, theirs):
    """The first step's, and a later one's; Adam moves equal weights slightly apart."""
    for step, slack in ((0, 1e-4), (-1, 2e-2)):
        for a, b in zip(ours[step], theirs[step], strict=True):
            torch.testing.assert_close(a, b, rtol=slack, atol=slack * max(1e-3, b.abs().max().item()))
    assert any(a.abs().max() > 1e-3 for a in theirs[0]) and all(a.any() for a in theirs[-1])


@each_kind
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = autoregressive.train(recipe, tmp_path / "halves", device="cpu", **first_stage(recipe))
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    resumed = run(recipe, tmp_path / "halves")
    assert resumed.images_seen == 96
    assert_same(weights(resumed), whole)
    assert any(key.startswith("ema.") and not torch.equal(value, whole[f"model.{key[4:]}"]) for key, value in whole.items())
    curves = [read_curve(tmp_path / folder / "curve.csv") for folder in ("whole", "halves")]
    ours, theirs = ([{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in curves)
    assert ours == theirs and len(ours) == 6


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """SIGKILL in the middle, through the command line; then the same command again. What was left draws pictures."""
    options = "--device cpu --images 4800 --batch-size 16 --checkpoint-every 320 --log-every 320 --precision fp32"
    options += " data:digits --data.size 8 network:pixel-cnn --network.width 8 --network.depth 1 --network.grid.size 8"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    def command(folder):
        name = "autoregressive.recipes.pixelcnn_digits"
        return [sys.executable, "-m", "gencore", "train", name, "--folder", folder, *options.split()]

    process = subprocess.Popen(command(killed), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not checkpoint.list_checkpoints(killed) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert int(checkpoint.list_checkpoints(killed)[-1].name) < 4800
    assert autoregressive.sample(autoregressive.load(killed), 2, 0).shape == (2, 1, 8, 8)
    for folder in (killed, whole):
        subprocess.run(command(folder), env=environment, check=True, stderr=subprocess.DEVNULL)
    for file in ("weights.safetensors", "ema.safetensors"):
        ends = [checkpoint.list_checkpoints(folder)[-1] for folder in (killed, whole)]
        assert ends[0].name == ends[1].name == "000000004800"
        assert_same(*(checkpoint.read_tensors(end / file) for end in ends))


@each_kind
@pytest.mark.parametrize("micro_batches", [4, 3, 5])  # of 16 images: also pieces of unequal size, and fewer than asked for
def test_micro_batches_give_the_gradients_of_one_batch(recipe, micro_batches):
    recipe = replace(recipe, images=64)
    whole, one = gradients(recipe)
    pieces, many = gradients(replace(recipe, micro_batches=micro_batches))
    assert len(whole) == len(pieces) == 4
    same_gradients(pieces, whole)
    assert many.losses == pytest.approx(one.losses, rel=1e-3)


def test_two_processes_train_what_one_does(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\nfrom dataclasses import replace\n"
        "from tests.autoregressive.test_loop import KINDS, gradients, weights\nfrom gencore.training import distributed\n"
        "found = {}\n"
        "for name, recipe in KINDS.items():\n"
        "    steps, state = gradients(replace(recipe, images=64, micro_batches=2))\n"
        "    found[name] = {'steps': steps, 'weights': weights(state), 'losses': state.losses}\n"
        "if distributed.rank() == 0: torch.save(found, sys.argv[1])\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*command, script, tmp_path / "two.pt"], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, recipe in KINDS.items():
        steps, state = gradients(replace(recipe, images=64))
        same_gradients(found[name]["steps"], steps)
        assert_same(found[name]["weights"], weights(state), rtol=1e-2, atol=1e-3)  # keys too: no trace of a wrapper
        assert found[name]["losses"] == pytest.approx(state.losses, rel=1e-3)


def test_a_nan_stops_the_run_names_the_step_and_is_not_saved(tmp_path):
    stream = autoregressive.train(replace(TOLD, log_every=48), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="'nats' became nan at step 4;"):
        list(stream)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["000000000048"]


def test_resume_refuses_another_recipe(tmp_path):
    run(replace(TOLD, images=16), tmp_path / "run")
    with pytest.raises(InputError, match="another recipe.*drop"):
        run(replace(TOLD, images=16, drop=0.5), tmp_path / "run")


@each_kind
def test_a_loaded_run_draws_what_its_average_draws(recipe, tmp_path):
    """And the family of a folder is known by its recipe."""
    mixture = isinstance(getattr(recipe.objective, "likelihood", None), LogisticMixture)
    recipe = replace(recipe, images=32, sampling=Sampling(0.8, *((1, 1) if mixture else (0.95, 2.0)), steps=3))
    given = first_stage(recipe)
    state = run(recipe, tmp_path / "run")
    family, found = families.read(tmp_path / "run")
    assert family is autoregressive and found == recipe and families.draws(family, recipe)
    loaded = autoregressive.load(tmp_path / "run", **given)
    assert torch.equal(autoregressive.sample(loaded, 3, 0), autoregressive.sample((state.averaged, recipe), 3, 0))
    assert not loaded[0].model.training and not any(p.requires_grad for p in loaded[0].model.parameters())


def test_the_command_line_lists_and_draws(tmp_path, monkeypatch, capsys):
    cli.list_all([])
    listed = capsys.readouterr().out
    ours = [name for name in families.recipes() if name.startswith("autoregressive.")]
    assert ours and all(name in listed for name in ours)
    run(replace(TOLD, images=16), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    cli.sample(["run", "--out", "a.png", "--count", "4", "--columns", "2"])
    pictures = to_uint8(autoregressive.sample(autoregressive.load("run"), 4, 0))[:, 0]
    with Image.open("a.png") as image:
        grid = torch.from_numpy(np.array(image.convert("L")))
    assert torch.equal(grid, torch.cat([torch.cat(list(pictures[:2]), 1), torch.cat(list(pictures[2:]), 1)]))


def test_replay_pictures_are_written_at_halvings(tmp_path):
    recipe = replace(TOLD, optimiser=replace(TOLD.optimiser, lr=0.1, warm_up=0))
    state = run(recipe, tmp_path / "run")
    paths = sorted((tmp_path / "run" / "replay").iterdir())
    assert [int(path.stem) for path in paths] == [16, 32, 48, 96]
    averaged, plain = (
        torch.cat(list(to_uint8(autoregressive.sample((networks, recipe), 16, recipe.seed))[:, 0]), 1)
        for networks in (state.averaged, state.networks)
    )
    assert torch.equal(torch.from_numpy(np.array(Image.open(paths[-1]))), averaged) and not torch.equal(averaged, plain)


def test_checkpoint_keys_are_the_same_compiled(monkeypatch):
    plain = weights(run(replace(TOLD, images=16)))
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compiled.append(self) or setattr(self, "_compiled_call_impl", self._call_impl)
    )
    assert weights(run(replace(TOLD, images=16), compile=True)).keys() == plain.keys()
    assert len(compiled) == 1


@pytest.fixture
def few_emoji(monkeypatch):
    """Some emoji of each style: codes of all would take minutes."""
    load = Emoji.load
    monkeypatch.setattr(Emoji, "load", lambda self, split: (data := load(self, split)).subset(torch.arange(0, len(data), 50)))


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("autoregressive.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name, emoji64, few_emoji):
    """Without weight decay, which would move what learns nothing; several full steps, for gates that start at zero."""
    recipe = families.recipes()[name]()
    if isinstance(recipe.data, (Mnist, BinarisedMnist, FashionMnist)):  # do not ship
        recipe = replace(recipe, data=Digits())
    if isinstance(recipe.data, Cifar10):
        recipe = replace(recipe, data=Shapes())
    if isinstance(recipe.data, Shapes):
        recipe = replace(recipe, data=replace(recipe.data, images=250))  # of so many, codes are made in a moment
    optimiser = replace(recipe.optimiser, weight_decay=0.0, warm_up=0)
    drop = 0.3 if recipe.told else 0.0
    recipe = replace(recipe, images=24, batch_size=4, log_every=4, optimiser=optimiser, drop=drop)
    before = {key: value.clone() for key, value in checkpoint.flatten(build(recipe)._asdict()).items()}
    trained = recipe.first_stage is None or recipe.first_stage in zoo.names()  # else one that is not
    state = run(recipe, **(families.passed_in_training(autoregressive, recipe) if trained else first_stage(recipe)))
    after = checkpoint.flatten(state.networks._asdict())
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(value.isfinite().all() for value in after.values())


def test_the_folder_of_a_model_of_codes_finds_its_first_stage_in_the_zoo(tmp_path, few_emoji):
    recipe = autoregressive.recipes.tokens_emoji()
    small = replace(recipe.network.writer, transformer=replace(recipe.network.writer.transformer, width=8, depth=1, heads=2))
    network = replace(recipe.network, writer=replace(small, grid=replace(small.grid, conditions=())))
    recipe = replace(recipe, network=network, told=(), drop=0.0, mirror=False, jitter=0, images=64)
    state = run(recipe, tmp_path, **families.passed_in_training(autoregressive, recipe))
    pictures = autoregressive.sample(families.load(tmp_path), 2, 0)
    assert pictures.shape == (2, 3, 32, 32)
    assert torch.equal(pictures, autoregressive.sample((state.averaged, recipe), 2, 0))


def test_the_first_stage_stays_as_it_is_and_is_not_saved_again(tmp_path):
    given = first_stage(CODED)
    before = {name: value.clone() for name, value in given["first_stage"].state_dict().items()}
    state = run(CODED, tmp_path, **given)
    for network in (state.networks.model, state.averaged.model):
        assert all(torch.equal(network.first.state_dict()[name], value) for name, value in before.items())
    assert not any("first" in key or "codebook" in key for key in weights(state))


def test_a_first_stage_is_asked_for_where_it_belongs(tmp_path):
    given = first_stage(CODED)["first_stage"]
    small = replace(CODED.network.first, autoencoder=replace(CODED.network.first.autoencoder, width=16))
    other = first_stage(replace(CODED, network=replace(CODED.network, first=small)))["first_stage"]
    run(replace(CODED, images=16), tmp_path / "coded")
    run(replace(TOLD, images=16), tmp_path / "pixels")
    for call in (lambda **k: run(CODED, **k), lambda **k: autoregressive.load(tmp_path / "coded", **k)):
        with pytest.raises(InputError, match="needs its first stage, the zoo's some_vqgan; pass it as first_stage"):
            call(first_stage=None)
        with pytest.raises(InputError, match="first stage: has other sizes"):
            call(first_stage=other)
    for call in (lambda **k: run(TOLD, **k), lambda **k: autoregressive.load(tmp_path / "pixels", **k)):
        with pytest.raises(InputError, match="first_stage: this network works on pixels, and takes none"):
            call(first_stage=given)
    assert autoregressive.first_stage(CODED) == "some_vqgan" and autoregressive.first_stage(TOLD) is None


@pytest.fixture
def seen(monkeypatch):
    """What the objective is given in each step."""
    calls, original = [], NextSymbol.__call__

    def spy(self, networks, symbols, cond, draw):
        calls.append((symbols, cond, draw))
        return original(self, networks, symbols, cond, draw)

    monkeypatch.setattr(NextSymbol, "__call__", spy)
    return calls


def batches(recipe):
    """The stream as it is, by the seed and the images seen: pictures, and what is known of them."""
    data = recipe.data.load("train")
    table = conditions(recipe, data)
    for seen in range(0, recipe.images, recipe.batch_size):
        epoch, first = divmod(seen, len(data))
        order = torch.randperm(len(data), generator=rng.generator(recipe.seed, epoch, "order"))
        index = order[first : first + recipe.batch_size]
        yield to_float(data.images[index]), table[index]


ALL_GREYS = Grid(8, levels=256, named=True, conditions=(10, 2))
GREY = replace(TOLD, network=WRITERS["transformer"](ALL_GREYS), pixels=Pixels(), augmentation=None)


def test_mirrored_pictures_are_told_as_such(seen):
    """Half of them; the others come as they are, and are told as that; also those told nothing else."""
    recipe = replace(GREY, images=480, batch_size=96, log_every=480, drop=0.5)
    run(recipe)
    share = 0
    for (symbols, cond, _), (x, _) in zip(seen, batches(recipe), strict=True):
        mirrored, original = cond[:, 1] == 1, recipe.pixels.write(x)
        assert torch.equal(symbols[mirrored], original[mirrored].flip(3))
        assert torch.equal(symbols[~mirrored], original[~mirrored])
        assert cond[:, 1].max() == 1
        share += mirrored.float().mean().item() / len(seen)
    assert share == pytest.approx(0.5, abs=0.1)
    told = torch.cat([cond for _, cond, _ in seen])
    kinds = set(zip((told[:, 0] == 10).tolist(), told[:, 1].tolist(), strict=True))
    assert kinds == {(False, 0), (False, 1), (True, 0), (True, 1)}


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.6])
def test_a_share_of_pictures_is_told_nothing(seen, drop):
    """All conditions of a picture are hidden at once, or none; and those that are not hidden are right."""
    grid = replace(COLOUR.network.grid, conditions=(8, 2, 2))
    network, data = replace(COLOUR.network, grid=grid, depth=1), Emoji(("noto", "twemoji"), size=8)
    recipe = replace(COLOUR, data=data, network=network, told=("class", "style"), drop=drop)
    recipe = replace(recipe, images=1200, batch_size=600, log_every=1200)
    run(recipe)
    for (_, cond, _), (_, true) in zip(seen, batches(recipe), strict=True):
        hidden = cond[:, 0] == 8
        assert torch.equal(cond[hidden, 1], torch.full_like(cond[hidden, 1], 2))
        assert torch.equal(cond[~hidden, :2], true[~hidden])
        assert hidden.float().mean().item() == pytest.approx(drop, abs=4 * (drop * (1 - drop) / 600) ** 0.5)
        assert set(cond[:, 2].tolist()) == {0, 1}
    hidden = [(cond[:, 0] == 8) for _, cond, _ in seen]
    assert drop == 0 or not torch.equal(*hidden)


def test_what_is_random_is_drawn_apart(seen):
    """Each step draws anew, and no draw is another one's."""
    network = replace(WRITERS["transformer"](SQUARES), drop=0.2)
    recipe = replace(TOLD, network=network, images=64, log_every=64)
    run(recipe)
    assert len({draw.dropped[0, 0, 0, 0].item() for *_, draw in seen}) == 4
    for number, ((symbols, cond, draw), (x, _)) in enumerate(zip(seen, batches(recipe), strict=True)):
        u = {p: rng.uniform((16,), recipe.seed, 16 * number, p) for p in ("drop", "mirror")}
        assert torch.equal(cond[:, 0] == 10, u["drop"] < 0.3) and torch.equal(cond[:, 1] == 1, u["mirror"] < 0.5)
        dropped = rng.uniform((16, *network.noise_shape), recipe.seed, 16 * number, "dropout")
        assert torch.equal(draw.dropped, dropped) and draw.dropped.shape == (16, 2, 2, 8)
        shown = torch.where((cond[:, 1] == 1)[:, None, None, None], x.flip(3), x)
        white = rng.uniform((16, 1, 8, 8), recipe.seed, 16 * number, "augmentation") < (shown + 1) / 2
        assert torch.equal(symbols, recipe.pixels.write(2 * white.float() - 1))


def test_each_picture_is_binarised_anew_whenever_it_is_seen(seen, monkeypatch):
    """With its grey as the probability of white."""
    some = Digits(8).load("train").subset(torch.arange(500))
    monkeypatch.setattr(Digits, "load", lambda self, split: some)
    run(replace(PLAIN, images=4000, batch_size=500, log_every=4000))
    pictures = []
    for epoch, (symbols, *_) in enumerate(seen):
        order = torch.randperm(500, generator=rng.generator(PLAIN.seed, epoch, "order"))
        pictures.append(symbols[order.argsort()])
    white, grey = torch.stack(pictures).float(), some.images / 255
    assert set(white.unique().tolist()) == {0, 1} and not torch.equal(white[0], white[1])
    assert (white == white[0])[:, (grey == 0) | (grey == 1)].all()
    middle = (grey > 0.4) & (grey < 0.6)
    assert white[:, middle].mean() == pytest.approx(0.5, abs=0.02)
    assert (white[0] != white[1])[middle].float().mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_recipe_without_conditions_tells_nothing_and_leaves_nothing_out(seen):
    run(replace(PLAIN, images=16))
    ((_, cond, draw),) = seen
    assert cond.shape == (16, 0) and draw.dropped is None


def test_pictures_are_shifted_each_way_and_their_edge_is_repeated():
    """Place by place: a shifted picture shows at each place what lay so far away, or the nearest there is."""
    x = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    shown = variants(x, mirror=True, jitter=1)
    assert len(shown) == 18 and len(variants(x, True, 0)) == 2 and len(variants(x, False, 2)) == 25
    for number, each in enumerate(shown):
        mirrored, (down, right) = number // 9, divmod(number % 9, 3)
        source = x.flip(3) if mirrored else x
        rows = (torch.arange(4) + down - 1).clamp(0, 3)
        columns = (torch.arange(5) + right - 1).clamp(0, 4)
        assert torch.equal(each, source[:, :, rows][:, :, :, columns])
    assert torch.equal(variants(x, False, 0)[0], x)


def test_codes_are_those_of_the_pictures_as_they_are_shown(seen):
    """Shifted and mirrored before they are encoded, by the step's own numbers; each shift is as frequent as any other."""
    recipe = replace(CODED, jitter=1, images=600, batch_size=300, log_every=600)
    given = first_stage(recipe)
    run(recipe, **given)
    shifts = []
    for number, ((symbols, cond, _), (x, _)) in enumerate(zip(seen, batches(recipe), strict=True)):
        assert torch.equal(cond[:, 1] == 1, rng.uniform((300,), recipe.seed, 300 * number, "mirror") < 0.5)
        shift = (9 * rng.uniform((300,), recipe.seed, 300 * number, "jitter")).long()
        shown = torch.stack(variants(x, True, 1))[9 * cond[:, 1] + shift, torch.arange(300)]
        codes = given["first_stage"].encode(shown)[:, None]
        assert (codes == symbols).float().mean() > 0.999  # but for ties, which rounding decides
        assert (given["first_stage"].encode(x)[:, None] == symbols).float().mean() < 0.8, "the codes are all alike"
        shifts.append(shift)
    assert torch.cat(shifts).bincount(minlength=9).min() > 35 and not torch.equal(*shifts)


def test_encoding_does_not_depend_on_how_many_at_once():
    networks = build(CODED)
    networks.model.adopt(first_stage(CODED)["first_stage"])
    x = to_float(CODED.data.load("train").images[:21])
    codes = encode(networks.model, x)
    assert codes.shape == (21, 1, 4, 4) and codes.dtype == torch.int64 and not codes.requires_grad
    assert torch.equal(encode(networks.model, x, batch_size=4), codes)


CHANGES = [
    dict(data=Digits(12), network=WRITERS["gated"](replace(SQUARES, size=6))),
    dict(network=WRITERS["transformer"](SQUARES)),
    dict(network=replace(TOLD.network, width=16)),
    dict(network=replace(TOLD.network, depth=1)),
    dict(network=replace(TOLD.network, kernel=5)),
    dict(network=WRITERS["gated"](replace(SQUARES, named=False))),
    dict(pixels=Pixels(2), network=WRITERS["gated"](Grid(8, conditions=(10, 2)))),
    dict(pixels=Pixels(16), augmentation=None, network=WRITERS["gated"](Grid(8, levels=16, conditions=(10, 2)))),
    dict(told=(), drop=0.0, network=WRITERS["gated"](replace(SQUARES, conditions=(2,)))),
    dict(drop=0.0),
    dict(mirror=False, network=WRITERS["gated"](replace(SQUARES, conditions=(10,)))),
    dict(augmentation=None),
    dict(optimiser=replace(TOLD.optimiser, lr=2e-3)),
    dict(optimiser=replace(TOLD.optimiser, weight_decay=1.0)),
    dict(optimiser=replace(TOLD.optimiser, warm_up=64)),
    dict(optimiser=replace(TOLD.optimiser, beta1=0.5)),
    dict(optimiser=replace(TOLD.optimiser, beta2=0.5)),
    dict(images=112),
    dict(batch_size=32),
    dict(clip=0.1),
    dict(precision="bf16"),
    dict(seed=1),
]
MIXED, SCALES, THREE = KINDS["mixture of three colours"], KINDS["scales"], NextSymbol(LogisticMixture(3))
DROPPING = replace(TOLD, network=replace(WRITERS["transformer"](SQUARES), drop=0.3))
MORE_CHANGES = [
    (DROPPING, dict(network=WRITERS["transformer"](SQUARES))),
    (DROPPING, dict(network=replace(DROPPING.network, near=0))),
    (CODED, dict(jitter=1)),
    *((each, dict(network=replace(each.network, writer=replace(each.network.writer, drop=0.0)))) for each in (CODED, HIDDEN)),
    (SCALES, dict(network=replace(SCALES.network, writer=replace(SCALES.network.writer, drop=0.0)))),
    (HIDDEN, dict(objective=MaskedSymbols(0.1))),
    (MIXED, dict(network=replace(MIXED.network, grid=replace(MIXED.network.grid, outputs=30)), objective=THREE)),
    *((MIXED, dict(network=replace(MIXED.network, **{name: 3}))) for name in ("width", "blocks")),
    (MIXED, dict(network=replace(MIXED.network, resolutions=1))),
    (KINDS["row lstm"], dict(network=replace(KINDS["row lstm"].network, layer=KINDS["diagonal"].network.layer))),
]


@pytest.fixture(scope="module")
def plainly():
    return run(TOLD).losses


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_every_option_changes_the_loss(plainly, change):
    found = run(replace(TOLD, **change)).losses
    assert found != plainly and found.keys() == plainly.keys()


@pytest.mark.parametrize(("recipe", "change"), MORE_CHANGES, ids=repr)
def test_options_of_other_kinds_change_the_loss(recipe, change):
    assert run(replace(recipe, **change)).losses != run(recipe).losses


def test_no_option_was_forgotten():
    """All but what decides how a batch is cut, what is averaged and written, and how one draws."""
    elsewhere = {"micro_batches", "ema_half_life", "log_every", "checkpoint_every", "sampling", "first_stage"}
    changed = {name for change in [*CHANGES, *(change for _, change in MORE_CHANGES)] for name in change}
    assert {field.name for field in fields(AutoregressiveRecipe)} == elsewhere | changed


def test_the_half_life_changes_the_average_and_nothing_else():
    a, b = weights(run(TOLD)), weights(run(replace(TOLD, ema_half_life=1)))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("ema."))
    assert all(torch.equal(a[key], b[key]) for key in a if not key.startswith("ema."))


def test_data_that_do_not_fit_the_conditions_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="network.conditions: class has 10 values or more, the network 4"):
        run(replace(TOLD, network=WRITERS["gated"](replace(SQUARES, conditions=(4, 2)))), tmp_path / "run")
    assert not (tmp_path / "run").exists()
