"""The training loop of captioners: each word is guessed from the picture and from the right words before it."""

import os
from collections.abc import Iterator
from pathlib import Path

import torch

from gencore.applications.captioning.examples import Examples
from gencore.applications.captioning.objectives import Networks
from gencore.applications.captioning.recipes import CaptioningRecipe
from gencore.applications.captioning.telling import build
from gencore.errors import InputError
from gencore.training import device as devices
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import Run


def train(
    recipe: CaptioningRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train a captioner, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : CaptioningRecipe
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
        If the folder holds another run, or ``torchrun`` started several processes: so small a network needs one only.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("captioners train in a single process; start it without torchrun")
    device = devices.pick_device(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    examples = Examples(recipe, recipe.data.load("train"), device)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()

    while not run.done:
        seen = run.images_seen
        x, captions, draw = examples.at(seen)  # (B, C, H, W), (B, L)
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))

        with devices.autocast(device, recipe.precision):
            loss = recipe.objective(networks, x, captions, draw)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()

        run.count(loss.parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if run.report_due():
            yield run.report()
