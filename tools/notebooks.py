"""Where the chapters are, how they are read and written, and the surroundings in which they run."""

import contextlib
import os
import platform
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import yaml

ROOT = Path(__file__).resolve().parent.parent


def toc_files(root: Path = ROOT) -> list[str]:
    """Return every page that ``_toc.yml`` lists, in order, without suffix."""
    found = []

    def collect(node):
        if isinstance(node, list):
            for item in node:
                collect(item)
        elif isinstance(node, dict):
            for key in ("root", "file"):
                if key in node:
                    found.append(re.sub(r"\.(ipynb|md)$", "", node[key]))
            for value in node.values():
                collect(value)

    collect(yaml.safe_load((root / "_toc.yml").read_text("utf-8")))
    return found


def toc_notebooks(root: Path = ROOT) -> list[Path]:
    """Return the notebooks that ``_toc.yml`` lists, in order."""
    paths = [root / f"{name}.ipynb" for name in toc_files(root)]
    return [path for path in paths if path.is_file()]


def read_notebook(path: Path) -> nbformat.NotebookNode:
    """Read a notebook as it stands, without conversion."""
    return nbformat.read(path, as_version=nbformat.NO_CONVERT)


def write_notebook(path: Path, notebook: nbformat.NotebookNode) -> None:
    """Write a notebook in one step: whatever happens, the file holds the old notebook or the new one."""
    text = nbformat.writes(notebook)
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, suffix=".tmp", delete=False) as file:
        file.write((text if text.endswith("\n") else text + "\n").encode("utf-8"))
    try:
        os.chmod(file.name, path.stat().st_mode if path.exists() else 0o644)
        os.replace(file.name, path)
    except BaseException:
        os.unlink(file.name)
        raise


@contextlib.contextmanager
def kernel_environment(threads: int = 1) -> Iterator[dict[str, str]]:
    """Give the environment variables under which a notebook's kernel is recorded and validated.

    Training is bit-identical from run to run on one thread only. Progress bars are for people. IPython starts with an
    empty folder of its own, which exists as long as the context: nobody's history or start-up files matter.
    """
    number = str(threads)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        yield {
            "OMP_NUM_THREADS": number,
            "MKL_NUM_THREADS": number,
            "OPENBLAS_NUM_THREADS": number,
            "OMP_WAIT_POLICY": "PASSIVE",  # two kernels on two cores must not wait by spinning
            "TQDM_DISABLE": "1",
            "MPLBACKEND": "module://matplotlib_inline.backend_inline",
            "IPYTHONDIR": folder,
        }


def processor() -> str:
    """Name the kind of processor, as far as it decides how sums are rounded: maker, model (its family's number and its own) and widest instructions.

    Two models with the same instructions have other caches, and libraries that cut matrices to the caches add in another order.
    """
    maker, family, model, widest = "", "", "", ""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:  # not Linux
        return platform.machine()
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "vendor_id":
            maker = value.strip()
        elif key.strip() == "cpu family":
            family = value.strip()
        elif key.strip() == "model":
            model = value.strip()
        elif key.strip() == "flags":
            flags = value.split()
            widest = next((f for f in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f in flags), "")
    return " ".join(part for part in (platform.machine(), maker, family, model, widest) if part)
