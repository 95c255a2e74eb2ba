import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from gencore import families, gan
from gencore.data import Digits, Emoji
from gencore.errors import InputError
from gencore.gan.augmentation import Augmentation
from gencore.gan.examples import Examples, split
from gencore.gan.objectives import Draw, Hinge, LeastSquares, Relativistic, Saturating, Wasserstein
from gencore.gan.penalties import R1, R2, Codes, GradientPenalty, PathLength
from gencore.gan.recipes import GANRecipe, Growth
from gencore.networks import progressive
from gencore.networks.conditional_dcgan import ConditionalDCGAN
from gencore.networks.dcgan import DCGAN, Discriminator, Generator
from gencore.networks.infogan import InfoGAN
from gencore.networks.progressive import Progressive
from gencore.networks.stylegan2 import StyleGAN2
from gencore.training import checkpoint, recipe_io
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss

TINY = GANRecipe(
    data=Digits(14),
    network=DCGAN(size=14, latent=8, width=8),
    images=96,
    batch_size=16,
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)
INDEPENDENT = replace(TINY, network=replace(TINY.network, norm="group", discriminator_norm="group"))
TOLD = replace(
    TINY,
    network=ConditionalDCGAN(INDEPENDENT.network, conditions=(10, 2), embedding=4),
    told=("class",),
    mirror=True,
)
READ = replace(TINY, network=InfoGAN(INDEPENDENT.network, classes=3, continuous=2), penalties=(Codes(),))
STYLED = replace(
    TINY,
    network=StyleGAN2(14, 1, style=8, mapping=2, width=4, max_width=8, judge_width=4, judge_max_width=8, conditions=(10, 2)),
    told=("class",),
    mirror=True,
    penalties=(R1(every=2), PathLength(every=2)),
)
GROWING = replace(  # level 0 at 0 and 16 images, a third of level 1 at 32, level 1 from 48 on
    TINY, network=Progressive(14, 1, latent=8, width=4, max_width=8), growth=Growth(phase=24)
)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(recipe, folder=None, **options):
    for state in gan.train(recipe, folder, device="cpu", **options):
        pass
    return state


def examples(recipe):
    """What the recipe's training steps are given."""
    return Examples(recipe, recipe.data.load("train"), gan.build(recipe).generator, torch.device("cpu"))


def weights(state):
    return checkpoint.flatten({**state.networks._asdict(), "ema": state.averaged.generator})


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for key in a:
        if tolerance:
            torch.testing.assert_close(a[key], b[key], **tolerance)
        else:
            assert torch.equal(a[key], b[key]), key


