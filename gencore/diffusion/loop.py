"""The training loop of diffusion models: Ho et al. 2020, algorithm 1, whatever is predicted and however noise is added."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from gencore.data import to_uint8
from gencore.diffusion import distill
from gencore.diffusion.denoiser import Denoiser
from gencore.diffusion.examples import Examples
from gencore.diffusion.objectives import Draw, Networks
from gencore.diffusion.recipes import DiffusionRecipe, DistillRecipe
from gencore.diffusion.sampling import begin, build, sample
from gencore.errors import InputError
from gencore.networks.first_stage import pass_in
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import add_parts
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


def train(
    recipe: DiffusionRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    first_stage: nn.Module | None = None,
    teacher: tuple[Networks, DiffusionRecipe] | None = None,
    start: tuple[Networks, DiffusionRecipe] | None = None,
) -> Iterator[Run]:
    """Train a denoiser, yielding the run at every ``recipe.log_every`` images and at the end.

    Parameters
    ----------
    recipe : DiffusionRecipe
        What to train; a `DistillRecipe` goes to `gencore.diffusion.distill`.
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
        For a `Latent` network, and only there: the trained autoencoder whose codes are denoised, the network of the model
        that ``recipe.first_stage`` names.
    teacher : tuple of Networks and DiffusionRecipe, optional
        For a `DistillRecipe` that names a teacher, and only there: what `load` returns for it.
    start : tuple of Networks and DiffusionRecipe, optional
        For a recipe that names a start, and only there: what `load` returns for it.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, the data do not fit the network's conditions, or the first stage, the teacher
        or the start is missing, out of place, or another.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    if isinstance(recipe, DistillRecipe):
        yield from distill.train(recipe, folder, device, log, compile, first_stage, teacher)
        return
    if teacher is not None:
        raise InputError("teacher: this recipe learns from data alone, and takes none")
    device = devices.pick_device(device)
    distributed.start(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    pass_in(networks.model, first_stage, recipe.first_stage)
    begin(networks.model, start, recipe.start)
    examples = Examples(recipe, recipe.data.load("train"), networks.model, device)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    run = Run(recipe, folder, networks, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()
    replica = distributed.replicate(networks.model)
    denoiser = Denoiser(replica, recipe.process, recipe.prediction)

    while not run.done:
        seen = run.images_seen
        x, cond, draw = examples.at(seen)  # (B, C, H, W), (B, K)
        set_learning_rate(adam, recipe.optimiser.learning_rate(seen, recipe.batch_size, recipe.images))
        pieces = list(zip(*(each.chunk(recipe.micro_batches) for each in (x, cond, *draw)), strict=True))
        parts: dict[str, Tensor] = {}

        for number, (x_piece, cond_piece, *draw_piece) in enumerate(pieces, start=1):
            share = len(x_piece) / len(x)
            with distributed.gradients_wait(replica, number < len(pieces)):
                with devices.autocast(device, recipe.precision):
                    loss = recipe.objective(denoiser, x_piece, cond_piece, Draw(*draw_piece))
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
