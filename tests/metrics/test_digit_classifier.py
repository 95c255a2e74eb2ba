"""The judge of digits: its training loop, its files, and what it reaches."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch

from gencore import zoo
from gencore.data import Batches, Digits
from gencore.errors import InputError
from gencore.metrics import judge, loop
from gencore.metrics.recipes import Augmentation, ClassifierRecipe, digit_classifier
from gencore.networks.classifier import Classifier
from gencore.training import checkpoint, recipe_io, rng
from gencore.training.loss import NonFiniteLoss
from gencore.training.optimiser import AdamW

TINY = ClassifierRecipe(
    data=Digits(7),
    network=Classifier(width=4, features=6),
    images=96,
    batch_size=16,
    ema_half_life=64,
    log_every=16,
    checkpoint_every=48,
    optimiser=AdamW(warm_up=32),
)
STILL = Augmentation(shift=0, rotation=0, scale=0, shear=0, noise=0)


def run(recipe, folder=None, steps=None):
    for step, state in enumerate(loop.train(recipe, folder, device="cpu"), 1):
        if step == steps:
            break
    return state


def weights(state):
    return checkpoint.flatten({"now": state.networks.classifier, "ema": state.averaged.classifier})


def same(a, b):
    return all(torch.equal(a[key], b[key]) for key in a)


@pytest.fixture(scope="module")
def tiny():
    """The weights that `TINY` ends with."""
    return weights(run(TINY))


@pytest.fixture
def shipped(tmp_path):
    """A copy of the zoo's classifier that may be spoilt."""
    shutil.copytree(zoo.folder("digit_classifier"), tmp_path / "digit_classifier")
    return tmp_path / "digit_classifier"


def test_six_steps_equal_three_and_resume_three(tiny, tmp_path):
    run(TINY, tmp_path / "run", steps=3)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == [f"{48:012d}"]
    resumed = run(TINY, tmp_path / "run")
    assert resumed.images_seen == 96
    assert same(weights(resumed), tiny)


def test_every_parameter_learns(tiny):
    before = checkpoint.flatten({"now": judge.build(TINY).classifier})
    for key, value in before.items():
        assert not torch.equal(value, tiny[key]), key


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"ema_half_life": 1},
        {"precision": "bf16"},
        {"network": Classifier(width=4, features=7)},
        {"augmentation": replace(Augmentation(), shift=0.0)},
        {"augmentation": replace(Augmentation(), rotation=0.0)},
        {"augmentation": replace(Augmentation(), scale=0.0)},
        {"augmentation": replace(Augmentation(), shear=0.0)},
        {"augmentation": replace(Augmentation(), noise=0.0)},
        {"optimiser": AdamW(warm_up=32, lr=1e-3)},
        {"optimiser": AdamW(warm_up=32, weight_decay=1.0)},
        {"optimiser": AdamW(warm_up=0)},
    ],
    ids=str,
)
def test_every_option_counts(change, tiny):
    changed = weights(run(replace(TINY, **change)))
    assert any(value.shape != changed[key].shape or not torch.equal(value, changed[key]) for key, value in tiny.items())


def test_trains_on_the_train_split_only(monkeypatch):
    asked = []
    load = Digits.load
    monkeypatch.setattr(Digits, "load", lambda self, split: asked.append(split) or load(self, split))
    run(TINY)
    assert asked == ["train"]


def test_learning_rate_rises_then_falls_to_zero():
    recipe = replace(TINY, images=1600, batch_size=16, optimiser=AdamW(lr=0.5, warm_up=160))
    rates = [recipe.optimiser.learning_rate(seen, 16, 1600) for seen in range(0, 1600, 16)]
    assert rates.index(max(rates)) == 9 and rates[0] == pytest.approx(0.05)
    assert rates[50] == pytest.approx(0.25)
    assert 0 < rates[-1] < 2e-4


def test_loss_is_the_negative_log_probability():
    network = torch.nn.Flatten()
    x, labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]]), torch.tensor([0, 2])
    loss = loop.cross_entropy(network, x, labels)
    probability = math.e / (math.e + 2), 1 / (math.exp(2) + 2)
    assert loss.total.item() == pytest.approx(-(math.log(probability[0]) + math.log(probability[1])) / 2)
    assert loss.parts["accuracy"].item() == 0.5


def test_augmentation_without_strength_changes_nothing():
    x = Batches(Digits().load("train"), 8, 0).at(0).x
    torch.testing.assert_close(loop.augment(x, STILL, rng.generator(0, 0, "a")), x, atol=1e-5, rtol=0)


