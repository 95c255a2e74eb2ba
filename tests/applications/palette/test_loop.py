"""The loop: resuming, processes' shares, what is hidden, what options do, and that a step waits for nothing."""

from dataclasses import fields, replace

import pytest
import torch

from gencore import families
from gencore.applications import palette
from gencore.applications.palette import Damage, Holes, Instruct, Mending, PaletteRecipe, Upscale
from gencore.applications.palette.examples import Examples, shrink
from gencore.applications.palette.sampling import build
from gencore.data import Emoji, Photos, photographs, to_float
from gencore.data.edits import END, INSTRUCTION_LENGTH, WORDS, Edits
from gencore.data.photos import EVERY, FIRST
from gencore.diffusion.objectives import EDMWeight, LogisticNormalTimes, MinSNR, UniformTimes
from gencore.diffusion.process import EDM, Cosine, Linear
from gencore.diffusion.recipes import Sampling
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.first_stage import pass_in
from gencore.networks.latent_palette import LatentPalette
from gencore.networks.palette import Palette
from gencore.networks.quantiser import Codebook
from gencore.networks.text import TextEncoder
from gencore.networks.transformer import Transformer
from gencore.networks.unet import UNet
from gencore.networks.vqvae import VQ, VQVAE
from gencore.training import checkpoint, rng
from gencore.training.log import read_curve
from gencore.training.optimiser import AdamW
from tests.comparing import assert_same, weights
from tests.training.test_waiting import STEPS, NoReads, train_under

UNET = UNet(6, out_channels=3, width=8, multipliers=(1, 2), embedding=8, patch=2, heads=2, finish=4)
READER = TextEncoder(len(WORDS), INSTRUCTION_LENGTH, Transformer(width=8, depth=1, heads=2))
TOLD = PaletteRecipe(
    data=Edits(16, pairs=64, heldout_pairs=16),
    task=Instruct(),
    network=Palette(replace(UNET, context=8), text=READER),
    drop=0.2,
    sampling=Sampling("euler", steps=2),
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    precision="fp32",
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)
PATCHES = replace(
    TOLD, data=Photos(16), task=Upscale(2), network=Palette(UNET), drop=0.0, scales=(1.0, 0.5), mirror=True
)
FILLED = replace(PATCHES, data=Emoji(size=16), task=Holes(), network=Palette(replace(UNET, channels=7)), scales=(1.0,))
DAMAGED = replace(PATCHES, task=Damage())
LETTERS = VQ(Autoencoder(size=16, channels=3, latent=2, flat=False, width=8, multipliers=(1, 1), patch=2), Codebook(8))
CODES = replace(
    TOLD,
    network=LatentPalette(
        LETTERS, Palette(UNet(6, out_channels=2, width=8, multipliers=(1,), embedding=8, heads=2, context=8), 2, READER, True)
    ),
    first_stage="vq_shapes",
)
KINDS = {"told": TOLD, "codes": CODES, "enlarged": PATCHES, "filled": FILLED, "damaged": DAMAGED}
each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def first_stage(recipe):
    """What `train` is given: a first stage with the sizes that the recipe wants."""
    if recipe.first_stage is None:
        return {}
    torch.manual_seed(0)
    first = VQVAE(recipe.network.first)
    first.quantiser.codebook.copy_(0.3 * torch.randn_like(first.quantiser.codebook))
    return {"first_stage": first}


def run(recipe, folder=None):
    for state in palette.train(recipe, folder, device="cpu", **first_stage(recipe)):
        pass
    return state


def built(recipe):
    """The network that the recipe's seed draws, with its first stage."""
    model = build(recipe).model
    pass_in(model, first_stage(recipe).get("first_stage"), recipe.first_stage)
    return model


@each_kind
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = palette.train(recipe, tmp_path / "halves", device="cpu", **first_stage(recipe))
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
    assert [int(path.stem) for path in sorted((tmp_path / "whole" / "replay").iterdir())] == [16, 32, 48, 96]


def test_a_loaded_run_mends_as_its_average_does(tmp_path):
    """And the family of a folder is known by its recipe."""
    state = run(replace(FILLED, images=32), tmp_path / "run")
    family, found = families.read(tmp_path / "run")
    assert family is palette and found == replace(FILLED, images=32) and not families.draws(family, found)
    loaded = families.load(tmp_path / "run")
    for ours, theirs in zip(palette.heldout_pairs(loaded, 3), palette.heldout_pairs((state.averaged, found), 3), strict=True):
        assert torch.equal(ours, theirs)
    assert not loaded[0].model.training and not any(p.requires_grad for p in loaded[0].model.parameters())