@pytest.mark.parametrize("recipe", [TINY, STYLED, GROWING, READ], ids=["dcgan", "styled", "growing", "read"])
def test_training_six_steps_equals_three_and_resume_three(tmp_path, recipe):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = gan.train(recipe, tmp_path / "halves", device="cpu")
    for state in stream:
        if state.images_seen == 48:
            half = {key: value.clone() for key, value in weights(state).items()}
            stream.close()
    resumed = run(recipe, tmp_path / "halves")
    assert resumed.images_seen == 96
    assert_same(weights(resumed), whole)
    for key in {"generator.mean_path", "ema.mean_path", "generator.level", "discriminator.level", "ema.level"} & whole.keys():
        assert 0 < half[key] != whole[key], "this state is what such a run could lose"
    drawn = [gan.sample(model, 2, seed=0) for model in ((resumed.averaged, recipe), gan.load(tmp_path / "halves"))]
    torch.testing.assert_close(*drawn)
    strip = [[{k: v for k, v in row.items() if "seconds" not in k} for row in read_curve(tmp_path / d / "curve.csv")]
             for d in ("whole", "halves")]
    assert strip[0] == strip[1] and len(strip[0]) == 6


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """SIGKILL in the middle, through the command line; then the same command again."""
    command = [sys.executable, "-m", "gencore", "train", "gan.recipes.dcgan_digits", "--device", "cpu"]
    command += ["--images", "6400", "--batch-size", "16", "--checkpoint-every", "160", "--log-every", "160"]
    command += ["data:digits", "--data.size", "14"]
    command += ["network:dcgan", "--network.size", "14", "--network.latent", "8", "--network.width", "8"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    process = subprocess.Popen([*command[:5], "--folder", killed, *command[5:]], env=environment, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not checkpoint.list_checkpoints(killed) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert int(checkpoint.list_checkpoints(killed)[-1].name) < 6400
    for folder in (killed, whole):
        subprocess.run([*command[:5], "--folder", folder, *command[5:]], env=environment, check=True, stderr=subprocess.DEVNULL)
    for file in ("weights.safetensors", "ema.safetensors"):
        ends = [checkpoint.list_checkpoints(folder)[-1] for folder in (killed, whole)]
        assert ends[0].name == ends[1].name == "000000006400"
        assert_same(*(checkpoint.read_tensors(end / file) for end in ends))


def test_a_growing_run_killed_in_a_fade_resumes_to_the_same_weights(tmp_path):
    """SIGKILL while the second level is faded in, through the command line; it is faded in to the end after the resume."""
    command = [sys.executable, "-m", "gencore", "train", "gan.recipes.dcgan_digits", "--folder", tmp_path / "run"]
    command += ["--device", "cpu", "--images", "3200", "--batch-size", "16", "--precision", "fp32"]
    command += ["--checkpoint-every", "160", "--log-every", "160", "data:digits", "--data.size", "14"]
    command += ["network:progressive", "--network.size", "14", "--network.channels", "1", "--network.latent", "8"]
    command += ["--network.width", "4", "--network.max-width", "8", "growth:growth", "--growth.phase", "1200"]
    environment, errors = {**os.environ, "OMP_NUM_THREADS": "1"}, open(tmp_path / "errors.txt", "w+")
    process = subprocess.Popen(command, env=environment, stderr=errors)
    deadline, seen = time.time() + 120, 0
    while seen <= 1200 and time.time() < deadline and process.poll() is None:
        time.sleep(0.005)
        seen = max((int(saved.name) for saved in checkpoint.list_checkpoints(tmp_path / "run")), default=0)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it ended before it was killed: " + (tmp_path / "errors.txt").read_text()
    killed = checkpoint.list_checkpoints(tmp_path / "run")[-1]
    assert 0 < checkpoint.read_tensors(killed / "weights.safetensors")["generator.level"] < 1
    subprocess.run(command, env=environment, check=True, stderr=errors)
    recipe = recipe_io.read(GANRecipe, tmp_path / "run" / "recipe.json")
    whole = weights(run(recipe))
    assert whole["generator.level"] == whole["ema.level"] == 1
    end = checkpoint.list_checkpoints(tmp_path / "run")[-1]
    found = checkpoint.read_tensors(end / "weights.safetensors")
    found |= {f"ema.{key.partition('.')[2]}": value
              for key, value in checkpoint.read_tensors(end / "ema.safetensors").items() if key.startswith("generator.")}
    assert_same(found, whole)


def test_resume_refuses_another_recipe(tmp_path):
    run(TINY, tmp_path / "run")
    with pytest.raises(InputError, match="another recipe.*optimiser.beta1"):
        run(replace(TINY, optimiser=replace(TINY.optimiser, beta1=0.9)), tmp_path / "run")


def test_a_folder_of_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty and not a run"):
        run(TINY, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_nan_stops_the_run_names_the_step_and_is_not_saved(tmp_path):
    stream = gan.train(replace(TINY, log_every=48), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.discriminator.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="became nan at step 4;"):
        list(stream)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["000000000048"]


def gradients(recipe):
    """Each player's gradients at its first two turns, as its optimiser would use them: Adam forgives a wrong factor."""
    found = []

    def step(optimiser, closure=None):
        (group,) = optimiser.param_groups
        found.append([None if p.grad is None else p.grad.clone() for p in group["params"]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        run(replace(recipe, images=2 * recipe.batch_size))
    assert len(found) == 4
    return found


def assert_same_gradients(ours, theirs):
    for turn, other_turn in zip(ours, theirs, strict=True):
        for a, b in zip(turn, other_turn, strict=True):
            assert (a is None) == (b is None)
            if b is None:  # of a level that the networks have not grown to
                continue
            assert b.abs().max() > 0
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("micro_batches", [4, 3])  # of 16 images: also pieces of unequal size
def test_micro_batches_equal_one_batch(micro_batches):
    assert_same_gradients(gradients(replace(INDEPENDENT, micro_batches=micro_batches)), gradients(INDEPENDENT))


SLOPES = R1(gamma=2.0, every=1), R2(every=2), GradientPenalty(weight=3.0)
JUDGED = replace(TOLD, penalties=SLOPES, augmentation=Augmentation(), objective=LeastSquares())


@pytest.mark.parametrize("recipe", [JUDGED, READ], ids=["told and judged by slopes", "read"])
def test_micro_batches_equal_one_batch_with_penalties(recipe):
    """Pieces of conditions, latents and places between go with their pictures: 16 are cut into 6, 6 and 4."""
    assert_same_gradients(gradients(replace(recipe, micro_batches=3)), gradients(recipe))
    cut, whole = (run(replace(recipe, micro_batches=pieces, images=16)).losses for pieces in (3, 1))
    assert cut == pytest.approx(whole, rel=1e-4)


@pytest.mark.parametrize("count, sizes", [(1, [7]), (3, [3, 3, 1])])
@pytest.mark.parametrize("told", [True, False])
def test_pieces_hold_what_belongs_together(count, sizes, told):
    number = torch.arange(7.0)[:, None]  # of the picture, and all that goes with it
    pieces = split(count, number, number.long() if told else None, Draw(number, number[:, 0], number), number)
    assert [share for _, share in pieces] == [size / 7 for size in sizes]
    assert torch.equal(torch.cat([x for (x, *_), _ in pieces]), number)
    for (x, cond, draw, fake), _ in pieces:
        assert torch.equal(cond, x.long()) if told else cond is None
        assert torch.equal(draw.z, x) and torch.equal(draw.between, x[:, 0]) and torch.equal(draw.direction, x)
        assert torch.equal(fake, x)


# Level 0 in the first step, where the next level's weights have no gradient, and a third of level 1 in the second.
JUDGED_GROWING = replace(GROWING, growth=Growth(phase=12), penalties=SLOPES)


def without_company(h):
    """In place of the standard deviation over a minibatch, which processes see of their own pictures only: a map of zeros."""
    return torch.nn.functional.pad(h, (0, 0, 0, 0, 0, 1))


TWO_PROCESSES = """
import sys
from dataclasses import replace
from pathlib import Path

import torch
from gencore import gan
from gencore.training import distributed
from tests.gan import test_train

sent, average = [], distributed.average_gradients


def counted(weights):
    sent.append(1)
    average(weights)


folder = Path(sys.argv[1])
for _ in gan.train(test_train.INDEPENDENT, folder / "run", device="cpu"):
    pass
distributed.average_gradients = counted
found = test_train.gradients(replace(test_train.INDEPENDENT, micro_batches=2))
messages = len(sent)
test_train.progressive.minibatch_std = test_train.without_company
growing = test_train.gradients(test_train.JUDGED_GROWING)
if distributed.rank() == 0:
    torch.save({"gradients": found, "sent": messages, "growing": growing}, folder / "found.pt")
"""


def test_two_processes_train_what_one_does(tmp_path, monkeypatch):
    (tmp_path / "train.py").write_text(TWO_PROCESSES)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
                    tmp_path / "train.py", tmp_path], env=environment, check=True, capture_output=True)
    newest = checkpoint.list_checkpoints(tmp_path / "run")[-1]
    one = run(INDEPENDENT)
    # keys too: DDP's wrapper leaves no trace
    assert_same(checkpoint.read_tensors(newest / "weights.safetensors"), checkpoint.flatten(one.networks._asdict()),
                rtol=1e-3, atol=2e-5)
    last_row = read_curve(tmp_path / "run" / "curve.csv")[-1]
    assert {name: last_row[name] for name in one.losses} == pytest.approx(one.losses, rel=1e-3)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert_same_gradients(found["gradients"], gradients(INDEPENDENT))
    assert found["sent"] == 4, "gradients travel once a turn, not once a micro-batch"
    monkeypatch.setattr(progressive, "minibatch_std", without_company)
    growing = gradients(JUDGED_GROWING)
    assert_same_gradients(found["growing"], growing)
    without_part = [sum(gradient is None for gradient in turn) for turn in growing]
    assert without_part[0] > 0 and without_part[1] > 0 and without_part[2:] == [0, 0]


def test_checkpoint_keys_are_the_same_compiled(tmp_path, monkeypatch):
    plain = weights(run(TINY))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl))
    assert weights(run(TINY, compile=True)).keys() == plain.keys()


@pytest.mark.parametrize(
    "penalties, count", [((), 2), ((PathLength(),), 2), ((R1(),), 1), ((R2(),), 1), ((GradientPenalty(),), 1)]
)
def test_a_discriminator_that_is_differentiated_twice_is_not_compiled(monkeypatch, penalties, count):
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: compiled.append(type(self).__name__))
    run(replace(STYLED, penalties=penalties, images=16), compile=True)
    assert compiled == ["Generator", "Discriminator"][:count]


