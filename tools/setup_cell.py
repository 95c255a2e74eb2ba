"""The first code cell of every notebook, which is the same in all of them."""

from pathlib import Path

import yaml

import gencore
from tools.notebooks import ROOT

CELL_ID = "setup"
CELL_TAGS = ["hide-input"]

TEMPLATE = """\
# In Colab, install the release of gencore that belongs to this chapter. Everywhere, speed up training on the CPU.
import subprocess
import sys

if "google.colab" in sys.modules:
    release = "gencore @ git+{address}@v{version}"
    subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", release], check=True)

from gencore.training.device import keep_freed_memory

keep_freed_memory();"""


def setup_cell(address: str, version: str = gencore.__version__) -> str:
    """Return the source of the set-up cell.

    Parameters
    ----------
    address : str
        Where the repository is published, such as ``https://github.com/OWNER/REPO``.
    version : str
        Version of gencore; Colab installs the tag ``v`` + version.
    """
    return TEMPLATE.format(address=address, version=version)


def book_address(root: Path = ROOT) -> str:
    """Return the address of the repository from ``_config.yml``, the one place that holds it."""
    return yaml.safe_load((root / "_config.yml").read_text("utf-8"))["repository"]["url"]
