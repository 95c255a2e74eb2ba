"""The loop: resuming, splitting a batch over pieces and processes; what is hidden and mirrored; what options do."""

import os
import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from PIL import Image

from gencore import diffusion, families, vae, zoo
from gencore.data import Digits, Emoji, Mnist, Shapes, to_float, to_uint8, wording
from gencore.data.shapes import CAPTION_LENGTH, END, VOCABULARY, encode
from gencore.diffusion import (
    EDM, Cosine, Denoising, DiffusionRecipe, EDMWeight, Linear, LogisticNormalTimes, MinSNR, Sampling, UniformTimes,
)
from gencore.diffusion.sampling import build, conditions
from gencore.errors import InputError
from gencore.networks.denoising import DenoisingUNet
from gencore.networks.dit import DiT
from gencore.networks.text import TextEncoder
from gencore.networks.text_unet import TextUNet
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.training import checkpoint, rng
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss
from gencore.training.optimiser import AdamW
from tests.comparing import assert_same, gradients_of, weights

UNET = UNet(1, width=8, multipliers=(1, 2), embedding=8, patch=2, heads=2, finish=4)
TINY = DiffusionRecipe(
    data=Digits(),
    network=DenoisingUNet(28, UNET, (10, 2)),
    told=("class",),
    drop=0.3,
    mirror=True,
    sampling=Sampling("euler", steps=2),
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)
PLAIN = replace(TINY, network=DenoisingUNet(28, UNET), told=(), mirror=False)
NOISE = replace(
    PLAIN, process=Linear(), prediction="eps", objective=Denoising(weight=MinSNR()), sampling=Sampling("ancestral", steps=2)
)
READER = TextEncoder(len(VOCABULARY), CAPTION_LENGTH, Transformer(8, 1, 2))
READING = replace(
    TINY,
    data=Shapes(size=16, images=64),
    network=TextUNet(16, replace(UNET, channels=3, context=8), READER, conditions=(3, 2)),
    told=("caption", "class"),
)
KINDS = {"told": TINY, "noise": NOISE, "reading": READING}
each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def run(recipe, folder=None, **options):
    for state in diffusion.train(recipe, folder, device="cpu", **options):
        pass
    return state


def gradients(recipe):
    return gradients_of(lambda: run(recipe))


@each_kind
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = diffusion.train(recipe, tmp_path / "halves", device="cpu")
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


def same_gradients(ours, theirs):
    """The first step's, and a later one's, when no weight is zero any more; Adam moves equal weights slightly apart."""
    for step, slack in ((0, 1e-4), (-1, 2e-2)):
        for a, b in zip(ours[step], theirs[step], strict=True):
            torch.testing.assert_close(b, a, rtol=slack, atol=slack * max(1e-3, a.abs().max().item()))
    assert any(a.abs().max() > 1e-3 for a in theirs[0]) and all(a.any() for a in theirs[-1])


@each_kind
@pytest.mark.parametrize("micro_batches", [4, 3])  # of 16 images: also pieces of unequal size
def test_micro_batches_give_the_gradients_of_one_batch(recipe, micro_batches):
    recipe = replace(recipe, images=64)
    whole, one = gradients(recipe)
    pieces, many = gradients(replace(recipe, micro_batches=micro_batches))
    assert len(whole) == len(pieces) == 4
    same_gradients(pieces, whole)
    assert many.losses == pytest.approx(one.losses, rel=1e-3)


@pytest.mark.parametrize("network", [TINY.network, DiT(28, patch=4, width=16, depth=1, heads=2)], ids=["unet", "dit"])
def test_gradients_are_the_same_in_both_memory_layouts(network):
    found, draw = [], torch.Generator().manual_seed(0)
    x, t = torch.randn(16, 1, 28, 28, generator=draw), torch.rand(16, generator=draw)
    for layout in (torch.contiguous_format, torch.channels_last):
        model = build(replace(PLAIN, network=replace(network, conditions=()))).model
        with torch.no_grad():  # what starts at zero would hide the gradients behind it
            for number, p in enumerate(model.parameters()):
                p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number))
        model.to(memory_format=layout)
        (model(x, t) - x).square().mean().backward()
        found.append([p.grad for p in model.parameters()])
    largest = max(plain.abs().max().item() for plain in found[0])  # some are zero: of a bias before a normalisation
    assert largest > 0
    for plain, last in zip(*found, strict=True):
        torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-6 * largest)