def test_augmentation_keeps_the_range_and_the_background():
    x = Batches(Digits().load("train"), 64, 0).at(0).x
    moved = loop.augment(x, replace(Augmentation(), noise=0.0), rng.generator(0, 0, "a"))
    assert moved.shape == x.shape and moved.min() == -1 and moved.max() <= 1
    assert (moved[:, :, 0, 0] == -1).all()  # what comes in from outside is black
    assert (moved - x).abs().mean() > 0.05
    noisy = loop.augment(x, replace(STILL, noise=0.2), rng.generator(0, 0, "a"))
    assert noisy.min() == -1 and noisy.max() == 1
    assert 0.01 < (noisy - x).abs().mean() < 0.1


@pytest.mark.parametrize("field, expected", [("shift", 2.0), ("scale", 0.25)])
def test_augmentation_strengths_are_in_their_units(field, expected):
    # A bright square at the centre: how far its centre of mass or its edge moves, at most.
    x = torch.full((256, 1, 28, 28), -1.0)
    x[:, :, 10:18, 10:18] = 1
    moved = loop.augment(x, replace(STILL, **{field: expected}), rng.generator(1, 0, "a"))
    mass = (moved + 1)[:, 0] / 2  # (B, H, W)
    place = torch.arange(28.0)
    if field == "shift":
        centre = (mass.sum(1) * place).sum(1) / mass.sum((1, 2))
        found = (centre - 13.5).abs()
    else:
        found = (8 / mass.sum((1, 2)).sqrt() - 1).abs()
    assert 0.9 * expected < found.max() <= expected + 0.035  # bilinear sampling of 8 pixels


def test_a_loss_that_is_no_number_stops_the_run(tmp_path):
    with pytest.raises(NonFiniteLoss, match="step"):
        run(replace(TINY, optimiser=AdamW(lr=1e30, warm_up=0), log_every=96, checkpoint_every=96), tmp_path / "run")
    assert checkpoint.list_checkpoints(tmp_path / "run") == []


def test_several_processes_are_refused(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="single process"):
        next(loop.train(TINY))


def test_the_shipped_classifier_is_what_its_card_says():
    (classifier,), recipe = judge.load(zoo.folder("digit_classifier"))
    card = zoo.card("digit_classifier")
    assert recipe == digit_classifier()
    accuracy = judge.accuracy(classifier, Digits().load("heldout"))
    assert accuracy >= 0.99
    assert accuracy == pytest.approx(card["metrics"][0]["value"], abs=0.0015)  # one image may flip on another processor
    assert not classifier.training and not any(p.requires_grad for p in classifier.parameters())


def test_truncated_weights_are_one_clear_error(shipped, monkeypatch):
    path = shipped / "ema.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(InputError, match="ema.safetensors: not a whole safetensors file"):
        judge.load(shipped)
    monkeypatch.setattr(zoo, "ROOT", shipped.parent)
    with pytest.raises(InputError, match="ema.safetensors: checksum differs"):
        zoo.folder("digit_classifier")


def test_altered_weights_are_refused(shipped, monkeypatch):
    path = shipped / "ema.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    monkeypatch.setattr(zoo, "ROOT", shipped.parent)
    with pytest.raises(InputError, match="ema.safetensors: checksum differs"):
        zoo.folder("digit_classifier")


def test_a_wrong_recipe_field_is_named(shipped):
    recipe = json.loads((shipped / "recipe.json").read_text("utf-8"))
    recipe["network"]["widht"] = recipe["network"].pop("width")
    (shipped / "recipe.json").write_text(json.dumps(recipe), "utf-8")
    with pytest.raises(InputError, match="recipe.json: field 'network.widht': unknown in Classifier; did you mean 'width'"):
        judge.load(shipped)


def test_weights_of_another_size_are_named(shipped):
    recipe = json.loads((shipped / "recipe.json").read_text("utf-8"))
    recipe["network"]["width"] = 8
    (shipped / "recipe.json").write_text(json.dumps(recipe), "utf-8")
    with pytest.raises(InputError, match="classifier.body.0.weight' has shape"):
        judge.load(shipped)


def test_recipe_survives_json_and_refuses_nonsense():
    assert recipe_io.from_dict(ClassifierRecipe, json.loads(json.dumps(recipe_io.to_dict(TINY)))) == TINY
    with pytest.raises(InputError, match="network.channels is 3, but the data have 1"):
        replace(TINY, network=Classifier(channels=3))
    with pytest.raises(InputError, match="batch_size is 0"):
        replace(TINY, batch_size=0)
