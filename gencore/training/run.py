"""What every training loop would repeat word for word: the run's folder, resuming, the clock, and what is due when.

A `Run` owns no step, no optimiser and no loss. The loop of a family makes those, and calls, after each step::

    run.count(loss_parts)               # images seen, losses remembered
    if path := run.replay_path(): ...   # the loop draws, if a picture is due
    if run.report_due(): yield run.report()
"""

import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from gencore.training import checkpoint, distributed
from gencore.training.log import Curve, Extra
from gencore.training.loss import LossWindow


REPLAY_SAMPLES = 16  # pictures of each moment: the same noise drawn, or the same images reconstructed


class Run:
    """A training run: where it stands, and what it leaves on disk.

    Parameters
    ----------
    recipe : recipe dataclass
        What is being trained. Its ``images``, ``batch_size``, ``log_every`` and ``checkpoint_every`` are used here.
    folder : Path, str or None
        Where checkpoints and the curve go. A run found there is resumed: networks, averages and optimisers are filled
        from its newest checkpoint. None keeps nothing.
    networks : NamedTuple of nn.Module
        The networks as they are trained. Their names become the prefixes of the keys in checkpoints.
    averaged : NamedTuple of nn.Module
        The same with moving averages in place of those networks that have one.
    optimisers : dict of str to Optimizer
        Their names become keys of ``train_state.pt``.
    log : {"none", "tensorboard", "wandb"}
        A further place for the curve.

    Attributes
    ----------
    recipe, networks, averaged
        As given.
    images_seen : int
        Training images so far.
    losses : dict of str to float
        Mean loss parts since the last report.
    seconds, core_seconds : float
        Wall clock and processor time spent up to the last report, earlier parts of a resumed run included.

    Raises
    ------
    InputError
        If the folder holds another run, or files that are not a run's.
    """

    def __init__(
        self,
        recipe: Any,
        folder: Path | str | None,
        networks: NamedTuple,
        averaged: NamedTuple,
        optimisers: dict[str, torch.optim.Optimizer],
        log: Extra = "none",
    ) -> None:
        self.recipe, self.networks, self.averaged = recipe, networks, averaged
        self.images_seen, self.losses, self.seconds, self.core_seconds = 0, {}, 0.0, 0.0
        self._optimisers, self._window = optimisers, LossWindow()
        folder, writes = Path(folder) if folder else None, distributed.rank() == 0
        self._folder = folder if writes else None
        if self._folder:
            checkpoint.open_run(self._folder, recipe)
        distributed.wait_for_all()  # until the folder is there
        if folder and (saved := checkpoint.list_checkpoints(folder)):
            self._resume(saved[-1])
        self._curve = Curve(self._folder, self.images_seen, log if writes else "none")
        self._started, self._core_started = time.perf_counter() - self.seconds, time.process_time() - self.core_seconds

    @property
    def done(self) -> bool:
        """Whether all of the recipe's images have been seen."""
        return self.images_seen >= self.recipe.images

    def count(self, parts: dict[str, torch.Tensor]) -> None:
        """Count one batch, and remember its loss parts; nothing is read back from the device."""
        self.images_seen += self.recipe.batch_size
        self._window.add(self.images_seen // self.recipe.batch_size, parts)

    def replay_path(self) -> Path | None:
        """Return where a picture of this moment's samples belongs, or None when none is due.

        One is due when all, a half, a quarter, ... of the run's images have been passed, in the process that writes.
        """
        marks, before = [self.recipe.images >> k for k in range(9)], self.images_seen - self.recipe.batch_size
        if not self._folder or not any(before < mark <= self.images_seen for mark in marks):
            return None
        (self._folder / "replay").mkdir(exist_ok=True)
        return self._folder / "replay" / f"{self.images_seen:012d}.png"

    def report_due(self) -> bool:
        """Whether this step ends with a row of the curve, a checkpoint or both."""
        return self.done or self._passed(self.recipe.log_every) or self._passed(self.recipe.checkpoint_every)

    def report(self) -> "Run":
        """Write the row and the checkpoint that are due, and return the run itself.

        Raises
        ------
        NonFiniteLoss
            If a loss was not finite; such weights are never saved.
        """
        self.losses = self._window.report()
        self.seconds, self.core_seconds = time.perf_counter() - self._started, time.process_time() - self._core_started
        self._curve.append({"images_seen": self.images_seen, **self.losses, "seconds": self.seconds})
        if self._folder and (self.done or self._passed(self.recipe.checkpoint_every)):
            state = {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()}
            state |= {"seconds": self.seconds, "core_seconds": self.core_seconds}
            checkpoint.save(self._folder, self.images_seen, self.networks._asdict(), self.averaged._asdict(), state)
        return self

    def _passed(self, every: int) -> bool:
        """Whether a multiple of ``every`` lies within the last batch."""
        return self.images_seen // every > (self.images_seen - self.recipe.batch_size) // every

    def _resume(self, saved: Path) -> None:
        """Put everything back to where the checkpoint was written."""
        for file, networks in (("weights", self.networks), ("ema", self.averaged)):
            path = saved / f"{file}.safetensors"
            checkpoint.fill(networks._asdict(), checkpoint.read_tensors(path), path)
        state = checkpoint.read_state(saved / "train_state.pt")
        for name, optimiser in self._optimisers.items():
            optimiser.load_state_dict(state[name])
            _lay_out_as_weights(optimiser)
        self.images_seen = int(saved.name)
        self.seconds, self.core_seconds = state["seconds"], state["core_seconds"]


def _lay_out_as_weights(optimiser: torch.optim.Optimizer) -> None:
    """Give moments the memory layout of their weights; a checkpoint may come from a run with another one.

    Fused optimisers walk through memory: they would pair each weight with another weight's moments, and say nothing.
    """
    for weight, moments in optimiser.state.items():
        for name, value in moments.items():
            if value.shape == weight.shape:
                moments[name] = torch.empty_like(weight).copy_(value)