def test_each_player_moves_only_on_its_turn(monkeypatch):
    """When one player steps, the other one has heard nothing since its own step."""
    networks, turns, build = [], [], gan.build
    monkeypatch.setattr(gan.loop, "build", lambda recipe: networks.append(build(recipe)) or networks[-1])

    def step(optimiser, closure=None):
        heard = [[p.grad is not None and bool(p.grad.any()) for p in network.parameters()] for network in networks[0]]
        turns.append([all(each) if any(each) else None for each in heard])

    monkeypatch.setattr(torch.optim.Adam, "step", step)
    run(replace(INDEPENDENT, images=32))
    assert turns == [[None, True], [True, None]] * 2  # generator and discriminator at each step


def test_a_step_generates_once(monkeypatch):
    made = []
    forward = Generator.forward
    monkeypatch.setattr(Generator, "forward", lambda self, z: made.append(len(z)) or forward(self, z))
    for micro_batches in (1, 4):
        run(replace(TINY, micro_batches=micro_batches))
        assert made == [16] * 6
        made.clear()


def test_gradients_are_the_same_in_both_memory_layouts():
    for recipe in (TINY, replace(TINY, data=Emoji(), network=replace(TINY.network, size=32, channels=3))):
        found = []
        for layout in (torch.contiguous_format, torch.channels_last):
            networks = gan.Networks(*(network.to(memory_format=layout) for network in gan.build(recipe)))
            z = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
            networks.discriminator(networks.generator(z)).square().mean().backward()
            found.append([p.grad for network in networks for p in network.parameters()])
        for plain, last in zip(*found, strict=True):
            assert last.abs().max() > 0
            torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5 * plain.abs().max().item())


