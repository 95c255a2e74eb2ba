"""The loop: resuming, beginning from another model, who plays, what options do, and every recipe's first steps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from gencore import families
from gencore.applications import super_resolution
from gencore.applications.super_resolution import PixelError, SuperResolutionRecipe
from gencore.applications.super_resolution.sampling import build, build_discriminator
from gencore.data import Photos, to_uint8
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance
from gencore.networks.edsr import EDSR
from gencore.networks.patchgan import PatchGAN
from gencore.networks.srcnn import SRCNN
from gencore.training import checkpoint
from gencore.training.loss import NonFiniteLoss
from gencore.training.optimiser import AdamW
from gencore.vae.adversary import Adversary
from tests.comparing import assert_same, gradients_of, weights

PLAIN = SuperResolutionRecipe(
    data=Photos(size=16),
    network=EDSR(times=2, width=8, blocks=1, finish=4),
    optimiser=AdamW(lr=1e-3, warm_up=16),
    images=24,
    batch_size=4,
    log_every=4,
    checkpoint_every=12,
    ema_half_life=16,
    precision="fp32",
)
GAME = replace(
    PLAIN,
    perceptual=0.5,
    adversary=Adversary(PatchGAN(width=8, strided=1), weight=0.5, optimiser=AdamW(lr=1e-3, warm_up=16)),
    begin="residual_x2",
)
KINDS = {"plain": PLAIN, "game": GAME, "srcnn": replace(PLAIN, network=SRCNN(times=2, widths=(6, 4), kernels=(3, 1, 3)))}


def given(recipe):
    """A model to begin from, if the recipe names one: another seed's first weights, with a head that says something."""
    if recipe.begin is None:
        return {}
    networks = build(replace(recipe, seed=7))
    torch.nn.init.normal_(networks.model.head.weight, std=0.05, generator=torch.Generator().manual_seed(0))
    return {"teacher": (networks, replace(recipe, seed=7))}


def run(recipe, folder=None):
    for state in super_resolution.train(recipe, folder, device="cpu", **given(recipe)):
        pass
    return state


@pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = super_resolution.train(recipe, tmp_path / "halves", device="cpu", **given(recipe))
    for state in stream:
        if state.images_seen == 12:
            stream.close()
    resumed = run(recipe, tmp_path / "halves")
    assert resumed.images_seen == 24
    assert_same(weights(resumed), whole)
    assert any(key.startswith("ema.") and not torch.equal(value, whole[f"model.{key[4:]}"]) for key, value in whole.items())


def test_it_begins_with_the_weights_it_is_given():
    teacher = given(GAME)["teacher"][0].model
    still = replace(GAME, images=4, optimiser=AdamW(lr=0.0))
    state = run(still)
    for mine, theirs in zip(state.networks.model.parameters(), teacher.parameters(), strict=True):
        assert torch.equal(mine, theirs)
    assert all(not torch.equal(a, b) for a, b in zip(run(GAME).networks.model.parameters(), teacher.parameters(), strict=True))


@pytest.mark.parametrize(
    ("recipe", "teacher", "words"),
    [
        (GAME, None, "begins from residual_x2; pass in"),
        (PLAIN, (build(PLAIN), PLAIN), "begins from no other model"),
        (GAME, (build(KINDS["srcnn"]), PLAIN), "teacher, residual_x2: lacks 'model.stem.weight'"),
    ],
)
def test_a_model_to_begin_from_is_missing_out_of_place_or_another(recipe, teacher, words):
    with pytest.raises(InputError, match=words):
        next(super_resolution.train(recipe, device="cpu", teacher=teacher))


