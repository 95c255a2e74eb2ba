"""The training loop of the adversarial game: Goodfellow et al. 2014, algorithm 1, with one discriminator step each."""

from collections.abc import Iterator
from pathlib import Path

import torch

from gencore.data import Batches, to_uint8
from gencore.gan.objectives import Draw, Networks
from gencore.gan.recipes import GANRecipe
from gencore.gan.sampling import build, sample
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed, rng
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import add_parts
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: GANRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train a GAN, yielding the run at every ``recipe.log_every`` images and at the end.

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
    Run
        The same object each time. ``run.networks`` are both players as they are now; ``run.averaged.generator`` is the
        generator's moving average, from which one samples.

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
    batches = Batches(recipe.data.load("train"), recipe.batch_size, recipe.seed, device, rank, world_size)
    # Channels last: a step takes 12 % less time on a CPU, and the gradients are the same but for rounding.
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    ema = EMA(networks.generator, recipe.ema_half_life)
    optimisers = Networks(*recipe.optimiser.build(*networks))
    run = Run(recipe, folder, networks, networks._replace(generator=ema.network), optimisers._asdict(), log)
    if compile:
        for network in networks:
            network.compile()
    # Each player learns through its replicated self and looks at the other one plainly.
    replicas = Networks(*(distributed.replicate(network) for network in networks))
    for_discriminator = Networks(networks.generator, replicas.discriminator)

    while not run.done:
        seen = run.images_seen
        x = batches.at(seen).x  # (B, C, H, W)
        shape = recipe.batch_size, recipe.network.latent
        z = rng.normal(shape, recipe.seed, seen, "latent", rank, world_size, device)  # (B, latent)
        for optimiser, lr in zip(optimisers, recipe.optimiser.learning_rates(seen, recipe.images), strict=True):
            set_learning_rate(optimiser, lr)
        with devices.autocast(device, recipe.precision):
            fake = replicas.generator(z)  # (B, C, H, W), made once and shown to both players
        shown = fake.detach().requires_grad_()  # gathers what the generator is told about each pixel
        pieces = list(zip(*(tensor.chunk(recipe.micro_batches) for tensor in (x, z, shown)), strict=True))
        parts: dict[str, torch.Tensor] = {}

        for number, (x_piece, z_piece, shown_piece) in enumerate(pieces, start=1):
            share = len(x_piece) / len(x)
            with distributed.gradients_wait(replicas.discriminator, number < len(pieces)):
                with devices.autocast(device, recipe.precision):
                    loss = recipe.objective.discriminator(for_discriminator, x_piece, None, Draw(z_piece), shown_piece)
                (share * loss.total).backward()
            add_parts(parts, loss.parts, share)
        optimisers.discriminator.step()
        optimisers.discriminator.zero_grad()

        for x_piece, z_piece, shown_piece in pieces:
            share = len(x_piece) / len(x)
            with devices.autocast(device, recipe.precision):
                loss = recipe.objective.generator(networks, x_piece, None, Draw(z_piece), shown_piece)
            (share * loss.total).backward(inputs=[shown])  # through the discriminator, which learns nothing from it
            add_parts(parts, loss.parts, share)
        fake.backward(shown.grad)
        optimisers.generator.step()
        optimisers.generator.zero_grad()

        run.count(parts)
        ema.update(networks.generator, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            images = sample((run.averaged, recipe), REPLAY_SAMPLES, recipe.seed)
            save_grid(path, to_uint8(images), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
