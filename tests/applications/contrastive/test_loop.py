"""The loop: resuming, what is shown, what options do; and what the recipes say."""

from dataclasses import fields, replace

import pytest
import torch

from gencore import families
from gencore.applications import contrastive
from gencore.applications.contrastive import ContrastiveRecipe, InfoNCE, recipes
from gencore.applications.contrastive.changes import made_wrong
from gencore.applications.contrastive.scoring import build
from gencore.data import to_float
from gencore.data.shapes import CAPTION_LENGTH, encode
from gencore.errors import InputError
from gencore.training import checkpoint, rng
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss
from tests.applications.contrastive.tiny import TINY
from tests.comparing import assert_same, weights


def run(recipe, folder=None, **options):
    for state in contrastive.train(recipe, folder, device="cpu", **options):
        pass
    return state


def test_training_six_steps_equals_three_and_resume_three(tmp_path):
    whole = weights(run(TINY, tmp_path / "whole"))
    stream = contrastive.train(TINY, tmp_path / "halves", device="cpu")
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    resumed = run(TINY, tmp_path / "halves")
    assert resumed.images_seen == 96
    assert_same(weights(resumed), whole)
    assert any(key.startswith("ema.") and not torch.equal(value, whole[f"model.{key[4:]}"]) for key, value in whole.items())
    rows = [read_curve(tmp_path / folder / "curve.csv") for folder in ("whole", "halves")]
    ours, theirs = ([{k: v for k, v in row.items() if k != "seconds"} for row in each] for each in rows)
    assert ours == theirs and len(ours) == 6


def test_what_the_objective_is_given(monkeypatch):
    """Pictures and their own captions, in the order of the seed; wrong versions drawn anew in each step."""
    calls, original = [], InfoNCE.__call__
    monkeypatch.setattr(InfoNCE, "__call__", lambda self, *given: calls.append(given) or original(self, *given))
    run(replace(TINY, images=64))
    data = TINY.data.load("train")
    order = torch.randperm(100, generator=rng.generator(0, 0, "order"))
    for number, (_, x, captions, draw) in enumerate(calls):
        index = order[16 * number : 16 * number + 16]
        assert torch.equal(x, to_float(data.images[index])) and torch.equal(captions, encode(data.captions)[index])
        u = rng.uniform((16, 2, CAPTION_LENGTH + 1), 0, 16 * number, "wrong")
        wrong, usable = made_wrong(captions, u)
        assert torch.equal(draw.wrong, wrong) and torch.equal(draw.usable, usable)
    assert len(calls) == 4


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("contrastive.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name):
    recipe = families.recipes()[name]()
    optimiser = replace(recipe.optimiser, weight_decay=0.0, warm_up=0)
    data = replace(recipe.data, images=100)
    recipe = replace(recipe, data=data, images=32, batch_size=8, log_every=8, optimiser=optimiser)
    before = checkpoint.flatten(build(recipe)._asdict())
    before = {key: value.clone() for key, value in before.items()}
    after = checkpoint.flatten(run(recipe).networks._asdict())
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(value.isfinite().all() for value in after.values())


def test_the_loss_goes_down():
    """On few pictures, which are soon known: the loop points the right way."""
    recipe = replace(TINY, data=replace(TINY.data, images=16), images=1600, log_every=320, optimiser=replace(TINY.optimiser, lr=1e-2))
    losses = [dict(state.losses) for state in contrastive.train(recipe, device="cpu")]
    assert losses[-1]["captions"] < losses[0]["captions"] - 1 and losses[-1]["pictures"] < losses[0]["pictures"] - 1


CHANGES = [
    dict(data=replace(TINY.data, objects=2)),
    dict(network=replace(TINY.network, width=5)),
    dict(objective=InfoNCE(0.3)),
    dict(wrong=0),
    dict(wrong=3),
    dict(optimiser=replace(TINY.optimiser, lr=2e-3)),
    dict(images=112),
    dict(batch_size=32),
    dict(clip=0.01),
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


def test_no_option_was_forgotten():
    elsewhere = {"ema_half_life", "log_every", "checkpoint_every"}
    assert {field.name for field in fields(ContrastiveRecipe)} == elsewhere | {name for change in CHANGES for name in change}


def test_the_half_life_changes_the_average_and_nothing_else():
    a, b = weights(run(TINY)), weights(run(replace(TINY, ema_half_life=1)))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("ema."))
    assert all(torch.equal(a[key], b[key]) for key in a if not key.startswith("ema."))


def test_a_nan_stops_the_run(tmp_path):
    stream = contrastive.train(replace(TINY, log_every=48), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="became nan at step 4;"):
        list(stream)


def test_one_process_only(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="within one process"):
        run(TINY)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(data=replace(TINY.data, size=32)), "network.size is 16"),
        (dict(images=0), "images is 0"),
        (dict(batch_size=1), "batch_size is 1"),
        (dict(clip=0.0), "clip is 0"),
        (dict(wrong=-1), "wrong is -1"),
        (dict(network=replace(TINY.network, text=replace(TINY.network.text, words=41))), "network.text.words is 41"),
    ],
)
def test_nonsense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_the_model_that_ships_is_small():
    count = sum(p.numel() for p in build(recipes.contrastive_shapes()).model.parameters())
    assert count <= 500_000
    assert recipes.contrastive_plain_shapes() == replace(recipes.contrastive_shapes(), wrong=0)