def test_the_first_step_s_losses_are_those_of_their_definitions(monkeypatch):
    """The enlargement is that of the weights it begins with, and the batch that of the seed."""
    seen, at = [], super_resolution.Crops.at
    monkeypatch.setattr(super_resolution.Crops, "at", lambda self, n: seen.append(at(self, n)) or seen[-1])
    state = next(super_resolution.train(GAME, device="cpu", **given(GAME)))
    (low, high), network, discriminator = seen[0], given(GAME)["teacher"][0].model, build_discriminator(GAME)
    with torch.no_grad():
        picture = network(low)
        on_real, on_made = discriminator(high), discriminator(picture)
    expected = {
        "absolute_error": (picture - high).abs().mean(),
        "perceptual": PerceptualDistance()(picture, high).mean(),
        "adversarial": -on_made.mean(),
        "discriminator": ((1 - on_real).clamp(min=0).mean() + (1 + on_made).clamp(min=0).mean()) / 2,
        "accuracy": ((on_real > 0).float().mean() + (on_made < 0).float().mean()) / 2,
    }
    assert state.losses.pop("adaptive_weight") > 0
    assert state.losses == pytest.approx({name: value.item() for name, value in expected.items()}, rel=1e-4)


def test_the_first_step_s_gradient_is_that_of_all_terms(monkeypatch):
    """Error, half the perceptual distance, and the adversary's verdict, half as strong at the last layer as both."""
    seen, at = [], super_resolution.Crops.at
    monkeypatch.setattr(super_resolution.Crops, "at", lambda self, n: seen.append(at(self, n)) or seen[-1])
    steps, _ = gradients_of(lambda: run(replace(GAME, images=4)))
    (low, high), network, discriminator = seen[0], given(GAME)["teacher"][0].model, build_discriminator(GAME)
    picture = network(low)
    rest = (picture - high).abs().mean() + 0.5 * PerceptualDistance()(picture, high).mean()
    verdict, last = discriminator(picture).mean(), network.head.weight
    at_last = [torch.autograd.grad(each, last, retain_graph=True)[0].norm() for each in (rest, verdict)]
    total = rest - 0.5 * at_last[0] / (at_last[1] + 1e-4) * verdict
    for mine, theirs in zip(torch.autograd.grad(total, list(network.parameters())), steps[0], strict=True):
        assert mine.any()
        torch.testing.assert_close(theirs, mine, rtol=1e-3, atol=1e-2 * mine.abs().max().item())  # another memory layout


def test_the_adversary_learns_is_kept_and_does_not_ship(tmp_path):
    state = run(GAME, tmp_path / "run")
    before, after = build_discriminator(GAME).state_dict(), state.networks.discriminator.state_dict()
    assert all(not torch.equal(before[key], after[key]) for key in before if before[key].dim() == 4)
    newest = checkpoint.list_checkpoints(tmp_path / "run")[-1]
    assert any(key.startswith("discriminator.") for key in checkpoint.read_tensors(newest / "weights.safetensors"))
    assert not any(key.startswith("discriminator.") for key in checkpoint.read_tensors(newest / "ema.safetensors"))


