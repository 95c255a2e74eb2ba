"""The training loop of painting networks: photographs in, and a fixed network says how much they have become paintings."""

from collections.abc import Iterator
from pathlib import Path

import torch

from gencore.applications.style_transfer.examples import Stream
from gencore.applications.style_transfer.features import StyleFeatures
from gencore.applications.style_transfer.objectives import Networks
from gencore.applications.style_transfer.recipes import StyleRecipe
from gencore.applications.style_transfer.sampling import REPLAY_SIDE, build, looking, replay, to_show
from gencore.networks.image_transform import ImageTransform
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: StyleRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
) -> Iterator[Run]:
    """Train a network that paints, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : StyleRecipe
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
        If the folder holds another run, or the shipped weights or pictures are missing or altered.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    features: StyleFeatures = looking(recipe).to(device)
    stream = Stream(recipe, features, device)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()
    replica = Networks(distributed.replicate(networks.model))
    shown = to_show(recipe, REPLAY_SAMPLES, REPLAY_SIDE) if folder else ()
    objective, rows = recipe.objective, isinstance(recipe.network, ImageTransform)

    while not run.done:
        seen = run.images_seen
        x, draw = stream.at(seen)  # (B, 3, window, window)
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))
        with devices.autocast(device, recipe.precision):
            if rows:
                loss = objective.by_network(replica, features, x, draw)
            else:
                loss = objective.by_example(replica, features, x, draw, recipe.network.layers)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()

        run.count(loss.parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, replay((run.averaged, recipe), *shown), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()
