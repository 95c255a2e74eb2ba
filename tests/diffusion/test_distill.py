"""The loop of few-step models: who follows whom, resuming, and that every option does something."""

import functools
from dataclasses import fields, replace

import pytest
import torch

from gencore import diffusion, families
from gencore.data import Digits
from gencore.diffusion import Consistency, DiffusionRecipe, DistillRecipe, MinSNR, Networks, Progressive, Sampling
from gencore.diffusion.objectives import LogisticNormalTimes, UniformTimes
from gencore.diffusion.process import Cosine, Linear
from gencore.errors import InputError
from gencore.networks.dit import DiT
from gencore.training import checkpoint, recipe_io
from gencore.training.log import read_curve
from gencore.training.optimiser import AdamW
from tests.training.test_waiting import NoReads, train_under

NETWORK = DiT(size=14, patch=7, width=8, depth=1, heads=2, conditions=(10, 2))
TAUGHT = DiffusionRecipe(data=Digits(14), network=NETWORK, told=("class",), mirror=True)
TRAINING = DistillRecipe(
    data=Digits(14),
    network=NETWORK,
    told=("class",),
    mirror=True,
    objective=Consistency(first=2, last=8),
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)
DISTILLATION = replace(TRAINING, objective=Consistency("heun", first=2, last=8), teacher="some_denoiser", guidance=2.0)
# Three students, each for two steps.
HALVING = replace(DISTILLATION, objective=Progressive(4, 1), sampling=Sampling("ddim", steps=1))
KINDS = {"training": TRAINING, "distillation": DISTILLATION, "halving": HALVING}
each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def teacher(recipe=TAUGHT):
    """A teacher with weights that say something."""
    (network,) = diffusion.sampling.build(recipe)
    draw = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=draw)
    return Networks(network.eval()), recipe


def passed(recipe):
    if recipe.teacher is None:
        return {}
    taught = {field.name: getattr(recipe, field.name) for field in fields(DiffusionRecipe)}
    del taught["objective"], taught["sampling"]
    return {"teacher": teacher(DiffusionRecipe(**taught | {"seed": 3}))}


def run(recipe, folder=None, **options):
    for state in diffusion.train(recipe, folder, device="cpu", **passed(recipe) | options):
        pass
    return state


@functools.cache
def losses(recipe):
    return run(recipe).losses


def weights(state):
    return checkpoint.flatten({**state.networks._asdict(), "ema": state.averaged.model})


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@each_kind
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    """Stopped where a student's turn ends, after two steps, and in the middle of one, after three."""
    whole = weights(run(recipe, tmp_path / "whole"))
    for stop in (32, 48):
        halved, folder = replace(recipe, checkpoint_every=stop), tmp_path / str(stop)
        stream = diffusion.train(halved, folder, device="cpu", **passed(recipe))
        for state in stream:
            if state.images_seen == stop:
                stream.close()
        assert [int(path.name) for path in checkpoint.list_checkpoints(folder)] == [stop]
        resumed = run(halved, folder)
        found = weights(resumed)
        assert resumed.images_seen == 96 and found.keys() == whole.keys()
        assert [key for key in whole if not torch.equal(whole[key], found[key])] == []
        curves = [read_curve(tmp_path / name / "curve.csv") for name in ("whole", str(stop))]
        ours, theirs = ([{k: v for k, v in row.items() if k != "seconds"} for row in rows] for rows in curves)
        assert ours == theirs and len(ours) == 6
    assert {key.split(".")[0] for key in whole} == {"model", "target", "ema"}


@pytest.mark.parametrize("recipe", [DISTILLATION, HALVING], ids=["distillation", "halving"])
def test_a_student_starts_as_its_teacher_which_stays_as_it_is(recipe):
    given = passed(recipe)
    (network,), _ = given["teacher"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    still = run(replace(recipe, optimiser=replace(recipe.optimiser, lr=0.0)), **given)
    assert all(same(each, network) for each in (still.networks.model, still.networks.target, still.averaged.model))
    moved = run(recipe, **given)
    assert not same(moved.networks.model, network)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None for p in network.parameters())


