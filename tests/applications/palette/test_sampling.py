"""Mending: guidance by words and picture, what a result depends on, held-out pictures, and measures of them."""

import functools
from dataclasses import replace

import pytest
import torch

from gencore.applications import palette
from gencore.applications.palette import Networks, Seen, guided, heldout, heldout_pairs, measures, mend, sampling
from gencore.applications.palette.measures import fill_mean, fill_smoothly, measure
from gencore.applications.palette.sampling import SERIES, build
from gencore.data import Photos, to_float, to_uint8
from gencore.data.edits import KINDS, encode_edits
from gencore.diffusion.recipes import Sampling
from gencore.errors import InputError
from gencore.networks.first_stage import pass_in
from gencore.training import rng
from tests.applications.palette.test_loop import CODES, DAMAGED, FILLED, PATCHES, TOLD, first_stage

KINDS_OF_RECIPES = {"told": TOLD, "codes": CODES, "enlarged": PATCHES, "filled": FILLED, "damaged": DAMAGED}
each_kind = pytest.mark.parametrize("recipe", KINDS_OF_RECIPES.values(), ids=KINDS_OF_RECIPES)


@pytest.fixture(autouse=True)
def photographs_once(monkeypatch):
    """Pictures are read from their files once; each reading takes most of a second."""
    monkeypatch.setattr(Photos, "load", functools.cache(Photos.load))


def built(recipe):
    """A model none of whose weights is zero."""
    networks = build(recipe)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in networks.model.parameters():
            p += 0.1 * torch.randn(p.shape, generator=generator)
    networks.model.eval().requires_grad_(False)
    pass_in(networks.model, first_stage(recipe).get("first_stage"), recipe.first_stage)
    return networks, recipe


@each_kind
def test_a_result_depends_on_its_picture_its_number_and_the_seed_only(recipe):
    model = built(recipe)
    _, seen = heldout(recipe, 5)
    whole = mend(model, seen, seed=3, first=10)
    assert whole.shape == (5, 3, 16, 16) and whole.abs().max() <= 1
    part = Seen(*(None if each is None else each[2:4] for each in seen))
    torch.testing.assert_close(mend(model, part, seed=3, first=12), whole[2:4], atol=1e-5, rtol=0)
    torch.testing.assert_close(mend(model, seen, seed=3, first=10, batch_size=2), whole, atol=1e-5, rtol=0)
    assert torch.equal(mend(model, seen, seed=3, first=10), whole)
    for other in (dict(seed=4, first=10), dict(seed=3, first=11)):
        assert not torch.allclose(mend(model, seen, **other), whole, atol=1e-3)
    assert not torch.allclose(mend(model, seen, 3, 10, sampling=replace(recipe.sampling, steps=5)), whole, atol=1e-4)


def test_samplers_that_draw_noise_draw_each_pictures_own():
    model, how = built(FILLED), Sampling("ancestral", steps=3)
    _, seen = heldout(FILLED, 4)
    whole = mend(model, seen, 3, sampling=how)
    part = Seen(*(None if each is None else each[2:] for each in seen))
    torch.testing.assert_close(mend(model, part, 3, first=2, sampling=how), whole[2:], atol=1e-5, rtol=0)


def test_what_is_known_is_kept_bit_by_bit():
    x, seen = heldout(FILLED, 8)
    mended, outside = mend(built(FILLED), seen, 0), (seen.hole == 0).expand_as(x)
    assert torch.equal(mended[outside], x[outside]) and not torch.equal(mended, x)


