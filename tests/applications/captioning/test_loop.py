"""The loop: resuming, what is shown and said, what options do; and what the recipes say."""

from dataclasses import fields, replace

import pytest
import torch

from gencore import families
from gencore.applications import captioning
from gencore.applications.captioning import CaptioningRecipe, NextWord, recipes
from gencore.applications.captioning.examples import captions_of, may_be_mirrored
from gencore.applications.captioning.telling import build
from gencore.data import Emoji, to_float, wording
from gencore.errors import InputError
from gencore.training import checkpoint, rng
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss
from tests.applications.captioning.tiny import KINDS, NAMES, NETWORK, TINY
from tests.comparing import assert_same, weights

each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def run(recipe, folder=None, **options):
    for state in captioning.train(recipe, folder, device="cpu", **options):
        pass
    return state


@each_kind
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = captioning.train(recipe, tmp_path / "halves", device="cpu")
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    resumed = run(recipe, tmp_path / "halves")
    assert resumed.images_seen == 96
    assert_same(weights(resumed), whole)
    assert any(key.startswith("ema.") and not torch.equal(value, whole[f"model.{key[4:]}"]) for key, value in whole.items())
    rows = [read_curve(tmp_path / folder / "curve.csv") for folder in ("whole", "halves")]
    ours, theirs = ([{k: v for k, v in row.items() if k != "seconds"} for row in each] for each in rows)
    assert ours == theirs and len(ours) == 6


@pytest.fixture
def seen(monkeypatch):
    """What the objective is given in each step."""
    calls, original = [], NextWord.__call__
    monkeypatch.setattr(NextWord, "__call__", lambda self, *given: calls.append(given[1:]) or original(self, *given))
    return calls


def index_of(recipe, number):
    data = recipe.data.load("train")
    order = torch.randperm(len(data), generator=rng.generator(recipe.seed, 0, "order"))
    return data, order[recipe.batch_size * number : recipe.batch_size * (number + 1)]


def test_shapes_are_shown_as_they_are_with_their_captions(seen):
    run(replace(TINY, images=32))
    for number, (x, captions, draw) in enumerate(seen):
        data, index = index_of(TINY, number)
        assert torch.equal(x, to_float(data.images[index]))
        assert torch.equal(captions, wording.encode(TINY.data, data.captions, NETWORK.length)[index])
        assert not draw.language.any()
        assert torch.equal(draw.dropped, rng.uniform((16, *NETWORK.noise_shape), 0, 16 * number, "dropout"))


def test_emoji_are_moved_mirrored_and_told_in_both_languages(seen):
    recipe = replace(NAMES, images=640, batch_size=320, log_every=320)
    run(recipe)
    corners, languages, turned = set(), 0.0, 0
    for number, (x, captions, draw) in enumerate(seen):
        data, index = index_of(recipe, number)
        allowed = may_be_mirrored(data)[index]
        mirrored = (rng.uniform((320,), 0, 320 * number, "mirror") < 0.5) & allowed
        corner = (rng.uniform((320, 2), 0, 320 * number, "shift") * 5).long()
        for i, place in enumerate(index.tolist()):
            original = to_float(data.images[place])
            original = original.flip(2) if mirrored[i] else original
            framed = torch.ones(3, 20, 20)
            framed[:, 2:18, 2:18] = original
            down, right = corner[i].tolist()
            assert torch.equal(x[i], framed[:, down : down + 16, right : right + 16])
            corners.add((down, right))
        turned += int(mirrored.sum())
        both = captions_of(recipe, data)
        assert torch.equal(captions, both[index, draw.language])
        languages += draw.language.float().mean().item() / 2
    assert len(corners) == 25 and languages == pytest.approx(0.5, abs=0.1) and 150 < turned < 350