OPTIONS = {
    "objective": (PLAIN, replace(PLAIN, objective=PixelError("squared"))),
    "objective.weight": (GAME, replace(GAME, objective=PixelError(weight=3.0))),
    "perceptual": (GAME, replace(GAME, perceptual=1.0)),
    "adversary": (GAME, replace(GAME, adversary=None)),
    "adversary.weight": (GAME, replace(GAME, adversary=replace(GAME.adversary, weight=1.0))),
    "adversary.start": (GAME, replace(GAME, adversary=replace(GAME.adversary, start=12))),
    "adversary.optimiser": (GAME, replace(GAME, adversary=replace(GAME.adversary, optimiser=AdamW(lr=1e-2)))),
    "adversary.network": (GAME, replace(GAME, adversary=replace(GAME.adversary, network=PatchGAN(width=16, strided=1)))),
    "network.scaling": (GAME, replace(GAME, network=replace(GAME.network, scaling=0.5))),
    "data": (PLAIN, replace(PLAIN, data=Photos(size=24))),
    "seed": (PLAIN, replace(PLAIN, seed=1)),
    "batch_size": (PLAIN, replace(PLAIN, batch_size=8)),
    "clip": (PLAIN, replace(PLAIN, clip=1e-4)),
    "optimiser": (PLAIN, replace(PLAIN, optimiser=AdamW(lr=1e-2))),
    "ema_half_life": (PLAIN, replace(PLAIN, ema_half_life=1)),
    "precision": (PLAIN, replace(PLAIN, precision="bf16")),
    "images": (PLAIN, replace(PLAIN, images=28)),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_changes_what_is_learned(option):
    """Twelve images are the same moment in both; the average is compared, in which all that is learned shows."""

    def learned(recipe):
        for state in super_resolution.train(recipe, device="cpu", **given(recipe)):
            if state.images_seen >= 16:
                return torch.cat([p.flatten() for p in state.averaged.model.parameters()])

    one, other = (learned(recipe) for recipe in OPTIONS[option])
    assert not torch.equal(one, other)


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("super_resolution.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name):
    """Small squares and batches; without weight decay, which would move what learns nothing."""
    recipe = families.recipes()[name]()
    still = {"weight_decay": 0.0, "warm_up": 0}
    adversary = recipe.adversary and replace(recipe.adversary, optimiser=replace(recipe.adversary.optimiser, **still))
    recipe = replace(
        recipe, data=Photos(size=32), images=6, batch_size=2, log_every=2, optimiser=replace(recipe.optimiser, **still), adversary=adversary
    )
    begin = given(recipe)
    start = begin["teacher"][0] if begin else build(recipe)
    before = {key: value.clone() for key, value in checkpoint.flatten(start._asdict()).items()}
    for state in super_resolution.train(recipe, device="cpu", **begin):
        assert all(np.isfinite(value) for value in state.losses.values())
    after = checkpoint.flatten({"model": state.networks.model})
    assert [key for key in before if torch.equal(before[key], after[key])] == []
    assert sum(p.numel() for p in state.networks.model.parameters()) <= (60_000 if "srcnn" in name else 600_000)
    if recipe.adversary:
        moved = zip(build_discriminator(recipe).parameters(), state.networks.discriminator.parameters(), strict=True)
        assert all(not torch.equal(a, b) for a, b in moved)


def test_the_model_to_begin_from_is_a_recipe_of_the_same_network():
    """And the command line finds it by its name in the zoo."""
    recipes = families.recipes()
    named = {name.split(".")[-1]: make() for name, make in recipes.items() if name.startswith("super_resolution.")}
    for recipe in named.values():
        if recipe.begin:
            assert super_resolution.teacher(recipe) == recipe.begin and named[recipe.begin].network == recipe.network


def test_a_loaded_run_enlarges_as_its_average_does(tmp_path):
    """The family of a folder is known by its recipe; replay pictures are what the average makes of held-out squares."""
    state = run(PLAIN, tmp_path / "run")
    family, recipe = families.read(tmp_path / "run")
    assert family is super_resolution and recipe == PLAIN and not families.draws(family, recipe)
    loaded, squares = families.load(tmp_path / "run"), PLAIN.data.load("heldout").images
    mine = super_resolution.upscale((state.averaged, PLAIN), squares[0])
    assert torch.equal(super_resolution.upscale(loaded, squares[0]), mine)
    assert not loaded[0].model.training and not any(p.requires_grad for p in loaded[0].model.parameters())
    paths = sorted((tmp_path / "run" / "replay").iterdir())
    assert [int(path.stem) for path in paths] == [4, 8, 12, 24]
    made = to_uint8(super_resolution.heldout_pairs(loaded, 16)[1])
    assert torch.equal(torch.from_numpy(np.array(Image.open(paths[-1]))), torch.cat(list(made), 2).permute(1, 2, 0))


def test_a_nan_stops_the_run_and_is_not_saved(tmp_path):
    stream = super_resolution.train(replace(PLAIN, log_every=12), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="'absolute_error' became nan at step 4;"):
        list(stream)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["000000000012"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"network": EDSR(channels=1)}, "network.channels is 1"),
        ({"network": EDSR(times=3)}, "data.size is 16"),
        ({"images": 0}, "images is 0"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"ema_half_life": 0}, "ema_half_life is 0"),
        ({"log_every": 0}, "log_every is 0"),
        ({"checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"clip": 0.0}, "clip is 0"),
        ({"perceptual": -1.0}, "perceptual is -1"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused(change, words):
    with pytest.raises(InputError, match=words):
        replace(PLAIN, **change)
