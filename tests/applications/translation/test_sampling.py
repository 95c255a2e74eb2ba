"""Translations depend on the picture, on what is told and on the number in the series, not on the batch."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gencore.applications import translation
from gencore.applications.translation import baselines, measures
from gencore.applications.translation.measures import beside_baselines, compare
from gencore.data import Emoji, figures_reader, to_float, to_uint8
from gencore.data.figures import Figures, draw_figures
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance, second_features, ssim
from tests.applications.translation.test_loop import CYCLES, PAIRED


def loud(recipe):
    """A model whose every weight counts."""
    networks = translation.build(recipe)
    torch.manual_seed(0)
    for network in networks:
        network.eval().requires_grad_(False)
        for parameter in network.parameters():
            nn.init.normal_(parameter, std=0.1)
    return networks, recipe


@pytest.fixture(scope="module")
def model():
    return loud(PAIRED["styles"])


@pytest.fixture(scope="module")
def sources():
    return torch.randint(0, 256, (7, 3, 12, 12), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


TOLD = torch.tensor([[0], [1], [1], [0], [1], [0], [0]])


def test_a_translation_does_not_depend_on_its_batch(model, sources):
    whole = translation.translate(model, sources, TOLD, seed=3)
    assert whole.shape == (7, 3, 12, 12) and whole.dtype == torch.float32 and whole.abs().max() <= 1
    torch.testing.assert_close(translation.translate(model, sources, TOLD, seed=3, batch_size=2), whole)
    part = translation.translate(model, sources[4:], TOLD[4:], seed=3, first=4)
    torch.testing.assert_close(part, whole[4:])
    torch.testing.assert_close(translation.translate(model, to_float(sources), TOLD, seed=3), whole)


def test_dropout_is_heard_if_a_seed_is_given(model, sources):
    plain = translation.translate(model, sources, TOLD)
    (network,), _ = model
    unbounded = network(to_float(sources), TOLD)
    torch.testing.assert_close(plain, unbounded.clamp(-1, 1))
    torch.testing.assert_close(translation.translate(model, sources, TOLD, clamp=False), unbounded)
    assert unbounded.abs().max() > 1
    series = [translation.translate(model, sources, TOLD, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(series[0], series[1]) and not torch.equal(series[0], series[2])
    assert not torch.equal(series[0], plain)


def test_a_cycle_goes_both_ways_and_pairs_go_one_way(model, sources):
    cycle = loud(CYCLES["cycle of edges"])
    lines = torch.zeros(2, 1, 12, 12, dtype=torch.uint8)
    assert translation.translate(cycle, lines).shape == (2, 3, 12, 12)
    back = translation.translate(cycle, sources, back=True)
    torch.testing.assert_close(back, cycle[0].back(to_float(sources)).clamp(-1, 1))
    with pytest.raises(InputError, match=r"pictures \(7, 3, 12, 12\): this model translates \(N, 1, H, W\)"):
        translation.translate(cycle, sources)
    with pytest.raises(InputError, match="back: this model was trained on pairs"):
        translation.translate(model, sources, TOLD, back=True)


@pytest.mark.parametrize(
    ("cond", "message"),
    [(None, "cond None: this model is told 1 things"), (TOLD[:3], r"cond \(3, 1\)"), (TOLD + 1, "values are from 0 to below"),
     (TOLD - 1, "values are from 0 to below")],
)  # fmt: skip
def test_conditions_that_do_not_fit_are_refused(model, sources, cond, message):
    with pytest.raises(InputError, match=message):
        translation.translate(model, sources, cond)


def test_measures_are_what_they_are_called():
    data = Emoji(("noto",)).load("heldout").images[:4]
    made = to_float(data.roll(1, 0))
    found = compare(made, data)
    y = to_float(data)
    assert found["mean absolute difference"] == pytest.approx((made - y).abs().mean().item())
    assert found["structural similarity"] == pytest.approx(ssim(made, y).mean().item())
    judge = PerceptualDistance()
    assert found["perceptual distance on SqueezeNet"] == pytest.approx(judge(made, y).mean().item(), rel=1e-5)
    assert ("perceptual distance on EfficientNet-Lite0" in found) == second_features.installed()
    assert compare(y, data)["mean absolute difference"] == 0


@pytest.fixture
def few_held_out(monkeypatch):
    """Measures on a few pictures, which is enough to see what is measured."""
    load = Emoji.load
    monkeypatch.setattr(
        Emoji, "load", lambda self, split: _first(load(self, split), len(self.styles), 6 if split == "heldout" else 20)
    )


def _first(images, styles, count):
    each = len(images) // styles
    return images.subset(torch.cat([torch.arange(count) + style * each for style in range(styles)]))


def test_a_model_stands_beside_what_needs_no_network(few_held_out):
    recipe = replace(PAIRED["styles"], data=Emoji(("noto", "twemoji"), size=32))
    model = translation.build(recipe), recipe  # new and residual: it changes nothing
    found = beside_baselines(model)
    assert set(found) == {"translated", "source unchanged", "mean of its category", "linear map of patches"}
    assert found["translated"] == pytest.approx(found["source unchanged"])
    train, heldout = (recipe.task.pairs(recipe.data, split) for split in ("train", "heldout"))
    assert len(heldout.source) == 12
    assert found["mean of its category"] == compare(baselines.mean_targets(train, heldout), heldout.target)
    rows = translation.measure(model)
    (row,) = [row for row in rows if row["name"] == "mean absolute difference, translated"]
    assert row == {
        "name": row["name"], "on": "emoji/heldout", "samples": 12,
        "value": found["translated"]["mean absolute difference"],
    }  # fmt: skip
    assert len({row["name"] for row in rows}) == len(rows) == 4 * len(found["translated"])


def test_a_cycle_is_measured_both_ways_and_disturbed(few_held_out):
    recipe = replace(CYCLES["cycle of edges"], data=Emoji(("noto",), size=32))
    rows = {row["name"]: row for row in translation.measure(loud(recipe))}
    assert "structural similarity, translated back" in rows and not any("unchanged" in name for name in rows)
    for kind in "ab":
        row = rows[f"difference after a cycle from kind {kind}, JPEG, quality 50 in between"]
        assert row["samples"] == 6 and row["value"] > 0


class Perfect(nn.Module):
    """Draws the true figures, whatever it is shown: those of the series, one after the other."""

    def __init__(self, config, images):
        super().__init__()
        self.config, self.images, self.anchor = config, images, nn.Parameter(torch.zeros(1))

    def forward(self, x, cond=None, noise=None):
        return to_float(self.images[: len(x)])


def test_figures_are_measured_by_their_joints_and_clothes(monkeypatch):
    recipe = replace(PAIRED["figures"], data=Figures(size=32, images=30))
    monkeypatch.setattr(measures, "READ", 4)
    monkeypatch.setattr(figures_reader, "STEPS", 15)  # the fit begins at the truth
    monkeypatch.setattr(measures, "beside_baselines", lambda model: {})
    poses, outfits = (each[:4] for each in recipe.data.people("heldout"))
    worn = outfits.clone()
    worn[:, 3] = (worn[:, 3] + 1) % 6
    found = {}
    for name, clothes in (("right", outfits), ("wrong trousers", worn)):
        perfect = Perfect(recipe.network, draw_figures(poses, clothes, 32))
        rows = translation.measure((translation.Networks(perfect), recipe))
        found[name] = {row["name"]: row["value"] for row in rows}
    right, wrong = found.values()
    assert right["share of colours as told, in translations"] == right["share of colours as told, in true pictures"] == 1
    assert right["share of joints within 5 % of the side, in translations"] > 0.95
    assert right["median distance of joints from where they are told, pixels, in translations"] < 0.2
    assert wrong["share of colours as told, in translations"] < 0.85
    assert wrong["share of colours as told, in true pictures"] == 1


def test_held_out_sources_are_shown_with_what_became_of_them():
    for recipe in (PAIRED["edges"], CYCLES["cycle"]):
        model = loud(recipe)
        images, made = translation.heldout_pairs(model, 5)
        pairs = recipe.task.pairs(recipe.data, "heldout")
        assert images.dtype == torch.uint8 and images.shape == made.shape == (5, 3, 12, 12)
        assert torch.equal(images[-1], pairs.source[-1].expand(3, -1, -1))
        expected = translation.translate(model, pairs.source[-1:], pairs.cond[-1:])[0]
        torch.testing.assert_close(made[-1], expected)
    assert to_uint8(made).float().std() > 0
