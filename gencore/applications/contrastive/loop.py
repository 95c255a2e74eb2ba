"""The training loop of pictures with their captions: Radford et al. 2021, figure 3, and wrong captions beside them."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from gencore.applications.contrastive.changes import made_wrong
from gencore.applications.contrastive.objectives import Draw, Networks
from gencore.applications.contrastive.recipes import ContrastiveRecipe
from gencore.applications.contrastive.scoring import build
from gencore.data import Batches, wording
from gencore.errors import InputError
from gencore.training import device as devices, rng
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import Run


def train(
    recipe: ContrastiveRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train both networks, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : ContrastiveRecipe
        What to train.
    folder : Path or str, optional
        Where to keep checkpoints and the curve. A run found there is resumed; on one CPU thread the result is then
        bitwise that of a run never stopped. None keeps nothing.
    device : str
        ``"auto"``, ``"cpu"`` or ``"cuda"``.
    log : {"none", "tensorboard", "wandb"}
        A further place for the curve.
    compile : bool
        Compile the networks (pays on GPUs).

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, or ``torchrun`` started several processes: each would see its own captions
        only.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("pictures and captions are compared within one process; start it without torchrun")
    device = devices.pick_device(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    data, length = recipe.data.load("train"), recipe.network.text.length
    batches = Batches(data, recipe.batch_size, recipe.seed, device)
    captions = wording.encode(recipe.data, data.captions, length).to(device)  # (N, L)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()

    while not run.done:
        seen = run.images_seen
        batch = batches.at(seen)
        told = captions[batch.index]  # (B, L)
        u = rng.uniform((len(told), recipe.wrong, length + 1), recipe.seed, seen, "wrong", device=device)
        draw = Draw(*made_wrong(told, u))
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))

        with devices.autocast(device, recipe.precision):
            loss = recipe.objective(networks, batch.x, told, draw)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()

        run.count(loss.parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if run.report_due():
            yield run.report()