def test_two_processes_train_what_one_does(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\nfrom dataclasses import replace\n"
        "from tests.diffusion.test_loop import KINDS, gradients, weights\nfrom gencore.training import distributed\n"
        "found = {}\n"
        "for name, recipe in KINDS.items():\n"
        "    steps, state = gradients(replace(recipe, images=64, micro_batches=2))\n"
        "    found[name] = {'steps': steps, 'weights': weights(state), 'losses': state.losses}\n"
        "if distributed.rank() == 0: torch.save(found, sys.argv[1])\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, script, tmp_path / "two.pt"], env=environment, check=True, capture_output=True)
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, recipe in KINDS.items():
        steps, state = gradients(replace(recipe, images=64))
        same_gradients(found[name]["steps"], steps)
        assert_same(found[name]["weights"], weights(state), rtol=1e-2, atol=1e-4)  # keys too: no trace of a wrapper
        assert found[name]["losses"] == pytest.approx(state.losses, rel=1e-3)


def test_a_nan_stops_the_run_names_the_step_and_is_not_saved(tmp_path):
    stream = diffusion.train(replace(TINY, log_every=48), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="'squared_error' became nan at step 4;"):
        list(stream)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["000000000048"]


def test_resume_refuses_another_recipe(tmp_path):
    run(replace(TINY, images=16), tmp_path / "run")
    with pytest.raises(InputError, match="another recipe.*process"):
        run(replace(TINY, images=16, process=Cosine()), tmp_path / "run")


def test_a_loaded_run_draws_what_its_average_draws(tmp_path):
    """And the family of a folder is known by its recipe."""
    recipe = replace(TINY, images=32, sampling=Sampling("dpm_solver", steps=3, guidance=2.0))
    state = run(recipe, tmp_path / "run")
    family, found = families.read(tmp_path / "run")
    assert family is diffusion and found == recipe and families.draws(family, recipe)
    loaded = families.load(tmp_path / "run")
    assert torch.equal(diffusion.sample(loaded, 3, 0), diffusion.sample((state.averaged, recipe), 3, 0))
    assert families.parameters(family, loaded) == sum(p.numel() for p in state.networks.model.parameters())
    assert not loaded[0].model.training and not any(p.requires_grad for p in loaded[0].model.parameters())


def test_replay_pictures_are_written_at_halvings(tmp_path):
    state = run(TINY, tmp_path / "run")
    paths = sorted((tmp_path / "run" / "replay").iterdir())
    assert [int(path.stem) for path in paths] == [16, 32, 48, 96]
    drawn = to_uint8(diffusion.sample((state.averaged, TINY), 16, TINY.seed))  # by the averaged network
    assert torch.equal(torch.from_numpy(np.array(Image.open(paths[-1]))), torch.cat(list(drawn[:, 0]), 1))


def test_checkpoint_keys_are_the_same_compiled(monkeypatch):
    plain = weights(run(replace(TINY, images=16)))
    compiled = []
    monkeypatch.setattr(
        torch.nn.Module, "compile", lambda self: compiled.append(self) or setattr(self, "_compiled_call_impl", self._call_impl)
    )
    assert weights(run(replace(TINY, images=16), compile=True)).keys() == plain.keys()
    assert len(compiled) == 1


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("diffusion.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name, emoji64):
    """Without weight decay, which would move what learns nothing; several full steps, for gates that start at zero."""
    recipe = families.recipes()[name]()
    if isinstance(recipe.data, Mnist):  # does not ship
        recipe = replace(recipe, data=Digits())
    if isinstance(recipe.data, Shapes):  # to draw all takes long
        recipe = replace(recipe, data=replace(recipe.data, images=64))
    if isinstance(recipe.data, Emoji) and recipe.first_stage is not None:  # codes of a third of the pictures are made in a third of the time
        recipe = replace(recipe, data=replace(recipe.data, styles=("noto",)))
    if recipe.start not in (None, *zoo.names()):  # its record comes with it
        recipe = replace(recipe, start=None)
    if recipe.first_stage == "kl_emoji64":
        given = {"first_stage": vae.sampling.build(vae.recipes.kl_emoji64()).model}  # not trained yet
    else:
        given = families.passed_in_training(diffusion, recipe)
    optimiser = replace(recipe.optimiser, weight_decay=0.0, warm_up=0)
    recipe = replace(recipe, images=64, batch_size=8, log_every=8, optimiser=optimiser, drop=0.3 if recipe.told else 0.0)
    start = given["teacher"][0] if "teacher" in given else build(recipe)
    before = {key: value.clone() for key, value in checkpoint.flatten(start._asdict()).items()}
    after = checkpoint.flatten(run(recipe, **given).networks._asdict())
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(value.isfinite().all() for value in after.values())


@pytest.fixture
def seen(monkeypatch):
    """What the objective is given in each step."""
    calls, original = [], Denoising.__call__

    def spy(self, denoiser, x, cond, draw):
        calls.append((x, cond, draw))
        return original(self, denoiser, x, cond, draw)

    monkeypatch.setattr(Denoising, "__call__", spy)
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


def test_mirrored_pictures_are_told_as_such(seen):
    """Half of them; the others come as they are, and are told as that; also those told nothing else."""
    recipe = replace(TINY, images=480, batch_size=96, log_every=480, drop=0.5)
    run(recipe)
    share = 0
    for (x, cond, _), (original, _) in zip(seen, batches(recipe), strict=True):
        mirrored = cond[:, 1] == 1
        assert torch.equal(x[mirrored], original[mirrored].flip(3)) and torch.equal(x[~mirrored], original[~mirrored])
        assert cond[:, 1].max() == 1
        share += mirrored.float().mean().item() / len(seen)
    assert share == pytest.approx(0.5, abs=0.1)
    told = torch.cat([cond for _, cond, _ in seen])
    kinds = set(zip((told[:, 0] == 10).tolist(), told[:, 1].tolist(), strict=True))
    assert kinds == {(False, 0), (False, 1), (True, 0), (True, 1)}


@pytest.mark.parametrize("drop", [0.0, 0.1, 0.6])
def test_a_share_of_pictures_is_told_nothing(seen, drop):
    """All conditions of a picture are hidden at once, or none; and those that are not hidden are right."""
    data = Emoji(("noto", "twemoji"), size=8)
    network = DenoisingUNet(8, replace(UNET, channels=3), (8, 2, 2))
    recipe = replace(TINY, data=data, network=network, told=("class", "style"), drop=drop)
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


def test_captions_stand_before_the_other_conditions_and_are_hidden_with_them(seen):
    run(READING)
    data, hidden = READING.data.load("train"), 0
    numbers = {tuple(row.tolist()) for row in encode(data.captions)}
    for _, cond, _ in seen:
        captions, label, mirrored = cond[:, :CAPTION_LENGTH], cond[:, CAPTION_LENGTH], cond[:, CAPTION_LENGTH + 1]
        empty = (captions == END).all(1)
        assert torch.equal(empty, label == 3) and set(mirrored.tolist()) == {0, 1}
        assert {tuple(row.tolist()) for row in captions[~empty]} <= numbers
        hidden += int(empty.sum())
    assert 0.1 < hidden / READING.images < 0.5  # drop is 0.3


def test_each_time_a_picture_is_seen_one_of_its_wordings_is_told(seen):
    """Drawn for itself, in the order of the recipe's own data; the style that is told stays right."""
    data = Emoji(("noto", "twemoji"), size=8)
    words = len(wording.vocabulary(data))
    reader = TextEncoder(words, wording.EMOJI_LENGTH, Transformer(8, 1, 2))
    network = TextUNet(8, replace(UNET, channels=3, context=8), reader, conditions=(2,))
    recipe = replace(TINY, data=data, network=network, told=("caption", "style"), mirror=False, drop=0.0)
    recipe = replace(recipe, images=1200, batch_size=600, log_every=1200)
    run(recipe)
    loaded = data.load("train")
    table = wording.captions_of(data, loaded, wording.EMOJI_LENGTH)
    chosen = []
    for number, (_, cond, _) in enumerate(seen):
        order = torch.randperm(len(loaded), generator=rng.generator(recipe.seed, 0, "order"))
        index = order[600 * number : 600 * (number + 1)]
        u = rng.uniform((600,), recipe.seed, 600 * number, "wording")
        chosen.append((u * wording.WORDINGS).long())
        assert torch.equal(cond[:, :-1], table[index, chosen[-1]])
        assert torch.equal(cond[:, -1], (index >= len(loaded) // 2).long())
    assert torch.bincount(torch.cat(chosen), minlength=wording.WORDINGS).min() > 100


def test_noise_times_and_what_is_hidden_are_drawn_apart(seen):
    """Each step draws anew, and no draw is another one's."""
    run(replace(TINY, images=64, log_every=64))
    assert len({draw.u[0].item() for *_, draw in seen}) == len({draw.eps[0, 0, 0, 0].item() for *_, draw in seen}) == 4
    for number, (x, cond, draw) in enumerate(seen):
        assert draw.eps.shape == x.shape and draw.u.shape == (16,) and (0 <= draw.u).all() and (draw.u < 1).all()
        for purpose, decision in (("drop", cond[:, 0] == 10), ("mirror", cond[:, 1] == 1)):
            u = rng.uniform((16,), TINY.seed, 16 * number, purpose)
            assert torch.equal(decision, u < {"drop": 0.3, "mirror": 0.5}[purpose]) and not torch.equal(u, draw.u)


def test_a_recipe_without_conditions_tells_nothing(seen):
    run(replace(PLAIN, images=16))
    ((_, cond, _),) = seen
    assert cond.shape == (16, 0)


CHANGES = [
    dict(data=Digits(14), network=replace(TINY.network, size=14, unet=replace(UNET, patch=1))),
    dict(network=replace(TINY.network, unet=replace(UNET, width=16))),
    dict(network=replace(TINY.network, unet=replace(UNET, heads=0))),
    dict(network=replace(TINY.network, unet=replace(UNET, finish=0))),
    dict(process=Cosine()),
    dict(process=Linear()),
    dict(process=Linear(first=1.0)),
    dict(process=EDM()),
    dict(prediction="x"),
    dict(prediction="eps"),
    dict(prediction="v"),
    dict(prediction="edm"),
    dict(objective=Denoising(UniformTimes())),
    dict(objective=Denoising(LogisticNormalTimes(mean=0.5))),
    dict(objective=Denoising(LogisticNormalTimes(std=0.5))),
    dict(objective=Denoising(LogisticNormalTimes(), MinSNR())),
    dict(objective=Denoising(LogisticNormalTimes(), EDMWeight())),
    dict(told=(), network=replace(TINY.network, conditions=(2,))),
    dict(drop=0.0),
    dict(mirror=False, network=replace(TINY.network, conditions=(10,))),
    dict(optimiser=replace(TINY.optimiser, lr=2e-3)),
    dict(optimiser=replace(TINY.optimiser, weight_decay=1.0)),
    dict(optimiser=replace(TINY.optimiser, warm_up=64)),
    dict(optimiser=replace(TINY.optimiser, beta1=0.5)),
    dict(optimiser=replace(TINY.optimiser, beta2=0.5)),
    dict(images=112),
    dict(batch_size=32),
    dict(clip=0.1),
    dict(precision="bf16"),
    dict(seed=1),
]


@pytest.fixture(scope="module")
def plainly():
    return run(TINY).losses


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_every_option_changes_the_loss(plainly, change):
    found = run(replace(TINY, **change)).losses
    assert found != plainly and found.keys() == plainly.keys()


def test_a_network_begins_with_what_it_shares_with_another():
    """A reader with the weights of a network that was told classes: all of the U-Net, the time, and the last condition."""
    told = replace(READING, network=DenoisingUNet(16, replace(UNET, channels=3), (3, 2)), told=("class",))
    reading = replace(READING, network=replace(READING.network, conditions=(2,)), told=("caption",), start="told", images=16)
    first = run(replace(told, images=32))
    start = first.networks, told
    network = build(reading).model
    new = {key: value.clone() for key, value in network.state_dict().items()}
    diffusion.sampling.begin(network, start, "told")
    old = start[0].model.state_dict()
    shared = [key for key in new if key in old and ".tables." not in f".{key}"]
    assert {key.split(".")[0] for key in shared} == {"unet", "teller"} and len(shared) > 50
    begun = network.state_dict()
    assert all(torch.equal(begun[key], old[key]) for key in shared)
    assert torch.equal(begun["teller.tables.0.weight"], old["teller.tables.1.weight"])  # whether it is mirrored
    others = [key for key in new if key not in shared and "tables.0" not in key]
    assert any("cross" in key for key in others) and all(torch.equal(begun[key], new[key]) for key in others)
    assert run(reading, start=start).losses != run(replace(reading, start=None)).losses


def test_a_run_that_began_so_resumes_from_its_own_weights(tmp_path):
    recipe = replace(PLAIN, start="plain")
    start = run(replace(PLAIN, images=16, seed=5)).networks, PLAIN
    whole = weights(run(recipe, tmp_path / "whole", start=start))
    stream = diffusion.train(recipe, tmp_path / "halves", device="cpu", start=start)
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    assert_same(weights(run(recipe, tmp_path / "halves", start=start)), whole)


def test_a_start_is_asked_for_where_it_belongs():
    start = build(TINY), TINY
    with pytest.raises(InputError, match="needs its start, the zoo's flow_digits; pass it as start"):
        run(replace(TINY, start="flow_digits"))
    with pytest.raises(InputError, match="start: this recipe begins with new weights"):
        run(TINY, start=start)
    with pytest.raises(InputError, match="start: flow_digits has no part in common"):
        other = replace(PLAIN, network=DenoisingUNet(28, replace(UNET, width=16, embedding=10, heads=0, finish=6)))
        diffusion.sampling.begin(torch.nn.Linear(3, 3), (build(other), other), "flow_digits")
    given = families.passed_in_training(diffusion, replace(TINY, start="flow_digits"))
    assert set(given) == {"start"} and given["start"][1].data == Digits()
    with pytest.raises(InputError, match="start: a student begins with its teacher's weights"):
        replace(diffusion.recipes.distilled_digits(), start="flow_digits")


def test_no_option_was_forgotten():
    """All but those that decide how a batch is cut, what is averaged and written, and how pictures are drawn."""
    elsewhere = {"micro_batches", "ema_half_life", "log_every", "checkpoint_every", "sampling", "first_stage", "start"}
    assert {field.name for field in fields(DiffusionRecipe)} == elsewhere | {name for change in CHANGES for name in change}


def test_the_half_life_changes_the_average_and_nothing_else():
    a, b = weights(run(TINY)), weights(run(replace(TINY, ema_half_life=1)))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("ema."))
    assert all(torch.equal(a[key], b[key]) for key in a if not key.startswith("ema."))


def test_data_that_do_not_fit_the_conditions_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(InputError, match="network.conditions: class has 10 values or more, the network 4"):
        run(replace(TINY, network=replace(TINY.network, conditions=(4, 2))), tmp_path / "run")
    assert not (tmp_path / "run").exists()