RUN_HERE = sorted(name for name in families.recipes() if name.startswith("gan.") and not name.endswith("_gpu"))


@pytest.mark.parametrize("name", RUN_HERE)
def test_every_recipe_takes_steps_and_every_parameter_moves(name):
    recipe = replace(families.recipes()[name](), images=24, batch_size=8, log_every=8)
    given = {}
    if recipe.growth is not None:  # three levels, two steps each
        recipe = replace(recipe, images=48, growth=Growth(phase=8))
    if recipe.first_stage is not None:  # codes of a third of the pictures are made in a third of the time
        recipe = replace(recipe, data=replace(recipe.data, styles=("noto",)))
        given = families.passed_in_training(gan, recipe)
    before = [p.detach().clone() for network in gan.build(recipe) for p in network.parameters()]
    state = run(recipe, **given)
    after = [named for network in state.networks for named in network.named_parameters()]
    assert [name for (name, p), old in zip(after, before, strict=True) if torch.equal(p, old)] == []


@pytest.mark.parametrize(
    "recipe",
    [
        TOLD,
        replace(TOLD, network=replace(TOLD.network, judge="concat")),
        READ,
        STYLED,
        replace(GROWING, growth=Growth(phase=1)),  # level 0 in the first step, the last level in all others
    ],
    ids=["projection", "concat", "infogan", "stylegan2", "progressive"],
)
def test_every_parameter_of_every_network_moves(recipe):
    before = checkpoint.flatten(gan.build(recipe)._asdict())
    state = run(replace(recipe, images=64))
    after = checkpoint.flatten(state.networks._asdict())
    still = [key for key in before if before[key].is_floating_point() and torch.equal(before[key], after[key])]
    assert still == []
    assert all(value.isfinite().all() for value in after.values())
    assert gan.sample((state.averaged, recipe), 2, seed=0).std() > 0


@functools.lru_cache
def losses(recipe):
    return run(recipe).losses


