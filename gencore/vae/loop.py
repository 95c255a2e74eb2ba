"""The training loop of variational autoencoders: a lower bound goes up by stochastic gradients, and codebooks follow."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from gencore.data import Batches, to_uint8
from gencore.networks.vqvae import VQVAE
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed, rng
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import Run
from gencore.vae.objectives import IWAE, Draw, Networks
from gencore.vae.recipes import VAERecipe
from gencore.vae.sampling import is_conditional, build, reconstruct, sample

REPLAY_SAMPLES = 16  # the same latent draws, or the same images reconstructed, at log-spaced image counts


def train(
    recipe: VAERecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train a model, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : VAERecipe
        What to train.
    folder : Path or str, optional
        Where to keep checkpoints and the curve. A run found there is resumed; on one CPU thread the result is then
        bitwise that of a run never stopped. None keeps nothing.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    log : {"none", "tensorboard", "wandb"}
        A further place for the curve.
    compile : bool
        Compile the network (pays on GPUs).

    Yields
    ------
    Run
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
    data = recipe.data.load("train")
    batches = Batches(data, recipe.batch_size, recipe.seed, device, rank, world_size)
    networks = Networks(*(network.to(device) for network in build(recipe)))
    ema = EMA(networks.model, recipe.ema_half_life)
    averaged = networks._replace(model=ema.network)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, averaged, {"adam": adam}, log)
    if compile:
        networks.model.compile()
    replicas = Networks(distributed.replicate(networks.model))

    while not run.done:
        seen = run.images_seen
        batch = batches.at(seen)
        x = batch.x  # (B, C, H, W)
        if recipe.augmentation is not None:
            shape = (recipe.batch_size, *x.shape[1:])
            u = rng.uniform(shape, recipe.seed, seen, "augmentation", rank, world_size)
            x = recipe.augmentation(x, u.to(device))
        cond = batch.labels if is_conditional(recipe) else None
        eps = _noise(recipe, networks, seen, rank, world_size, device)
        objective, pieces = recipe.objective.after(seen), recipe.micro_batches
        parts: dict[str, Tensor] = {}
        moves: dict[str, list[Tensor]] = {}
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))

        for piece in range(pieces):
            x_piece, *eps_piece = (each.chunk(pieces)[piece] for each in (x, *eps))
            cond_piece = None if cond is None else cond.chunk(pieces)[piece]
            with devices.autocast(device, recipe.precision):
                loss = objective(replicas, x_piece, cond_piece, Draw(tuple(eps_piece)))
            share = len(x_piece) / len(x)
            (loss.total * share).backward()
            for name, value in loss.parts.items():
                parts[name] = parts.get(name, 0) + value.detach() * share
            for name, value in loss.moves.items():
                moves.setdefault(name, []).append(value)
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()
        if moves:
            _move_codebook(networks.model, moves, rng.generator(recipe.seed, seen, "restart"))

        run.count(parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, to_uint8(_replay(recipe, averaged, data.images)), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()


def _noise(
    recipe: VAERecipe, networks: Networks, seen: int, rank: int, world_size: int, device: torch.device
) -> tuple[Tensor, ...]:
    """Draw the latent noise of one batch: for each level ``(B, *shape)``, or ``draws`` rows an image."""
    if isinstance(networks.model, VQVAE):
        return ()
    rows = recipe.batch_size * (recipe.objective.draws if isinstance(recipe.objective, IWAE) else 1)
    return tuple(
        rng.normal((rows, *shape), recipe.seed, seen, f"latent {level}", rank, world_size).to(device)
        for level, shape in enumerate(networks.model.latent_shapes)
    )


def _move_codebook(model: VQVAE, moves: dict[str, list[Tensor]], draw: torch.Generator) -> None:
    """Let the codebook follow the batch of all processes."""
    vectors = torch.cat(moves.pop("vectors"))  # (n, D), this process's share
    sums = {name: distributed.sum_over_processes(sum(pieces)) for name, pieces in moves.items()}
    pick = torch.randint(len(vectors) * distributed.world_size(), (len(sums["counts"]),), generator=draw)
    pick = pick.to(vectors.device) - len(vectors) * distributed.rank()
    ours = (pick >= 0) & (pick < len(vectors))  # each picked vector lies with one process
    spare = torch.where(ours[:, None], vectors[pick.clamp(0, len(vectors) - 1)], 0)
    model.quantiser.move(sums, distributed.sum_over_processes(spare))


def _replay(recipe: VAERecipe, averaged: Networks, images: Tensor) -> Tensor:
    """Return this moment's pictures: samples from the prior, or of a model without one, reconstructions."""
    if isinstance(averaged.model, VQVAE):
        places = torch.linspace(0, len(images) - 1, REPLAY_SAMPLES).long()
        return reconstruct((averaged, recipe), images[places])
    cond = torch.arange(REPLAY_SAMPLES) % recipe.network.classes if is_conditional(recipe) else None
    return sample((averaged, recipe), REPLAY_SAMPLES, recipe.seed, cond=cond)