def test_the_target_follows_the_student():
    for state in diffusion.train(TRAINING, device="cpu"):
        assert same(state.networks.target, state.networks.model), "without a half-life it is the last student"
    slow = replace(TRAINING, objective=replace(TRAINING.objective, target_half_life=10))
    states = diffusion.train(slow, device="cpu")
    for before in (diffusion.sampling.build(slow).model.state_dict(), None):
        state = next(states)
        if before is None:
            break
        key = "head.weight"
        now, student = state.networks.target.state_dict()[key], state.networks.model.state_dict()[key]
        keep = 0.5 ** (16 / 1.6)  # in the beginning, a tenth of the images seen
        torch.testing.assert_close(now, keep * before[key] + (1 - keep) * student)
    assert not same(state.networks.target, state.networks.model)


def test_a_student_becomes_the_teacher_where_the_steps_halve():
    asked, given = [], passed(HALVING)
    (network,), _ = given["teacher"]

    class Spy(Progressive):
        def __call__(self, denoisers, x, cond, draw):
            asked.append((self.first, denoisers.teacher is denoisers.target))
            return super().__call__(denoisers, x, cond, draw)

    states, targets = diffusion.train(replace(HALVING, objective=Spy(4, 1)), device="cpu", **given), []
    for state in states:
        targets.append((same(state.networks.target, network), same(state.networks.target, state.networks.model)))
    assert asked == [(4, False)] * 2 + [(2, True)] * 2 + [(1, True)] * 2
    # The copy is the given teacher, then the first student from its last step on, then the second.
    assert targets == [(True, False), (False, True), (False, False), (False, True), (False, False), (False, False)]


def test_the_learning_rate_begins_anew_with_each_student():
    rates, spied = [], diffusion.distill.set_learning_rate
    for recipe in (HALVING, DISTILLATION):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(diffusion.distill, "set_learning_rate", lambda adam, lr: (rates.append(lr), spied(adam, lr)))
            run(recipe)
    schedule = HALVING.optimiser.learning_rate
    assert rates[:6] == 3 * [schedule(0, 16, 32), schedule(16, 16, 32)]
    assert rates[6:] == [schedule(seen, 16, 96) for seen in range(0, 96, 16)]


def test_the_teachers_guidance_is_that_of_the_sampler():
    model = teacher()
    cond, x_t = torch.tensor([[3, 0], [7, 1], [10, 0]]), torch.randn(3, 1, 14, 14)
    denoiser, hidden = diffusion.denoiser(model), torch.tensor([[10, 0], [10, 1], [10, 0]])
    with torch.no_grad():
        t = torch.tensor([0.9, 0.5, 0.1])
        for weight in (1.0, 2.5):
            taught = diffusion.distill._guided(model, weight, torch.device("cpu"))
            told, untold, rows = denoiser(x_t, t, cond), denoiser(x_t, t, hidden), []
            found = taught(x_t, t, cond)
            torch.testing.assert_close(found, untold + weight * (told - untold), atol=1e-5, rtol=1e-5)
            for c, h, x, when in zip(cond.split(1), hidden.split(1), x_t.split(1), t, strict=True):
                rows.append(diffusion.guidance.classifier_free(denoiser, c, h, weight)(x, when))
            torch.testing.assert_close(found, torch.cat(rows), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(found[2], told[2], atol=1e-5, rtol=1e-5)  # told nothing: no guidance


@each_kind
def test_micro_batches_give_the_gradients_of_one_batch(recipe):
    def first_gradients(recipe):
        clip, steps = torch.nn.utils.clip_grad_norm_, []

        def spy(parameters, norm):
            parameters = list(parameters)
            steps.append([p.grad.clone() for p in parameters])
            return clip(parameters, norm)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.nn.utils, "clip_grad_norm_", spy)
            run(recipe)
        return steps[0]

    for a, b in zip(first_gradients(recipe), first_gradients(replace(recipe, micro_batches=4)), strict=True):
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * max(1.0, a.abs().max().item()))


