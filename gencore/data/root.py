"""Where data sets that do not ship with gencore are kept."""

import os
from pathlib import Path


def data_root(root: str | None = None) -> Path:
    """Return the folder for data sets: the one given, else ``$GENCORE_DATA``, else ``~/.cache/gencore/data``."""
    return Path(root or os.environ.get("GENCORE_DATA") or Path.home() / ".cache" / "gencore" / "data").expanduser()
