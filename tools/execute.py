"""Re-execute notebooks in place, as readers will see them.

    python tools/execute.py                                run every chapter of _toc.yml
    python tools/execute.py notebooks/gan/dcgan.ipynb      run one
    python tools/execute.py --source-only                  refresh only the cells that show library source
    python tools/execute.py --check --source-only          say which notebooks show old source, write nothing

A notebook is written only if every cell ran without error and without a word on stderr; cell ids never change.
"""

import argparse
import ast
import base64
import io
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.compare import STRICT, figure_difference, output_differences
from tools.notebooks import ROOT, kernel_environment, processor, read_notebook, toc_notebooks, write_notebook

CELL_TIMEOUT = 270  # seconds; a whole notebook should take at most 90
PALETTE_SCORE = STRICT.figure / 2  # a palette must leave room for the differences that validation tolerates

# what front ends leave behind and what changes with the Python that ran
VOLATILE_CELL_METADATA = {"execution", "executionInfo", "ExecuteTime", "colab", "id", "outputId", "collapsed"}
KEPT_NOTEBOOK_METADATA = {"chapter", "kernelspec"}


class ExecutionFailed(Exception):
    """A cell failed or complained; the message names the notebook and the cell."""


def execute(notebook: nbformat.NotebookNode, folder: Path, name: str = "notebook") -> nbformat.NotebookNode:
    """Run all cells and return a copy of the notebook with the new outputs.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook; it is not changed.
    folder : Path
        Working directory of the kernel.
    name : str
        What error messages call the notebook.

    Raises
    ------
    ExecutionFailed
        If a cell raises, runs out of time, or writes to stderr.
    """
    result = nbformat.from_dict(notebook)
    for cell in result.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    _run(result, folder, name)
    for cell in result.cells:
        for key in VOLATILE_CELL_METADATA & set(cell.metadata):
            del cell.metadata[key]
    for key in set(result.metadata) - KEPT_NOTEBOOK_METADATA:
        del result.metadata[key]
    result.metadata.kernelspec = {"display_name": "Python 3", "language": "python", "name": "python3"}
    result.metadata.language_info = {"name": "python", "pygments_lexer": "ipython3"}
    result.metadata.recorded_on = processor()  # validation compares figures on the same kind of processor
    return result


def refresh_source(notebook: nbformat.NotebookNode, folder: Path, name: str = "notebook") -> nbformat.NotebookNode:
    """Run only the cells tagged "source" and return a copy of the notebook with their new outputs.

    Before them run the set-up cell and the import statements of the cells above; nothing is trained.

    Raises
    ------
    ExecutionFailed
        If a cell raises, which it does if it needs more than imports.
    """
    result = nbformat.from_dict(notebook)
    cells, shown = [], []
    for cell in result.cells:
        if cell.cell_type != "code":
            continue
        if "source" in cell.metadata.get("tags", []):
            cells.append(new_code_cell(cell.source, id=cell.id))
            shown.append((cell, cells[-1]))
        elif cell.id == "setup":
            cells.append(new_code_cell(cell.source, id=cell.id))
        elif imports := _imports(cell.source):
            cells.append(new_code_cell(imports, id=cell.id))
    if shown:
        _run(new_notebook(cells=cells), folder, name)
    for cell, run in shown:
        cell.outputs = run.outputs
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = cell.execution_count
    return result


def shrink_png(data: bytes) -> bytes:
    """Return the smallest faithful PNG of a figure on white: with a palette if that shows the same, else losslessly."""
    figure = Image.open(io.BytesIO(data)).convert("RGBA")
    page = Image.new("RGBA", figure.size, "white")
    page.alpha_composite(figure)
    page = page.convert("RGB")
    # refined by k-means and without dithering: fewer colours must not look like noise
    palette = page.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=3, dither=Image.Dither.NONE)
    exact, small = _png(page), _png(palette)
    faithful = figure_difference(exact, small).score <= PALETTE_SCORE
    return min(exact, small, key=len) if faithful else exact


def differing_cells(recorded: nbformat.NotebookNode, now: nbformat.NotebookNode) -> list[str]:
    """Name the cells whose outputs differ, and how."""
    found = []
    for old, new in zip(recorded.cells, now.cells):
        if old.cell_type == "code":
            source = "source" in old.metadata.get("tags", [])
            differences, _ = output_differences(old.outputs, new.outputs, STRICT, exact_text=source)
            found += [f"cell {old.id}: {difference}" for difference in differences]
    return found


def _run(notebook: nbformat.NotebookNode, folder: Path, name: str) -> None:
    begun = []
    client = NotebookClient(
        notebook,
        kernel_name="python3",
        timeout=CELL_TIMEOUT,
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=lambda cell, cell_index: begun.append(f"cell {cell.id}"),
    )
    try:
        with kernel_environment() as environment:
            # the kernel's own log says nothing about the notebook; what cells write to stderr does not go there
            client.execute(env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
    except CellExecutionError as error:
        raise ExecutionFailed(f"{name}: {begun[-1]} failed:\n{error.traceback}") from None
    except Exception as error:  # time-outs, dead kernels
        raise ExecutionFailed(f"{name}: {begun[-1] if begun else 'the kernel'} failed: {error}") from error
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.output_type == "stream" and output.name == "stderr":
                raise ExecutionFailed(f"{name}: cell {cell.id} wrote to stderr:\n{output.text}")
            if "image/png" in output.get("data", {}):
                small = shrink_png(base64.b64decode(output.data["image/png"]))
                output.data["image/png"] = base64.b64encode(small).decode("ascii")


def _imports(source: str) -> str:
    """Return the import statements at the top level of a cell."""
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a cell with shell commands or magics
        return ""
    return "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom)))


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def _process(path: Path, source_only: bool, check: bool) -> tuple[bool, str]:
    start = time.perf_counter()
    name = path.relative_to(ROOT) if path.is_relative_to(ROOT) else path
    try:
        recorded = read_notebook(path)
        now = (refresh_source if source_only else execute)(recorded, path.parent, str(name))
    except ExecutionFailed as error:
        return False, f"{error}\n{name}: left as it was"
    seconds = f"{time.perf_counter() - start:.0f} s"
    if check:
        found = differing_cells(recorded, now)
        return not found, "\n".join([*(f"{name}: {line}" for line in found), f"{name}: {seconds}"])
    if now != recorded:
        write_notebook(path, now)
    return True, f"{name}: {seconds}, {path.stat().st_size / 1000:.0f} kB"


def main(arguments: list[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks; without any, all in _toc.yml")
    parser.add_argument("--source-only", action="store_true", help='refresh only the cells tagged "source"')
    parser.add_argument("--check", action="store_true", help="compare and write nothing; fail if an output differs")
    parser.add_argument("--workers", type=int, default=1, metavar="N", help="notebooks at a time, one thread each")
    options = parser.parse_args(arguments)
    paths = [path.resolve() for path in options.paths] or toc_notebooks()
    if missing := [str(path) for path in paths if not path.is_file()]:
        parser.error(f"no such notebook: {', '.join(missing)}")
    good = True
    with ThreadPoolExecutor(options.workers) as pool:  # the work is done in the kernels' processes
        for passed, report in pool.map(lambda path: _process(path, options.source_only, options.check), paths):
            good &= passed
            print(report, file=sys.stdout if passed else sys.stderr, flush=True)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
