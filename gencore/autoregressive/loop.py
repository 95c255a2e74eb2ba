"""The training loop of autoregressive models: the log-likelihood goes up by stochastic gradients."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.autoregressive.examples import Examples
from gencore.autoregressive.objectives import Draw, Networks
from gencore.autoregressive.recipes import AutoregressiveRecipe
from gencore.autoregressive.sampling import build, sample
from gencore.data import to_uint8
from gencore.networks.first_stage import pass_in
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import add_parts
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: AutoregressiveRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    first_stage: nn.Module | None = None,
) -> Iterator[Run]:
    """Train a model, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : AutoregressiveRecipe
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
        For a `Coded` network, and only there: the trained autoencoder whose codes are written, the network of the model
        that ``recipe.first_stage`` names.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, the data do not fit the network's conditions, or the first stage is missing, out
        of place, or another.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    networks = Networks(*(network.to(device) for network in build(recipe)))
    pass_in(networks.model, first_stage, recipe.first_stage)
    examples = Examples(recipe, recipe.data.load("train"), networks.model, device)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()
    replicas = Networks(distributed.replicate(networks.model))

    while not run.done:
        seen = run.images_seen
        symbols, cond, draw = examples.at(seen)  # (B, C, H, W), (B, K)
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))
        pieces, parts = len(symbols.chunk(recipe.micro_batches)), {}  # of 16, five are four: of 4 each

        for piece in range(pieces):
            symbols_piece, cond_piece, *draw_piece = (_share(each, pieces, piece) for each in (symbols, cond, *draw))
            share = len(symbols_piece) / len(symbols)
            with distributed.gradients_wait(replicas.model, piece < pieces - 1):
                with devices.autocast(device, recipe.precision):
                    loss = recipe.objective(replicas, symbols_piece, cond_piece, Draw(*draw_piece))
                (share * loss.total).backward()
            add_parts(parts, loss.parts, share)
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()

        run.count(parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, to_uint8(sample((run.averaged, recipe), REPLAY_SAMPLES, recipe.seed)), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()


def _share(rows: Tensor | None, pieces: int, piece: int) -> Tensor | None:
    """Return one of a batch's pieces, of what there is."""
    return None if rows is None else rows.chunk(pieces)[piece]