@each_kind
def test_models_are_loaded_and_draw_in_few_steps(recipe, tmp_path):
    state = run(recipe, tmp_path)
    family, read = families.read(tmp_path)
    assert family is diffusion and read == recipe
    assert recipe_io.from_dict(DistillRecipe, recipe_io.to_dict(recipe)) == recipe
    model = families.load(tmp_path)
    images = diffusion.sample(model, 3, seed=0)
    assert torch.equal(images, diffusion.sample((state.averaged, recipe), 3, seed=0))
    torch.testing.assert_close(images[1:], diffusion.sample(model, 2, seed=0, first=1), atol=1e-5, rtol=1e-5)
    how = recipe.sampling
    plainly = diffusion.walk(
        diffusion.guidance.conditional(diffusion.denoiser(model), torch.tensor([[4, 0]])),
        recipe.process,
        how,
        diffusion.sampling.rng.normal_per_image(1, (how.steps if how.random else 1, 1, 14, 14), 0),
    )
    found = diffusion.sample(model, 1, seed=0, cond=torch.tensor([[4]]))
    torch.testing.assert_close(found, plainly.clamp(-1, 1), atol=1e-5, rtol=1e-5)


def test_every_parameter_moves():
    still = replace(TRAINING.optimiser, weight_decay=0.0, warm_up=0)
    for recipe in KINDS.values():
        recipe = replace(recipe, optimiser=still)
        given = passed(recipe)
        start = given["teacher"][0].model if given else diffusion.sampling.build(recipe).model
        end = run(recipe, **given).networks.model.state_dict()
        assert [name for name, value in start.state_dict().items() if torch.equal(value, end[name])] == []


def test_a_step_reads_nothing_back():
    for recipe in KINDS.values():
        watch, given = NoReads(), passed(recipe)

        class Family:
            @staticmethod
            def train(recipe, device, given=given):
                return diffusion.train(recipe, device=device, **given)

        train_under(watch, Family, replace(recipe, micro_batches=2), "cpu")
        assert watch.operations > 1_000


