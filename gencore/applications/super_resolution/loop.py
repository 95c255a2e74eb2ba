"""The training loop of networks that enlarge pictures: regression on pairs, and two more voices if the recipe wants them.

A fixed network may measure a perceptual distance, and an adversary may learn beside: SRGAN, Ledig et al. 2017,
https://arxiv.org/abs/1609.04802, equations 2 and 3. Weights and losses of both are those of `gencore.vae.adversary`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from gencore.applications.super_resolution.examples import Crops
from gencore.applications.super_resolution.objectives import Networks
from gencore.applications.super_resolution.recipes import SuperResolutionRecipe
from gencore.applications.super_resolution.sampling import build, build_discriminator, heldout_pairs, last_weights, photos_of
from gencore.data import to_uint8
from gencore.errors import InputError
from gencore.metrics import PerceptualDistance
from gencore.plots.grids import save_grid
from gencore.training import checkpoint, device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run
from gencore.vae.adversary import discriminator_loss, with_adversary, with_perceptual


class Players(NamedTuple):
    """The networks that learn: the model, and who plays against it. Only the model is averaged, shipped and loaded."""

    model: nn.Module
    discriminator: nn.Module


def train(
    recipe: SuperResolutionRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    teacher: tuple[Networks, SuperResolutionRecipe] | None = None,
) -> Iterator[Run]:
    """Train a network, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : SuperResolutionRecipe
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
    teacher : tuple of Networks and SuperResolutionRecipe, optional
        For a recipe that names a model to begin from, and only there: what `load` returns for it.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, or the model to begin from is missing, out of place, or has other sizes.
    NonFiniteLoss
        If a loss is no longer a number; the last checkpoint stays.
    """
    if (recipe.begin is None) != (teacher is None):
        raise InputError(f"teacher: this recipe begins from {recipe.begin or 'no other model'}; pass in what it names")
    device = devices.pick_device(device)
    distributed.start(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    if teacher is not None:
        checkpoint.fill(networks._asdict(), checkpoint.flatten(teacher[0]._asdict()), f"teacher, {recipe.begin}")
    photographs = [picture.image for picture in photos_of("train")]
    examples = Crops(photographs, recipe.data.size, recipe.network.times, recipe.batch_size, recipe.seed, device)
    ema = EMA(networks.model, recipe.ema_half_life)
    averaged = networks._replace(model=ema.network)
    adam = recipe.optimiser.build(networks.model.parameters())
    learners, optimisers, adversary, features = networks, {"adam": adam}, recipe.adversary, None
    if recipe.perceptual:
        features = PerceptualDistance().to(device)
    if adversary:
        discriminator = build_discriminator(recipe).to(device, memory_format=torch.channels_last)
        learners = Players(networks.model, discriminator)
        optimisers["discriminator"] = adversary.optimiser.build(discriminator.parameters())
        judge = distributed.replicate(discriminator)
    run = Run(recipe, folder, learners, averaged, optimisers, log)
    if compile:
        networks.model.compile()
    replicas = Networks(distributed.replicate(networks.model))

    while not run.done:
        seen = run.images_seen
        low, high = examples.at(seen)  # (B, C, h, w), (B, C, H, W)
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))
        with devices.autocast(device, recipe.precision):
            loss = recipe.objective(replicas, low, high)
            if features:
                loss = with_perceptual(loss, high, features, recipe.perceptual)  # (SR.12)
            if adversary:
                loss = with_adversary(loss, discriminator, last_weights(networks.model), adversary.weight_after(seen))
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()
        parts = loss.parts

        if adversary:
            of_adversary = optimisers["discriminator"]
            set_learning_rate(of_adversary, adversary.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))
            with devices.autocast(device, recipe.precision):
                verdict = discriminator_loss(judge, high, loss.picture)
            verdict.total.backward()
            of_adversary.step()
            of_adversary.zero_grad()
            parts = parts | verdict.parts

        run.count(parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, to_uint8(heldout_pairs((averaged, recipe), REPLAY_SAMPLES)[1]), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
