"""Tables of studies: the trainings or drawings behind a figure that are too many to ship, a row for each."""

import argparse
import csv
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from gencore import zoo
from gencore.integrity import write_sums
from gencore.training.device import keep_freed_memory

FOLDER = zoo.ROOT / zoo.STUDIES


def write(name: str, rows: list[dict[str, float]], digits: int = 5) -> None:
    """Write ``gencore/zoo/studies/<name>.csv``, numbers to so many digits, and the checksums of all tables beside it."""
    FOLDER.mkdir(exist_ok=True)
    with open(FOLDER / f"{name}.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(rows[0])
        writer.writerows([f"{value:.{digits}g}" for value in each.values()] for each in rows)
    write_sums(FOLDER, sorted(path.name for path in FOLDER.glob("*.csv")))


def kept(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """Return the tensor in a file, made first if it is not there; the file is written in one step."""
    if not path.is_file():
        unfinished = path.with_suffix(".unfinished")
        torch.save(make(), unfinished)
        unfinished.replace(path)
    return torch.load(path, weights_only=True)


def start(main: Callable[[Path], None], description: str) -> None:
    """Run a study from the command line, on one thread, in the folder in which it keeps what is done."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where what is done is kept, so that the study can be stopped and resumed")
    folder = parser.parse_args().folder
    torch.set_num_threads(1)
    keep_freed_memory()
    main(folder)