@each_kind
def test_two_processes_see_what_one_sees(recipe, monkeypatch):
    whole = Examples(recipe, built(recipe), torch.device("cpu")).at(32)
    halves = []
    for rank in range(2):
        monkeypatch.setattr("gencore.training.distributed.rank", lambda rank=rank: rank)
        monkeypatch.setattr("gencore.training.distributed.world_size", lambda: 2)
        halves.append(Examples(recipe, built(recipe), torch.device("cpu")).at(32))
    (x, seen, draw), ((x0, seen0, draw0), (x1, seen1, draw1)) = whole, halves
    for ours, first, second in zip((x, *seen, *draw), (x0, *seen0, *draw0), (x1, *seen1, *draw1), strict=True):
        assert (ours is None) == (first is None)
        if ours is not None:
            torch.testing.assert_close(torch.cat([first, second]), ours)  # grouped convolutions may round differently


@each_kind
def test_a_step_reads_nothing_back(recipe):
    watch = NoReads()
    train_under(watch, palette, recipe, "cpu", first_stage(recipe))
    assert watch.operations > 100 * STEPS


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("palette.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name):
    """Without weight decay, which would move what learns nothing; several full steps, for gates that start at zero."""
    recipe = families.recipes()[name]()
    data = recipe.data
    if isinstance(data, Edits):
        data = replace(data, pairs=50, heldout_pairs=20)
    if isinstance(data, Photos):
        data = replace(data, size=32)  # which halves the time, and more
    recipe = replace(
        recipe,
        data=data,
        images=20,
        batch_size=4,
        log_every=4,
        optimiser=replace(recipe.optimiser, weight_decay=0.0, warm_up=0),
        sampling=Sampling("euler", steps=1),
    )
    before = {key: value.clone() for key, value in checkpoint.flatten(build(recipe)._asdict()).items()}
    before = {key: value for key, value in before.items() if key not in ("model.mean", "model.std")}  # measured, not learned
    after = checkpoint.flatten(run(recipe).networks._asdict())
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert all(value.isfinite().all() for value in after.values())


CHANGES = {
    "told": [
        dict(data=Edits(32, pairs=64, heldout_pairs=16)),
        dict(data=Edits(16, objects=1, pairs=64, heldout_pairs=16)),
        dict(data=Edits(16, pairs=32, heldout_pairs=16)),
        dict(data=Edits(16, pairs=64, heldout_pairs=16, held_out_combinations=False)),
        dict(network=Palette(replace(UNET, width=16, context=8), text=READER)),
        dict(process=Cosine()),
        dict(process=Linear()),
        dict(process=EDM()),
        dict(prediction="x"),
        dict(prediction="eps"),
        dict(prediction="v"),
        dict(prediction="edm"),
        dict(objective=Mending(UniformTimes())),
        dict(objective=Mending(LogisticNormalTimes(mean=0.5))),
        dict(objective=Mending(weight=MinSNR())),
        dict(objective=Mending(weight=EDMWeight())),
        dict(drop=0.0),
        dict(optimiser=replace(TOLD.optimiser, lr=2e-3)),
        dict(images=112),
        dict(batch_size=32),
        dict(clip=0.1),
        dict(precision="bf16"),
        dict(seed=1),
    ],
    "enlarged": [dict(task=Upscale(4)), dict(task=Upscale(2, gain=2.0)), dict(scales=(1.0,)), dict(mirror=False)],
    "filled": [dict(task=Holes(boxes=1.0, strokes=0.0)), dict(task=Holes(boxes=0.0, strokes=1.0)), dict(mirror=False)],
    "damaged": [
        dict(task=Damage(blur=0.0)),
        dict(task=Damage(noise=0.0)),
        dict(task=Damage(blocks=0.0)),
        dict(task=Damage(scratches=0.0)),
        dict(task=Damage(gain=1.0)),
    ],
}


@pytest.fixture(scope="module")
def plainly():
    return {kind: run(recipe).losses for kind, recipe in KINDS.items()}


@pytest.mark.parametrize(
    ("kind", "change"), [(kind, change) for kind, changes in CHANGES.items() for change in changes], ids=repr
)
def test_every_option_changes_the_loss(plainly, kind, change):
    found = run(replace(KINDS[kind], **change)).losses
    assert found != plainly[kind] and found.keys() == plainly[kind].keys()


def test_no_option_was_forgotten():
    """All but those that decide what is averaged and written, how pictures are drawn, and whose codes."""
    elsewhere = {"first_stage", "ema_half_life", "log_every", "checkpoint_every", "sampling", "picture_guidance"}
    changed = {name for changes in CHANGES.values() for change in changes for name in change}
    assert {field.name for field in fields(PaletteRecipe)} == elsewhere | changed


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (TOLD, dict(data=Photos(16)), "Instruct goes with Edits"),
        (TOLD, dict(network=Palette(UNET)), "Instruct goes with Edits"),
        (PATCHES, dict(data=Edits(16)), "Instruct goes with Edits"),
        (TOLD, dict(mirror=True), "left and right"),
        (TOLD, dict(drop=0.34), r"drop is 0.34; it must be in \[0, 1/3\)"),
        (PATCHES, dict(drop=0.1), "drop and guidance"),
        (PATCHES, dict(picture_guidance=2.0), "drop and guidance"),
        (PATCHES, dict(sampling=Sampling(guidance=2.0)), "drop and guidance"),
        (PATCHES, dict(task=Holes()), "network.seen is 3, but task and data have 4"),
        (PATCHES, dict(data=Photos(18)), "multiples of 4"),
        (PATCHES, dict(scales=()), "scales"),
        (PATCHES, dict(scales=(0.1,)), "scales"),
        (PATCHES, dict(data=Photos(128), scales=(0.25,)), "smaller than a patch of 128"),
        (FILLED, dict(scales=(0.5,)), "only photographs"),
        (CODES, dict(first_stage=None), "first_stage: a LatentPalette names"),
        (TOLD, dict(first_stage="vq_shapes"), "others name none"),
        (CODES, dict(data=Edits(32)), "works on codes; it goes with Instruct, and with pictures of 16 pixels"),
        (PATCHES, dict(network=replace(CODES.network, palette=Palette(replace(UNET, channels=4, out_channels=2), 2)),
                       first_stage="vq_shapes"), "it goes with Instruct"),
        (PATCHES, dict(images=0), "images is 0"),
        (PATCHES, dict(clip=0.0), "clip is 0.0"),
        (TOLD, dict(network=Palette(replace(UNET, context=8), text=replace(READER, words=9))), "network.text"),
    ],
)
def test_nonsense_is_refused(recipe, change, message):
    with pytest.raises(InputError, match=message):
        replace(recipe, **change)


