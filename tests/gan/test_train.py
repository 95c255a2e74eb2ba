import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from gencore import gan
from gencore.data import Digits, Emoji
from gencore.errors import InputError
from gencore.gan.objectives import Saturating
from gencore.gan.recipes import GANRecipe, dcgan_digits, dcgan_emoji
from gencore.networks.dcgan import DCGAN, Generator
from gencore.training import checkpoint
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


def weights(state):
    return checkpoint.flatten({**state.networks._asdict(), "ema": state.averaged.generator})


def assert_same(a, b, **tolerance):
    assert a.keys() == b.keys()
    for key in a:
        if tolerance:
            torch.testing.assert_close(a[key], b[key], **tolerance)
        else:
            assert torch.equal(a[key], b[key]), key


def test_training_six_steps_equals_three_and_resume_three(tmp_path):
    whole = weights(run(TINY, tmp_path / "whole"))
    stream = gan.train(TINY, tmp_path / "halves", device="cpu")
    for state in stream:
        if state.images_seen == 48:
            stream.close()
    resumed = run(TINY, tmp_path / "halves")
    assert resumed.images_seen == 96
    assert_same(weights(resumed), whole)
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
        found.append([p.grad.clone() for p in group["params"]])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.Adam, "step", step)
        run(replace(recipe, images=2 * recipe.batch_size))
    assert len(found) == 4
    return found


def assert_same_gradients(ours, theirs):
    for turn, other_turn in zip(ours, theirs, strict=True):
        for a, b in zip(turn, other_turn, strict=True):
            assert b.abs().max() > 0
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("micro_batches", [4, 3])  # of 16 images: also pieces of unequal size
def test_micro_batches_equal_one_batch(micro_batches):
    assert_same_gradients(gradients(replace(INDEPENDENT, micro_batches=micro_batches)), gradients(INDEPENDENT))


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
if distributed.rank() == 0:
    torch.save({"gradients": found, "sent": len(sent)}, folder / "found.pt")
"""


def test_two_processes_train_what_one_does(tmp_path):
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


def test_checkpoint_keys_are_the_same_compiled(tmp_path, monkeypatch):
    plain = weights(run(TINY))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl))
    assert weights(run(TINY, compile=True)).keys() == plain.keys()


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


@pytest.mark.parametrize("recipe", [dcgan_digits, dcgan_emoji])
def test_every_recipe_takes_steps_and_every_parameter_moves(recipe):
    recipe = replace(recipe(), images=24, batch_size=8, log_every=8)
    before = checkpoint.flatten(gan.build(recipe)._asdict())
    state = run(recipe)
    after = checkpoint.flatten(state.networks._asdict())
    still = [key for key in before if before[key].is_floating_point() and torch.equal(before[key], after[key])]
    assert still == []


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
    assert run(replace(TINY, **change)).losses != run(TINY).losses


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