@pytest.mark.parametrize(
    "change",
    [
        dict(objective=Saturating()),
        dict(seed=1),
        dict(batch_size=32),
        dict(precision="bf16"),
        dict(optimiser=replace(TINY.optimiser, generator_lr=1e-3)),
        dict(optimiser=replace(TINY.optimiser, discriminator_lr=1e-3)),
        dict(optimiser=replace(TINY.optimiser, beta1=0.9)),
        dict(optimiser=replace(TINY.optimiser, beta2=0.9)),
        dict(optimiser=replace(TINY.optimiser, decay=0.0)),
        dict(network=replace(TINY.network, norm="none")),
        dict(network=replace(TINY.network, width=16)),
        dict(network=replace(TINY.network, latent=16)),
        dict(network=replace(TINY.network, width=16, max_width=16)),
    ],
)
def test_every_option_changes_the_loss(change):
    assert losses(replace(TINY, **change)) != losses(TINY)


def judged(*penalties):
    return replace(TINY, penalties=penalties)


def styled(**options):
    return replace(STYLED, penalties=(PathLength(**{"every": 2, **options}),))


CLASSES = replace(TOLD, network=replace(TOLD.network, conditions=(10,)), mirror=False)
MIRRORED = replace(TOLD, network=replace(TOLD.network, conditions=(2,)), told=())


@pytest.mark.parametrize(
    "a, b",
    [
        *((replace(TINY, objective=each), TINY) for each in (LeastSquares(), Hinge(), Wasserstein(), Relativistic())),
        *((judged(each), TINY) for each in (R1(), R2(), GradientPenalty())),
        (judged(R1(gamma=3.0)), judged(R1())),
        (judged(R1(every=2)), judged(R1())),
        (judged(R2(gamma=3.0)), judged(R2())),
        (judged(R2(every=2)), judged(R2())),
        (judged(GradientPenalty(weight=3.0)), judged(GradientPenalty())),
        (judged(GradientPenalty(every=2)), judged(GradientPenalty())),
        (styled(), replace(STYLED, penalties=())),
        (styled(weight=3.0), styled()),
        (styled(every=1), styled()),
        (styled(decay=0.5), styled()),
        (styled(share=3), styled()),
        (READ, replace(READ, penalties=())),
        (replace(READ, penalties=(Codes(weight=2.0),)), READ),
        (replace(READ, penalties=(Codes(number_weight=2.0),)), READ),
        (replace(READ, penalties=(Codes(every=2),)), READ),
        (replace(TINY, augmentation=Augmentation()), TINY),
        *((replace(TINY, augmentation=Augmentation(**{name: 0.3})), replace(TINY, augmentation=Augmentation()))
          for name in ("colour", "shift", "hole")),
        (CLASSES, INDEPENDENT),
        (MIRRORED, INDEPENDENT),
        (TOLD, CLASSES),
        (TOLD, MIRRORED),
        (replace(TOLD, network=replace(TOLD.network, judge="concat")), TOLD),
        (replace(TOLD, network=replace(TOLD.network, embedding=3)), TOLD),
        (replace(TINY, generator_every=2), TINY),
        (replace(GROWING, growth=Growth(phase=8)), GROWING),
        (replace(GROWING, growth=Growth(phase=96)), GROWING),
    ],
)
def test_every_option_of_the_game_changes_the_loss(a, b):
    """In the parts that both runs have: a penalty must be felt by the others, not only be written down."""
    ours, theirs = losses(replace(a, log_every=96)), losses(replace(b, log_every=96))
    common = [name for name in ours if name in theirs]
    assert common and all(ours[name] != theirs[name] for name in common if name != "accuracy")


def moving(recipe):
    """Which steps leave which player moved, for a run that reports after each."""
    networks, found = gan.build(recipe)._asdict(), {"generator": [], "discriminator": []}
    before = {name: [p.clone() for p in network.parameters()] for name, network in networks.items()}
    for state in gan.train(recipe, device="cpu"):
        for name, network in state.networks._asdict().items():
            after = [p.detach().clone() for p in network.parameters()]
            found[name].append(any(not torch.equal(a, b) for a, b in zip(after, before[name], strict=True)))
            before[name] = after
    return found


@pytest.mark.parametrize("recipe", [INDEPENDENT, READ], ids=["dcgan", "read"])
def test_a_generator_that_sits_out_is_not_moved(recipe):
    found = moving(replace(recipe, generator_every=5, images=11 * 16, optimiser=replace(TINY.optimiser, decay=0.0)))
    assert found["generator"] == [step in (0, 5, 10) for step in range(11)]
    assert found["discriminator"] == [True] * 11


