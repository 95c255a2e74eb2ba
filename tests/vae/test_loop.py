"""The loop: resuming, killing, splitting a batch over pieces and processes; every recipe and every option does something."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import fields, replace

import pytest
import torch

from gencore import families, vae
from gencore.data import Binarise, BinarisedMnist, Digits, Mnist, Shapes, to_float
from gencore.errors import InputError
from gencore.networks.autoencoder import Autoencoder
from gencore.networks.hierarchical import Hierarchical
from gencore.networks.ladder import Ladder
from gencore.networks.patchgan import PatchGAN
from gencore.networks.quantiser import FSQ, Codebook
from gencore.networks.two_stage import TwoStage
from gencore.networks.vqvae import VQ
from gencore.training import checkpoint
from gencore.training.log import read_curve
from gencore.training.loss import NonFiniteLoss
from gencore.training.optimiser import AdamW
from gencore.vae import ELBO, IWAE, Bernoulli, Gaussian, VAERecipe, VectorQuantised
from gencore.vae.adversary import Adversary
from tests.comparing import assert_same, gradients_of, weights

NETWORK = Autoencoder(size=14, latent=4, width=8, multipliers=(1, 2))
TINY = VAERecipe(
    data=Digits(14),
    network=NETWORK,
    objective=ELBO(Bernoulli(), warm_up=64),
    augmentation=Binarise(),
    optimiser=AdamW(lr=1e-3, weight_decay=1e-3, warm_up=32, beta2=0.99),
    images=96,
    batch_size=16,
    log_every=16,
    checkpoint_every=48,
    ema_half_life=64,
)
IMPORTANCE = replace(TINY, objective=IWAE(draws=3))
LADDER = replace(TINY, network=Ladder(size=14, latents=(2, 3), width=16))
CODES = replace(
    TINY,
    network=VQ(replace(NETWORK, flat=False), Codebook(size=16, decay=0.5, restart_below=0.5)),
    objective=VectorQuantised(),
    optimiser=replace(TINY.optimiser, lr=1e-4),  # a vector that changes its codeword would end all comparisons
)
STAGES = replace(
    TINY,
    network=TwoStage(replace(NETWORK, flat=False), Ladder(size=7, channels=4, latents=(2, 3), width=16)),
    first_stage="some_autoencoder",
    objective=ELBO(Gaussian(0.5), warm_up=64),
    augmentation=None,
)
KINDS = {"elbo": TINY, "iwae": IMPORTANCE, "ladder": LADDER, "codes": CODES, "stages": STAGES}
each_kind = pytest.mark.parametrize("recipe", KINDS.values(), ids=KINDS)


def first_stage(recipe):
    """The first stage that a recipe needs, untrained."""
    if recipe.first_stage is None:
        return {}
    network = recipe.network.first
    return {"first_stage": vae.sampling.build(replace(TINY, data=recipe.data, network=network, augmentation=None, seed=1)).model}


def run(recipe, folder=None, **options):
    options = first_stage(recipe) | options
    for state in vae.train(recipe, folder, device="cpu", **options):
        pass
    return state


def gradients(recipe):
    return gradients_of(lambda: run(recipe))


@pytest.mark.parametrize("recipe", [TINY, CODES], ids=["elbo", "codes"])
def test_training_six_steps_equals_three_and_resume_three(recipe, tmp_path):
    whole = weights(run(recipe, tmp_path / "whole"))
    stream = vae.train(recipe, tmp_path / "halves", device="cpu")
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


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    """SIGKILL in the middle, through the command line; then the same command again."""
    options = "--device cpu --images 3200 --batch-size 16 --checkpoint-every 320 --log-every 320 --precision fp32"
    options += " data:digits --data.size 14 network:autoencoder --network.size 14 --network.latent 4"
    options += " --network.width 8 --network.multipliers 1 2"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed, whole = tmp_path / "killed", tmp_path / "whole"

    def command(folder):
        name = "vae.recipes.vae_digits"
        return [sys.executable, "-m", "gencore", "train", name, "--folder", folder, *options.split()]

    process = subprocess.Popen(command(killed), env=environment, stderr=subprocess.DEVNULL)
    deadline = time.time() + 120
    while not checkpoint.list_checkpoints(killed) and time.time() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    assert int(checkpoint.list_checkpoints(killed)[-1].name) < 3200
    for folder in (killed, whole):
        subprocess.run(command(folder), env=environment, check=True, stderr=subprocess.DEVNULL)
    for file in ("weights.safetensors", "ema.safetensors"):
        ends = [checkpoint.list_checkpoints(folder)[-1] for folder in (killed, whole)]
        assert ends[0].name == ends[1].name == "000000003200"
        assert_same(*(checkpoint.read_tensors(end / file) for end in ends))


@each_kind
@pytest.mark.parametrize("micro_batches", [4, 5])  # of 16 images: five pieces cannot be had, and four are made
def test_micro_batches_give_the_gradients_of_one_batch(recipe, micro_batches):
    whole, one = gradients(recipe)
    pieces, many = gradients(replace(recipe, micro_batches=micro_batches))
    assert len(whole) == len(pieces) == 6
    for a, b in zip(whole[0], pieces[0], strict=True):  # later steps start from weights that Adam has moved apart
        torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * max(1.0, a.abs().max().item()))
    assert_same(many.losses | {"perplexity": 0}, one.losses | {"perplexity": 0}, rtol=2e-2, atol=1e-3)
    buffers = [dict(state.networks.model.named_buffers()) for state in (one, many)]
    assert_same(buffers[1], buffers[0], rtol=1e-4, atol=1e-4)


def test_two_processes_train_what_one_does(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\nfrom tests.vae.test_loop import KINDS, gradients, weights\nfrom gencore.training import distributed\n"
        "found = {}\n"
        "for name, recipe in KINDS.items():\n"
        "    steps, state = gradients(recipe)\n"
        "    found[name] = {'steps': steps, 'weights': weights(state), 'losses': state.losses}\n"
        "if distributed.rank() == 0: torch.save(found, sys.argv[1])\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.getcwd()}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    subprocess.run([*command, script, tmp_path / "two.pt"], env=environment, check=True, capture_output=True)
    found = torch.load(tmp_path / "two.pt", weights_only=True)
    for name, recipe in KINDS.items():
        steps, state = gradients(recipe)
        for a, b in zip(steps[0], found[name]["steps"][0], strict=True):
            torch.testing.assert_close(b, a, rtol=1e-3, atol=1e-4 * max(1.0, a.abs().max().item()))
        assert_same(found[name]["weights"], weights(state), rtol=2e-2, atol=5e-3)  # keys too: no trace of a wrapper
        losses = {**state.losses, "perplexity": 0}  # the mean of two shares' perplexities is not that of the whole
        assert_same({**found[name]["losses"], "perplexity": 0}, losses, rtol=2e-2, atol=1e-3)


def test_a_nan_stops_the_run_names_the_step_and_is_not_saved(tmp_path):
    stream = vae.train(replace(TINY, log_every=48), tmp_path / "run", device="cpu")
    state = next(stream)
    with torch.no_grad():
        next(state.networks.model.parameters()).fill_(float("nan"))
    with pytest.raises(NonFiniteLoss, match="became nan at step 4;"):
        list(stream)
    assert [path.name for path in checkpoint.list_checkpoints(tmp_path / "run")] == ["000000000048"]


def test_resume_refuses_another_recipe(tmp_path):
    run(TINY, tmp_path / "run")
    with pytest.raises(InputError, match="another recipe.*objective.beta"):
        run(replace(TINY, objective=replace(TINY.objective, beta=0.5)), tmp_path / "run")


def test_checkpoint_keys_are_the_same_compiled(monkeypatch):
    plain = weights(run(TINY))
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl))
    assert weights(run(TINY, compile=True)).keys() == plain.keys()


@pytest.mark.parametrize("name", [name for name in families.recipes() if name.startswith("vae.")])
def test_every_recipe_takes_steps_and_every_parameter_moves(name, emoji64):
    """Without weight decay, which would move what learns nothing; several full steps, for gates that start at zero."""
    recipe = families.recipes()[name]()
    optimiser = replace(recipe.optimiser, weight_decay=0.0, warm_up=0)
    recipe = replace(recipe, images=32, batch_size=8, log_every=8, optimiser=optimiser)
    if isinstance(recipe.data, (Mnist, BinarisedMnist)):  # do not ship
        recipe = replace(recipe, data=Digits())
    if isinstance(recipe.data, Shapes):
        recipe = replace(recipe, data=replace(recipe.data, images=500))  # to draw thousands takes long
    before = checkpoint.flatten(vae.sampling.build(recipe)._asdict())
    after = checkpoint.flatten(run(recipe).networks._asdict())
    fixed = ("model.mean", "model.std")  # of two stages
    learns = [key for key in before if before[key].is_floating_point() and not key.startswith(fixed)]
    assert [key for key in learns if torch.equal(before[key], after[key])] == []
    assert all(after[key].isfinite().all() for key in learns)


def test_the_first_stage_stays_as_it_is_and_its_codes_are_standardised(tmp_path):
    given = first_stage(STAGES)
    before = {name: value.clone() for name, value in given["first_stage"].state_dict().items()}
    state = run(STAGES, tmp_path, **given)
    for model in (state.networks.model, state.averaged.model):
        assert all(torch.equal(model.first.state_dict()[name], value) for name, value in before.items())
        codes = model.encode(to_float(STAGES.data.load("train").images))
        torch.testing.assert_close(codes.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
        torch.testing.assert_close(codes.std((0, 2, 3)), torch.ones(4), atol=1e-4, rtol=0)
    loaded = vae.load(tmp_path, **given)
    assert torch.equal(vae.sample(loaded, 3, 0), vae.sample((state.averaged, STAGES), 3, 0))
    with pytest.raises(InputError, match="some_autoencoder; pass it as first_stage"):
        vae.load(tmp_path)
    drawing = vae.parameters(loaded)
    assert drawing > sum(p.numel() for p in given["first_stage"].decoder.parameters())


def test_a_first_stage_is_asked_for_where_it_belongs():
    other = vae.sampling.build(replace(TINY, network=replace(NETWORK, flat=False, width=16))).model
    with pytest.raises(InputError, match="first_stage"):
        run(STAGES, first_stage=None)
    with pytest.raises(InputError, match="first_stage"):
        run(TINY, first_stage=other)
    with pytest.raises(InputError, match="first stage: has other sizes"):
        run(STAGES, first_stage=other)
    for fields in (dict(first_stage=None), dict(objective=ELBO(Bernoulli())), dict(augmentation=Binarise())):
        with pytest.raises(InputError, match="TwoStage"):
            replace(STAGES, **fields)


CHANGES = [
    dict(data=Digits(28), network=replace(NETWORK, size=28)),
    dict(network=replace(NETWORK, width=16)),
    dict(objective=ELBO(Bernoulli(), warm_up=32)),
    dict(objective=ELBO(Bernoulli(), beta=2.0, warm_up=64)),
    dict(objective=ELBO(Bernoulli(), free_bits=5.0, warm_up=64)),
    dict(objective=ELBO(Gaussian(), warm_up=64)),
    dict(objective=IWAE(draws=1)),
    dict(augmentation=None),
    dict(optimiser=replace(TINY.optimiser, lr=2e-3)),
    dict(optimiser=replace(TINY.optimiser, weight_decay=1.0)),
    dict(optimiser=replace(TINY.optimiser, warm_up=64)),
    dict(optimiser=replace(TINY.optimiser, beta1=0.5)),
    dict(optimiser=replace(TINY.optimiser, beta2=0.5)),
    dict(images=112),
    dict(batch_size=32),
    dict(clip=1.0),
    dict(precision="bf16"),
    dict(seed=1),
]
ADVERSARY = Adversary(PatchGAN(channels=1, width=8, strided=1))
CODE_CHANGES = [
    dict(objective=VectorQuantised(commitment=1.0)),
    dict(network=replace(CODES.network, quantiser=replace(CODES.network.quantiser, size=8))),
    dict(network=replace(CODES.network, quantiser=replace(CODES.network.quantiser, decay=0.9))),
    dict(network=replace(CODES.network, quantiser=replace(CODES.network.quantiser, restart_below=0.0))),
    dict(network=replace(CODES.network, quantiser=FSQ((3, 3, 3, 3)))),
    dict(perceptual=0.1),
    dict(adversary=ADVERSARY),
]


@pytest.mark.parametrize(
    ("recipe", "change"), [(TINY, change) for change in CHANGES] + [(CODES, change) for change in CODE_CHANGES]
)
def test_every_option_changes_the_loss(recipe, change):
    assert run(replace(recipe, **change)).losses != run(recipe).losses


def test_no_option_was_forgotten():
    """All but those that decide how a batch is cut, what is averaged and written, and the name of what is passed in."""
    elsewhere = {"first_stage", "micro_batches", "ema_half_life", "log_every", "checkpoint_every"}
    tried = {name for change in CHANGES + CODE_CHANGES for name in change}
    assert {field.name for field in fields(VAERecipe)} == elsewhere | tried


def test_the_half_life_changes_the_average_and_nothing_else():
    a, b = weights(run(TINY)), weights(run(replace(TINY, ema_half_life=1)))
    assert any(not torch.equal(a[key], b[key]) for key in a if key.startswith("ema."))
    assert all(torch.equal(a[key], b[key]) for key in a if not key.startswith("ema."))


def test_each_picture_is_binarised_anew_whenever_it_is_seen():
    """The same images with the same order and noise, binarised by the step's own numbers."""
    seen = []
    recipe = replace(TINY, augmentation=Binarise(), images=32)

    class Spy(type(recipe.objective)):
        def __call__(self, networks, x, cond, draw):
            seen.append(x)
            return super().__call__(networks, x, cond, draw)

    recipe = replace(recipe, objective=Spy(Bernoulli()))
    run(recipe)
    assert all(set(x.unique().tolist()) == {-1.0, 1.0} for x in seen)
    assert not torch.equal(*seen)


def test_replay_pictures_are_written_at_halvings(tmp_path):
    for recipe in (TINY, CODES):
        run(recipe, tmp_path / type(recipe.objective).__name__)
    for folder in tmp_path.iterdir():
        names = sorted(path.stem for path in (folder / "replay").iterdir())
        assert [int(name) for name in names] == [16, 32, 48, 96]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(network=Autoencoder(size=28)), "network.size is 28, but the data have 14"),
        (dict(objective=VectorQuantised()), "VectorQuantised goes with a VQ network"),
        (dict(network=CODES.network), "VectorQuantised goes with a VQ network"),
        (dict(objective=ELBO(vae.DiscretisedLogistic())), "out_channels is 1, but the likelihood needs 2"),
        (dict(micro_batches=0), "micro_batches is 0"),
        (dict(network=Hierarchical(size=28)), "network.size is 28"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)
