"""A run goes into the zoo whole, measured as it will be loaded, or not at all."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from gencore import cli, families, gan, metrics, vae, zoo
from gencore.data import Digits
from gencore.errors import InputError
from gencore.gan.recipes import dcgan_digits
from gencore.metrics import judge
from gencore.metrics.recipes import digit_classifier
from gencore.networks.classifier import Classifier
from gencore.networks.dcgan import DCGAN
from gencore.training.log import read_curve
from tests.vae.test_loop import KINDS
from tools import publish as publishing

RECIPES = {
    "gan.recipes.tiny": replace(dcgan_digits(), network=DCGAN(width=4, latent=8), images=64, checkpoint_every=32),
    "metrics.recipes.judge": replace(
        digit_classifier(), data=Digits(7), network=Classifier(width=4, features=6), images=64, batch_size=32
    ),
}


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """Two finished runs beside an empty zoo."""
    (tmp_path / "zoo").mkdir()
    monkeypatch.setattr(zoo, "ROOT", tmp_path / "zoo")
    monkeypatch.setattr(families, "recipes", lambda: {name: lambda r=recipe: r for name, recipe in RECIPES.items()})
    monkeypatch.setattr(cli, "measure", lambda part, samples, seed, device: Report(part, samples))
    for _ in gan.train(RECIPES["gan.recipes.tiny"], tmp_path / "tiny", device="cpu"):
        pass
    for _ in metrics.train(RECIPES["metrics.recipes.judge"], tmp_path / "judge", device="cpu"):
        pass
    return tmp_path


class Report:
    """What stands in for the slow measurement, which has tests of its own."""

    def __init__(self, part, samples):
        self.facts = {"sum": float(sum(p.sum() for p in gan.load(part)[0].generator.parameters())), "samples": samples}

    def to_dict(self):
        return self.facts


def test_a_gan_run_without_its_discriminator(runs):
    """What is drawn is the same, nothing else ships, and a whole model beside it is loaded whole."""
    whole = publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus")
    drawn = gan.sample(gan.load(zoo.folder("tiny")), 4, seed=0)
    size = (zoo.folder("tiny") / "ema.safetensors").stat().st_size
    card = publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus", without=("discriminator",))
    networks, _ = families.load(zoo.folder("tiny"))
    assert networks.discriminator is None and torch.equal(gan.sample(gan.load(zoo.folder("tiny")), 4, seed=0), drawn)
    assert card == whole | {"left_out": ["discriminator"]} == zoo.card("tiny")
    assert {key.split(".")[0] for key in load_file(zoo.folder("tiny") / "ema.safetensors")} == {"generator"}
    assert (zoo.folder("tiny") / "ema.safetensors").stat().st_size < size
    assert not any(p.requires_grad for p in networks.generator.parameters()) and not networks.generator.training


@pytest.mark.parametrize(
    "written, message",
    [('{"left_out": ["critic"]}', "left_out names .'critic'.; there are"), ("{", "card.json: not JSON")],
)
def test_a_card_that_makes_no_sense_gives_one_clear_error(runs, written, message):
    publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus")
    (zoo.ROOT / "tiny" / "card.json").write_text(written, "utf-8")
    with pytest.raises(InputError, match=message):
        gan.load(zoo.ROOT / "tiny")


def test_a_gan_run(runs):
    card = publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus")
    networks, recipe = gan.load(zoo.folder("tiny"))
    assert recipe == RECIPES["gan.recipes.tiny"] and zoo.card("tiny") == card
    assert card["images_seen"] == 64 and card["hardware"] == "an abacus" and card["metrics"]["samples"] == 10_000
    assert card["metrics"]["sum"] == float(sum(p.sum() for p in networks.generator.parameters()))  # as it will be loaded
    stored = load_file(zoo.folder("tiny") / "ema.safetensors")
    assert {value.dtype for value in stored.values()} <= {torch.float16, torch.int64, torch.int8, torch.float32}
    assert {"samples.png", "replay.png"} <= {path.name for path in zoo.folder("tiny").iterdir()}


@pytest.mark.parametrize(
    "shape, exact, name, mode, slack",
    [
        ((8, 1, 64, 64), False, "png", "L", 0),
        ((8, 3, 32, 32), True, "png", "P", 8),
        ((8, 3, 64, 64), False, "jpg", "RGB", 8),
        ((8, 3, 64, 64), True, "png", "RGB", 0),
    ],
)
def test_a_sheet_is_small_and_shows_the_pictures(tmp_path, shape, exact, name, mode, slack):
    ramp = torch.linspace(0, 255, shape[2]).expand(shape).to(torch.uint8).contiguous()
    publishing._sheet(tmp_path / "samples", ramp, 4, exact)
    (path,) = tmp_path.iterdir()
    with Image.open(path) as page:
        assert path.name == f"samples.{name}" and page.mode == mode and page.size == (4 * shape[3], 2 * shape[2])
        shown = np.array(page.convert("L"), dtype=int)
    assert np.abs(shown - np.tile(ramp[0, 0].numpy(), (2, 4))).max() <= slack


def test_a_record_without_weights(runs):
    whole = publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus")
    files = {path.name for path in zoo.folder("tiny").iterdir()}
    card = publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus", record_only=True)
    assert card == whole | {"weights": "not shipped"} == zoo.card("tiny")  # measured all the same
    assert {path.name for path in zoo.folder("tiny").iterdir()} == files - {"ema.safetensors"}
    with pytest.raises(InputError, match="tiny: only its record ships"):
        gan.load(zoo.folder("tiny"))


def test_a_classifier_run(runs):
    card = publishing.publish(runs / "judge", "metrics.recipes.judge", "an abacus")
    (classifier,), _ = metrics.load(zoo.folder("judge"))
    assert card["parameters"] == sum(p.numel() for p in classifier.parameters())
    accuracy = judge.accuracy(classifier, Digits(7).load("heldout"))
    assert card["metrics"] == [{"name": "accuracy", "on": "digits/heldout", "samples": 1000, "value": accuracy}]


@pytest.mark.parametrize("kind", ["elbo", "codes"])
def test_a_run_of_a_family_that_measures_more_than_pictures(runs, monkeypatch, kind):
    """A VAE draws and has bounds; an autoencoder to codes has no prior, so it is measured and draws nothing."""
    recipe, facts = KINDS[kind], [{"name": "bound", "on": "digits/heldout", "samples": 9, "value": -1.5}]
    monkeypatch.setitem(RECIPES, f"vae.recipes.{kind}", recipe)
    monkeypatch.setattr(vae, "measure", lambda model: facts if model[1] == recipe else None)
    monkeypatch.setattr(cli, "measure", lambda part, samples, seed, device: Drawn())
    for _ in vae.train(recipe, runs / kind, device="cpu"):
        pass
    card = publishing.publish(runs / kind, f"vae.recipes.{kind}", "an abacus")
    files = {path.name for path in zoo.folder(kind).iterdir()}
    if kind == "elbo":
        assert card["metrics"] == Drawn().to_dict() and card["measures"] == facts
        assert "samples.png" in files and card["replay_images_seen"][-1] == 96
    else:
        assert card["metrics"] == facts and "measures" not in card
        assert "samples.png" not in files
    assert "reconstructions.png" in files
    assert card["parameters"] == vae.parameters(vae.load(zoo.folder(kind)))


class Drawn:
    """A report on pictures that nobody looked at."""

    def to_dict(self):
        return {"samples": 1000}


def test_what_is_not_finished_or_not_the_recipe_stays_out(runs, monkeypatch):
    longer = replace(RECIPES["gan.recipes.tiny"], images=512)
    monkeypatch.setitem(RECIPES, "gan.recipes.tiny", longer)
    with pytest.raises(InputError, match="not what gan.recipes.tiny says now"):
        publishing.publish(runs / "tiny", "gan.recipes.tiny", "an abacus")
    run = gan.train(longer, runs / "half", device="cpu")
    for state in run:
        if state.images_seen >= 192:
            break
    run.close()
    with pytest.raises(InputError, match="has seen 192 of 512 images"):
        publishing.publish(runs / "half", "gan.recipes.tiny", "an abacus")
    with pytest.raises(InputError, match="no recipe 'gan.recipes.tinny'"):
        publishing.publish(runs / "tiny", "gan.recipes.tinny", "an abacus")
    assert zoo.names() == []
    card = publishing.publish(runs / "half", "gan.recipes.tiny", "an abacus", stopped=True)
    assert (card["images_seen"], card["stopped_before"]) == (192, 512)
    assert card["replay_images_seen"][-2:] == [128, 192]  # no picture was due at 192
    assert read_curve(zoo.folder("tiny") / "curve.csv")[-1]["images_seen"] == 192
