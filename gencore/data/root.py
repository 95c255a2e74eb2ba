"""Where data are kept: those that ship with gencore, and those that do not."""

import os
from pathlib import Path

ASSETS = Path(__file__).parent / "assets"


def data_root(root: str | None = None) -> Path:
    """Return the folder for other data sets: the one given, else ``$GENCORE_DATA``, else ``~/.cache/gencore/data``.

    Parameters
    ----------
    root : str, optional
        A folder; ``~`` stands for the home folder.
    """
    return Path(root or os.environ.get("GENCORE_DATA") or Path.home() / ".cache" / "gencore" / "data").expanduser()