def test_what_may_be_mirrored():
    data = Emoji(("noto",)).load("train")
    may = dict(zip(data.captions, may_be_mirrored(data).tolist(), strict=True))
    assert may["red apple"] and may["cat"] and may["grinning face"]
    never = ("backhand index pointing left", "keycap: 3", "six o’clock", "map of Japan", "rightwards hand", "down-right arrow")
    assert not any(may[name] for name in never)
    assert 0.6 < sum(may.values()) / len(may) < 0.95


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("captioning.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name):
    recipe = families.recipes()[name]()
    optimiser = replace(recipe.optimiser, weight_decay=0.0, warm_up=0)
    data = replace(recipe.data, styles=("noto",)) if isinstance(recipe.data, Emoji) else replace(recipe.data, images=100)
    recipe = replace(recipe, data=data, images=64, batch_size=16, log_every=16, optimiser=optimiser)
    before = {key: value.clone() for key, value in checkpoint.flatten(build(recipe)._asdict()).items()}
    after = checkpoint.flatten(run(recipe).networks._asdict())
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(value.isfinite().all() for value in after.values())


def test_the_loss_goes_down():
    recipe = replace(TINY, data=replace(TINY.data, images=16), images=1600, log_every=320, optimiser=replace(TINY.optimiser, lr=1e-2))
    losses = [dict(state.losses) for state in captioning.train(recipe, device="cpu")]
    assert losses[-1]["nats"] < losses[0]["nats"] - 1 and losses[-1]["right"] > losses[0]["right"] + 0.2


CHANGES = [
    dict(data=replace(NAMES.data, styles=("noto",))),
    dict(network=replace(NAMES.network, drop=0.3)),
    dict(objective=NextWord(0.1)),
    dict(languages=("zh", "en")),
    dict(shift=1),
    dict(shift=0),
    dict(mirror=False),
    dict(optimiser=replace(NAMES.optimiser, lr=2e-3)),
    dict(images=112),
    dict(batch_size=32),
    dict(clip=0.1),
    dict(precision="bf16"),
    dict(seed=1),
]


@pytest.fixture(scope="module")
def plainly():
    return run(NAMES).losses


@pytest.mark.parametrize("change", CHANGES, ids=repr)
def test_every_option_changes_the_loss(plainly, change):
    found = run(replace(NAMES, **change)).losses
    assert found != plainly and found.keys() == plainly.keys()


def test_no_option_was_forgotten():
    elsewhere = {"ema_half_life", "log_every", "checkpoint_every"}
    assert {field.name for field in fields(CaptioningRecipe)} == elsewhere | {name for change in CHANGES for name in change}


def test_the_half_life_changes_the_average_and_nothing_else():
    a, b = weights(run(TINY)), weights(run(replace(TINY, ema_half_life=1)))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("ema."))
    assert all(torch.equal(a[key], b[key]) for key in a if not key.startswith("ema."))


def test_a_nan_stops_the_run(tmp_path):
    stream = captioning.train(replace(TINY, log_every=48), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="became nan at step 4;"):
        list(stream)


def test_one_process_only(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="single process"):
        run(TINY)


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (TINY, dict(data=replace(TINY.data, size=32)), "network.size is 16"),
        (TINY, dict(images=0), "images is 0"),
        (TINY, dict(clip=0.0), "clip is 0"),
        (NAMES, dict(shift=-1), "shift is -1"),
        (TINY, dict(shift=1), "captions of shapes say where"),
        (TINY, dict(mirror=True), "captions of shapes say where"),
        (TINY, dict(languages=("zh",)), "in English"),
        (NAMES, dict(languages=()), "name at least one"),
        (NAMES, dict(languages=("en", "en")), "none twice"),
        (NAMES, dict(languages=("en",)), "network.languages is 2"),
        (TINY, dict(network=replace(NETWORK, words=41)), "network.words is 41"),
    ],
)
def test_nonsense_is_refused(recipe, change, message):
    with pytest.raises(InputError, match=message):
        replace(recipe, **change)


def test_what_ships_is_small():
    for recipe, most in ((recipes.caption_shapes(), 900_000), (recipes.caption_emoji(), 1_200_000)):
        assert sum(p.numel() for p in build(recipe).model.parameters()) <= most