def test_what_both_players_minimise_is_reported_once():
    """The cost of the codes in the first step, which the discriminator's own step then lowers a little."""
    (first, *_) = gan.train(replace(READ, images=16), device="cpu")
    networks, draw = gan.build(READ), examples(READ).at(0).draw
    exact = Codes().loss(networks, None, None, draw, networks.generator(draw.z)).parts
    for name in ("class_nats", "number_nats"):
        assert first.losses[name] == pytest.approx(exact[name].item(), rel=0.05)


def test_what_the_networks_are_told_is_true():
    """The picture's class, and whether it is mirrored; half of the pictures are."""
    data = TOLD.data.load("train")
    plain, told = examples(replace(CLASSES, seed=3)), examples(replace(TOLD, seed=3))
    mirrored = 0
    for seen in range(0, 160, 16):
        x, cond, *_ = plain.at(seen)
        also_x, also_cond, *_ = told.at(seen)
        index = told._batches.at(seen).index
        assert torch.equal(cond, data.labels[index][:, None]) and torch.equal(cond, also_cond[:, :1])
        for picture, other, turned in zip(x, also_x, also_cond[:, 1], strict=True):
            assert torch.equal(other, picture.flip(2) if turned else picture)
        mirrored += int(also_cond[:, 1].sum())
    assert 60 < mirrored < 100
    assert plain.at(0).changes is None and examples(INDEPENDENT).at(0).cond is None


def test_real_and_generated_pictures_are_changed_by_the_same_law_and_shown_changed(monkeypatch):
    given, shown, call, forward = [], [], Augmentation.__call__, Discriminator.forward
    recipe = replace(INDEPENDENT, augmentation=Augmentation(), images=64)

    def changed(self, x, u):
        given.append((x.detach().clone(), u))
        return call(self, x, u)

    monkeypatch.setattr(Augmentation, "__call__", changed)
    monkeypatch.setattr(Discriminator, "forward", lambda self, x: shown.append(x.detach().clone()) or forward(self, x))
    run(recipe)
    assert len(given) == 8 and len(shown) == 12  # each step: real and generated, and once more what is generated
    example = examples(recipe).at(0)
    assert torch.equal(given[0][0], example.x)
    torch.testing.assert_close(given[1][0], gan.build(recipe).generator(example.draw.z).detach())
    for (x, u), (fake, v), (on_real, on_fake, to_generator) in zip(
        given[::2], given[1::2], zip(*[iter(shown)] * 3, strict=True), strict=True
    ):
        assert u.shape == v.shape == (16, 7) and not torch.equal(u, v)
        assert torch.equal(on_real, call(recipe.augmentation, x, u))
        assert torch.equal(on_fake, call(recipe.augmentation, fake, v)) and torch.equal(on_fake, to_generator)
    for side in (0, 1):
        numbers = torch.cat([u for _, u in given[side::2]])
        assert 0 <= numbers.min() < 0.1 and 0.9 < numbers.max() < 1 and abs(numbers.mean() - 0.5) < 0.05


def test_the_usual_path_is_what_the_steps_made_it():
    """(SB.8): a tenth of the way to each new mean length, at the steps where it is measured."""
    recipe = replace(STYLED, penalties=(PathLength(every=2, decay=0.1),))
    usual, seen = 0.0, []
    for state in gan.train(recipe, device="cpu"):
        if "path" in state.losses:
            usual += 0.1 * (state.losses["path"] - usual)
        seen.append("path" in state.losses)
        assert state.networks.generator.mean_path.item() == pytest.approx(usual, rel=1e-5)
        assert state.averaged.generator.mean_path == state.networks.generator.mean_path
    assert seen == [True, False] * 3 and usual > 0


def test_both_players_grow_together_and_real_pictures_with_them(monkeypatch):
    levels, reduced, z = [], [], torch.randn(2, 8)
    monkeypatch.setattr(gan.loop, "reduce_to", lambda x, level: reduced.append(level) or progressive.reduce_to(x, level))
    for state in gan.train(GROWING, device="cpu"):
        levels.append([network.level.item() for network in (*state.networks, state.averaged.generator)])
        loaded = GROWING.network.build()[0].requires_grad_(False)
        loaded.load_state_dict(state.averaged.generator.state_dict())
        torch.testing.assert_close(state.averaged.generator(z), loaded(z))  # it uses the layers that its level says
    expected = pytest.approx([0, 0, 1 / 3, 1, 1, 1])
    assert reduced == expected and all(list(each) == expected for each in zip(*levels, strict=True))


