"""The training loop of the adversarial game: Goodfellow et al. 2014, algorithm 1.

The generator learns in one step of ``generator_every``, the discriminator in all. Deviation: where both learn, both are
shown the same generated pictures; in the paper the generator's noise is drawn anew.

What each player minimises in a step, and whether it has a turn at all, is said by `gencore.gan.turns`.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from gencore.data import to_uint8
from gencore.gan.examples import Examples, split
from gencore.gan.objectives import Networks, ask
from gencore.gan.penalties import R1, GradientPenalty
from gencore.gan.recipes import GANRecipe
from gencore.gan.sampling import build, sample
from gencore.gan.turns import turns
from gencore.networks.first_stage import pass_in
from gencore.networks.progressive import reduce_to
from gencore.networks.spectral import follow_spectrum
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import add_losses, add_parts
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: GANRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    first_stage: nn.Module | None = None,
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
        Compile both networks (pays on GPUs). A discriminator whose slopes are penalised stays as it is: what is compiled
        cannot be differentiated twice.
    first_stage : Module, optional
        For players on codes: the network of the model that ``recipe.first_stage`` names.

    Yields
    ------
    Run
        The same object each time. ``run.networks`` are both players as they are now; ``run.averaged.generator`` is the
        generator's moving average, from which one samples.

    Raises
    ------
    InputError
        If the folder holds another run, or the first stage is missing or another.
    NonFiniteLoss
        If a loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    # Channels last: a step takes 12 % less time on a CPU, and the gradients are the same but for rounding.
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    pass_in(networks.generator, first_stage, recipe.first_stage)
    examples = Examples(recipe, recipe.data.load("train"), networks.generator, device)
    ema = EMA(networks.generator, recipe.ema_half_life)
    optimisers = Networks(*recipe.optimiser.build(*networks))
    run = Run(recipe, folder, networks, networks._replace(generator=ema.network), optimisers._asdict(), log)
    if compile:
        networks.generator.compile()
        if not any(isinstance(each, (GradientPenalty, R1)) for each in recipe.penalties):
            networks.discriminator.compile()

    while not run.done:
        seen, parts = run.images_seen, {}
        x, cond, draw, changes = examples.at(seen)  # (B, C, H, W), (B, K) or None, latents (B, latent), (2, B, 7) or None
        due = turns(recipe, seen // recipe.batch_size)
        for optimiser, lr in zip(optimisers, recipe.optimiser.learning_rates(seen, recipe.images), strict=True):
            set_learning_rate(optimiser, lr)
        if recipe.growth is not None:
            level = recipe.growth.level(seen, recipe.network.levels)
            for network in (*networks, ema.network):
                network.grow_to(level)
            x = reduce_to(x, level)
        with devices.autocast(device, recipe.precision), torch.set_grad_enabled(bool(due.generator)):
            fake = ask(networks.generator, draw.z, cond)  # (B, C, H, W), made once and shown to both players
            if recipe.augmentation is not None:
                x, fake = recipe.augmentation(x, changes[0]), recipe.augmentation(fake, changes[1])
        shown = fake.detach().requires_grad_()  # gathers what the generator is told about each pixel
        pieces = split(recipe.micro_batches, x, cond, draw, shown)

        weights = list(networks.discriminator.parameters())
        for piece, share in pieces:
            with devices.autocast(device, recipe.precision):
                loss = add_losses(each(networks, *piece) for each in due.discriminator)
            (share * loss.total).backward(inputs=weights)
            add_parts(parts, loss.parts, share)
        distributed.average_gradients(weights)
        optimisers.discriminator.step()
        optimisers.discriminator.zero_grad()
        follow_spectrum(networks.discriminator)

        if due.generator:
            weights, heard, moves = list(networks.generator.parameters()), {}, {}
            for piece, share in pieces:
                with devices.autocast(device, recipe.precision):
                    loss = add_losses(each(networks, *piece) for each in due.generator)
                # Through the discriminator, which learns nothing from it, to the pictures; paths end at the weights.
                (share * loss.total).backward(inputs=[shown, *weights])
                add_parts(heard, loss.parts, share)
                add_parts(moves, loss.moves, share)
            fake.backward(shown.grad)
            distributed.average_gradients(weights)
            optimisers.generator.step()
            optimisers.generator.zero_grad()
            for name, value in moves.items():
                networks.generator.get_buffer(name).copy_(distributed.mean_over_processes(value))
            parts |= heard  # not added: a part of both players, such as the cost of codes, counts once

        run.count(parts)
        ema.update(networks.generator, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            images = sample((run.averaged, recipe), REPLAY_SAMPLES, recipe.seed)
            save_grid(path, to_uint8(images), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
