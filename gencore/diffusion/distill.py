"""The training loop of few-step models: a student learns to reach the end in fewer steps, by a teacher or by itself.

Song et al. 2023, https://arxiv.org/abs/2303.01469, algorithms 2 and 3; Salimans & Ho 2022,
https://arxiv.org/abs/2202.00512, algorithm 2. It differs from the loop of denoisers in that a second network takes part,
a copy that follows the student: the target of consistency, or the teacher of the next half of the steps.

Deviation: a student of Salimans & Ho keeps its optimiser's moments when it becomes the teacher; the learning rate begins
anew, as in the paper.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from gencore.data import to_uint8
from gencore.diffusion.denoiser import Denoiser
from gencore.diffusion.examples import Examples
from gencore.diffusion.few_step import Consistency, Denoisers, Progressive, Teacher
from gencore.diffusion.guidance import extrapolate
from gencore.diffusion.objectives import Draw, Networks
from gencore.diffusion.recipes import DiffusionRecipe, DistillRecipe
from gencore.diffusion.sampling import build, denoiser, sample, untold
from gencore.errors import InputError
from gencore.networks.first_stage import pass_in
from gencore.plots.grids import save_grid
from gencore.training import device as devices, distributed
from gencore.training.ema import EMA
from gencore.training.log import Extra
from gencore.training.loss import add_parts
from gencore.training.optimiser import set_learning_rate
from gencore.training.run import REPLAY_SAMPLES, Run


class Players(NamedTuple):
    """The student, and the copy that follows it. Only the student is averaged, shipped and loaded."""

    model: nn.Module
    target: nn.Module


def train(
    recipe: DistillRecipe,
    folder: Path | str | None = None,
    device: str = "auto",
    log: Extra = "none",
    compile: bool = False,
    first_stage: nn.Module | None = None,
    teacher: tuple[Networks, DiffusionRecipe] | None = None,
) -> Iterator[Run]:
    """Train a few-step model, yielding the run at every ``recipe.log_every`` images and at the end.

    With a teacher, the student starts from its weights.

    Parameters
    ----------
    recipe : DistillRecipe
        What to train.
    folder, device, log, compile, first_stage
        As for ``gencore.diffusion.train``.
    teacher : tuple of Networks and DiffusionRecipe, optional
        The model that ``recipe.teacher`` names, as `load` returns it.

    Yields
    ------
    Run
        The same object each time.

    Raises
    ------
    InputError
        If the folder holds another run, the data do not fit the network's conditions, or the first stage or the teacher
        is missing, out of place, or another.
    NonFiniteLoss
        If the loss is no longer a number; the last checkpoint stays.
    """
    device = devices.pick_device(device)
    distributed.start(device)
    networks = Networks(*(network.to(device, memory_format=torch.channels_last) for network in build(recipe)))
    pass_in(networks.model, first_stage, recipe.first_stage)
    examples = Examples(recipe, recipe.data.load("train"), networks.model, device)
    _check_teacher(recipe, teacher)
    guide = None
    if teacher is not None:
        guide = _guided(teacher, recipe.guidance, device)
        networks.model.load_state_dict(teacher[0].model.state_dict())
    target = EMA(networks.model, recipe.objective.target_half_life if isinstance(recipe.objective, Consistency) else 0)
    ema = EMA(networks.model, recipe.ema_half_life)
    adam = recipe.optimiser.build(networks.model.parameters())
    players = Players(networks.model, target.network)
    run = Run(recipe, folder, players, Networks(ema.network), {"adam": adam}, log)
    if compile:
        networks.model.compile()
    replica = distributed.replicate(networks.model)
    student, follower = (Denoiser(network, recipe.process, recipe.prediction) for network in (replica, target.network))

    while not run.done:
        seen = run.images_seen
        objective = recipe.objective.after(seen, recipe.images)
        # The given teacher speaks first; where steps have halved, the student that learned to do with those before.
        later = isinstance(objective, Progressive) and objective.first < recipe.objective.first
        denoisers = Denoisers(student, follower, follower if later else guide)
        x, cond, draw = examples.at(seen)  # (B, C, H, W), (B, K)
        set_learning_rate(adam, recipe.optimiser.learning_rate(*_clock(recipe, seen)))
        pieces = list(zip(*(each.chunk(recipe.micro_batches) for each in (x, cond, *draw)), strict=True))
        parts: dict[str, Tensor] = {}

        for number, (x_piece, cond_piece, *draw_piece) in enumerate(pieces, start=1):
            share = len(x_piece) / len(x)
            with distributed.gradients_wait(replica, number < len(pieces)):
                with devices.autocast(device, recipe.precision):
                    loss = objective(denoisers, x_piece, cond_piece, Draw(*draw_piece))
                (share * loss.total).backward()
            add_parts(parts, loss.parts, share)
        torch.nn.utils.clip_grad_norm_(networks.model.parameters(), recipe.clip)
        adam.step()
        adam.zero_grad()

        run.count(parts)
        ema.update(networks.model, run.images_seen, recipe.batch_size)
        # A target follows at each step, a teacher is relieved where the steps halve.
        if isinstance(objective, Consistency) or recipe.objective.after(run.images_seen, recipe.images) != objective:
            target.update(networks.model, run.images_seen, recipe.batch_size)
        if path := run.replay_path():
            save_grid(path, to_uint8(sample((run.averaged, recipe), REPLAY_SAMPLES, recipe.seed)), REPLAY_SAMPLES)
        if run.report_due():
            yield run.report()


def _check_teacher(recipe: DistillRecipe, teacher: tuple[Networks, DiffusionRecipe] | None) -> None:
    """Raise `InputError` unless a teacher is there if one is needed, and the student could take its weights."""
    if teacher is None:
        if recipe.teacher is not None:
            raise InputError(f"needs its teacher, the zoo's {recipe.teacher}; pass it as teacher")
        return
    if recipe.teacher is None:
        raise InputError("teacher: this recipe learns from data alone, and takes none")
    for field in ("data", "network", "process", "prediction", "told", "mirror", "first_stage"):
        ours, theirs = getattr(recipe, field), getattr(teacher[1], field)
        if ours != theirs:
            raise InputError(f"{field} is {ours}, but the teacher's is {theirs}; make them equal")


def _guided(model: tuple[Networks, DiffusionRecipe], weight: float, device: torch.device) -> Teacher:
    """Return a teacher on the device, guided by a weight. Objectives ask it without gradients: it learns nothing."""
    (network,), recipe = model
    network.to(device)
    if weight == 1:
        return denoiser(model)

    def guided(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return extrapolate(denoiser(model), x_t, t, cond, untold(recipe, cond), weight)

    return guided


def _clock(recipe: DistillRecipe, seen: int) -> tuple[int, int, int]:
    """Return images seen, batch size and images in all, by which the learning rate goes: anew for each student."""
    stages = recipe.objective.stages if isinstance(recipe.objective, Progressive) else 1
    stage = seen * stages // recipe.images
    # Rounded up: a stage begins with the first number of images that this division gives to it.
    start, end = (-(-number * recipe.images // stages) for number in (stage, stage + 1))
    return seen - start, recipe.batch_size, end - start
