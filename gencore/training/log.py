"""What a run leaves to look at: a curve in CSV, and TensorBoard or Weights & Biases where asked for."""

import csv
import os
from pathlib import Path
from typing import Literal

from gencore.errors import InputError

Extra = Literal["none", "tensorboard", "wandb"]


class Curve:
    """Losses by images seen, appended to ``curve.csv``; on resume, rows later than the checkpoint are dropped.

    Parameters
    ----------
    folder : Path or None
        The run's folder; None keeps rows in memory only.
    images_seen : int
        Where the run (re)starts.
    extra : {"none", "tensorboard", "wandb"}
        A further place to log to, if that package is installed.
    """

    def __init__(self, folder: Path | None, images_seen: int = 0, extra: Extra = "none") -> None:
        self.path = folder / "curve.csv" if folder else None
        self.rows: list[dict[str, float]] = []
        if self.path and self.path.exists():
            self.rows = [row for row in read_curve(self.path) if row["images_seen"] <= images_seen]
            self._write()
        self._extra = _open_extra(extra, folder)

    def append(self, row: dict[str, float]) -> None:
        """Add one row, ``images_seen`` first; what another row has and this one lacks is left empty in the file."""
        self.rows.append(row)
        self._write()
        self._extra(row)

    def _write(self) -> None:
        if self.path and self.rows:
            part = self.path.with_name("curve.csv.part")
            with open(part, "w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(name for row in self.rows for name in row)))
                writer.writeheader()
                writer.writerows(map(_as_text, self.rows))
            os.replace(part, self.path)


def _as_text(row: dict[str, float]) -> dict[str, str]:
    return {key: str(value) if isinstance(value, int) else f"{value:.6g}" for key, value in row.items()}


def read_curve(path: Path | str) -> list[dict[str, float]]:
    """Read a ``curve.csv`` as a list of rows, ``images_seen`` as an int and the rest as floats; what is empty is left out."""
    with open(path, newline="", encoding="utf-8") as file:
        return [
            {key: int(value) if key == "images_seen" else float(value) for key, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


def _open_extra(extra: Extra, folder: Path | None):
    """Return a function that logs one row elsewhere."""
    if extra == "tensorboard":
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise InputError("log: tensorboard is not installed; pip install tensorboard") from None
        writer = SummaryWriter(folder)

        def to_tensorboard(row: dict[str, float]) -> None:
            for name, value in row.items():
                if name != "images_seen":
                    writer.add_scalar(name, value, int(row["images_seen"]))
            writer.flush()

        return to_tensorboard
    if extra == "wandb":
        try:
            import wandb
        except ImportError:
            raise InputError("log: wandb is not installed; pip install wandb") from None
        run = wandb.init(dir=folder, project="gencore")
        return lambda row: run.log(row, step=int(row["images_seen"]))
    return lambda row: None
