"""The training loop of variational autoencoders: a lower bound goes up by stochastic gradients, and codebooks follow.

A recipe may let two more networks speak: a fixed one that measures a perceptual distance, and an adversary that learns.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.data import Batches, to_float, to_uint8
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance
from gencore.networks.two_stage import TwoStageVAE
from gencore.networks.vqvae import VQVAE
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed, rng
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import add_parts
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run
from gencore.vae.adversary import discriminator_loss, with_adversary, with_perceptual
from gencore.vae.objectives import IWAE, Draw, Networks
from gencore.vae.recipes import VAERecipe
from gencore.vae.sampling import build, build_discriminator, is_conditional, reconstruct, sample

PERCEPTUAL_LAYERS = 2  # of SqueezeNet: edges and textures; what names a thing is left to those who judge


class Players(NamedTuple):
    """The networks that learn: the model, and who plays against it. Only the model is averaged, shipped and loaded."""

    model: nn.Module
    discriminator: nn.Module


def train(
    recipe: VAERecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    first_stage: nn.Module | None = None,
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
    first_stage : Module, optional
        For a `TwoStage` network, and only there: the trained autoencoder whose codes are learned, ``load(...)[0].model``.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, or the first stage is missing, out of place, or has other sizes.
    NonFiniteLoss
        If a loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    rank, world_size = distributed.rank(), distributed.world_size()
    data = recipe.data.load("train")
    batches = Batches(data, recipe.batch_size, recipe.seed, device, rank, world_size)
    networks = Networks(*(network.to(device) for network in build(recipe)))
    learner, codes = networks.model, None
    if isinstance(networks.model, TwoStageVAE) != (first_stage is not None):
        raise InputError("first_stage: networks of two stages need it, others take none")
    if first_stage is not None:
        networks.model.adopt(first_stage)
        learner, codes = networks.model.second, networks.model.standardise(to_float(data.images).to(device))
    ema = EMA(networks.model, recipe.ema_half_life)
    averaged = networks._replace(model=ema.network)
    adam = recipe.optimiser.build(learner.parameters())
    learners, optimisers, adversary, features = networks, {"adam": adam}, recipe.adversary, None
    if recipe.perceptual:
        features = PerceptualDistance(PERCEPTUAL_LAYERS).to(device)
    if adversary:
        discriminator = build_discriminator(recipe).to(device)
        learners = Players(networks.model, discriminator)
        optimisers["discriminator"] = adversary.optimiser.build(discriminator.parameters())
        replica = distributed.replicate(discriminator)
    run = Run(recipe, folder, learners, averaged, optimisers, log)
    if compile:
        learner.compile()
    replicas = Networks(distributed.replicate(learner))

    while not run.done:
        seen = run.images_seen
        batch = batches.at(seen)
        x = batch.x if codes is None else codes[batch.index]  # (B, C, H, W)
        if recipe.augmentation is not None:
            shape = (recipe.batch_size, *x.shape[1:])
            u = rng.uniform(shape, recipe.seed, seen, "augmentation", rank, world_size, device)
            x = recipe.augmentation(x, u)
        cond = batch.labels if is_conditional(recipe) else None
        eps = _noise(recipe, networks, seen, rank, world_size, device)
        objective, pieces = recipe.objective.after(seen), len(x.chunk(recipe.micro_batches))  # of 16, five are four
        parts: dict[str, Tensor] = {}
        moves: dict[str, list[Tensor]] = {}
        pictures: list[Tensor] = []
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))

        for piece in range(pieces):
            x_piece, *eps_piece = (each.chunk(pieces)[piece] for each in (x, *eps))
            cond_piece = None if cond is None else cond.chunk(pieces)[piece]
            share = len(x_piece) / len(x)
            with distributed.gradients_wait(replicas.model, piece < pieces - 1):
                with devices.autocast(device, recipe.precision):
                    loss = objective(replicas, x_piece, cond_piece, Draw(tuple(eps_piece)))
                    if features:
                        loss = with_perceptual(loss, x_piece, features, recipe.perceptual)
                    if adversary:
                        last, weight = networks.model.decoder.head.weight, adversary.weight_after(seen)
                        loss = with_adversary(loss, discriminator, last, weight)
                        pictures.append(loss.picture.detach())
                (loss.total * share).backward()
            add_parts(parts, loss.parts, share)
            for name, value in loss.moves.items():
                moves.setdefault(name, []).append(value)
        torch.nn.utils.clip_grad_norm_(learner.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()
        if moves:
            _move_codebook(networks.model, moves, rng.generator(recipe.seed, seen, "restart", device))

        if adversary:
            lr = adversary.optimiser.learning_rate(seen, recipe.batch_size, recipe.images)
            set_learning_rate(optimisers["discriminator"], lr)
            for piece, (x_piece, picture) in enumerate(zip(x.chunk(pieces), pictures, strict=True)):
                share = len(x_piece) / len(x)
                with distributed.gradients_wait(replica, piece < pieces - 1):
                    with devices.autocast(device, recipe.precision):
                        loss = discriminator_loss(replica, x_piece, picture)
                    (loss.total * share).backward()
                add_parts(parts, loss.parts, share)
            optimisers["discriminator"].step()
            optimisers["discriminator"].zero_grad()

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
        rng.normal((rows, *shape), recipe.seed, seen, f"latent {level}", rank, world_size, device)
        for level, shape in enumerate(networks.model.latent_shapes)
    )


def _move_codebook(model: VQVAE, moves: dict[str, list[Tensor]], draw: torch.Generator) -> None:
    """Let the codebook follow the batch of all processes."""
    vectors = torch.cat(moves.pop("vectors"))  # (n, D), this process's share
    sums = {name: distributed.sum_over_processes(sum(pieces)) for name, pieces in moves.items()}
    everywhere, size = len(vectors) * distributed.world_size(), sums["counts"].shape
    pick = torch.randint(everywhere, size, generator=draw, device=vectors.device) - len(vectors) * distributed.rank()
    ours = (pick >= 0) & (pick < len(vectors))  # each picked vector lies with one process
    spare = torch.where(ours[:, None], vectors[pick.clamp(0, len(vectors) - 1)], 0)
    model.quantiser.move(sums["counts"], sums["sums"], distributed.sum_over_processes(spare))


def _replay(recipe: VAERecipe, averaged: Networks, images: Tensor) -> Tensor:
    """Return this moment's pictures: samples from the prior, or of a model without one, reconstructions."""
    if isinstance(averaged.model, VQVAE):
        places = torch.linspace(0, len(images) - 1, REPLAY_SAMPLES).long()
        return reconstruct((averaged, recipe), images[places])
    return sample((averaged, recipe), REPLAY_SAMPLES, recipe.seed)