class Formula(torch.nn.Module):
    """A network whose clean picture is a sum of what it is shown: easy to follow by hand."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.weight = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x_t, t, source, words):
        self.calls += 1
        told = words.float().sum(1)[:, None, None, None] / 50
        return 0.1 * x_t + (0.2 + told) * source + told + t[:, None, None, None]


@pytest.mark.parametrize(("words", "picture"), [(1.0, 1.0), (3.0, 1.0), (1.0, 2.0), (3.0, 1.5), (0.0, 0.0)])
def test_guidance_is_equation_3(words, picture):
    network = Formula()
    model = Networks(network), replace(TOLD, prediction="x")
    seen = Seen(torch.rand(3, 3, 4, 4), words=encode_edits(["remove the star", "make the ring red", "turn the star into a ring"]))
    x_t, t = torch.rand(3, 3, 4, 4), torch.tensor(0.5)
    nothing, silence = torch.zeros_like(seen.source), torch.zeros_like(seen.words)
    every = t.expand(3)
    told = network(x_t, every, seen.source, seen.words)
    untold = network(x_t, every, seen.source, silence)
    unseen = network(x_t, every, nothing, silence)
    network.calls = 0
    found = guided(model, seen, words, picture)(x_t, t)
    torch.testing.assert_close(found, unseen + picture * (untold - unseen) + words * (told - untold))
    assert network.calls == 1
    if words == picture == 1:
        torch.testing.assert_close(found, told)


@pytest.mark.parametrize(("t", "inside"), [(0.2, False), (0.3, True), (0.6, True), (0.7, False)])
def test_guidance_counts_in_its_interval(t, inside):
    model = Networks(Formula()), replace(TOLD, prediction="x")
    seen = Seen(torch.rand(2, 3, 4, 4), words=encode_edits(["remove the star", "make the ring red"]))
    x_t, t = torch.rand(2, 3, 4, 4), torch.tensor(t)
    found = guided(model, seen, 3.0, 2.0, (0.3, 0.6))(x_t, t)
    other = guided(model, seen, 3.0, 2.0)(x_t, t) if inside else guided(model, seen)(x_t, t)
    assert torch.equal(found, other)


def test_mending_uses_the_recipes_guidance_unless_told():
    recipe = replace(TOLD, sampling=replace(TOLD.sampling, guidance=3.0), picture_guidance=2.0)
    model = built(recipe)
    _, seen = heldout(recipe, 3)
    by_recipe = mend(model, seen, 0)
    plain = replace(recipe.sampling, guidance=1.0)
    assert not torch.allclose(mend(model, seen, 0, sampling=plain), by_recipe, atol=1e-4)
    assert not torch.allclose(mend(model, seen, 0, picture_guidance=1.0), by_recipe, atol=1e-4)
    explicit = mend((model[0], TOLD), seen, 0, sampling=recipe.sampling, picture_guidance=2.0)
    assert torch.equal(explicit, by_recipe)


@each_kind
def test_heldout_pictures_are_spread_and_spoiled_in_a_way_of_their_own(recipe):
    x, seen = heldout(recipe)
    data = recipe.data.load("heldout")
    assert torch.equal(x, to_float(data.images)) and len(seen.source) == len(data)
    few, shown = heldout(recipe, 4)
    index = torch.linspace(0, len(data) - 1, 4).long()
    assert torch.equal(few, x[index])
    for part, whole in zip(shown, seen, strict=True):
        assert (part is None) == (whole is None)
        if part is not None:
            torch.testing.assert_close(part, whole[index])
    pictures, made = heldout_pairs(built(recipe), 4)
    assert torch.equal(pictures, to_uint8(shown.source[:, :3])) and torch.equal(made, mend(built(recipe), shown, 7))


def test_heldout_edits_show_the_picture_before():
    x, seen = heldout(TOLD)
    pairs = TOLD.data.load_pairs("heldout")
    assert torch.equal(seen.source, to_float(pairs.before[pairs.place])) and torch.equal(seen.words, pairs.words)
    assert torch.equal(x, to_float(pairs.after.images))


def test_damage_shares_nothing_with_the_noise_that_mending_begins_with(monkeypatch):
    """Of the same seed and numbers: the noise on a picture must not be what the sampler is to remove, nor decide its strength."""
    task, drawn = DAMAGED.task, {}

    def show(self, x, u, noise):
        drawn.update(u=u, noise=noise)
        return Seen(x, base=x)

    monkeypatch.setattr(type(task), "show", show)
    x, seen = heldout(DAMAGED, 40)
    index = torch.linspace(0, len(DAMAGED.data.load("heldout")) - 1, 40).long()
    starts = {}
    monkeypatch.setattr(sampling, "walk", lambda denoise, process, how, noise: starts.update(noise=noise) or noise[:, 0])
    for place, number in enumerate(index.tolist()):
        part = Seen(*(None if each is None else each[place : place + 1] for each in seen))
        mend((torch.nn.ModuleList([torch.nn.Linear(1, 1)]), DAMAGED), part, SERIES, first=number)
        start = starts["noise"][0, 0].flatten()  # what the sampler begins with
        assert abs(torch.corrcoef(torch.stack([start, drawn["noise"][place].flatten()]))[0, 1]) < 0.2
        same = rng.uniform_per_image(1, (task.numbers,), SERIES, number)[0]
        assert not torch.equal(drawn["u"][place], same)
    assert drawn["noise"].std() == pytest.approx(1, rel=0.03) and len({tuple(row) for row in drawn["u"].tolist()}) == 40


@pytest.mark.parametrize("weights", [dict(sampling=Sampling(guidance=2.0)), dict(picture_guidance=2.0)], ids=["words", "picture"])
@pytest.mark.parametrize("recipe", [FILLED, TOLD], ids=["reads nothing", "words missing"])
def test_guidance_takes_words(recipe, weights):
    _, seen = heldout(recipe, 2)
    with pytest.raises(InputError, match="takes words"):
        mend(built(recipe), seen._replace(words=None), 0, **weights)


@each_kind
def test_only_the_values_of_pixels_are_held_to_their_range(recipe):
    _, seen = heldout(recipe, 2)
    how = Sampling("ddim", steps=2, clip=True)
    if recipe in (CODES, PATCHES, DAMAGED):
        with pytest.raises(InputError, match="drawn here are codes" if recipe == CODES else "drawn here are differences"):
            mend(built(recipe), seen, 0, sampling=how)
    else:
        assert mend(built(recipe), seen, 0, sampling=how).abs().max() <= 1


# Measures


def test_holes_are_measured_beside_what_needs_no_network(monkeypatch):
    monkeypatch.setattr(measures, "MOST", 12)
    x, seen = heldout(FILLED, 12)
    monkeypatch.setattr(measures, "mend", lambda model, seen, seed: fill_mean(seen))
    found = {each["name"]: each["value"] for each in measure(built(FILLED))}
    assert len(found) == 6
    same = "peak signal-to-noise ratio in the holes, dB"
    assert found[same] == found[f"{same}, holes filled with the mean colour"]
    area = seen.hole.flatten(1).sum(1)
    squared = (seen.hole * (fill_mean(seen) - x).square().mean(1, keepdim=True)).flatten(1).sum(1)[area > 0] / area[area > 0]
    assert found[same] == pytest.approx((10 * torch.log10(4 / squared)).mean().item(), abs=1e-4)
    monkeypatch.setattr(measures, "mend", lambda model, seen, seed: x)
    right = {each["name"]: each["value"] for each in measure(built(FILLED))}
    assert right["perceptual distance"] < 1e-6 < found["perceptual distance"] and right[same] > found[same]
    assert all(each["samples"] == 12 and each["on"] == "emoji/heldout" for each in measure(built(FILLED)))


def test_enlarged_pictures_are_measured_beside_bicubic_interpolation(monkeypatch):
    monkeypatch.setattr(measures, "MOST", 6)
    monkeypatch.setattr(measures, "mend", lambda model, seen, seed: seen.base)
    found = {each["name"]: each["value"] for each in measure(built(PATCHES))}
    name = "peak signal-to-noise ratio, dB"
    assert found[name] == found[f"{name}, the picture as it was shown"] > 15
    assert found["perceptual distance"] == found["perceptual distance, the picture as it was shown"] > 0


@pytest.mark.parametrize(("answer", "done", "kept"), [("after", 1.0, 1.0), ("before", 0.0, 1.0), ("nothing", None, 0.0)])
def test_edits_are_measured_by_kind_and_by_novelty(monkeypatch, answer, done, kept):
    recipe = replace(TOLD, data=replace(TOLD.data, size=32, heldout_pairs=130))
    monkeypatch.setattr(measures, "MOST_EDITS", 120)
    pairs = recipe.data.load_pairs("heldout")
    answers = {"after": pairs.after.images, "before": pairs.before[pairs.place], "nothing": torch.full((120, 3, 32, 32), 245)}
    monkeypatch.setattr(measures, "mend", lambda model, seen, seed: to_float(answers[answer][:120]))
    found = {each["name"]: each for each in measure((None, recipe))}
    for novelty in ("seen", "held-out"):
        of_all = f"all edits, {novelty} combinations"
        if done is not None:
            assert found[f"{of_all}: done"]["value"] == done
            assert found[f"{of_all}: done and all else kept"]["value"] == done * kept
        if answer == "nothing":  # where there was nothing else, all of it was kept
            meta = pairs.after.meta
            rows = list(zip(meta["scene"], meta["edit"], meta["unseen"], strict=True))[:120]
            alone = [len(scene.objects) == (edit.kind != "add") for scene, edit, new in rows if new == (novelty == "held-out")]
            kept = sum(alone) / len(alone)
        assert found[f"{of_all}: all else kept"]["value"] == pytest.approx(kept)
        kinds = [found[f"{kind}, {novelty} combinations: done and all else kept"] for kind in KINDS]
        assert sum(each["samples"] for each in kinds) == found[f"{of_all}: done"]["samples"] == 60
        assert answer == "nothing" or all(each["value"] == done * kept for each in kinds)


def test_a_smooth_fill_finds_what_is_smooth_and_a_mean_fill_the_mean():
    ramp = torch.linspace(-1, 1, 16).expand(1, 2, 16, 16)
    hole = torch.zeros(1, 1, 16, 16)
    hole[:, :, 5:11, 4:12] = 1
    seen = Seen(torch.cat([torch.where(hole > 0, 0, ramp), hole], 1), hole=hole)
    torch.testing.assert_close(fill_smoothly(seen), ramp, atol=1e-3, rtol=0)
    mean = fill_mean(seen)
    torch.testing.assert_close(mean[0, 0, 7, 7], ramp[(hole == 0).expand_as(ramp)].mean(), atol=1e-5, rtol=0)
    outside = (hole == 0).expand_as(ramp)
    assert torch.equal(mean[outside], ramp[outside]) and torch.equal(fill_smoothly(seen)[outside], ramp[outside])


def test_the_doors_of_a_family():
    assert not hasattr(palette, "sample") and palette.measure is measure