@pytest.mark.parametrize(
    "images_seen, level",
    [(0, 0), (9, 0), (10, 0), (15, 0.5), (18, 0.8), (20, 1), (29, 1), (30, 1), (35, 1.5), (40, 2), (55, 2), (1000, 2)],
)
def test_growth_by_hand(images_seen, level):
    """(SB.1): ten images for each level, ten to fade in the next one; there are levels 0, 1 and 2."""
    assert Growth(phase=10).level(images_seen, levels=2) == pytest.approx(level)


@pytest.mark.parametrize("recipe", [JUDGED, STYLED, GROWING, READ], ids=["judged", "styled", "growing", "read"])
def test_recipes_of_every_game_survive_json(recipe):
    assert recipe_io.from_dict(GANRecipe, recipe_io.to_dict(recipe)) == recipe


@pytest.mark.parametrize(
    "recipe, change, message",
    [
        (TOLD, dict(told=()), "network.conditions: 2 of them, but told and mirror give 1"),
        (TOLD, dict(mirror=False), "network.conditions: 2 of them, but told and mirror give 1"),
        (TINY, dict(told=("class",)), "network.conditions: 0 of them, but told and mirror give 1"),
        (TINY, dict(mirror=True), "network.conditions: 0 of them, but told and mirror give 1"),
        (TINY, dict(growth=Growth()), "growth: a Progressive network needs it, and no other can have it"),
        (GROWING, dict(growth=None), "growth: a Progressive network needs it, and no other can have it"),
        (TINY, dict(penalties=(R1(), PathLength())), "penalties: PathLength needs a network with styles"),
        (STYLED, dict(penalties=(Codes(),)), "penalties: Codes needs a network that reads them"),
        (TINY, dict(generator_every=0), "generator_every is 0; it must be at least 1"),
        (TINY, dict(micro_batches=0), "micro_batches is 0; it must be at least 1"),
    ],
)
def test_what_does_not_go_together_is_refused(recipe, change, message):
    with pytest.raises(InputError, match=message):
        replace(recipe, **change)


def test_a_phase_takes_images():
    with pytest.raises(InputError, match="growth.phase is 0; it must be at least 1 image"):
        Growth(phase=0)


@pytest.mark.parametrize(
    "told, conditions, message",
    [
        (("class",), (9, 2), "network.conditions: class has 10 values or more, the network 9"),
        (("style",), (3, 2), "told: digits/train has no styles"),
    ],
)
def test_conditions_that_the_data_lack_are_refused(told, conditions, message):
    with pytest.raises(InputError, match=message):
        run(replace(TOLD, told=told, network=replace(TOLD.network, conditions=conditions)))


def test_the_half_life_changes_the_average_and_nothing_else():
    a, b = weights(run(TINY)), weights(run(replace(TINY, ema_half_life=1)))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("ema."))
    assert all(torch.equal(a[key], b[key]) for key in a if not key.startswith("ema."))


def test_network_and_data_must_agree():
    with pytest.raises(InputError, match="network.size is 28, but the data have 14"):
        replace(TINY, network=DCGAN(size=28))


def test_replay_pictures_are_written_at_halvings(tmp_path):
    run(TINY, tmp_path / "run")
    names = sorted(path.stem for path in (tmp_path / "run" / "replay").iterdir())
    assert [int(name) for name in names] == [16, 32, 48, 96]


def test_a_sample_does_not_depend_on_its_batch():
    model = gan.build(INDEPENDENT), INDEPENDENT
    images = gan.sample(model, 5, seed=3)
    assert torch.allclose(images[:2], gan.sample(model, 2, seed=3), atol=1e-6)
    assert torch.allclose(images, gan.sample(model, 5, seed=3, batch_size=2), atol=1e-6)
    assert torch.allclose(images[2:4], gan.sample(model, 2, seed=3, first=2), atol=1e-6)
    assert not torch.allclose(images, gan.sample(model, 5, seed=4))
