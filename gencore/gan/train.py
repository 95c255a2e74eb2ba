"""The training loop of the adversarial game: Goodfellow et al. 2014, algorithm 1, with one discriminator step each."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from gencore.data import Batches, to_uint8
from gencore.gan.objectives import Draw, Networks
from gencore.gan.recipes import GANRecipe
from gencore.gan.sampling import build, sample
from gencore.plots.grids import save_grid
from gencore.training import checkpoint, device as devices, distributed, rng
from gencore.training.ema import EMA
from gencore.training.log import Curve, Extra
from gencore.training.loss import LossWindow

REPLAY_SAMPLES = 16  # the same latents, drawn at log-spaced image counts


@dataclass
class State:
    """Where a training run is; `train` yields it at each row of the curve.

    Attributes
    ----------
    recipe : GANRecipe
        What is being trained.
    networks : Networks
        Both players as they are now.
    ema : EMA
        The generator's moving average; ``ema.network`` is what one samples from.
    images_seen : int
        Training images so far.
    losses : dict of str to float
        Mean loss parts since the last report.
    seconds, core_seconds : float
        Wall clock and processor time spent so far, earlier parts of a resumed run included.
    """

    recipe: GANRecipe
    networks: Networks
    ema: EMA
    images_seen: int
    losses: dict[str, float]
    seconds: float
    core_seconds: float


def train(
    recipe: GANRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[State]:
    """Train a GAN, yielding its state at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : GANRecipe
        What to train.
    folder : Path or str, optional
        Where to keep checkpoints and the curve. A run found there is resumed; on one CPU thread the result is then
        bitwise that of a run never stopped. None keeps nothing.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    log : {"none", "tensorboard", "wandb"}
        A further place for the curve.
    compile : bool
        Compile both networks (pays on GPUs).

    Yields
    ------
    State
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run.
    NonFiniteLoss
        If a loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    rank, world_size = distributed.rank(), distributed.world_size()
    folder = Path(folder) if folder else None

    data = recipe.data.load("train")
    batches = Batches(data, recipe.batch_size, recipe.seed, device, rank, world_size)
    networks = Networks(*(network.to(device) for network in build(recipe)))
    ema = EMA(networks.generator, recipe.ema_half_life)
    optimisers = _optimisers(recipe, networks)
    state = State(recipe, networks, ema, 0, {}, 0.0, 0.0)

    if folder and rank == 0:
        checkpoint.open_run(folder, recipe)
    distributed.wait_for_all()
    if folder and (saved := checkpoint.list_checkpoints(folder)):
        _resume(saved[-1], state, optimisers)
    curve = Curve(folder if rank == 0 else None, state.images_seen, log if rank == 0 else "none")

    if compile:
        for network in networks:
            network.compile()
    # Each player learns through its replicated self and looks at the other one plainly.
    replicas = Networks(*(distributed.replicate(network) for network in networks))
    for_discriminator = Networks(networks.generator, replicas.discriminator)
    for_generator = Networks(replicas.generator, networks.discriminator)
    window = LossWindow()
    started, core_started = time.perf_counter() - state.seconds, time.process_time() - state.core_seconds

    while state.images_seen < recipe.images:
        seen = state.images_seen
        x = batches.at(seen).x  # (B, C, H, W)
        latent_shape = (recipe.batch_size, recipe.network.latent)
        z = rng.normal(latent_shape, recipe.seed, seen, "latent", rank, world_size).to(device)  # (B, latent)
        pieces = list(zip(x.chunk(recipe.micro_batches), z.chunk(recipe.micro_batches), strict=True))
        parts: dict[str, torch.Tensor] = {}
        _set_learning_rates(recipe, optimisers, seen)

        with _frozen(networks.generator):
            for x_piece, z_piece in pieces:
                with devices.autocast(device, recipe.precision):
                    loss = recipe.objective.discriminator(for_discriminator, x_piece, None, Draw(z_piece))
                (loss.total * len(x_piece) / len(x)).backward()
                _add(parts, loss.parts, len(x_piece) / len(x))
        optimisers.discriminator.step()
        optimisers.discriminator.zero_grad()

        with _frozen(networks.discriminator):
            for x_piece, z_piece in pieces:
                with devices.autocast(device, recipe.precision):
                    loss = recipe.objective.generator(for_generator, x_piece, None, Draw(z_piece))
                (loss.total * len(x_piece) / len(x)).backward()
                _add(parts, loss.parts, len(x_piece) / len(x))
        optimisers.generator.step()
        optimisers.generator.zero_grad()

        state.images_seen = seen = seen + recipe.batch_size
        ema.update(networks.generator, seen, recipe.batch_size)
        window.add(seen // recipe.batch_size, distributed.mean_over_processes(parts))

        done = seen >= recipe.images
        log_due = done or _due(seen, recipe.log_every, recipe.batch_size)
        save_due = done or _due(seen, recipe.checkpoint_every, recipe.batch_size)
        if log_due or save_due:
            state.losses = window.report()  # raises when a loss is not finite: such weights are never saved
            state.seconds, state.core_seconds = time.perf_counter() - started, time.process_time() - core_started
            curve.append({"images_seen": seen, **state.losses, "seconds": state.seconds})
        if folder and rank == 0 and _is_replay_count(seen, recipe):
            images = sample(ema.network, recipe.network.latent, REPLAY_SAMPLES, recipe.seed)
            (folder / "replay").mkdir(exist_ok=True)
            save_grid(folder / "replay" / f"{seen:012d}.png", to_uint8(images), REPLAY_SAMPLES)
        if folder and rank == 0 and save_due:
            averaged = {"generator": ema.network, "discriminator": networks.discriminator}
            spent = {"seconds": state.seconds, "core_seconds": state.core_seconds}
            moments = {name: optimiser.state_dict() for name, optimiser in optimisers._asdict().items()}
            checkpoint.save(folder, seen, networks._asdict(), averaged, spent | moments)
        if log_due or save_due:
            yield state


def _optimisers(recipe: GANRecipe, networks: Networks) -> Networks:
    """Return one Adam for each player, under the player's name."""
    adam = recipe.optimiser
    return Networks(*(
        torch.optim.Adam(network.parameters(), lr, (adam.beta1, adam.beta2), fused=True)
        for network, lr in zip(networks, (adam.generator_lr, adam.discriminator_lr), strict=True)
    ))


def _set_learning_rates(recipe: GANRecipe, optimisers: Networks, images_seen: int) -> None:
    """Hold the learning rates, then let them fall in a line to zero at the run's end."""
    adam = recipe.optimiser
    left = 1 - images_seen / recipe.images
    share = min(1.0, left / adam.decay) if adam.decay else 1.0
    for optimiser, lr in zip(optimisers, (adam.generator_lr, adam.discriminator_lr), strict=True):
        for group in optimiser.param_groups:
            group["lr"] = lr * share


def _resume(saved: Path, state: State, optimisers: Networks) -> None:
    """Put everything back to where the checkpoint was written."""
    weights = saved / "weights.safetensors"
    checkpoint.fill(state.networks._asdict(), checkpoint.read_tensors(weights), weights)
    averaged = saved / "ema.safetensors"
    both = {"generator": state.ema.network, "discriminator": state.networks.discriminator}
    checkpoint.fill(both, checkpoint.read_tensors(averaged), averaged)
    training = checkpoint.read_state(saved / "train_state.pt")
    for name, optimiser in optimisers._asdict().items():
        optimiser.load_state_dict(training[name])
    state.images_seen = int(saved.name)
    state.seconds, state.core_seconds = training["seconds"], training["core_seconds"]


@contextlib.contextmanager
def _frozen(network: torch.nn.Module) -> Iterator[None]:
    """Keep gradients away from the player whose turn it is not."""
    network.requires_grad_(False)
    try:
        yield
    finally:
        network.requires_grad_(True)


def _add(total: dict[str, torch.Tensor], parts: dict[str, torch.Tensor], share: float) -> None:
    for name, value in parts.items():
        total[name] = total.get(name, 0) + value.detach() * share


def _due(seen: int, every: int, batch_size: int) -> bool:
    """Whether a multiple of ``every`` lies within the last batch."""
    return seen // every > (seen - batch_size) // every


def _is_replay_count(seen: int, recipe: GANRecipe) -> bool:
    """Whether a replay picture is due: at the end, and where an eighth, ... of the run's images have been passed."""
    marks = [recipe.images >> k for k in range(9)]  # all, a half, a quarter, ...
    return any(seen - recipe.batch_size < mark <= seen for mark in marks)