def test_in_codes_both_pictures_are_encoded():
    model = built(CODES)
    x, seen, _ = Examples(replace(CODES, drop=0.0), model, torch.device("cpu")).at(0)
    pairs = CODES.data.load_pairs("train")
    order = torch.randperm(64, generator=rng.generator(CODES.seed, 0, "order"))[:16]
    torch.testing.assert_close(x, model.encode(to_float(pairs.after.images[order])), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.source, model.encode(to_float(pairs.before[pairs.place[order]])), atol=1e-4, rtol=1e-4)
    for codes in (x, seen.source):  # those of all edited pictures have mean 0 and deviation 1
        assert codes.shape == (16, 2, 4, 4) and 0.5 < codes.std() < 2


def test_a_first_stage_is_asked_for_where_it_belongs():
    with pytest.raises(InputError, match="needs its first stage, the zoo's vq_shapes"):
        next(palette.train(CODES, device="cpu"))
    with pytest.raises(InputError, match="this network works on pixels"):
        next(palette.train(TOLD, device="cpu", **first_stage(CODES)))
    assert set(families.passed_in(palette, palette.recipes.edit_codes())) == {"first_stage"}


def test_words_picture_or_both_are_hidden_for_a_share_each():
    recipe = replace(TOLD, data=Edits(16, pairs=900, heldout_pairs=16), batch_size=900, drop=0.2)
    x, seen, _ = Examples(recipe, built(recipe), torch.device("cpu")).at(0)
    pairs = recipe.data.load_pairs("train")
    order = torch.randperm(900, generator=rng.generator(recipe.seed, 0, "order"))
    assert torch.equal(x, to_float(pairs.after.images[order]))
    silent, blank = (seen.words == END).all(1), (seen.source == 0).flatten(1).all(1)
    for hidden in (silent & ~blank, blank & ~silent, silent & blank):
        assert hidden.float().mean().item() == pytest.approx(0.2, abs=0.05)
    assert torch.equal(seen.words[~silent], pairs.words[order][~silent])
    assert torch.equal(seen.source[~blank], to_float(pairs.before[pairs.place[order]])[~blank])


def test_nothing_is_hidden_without_a_share():
    _, seen, _ = Examples(replace(TOLD, drop=0.0, batch_size=64), built(TOLD), torch.device("cpu")).at(0)
    assert seen.words.any(1).all() and seen.source.flatten(1).any(1).all()


def test_patches_come_from_training_photographs_only_at_all_scales():
    examples = Examples(PATCHES, built(PATCHES), torch.device("cpu"))
    assert len(examples._squares) == 2 * sum(place % EVERY != FIRST for place in range(len(photographs())))


def test_photographs_shrink_but_not_below_a_patch():
    picture = torch.randint(0, 256, (3, 40, 60), generator=torch.Generator().manual_seed(0)).byte()
    assert shrink(picture, 0.5, 16).shape == (3, 20, 30) and shrink(picture, 0.25, 16).shape == (3, 16, 16)
    assert shrink(picture, 1.0, 16) is picture
    flat = torch.full((3, 40, 60), 77, dtype=torch.uint8)
    assert (shrink(flat, 0.5, 16) == 77).all()
