"""One training run, from a recipe to a folder of checkpoints: an explicit loop, top to bottom.

``train(recipe, folder)`` is a generator. It yields its `Run` now and then, so a notebook can plot as it goes and a program
can drain it behind a progress bar.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from gencore.applications.palette.examples import Examples
from gencore.applications.palette.objectives import Networks, seeing
from gencore.applications.palette.recipes import PaletteRecipe
from gencore.applications.palette.sampling import build, heldout_pairs
from gencore.data import to_uint8
from gencore.networks.first_stage import pass_in
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: PaletteRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    first_stage: nn.Module | None = None,
) -> Iterator[Run]:
    """Train a network that mends, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : PaletteRecipe
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
        For a network that works on codes, and only there: the network of the model that ``recipe.first_stage`` names.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, or the first stage is missing, out of place, or another.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    pass_in(networks.model, first_stage, recipe.first_stage)
    examples = Examples(recipe, networks.model, device)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()
    replica = distributed.replicate(networks.model)

    while not run.done:
        x, seen, draw = examples.at(run.images_seen)  # (B, C, H, W)
        set_learning_rate(adam, recipe.optimiser.learning_rate(run.images_seen, recipe.batch_size, recipe.images))
        with devices.autocast(device, recipe.precision):
            loss = recipe.objective(seeing(replica, recipe.process, recipe.prediction, seen), x, seen.hole, draw)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()

        run.count(loss.parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            _, mended = heldout_pairs((run.averaged, recipe), REPLAY_SAMPLES)
            save_grid(path, to_uint8(mended), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