CONSISTENCY = DISTILLATION.objective
CHANGES = {
    "data": (TRAINING, dict(data=Digits(28), network=replace(NETWORK, size=28))),
    "network": (TRAINING, dict(network=replace(NETWORK, width=4, heads=1))),
    "process": (DISTILLATION, dict(process=Cosine())),
    "prediction": (DISTILLATION, dict(prediction="v")),
    "told": (TRAINING, dict(told=(), network=replace(NETWORK, conditions=(2,)))),
    "drop": (TRAINING, dict(drop=0.5)),
    "mirror": (TRAINING, dict(mirror=False, network=replace(NETWORK, conditions=(10,)))),
    "guidance": (DISTILLATION, dict(guidance=1.0)),
    "guidance of the first teacher": (HALVING, dict(guidance=1.0)),
    "optimiser": (TRAINING, dict(optimiser=replace(TRAINING.optimiser, lr=2e-3))),
    "images": (TRAINING, dict(images=112)),
    "batch_size": (TRAINING, dict(batch_size=32)),
    "clip": (TRAINING, dict(clip=0.01)),
    "precision": (TRAINING, dict(precision="bf16")),
    "seed": (TRAINING, dict(seed=1)),
    "objective.target_half_life": (TRAINING, dict(objective=replace(TRAINING.objective, target_half_life=1_000))),
    "objective.first": (TRAINING, dict(objective=replace(TRAINING.objective, first=4))),
    "objective.last": (TRAINING, dict(objective=replace(TRAINING.objective, last=4))),
    "objective.huber": (TRAINING, dict(objective=replace(TRAINING.objective, huber=0.1))),
    "objective.times": (TRAINING, dict(objective=replace(TRAINING.objective, times=UniformTimes()))),
    "objective.times.mean": (TRAINING, dict(objective=replace(TRAINING.objective, times=LogisticNormalTimes(0.0, 2.0)))),
    "objective.solver": (DISTILLATION, dict(objective=replace(CONSISTENCY, solver="ddim"))),
    "objective": (HALVING, dict(objective=Progressive(2, 1))),
    "objective of two steps": (HALVING, dict(objective=Progressive(4, 2), sampling=Sampling("ddim", steps=2))),
    "objective.weight": (HALVING, dict(objective=Progressive(4, 1, MinSNR()))),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_option_changes_the_loss(name):
    recipe, change = CHANGES[name]
    assert losses(replace(recipe, **change)) != losses(recipe)


def test_no_option_was_forgotten():
    """All but those that decide how a batch is cut, what is averaged, written and drawn, and what is passed in."""
    elsewhere = {"first_stage", "start", "teacher", "sampling", "micro_batches", "ema_half_life", "log_every", "checkpoint_every"}
    ours = {field.name for field in fields(DistillRecipe)}
    assert ours == elsewhere | CHANGES.keys() & ours
    objectives = [(recipe, change) for recipe, change in CHANGES.values() if "objective" in change]
    changed = {name for recipe, change in objectives for name in differing(recipe, change)}
    assert changed == {field.name for kind in (Consistency, Progressive) for field in fields(kind)}


def differing(recipe, change):
    old, new = recipe.objective, change["objective"]
    return [field.name for field in fields(old) if getattr(old, field.name) != getattr(new, field.name)]


@pytest.mark.parametrize(
    ("recipe", "change", "message"),
    [
        (TRAINING, dict(teacher="x"), "teacher: Consistency without a solver has none"),
        (DISTILLATION, dict(teacher=None, guidance=1.0), "all others name the zoo's model that teaches"),
        (TRAINING, dict(guidance=2.0), "guidance 2.0"),
        (DISTILLATION, dict(told=(), network=replace(NETWORK, conditions=(2,))), "guidance 2.0"),
        (TRAINING, dict(prediction="x"), "prediction 'x'"),
        (TRAINING, dict(prediction="eps"), "prediction 'eps'"),
        (HALVING, dict(prediction="eps"), "prediction 'eps'"),
        (TRAINING, dict(process=Linear()), "prediction 'velocity'"),
        (TRAINING, dict(sampling=Sampling("ddim")), "sampling.sampler 'ddim'"),
        (HALVING, dict(sampling=Sampling("consistency")), "sampling.sampler 'consistency'"),
        (HALVING, dict(sampling=Sampling("ddim", steps=2)), "Progressive learns 'ddim' in 1 even steps"),
        (HALVING, dict(network=replace(NETWORK, size=28)), "network.size is 28"),
    ],
)
def test_what_does_not_fit_is_refused(recipe, change, message):
    with pytest.raises(InputError, match=message):
        replace(recipe, **change)


def test_a_teacher_is_asked_for_where_it_belongs():
    with pytest.raises(InputError, match="needs its teacher, the zoo's some_denoiser; pass it as teacher"):
        run(DISTILLATION, teacher=None)
    for recipe in (TRAINING, TAUGHT):
        with pytest.raises(InputError, match="teacher: this recipe learns from data alone"):
            list(diffusion.train(recipe, device="cpu", teacher=teacher()))
    for change, field in (
        (dict(network=replace(NETWORK, depth=2)), "network"),
        (dict(process=Cosine()), "process"),
        (dict(prediction="v"), "prediction"),
        (dict(data=Digits(28), network=replace(NETWORK, size=28)), "data"),
        (dict(told=(), mirror=True, network=replace(NETWORK, conditions=(2,))), "network"),
    ):
        with pytest.raises(InputError, match=f"{field} is .*, but the teacher's is"):
            run(DISTILLATION, teacher=teacher(replace(TAUGHT, **change)))


def test_the_command_line_gives_what_a_recipe_names(tmp_path, monkeypatch):
    small = replace(TAUGHT, images=32, batch_size=16)
    for _ in diffusion.train(small, tmp_path / "some_denoiser", device="cpu"):
        pass
    monkeypatch.setattr(families.zoo, "folder", lambda name: tmp_path / name)
    assert families.passed_in(diffusion, DISTILLATION) == families.passed_in_training(diffusion, TRAINING) == {}
    (network,), recipe = families.passed_in_training(diffusion, DISTILLATION)["teacher"]
    assert recipe == small and same(network, diffusion.load(tmp_path / "some_denoiser")[0].model)
