"""pytest plugin: re-run notebooks and compare text, numbers and figures with what they show.

    pytest --nbval notebooks                        the chapters, strictly
    pytest --nbval --figures=off notebooks          on another processor: numbers loosely, figures by size only
    pytest --nbval -n 2 notebooks                   two notebooks at a time, each on one thread

It builds on nbval, which runs the cells and reports them one by one but skips pictures, compares numbers digit by
digit and passes cells that were never executed. Here each notebook is compared by `tools.compare`, and its running
time counts as one more test.
"""

import contextlib
import os
import re
import tempfile
import warnings
from pathlib import Path
from unittest.mock import patch

import psutil  # comes with ipykernel
import pytest
from nbval.kernel import RunningKernel
from nbval.plugin import IPyNbCell, IPyNbFile, NbCellError

from tools.compare import LOOSE, STRICT, output_differences
from tools.notebooks import kernel_environment, processor

FAIL_FACTOR = 3  # a notebook fails at three times the time at which it gets a warning


def pytest_addoption(parser):
    group = parser.getgroup("nbval figures", "comparison of notebooks with what they show")
    group.addoption(
        "--figures",
        choices=("auto", "on", "off"),
        default=os.environ.get("NBVAL_FIGURES", "auto"),
        help=f"on: compare figures, and numbers within {100 * STRICT.relative:g} per cent; "
        f"off: only the size of figures, and numbers within {100 * LOOSE.relative:g} per cent; "
        "auto (default, or $NBVAL_FIGURES): on for notebooks recorded on this kind of processor, off for others",
    )
    group.addoption(
        "--figure-differences",
        type=Path,
        metavar="FOLDER",
        help="where figures that differ are written, recorded and new side by side (default: a temporary folder)",
    )
    group.addoption("--kernel-threads", type=int, default=1, metavar="N", help="threads of a notebook's kernel (1)")
    group.addoption(
        "--notebook-seconds",
        type=float,
        default=90,
        metavar="S",
        help=f"processor time at which a notebook gets a warning (90); at {FAIL_FACTOR} times as long it fails",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    option = config.option
    if not getattr(option, "nbval", False):
        return
    option.nbval_current_env = option.nbval_kernel_name is None  # the Python that runs pytest runs the notebooks
    option.nbval_cell_timeout = min(option.nbval_cell_timeout, FAIL_FACTOR * option.notebook_seconds)
    if getattr(option, "dist", "no") == "load":
        option.dist = "loadfile"  # the cells of a notebook need one kernel


def pytest_report_header(config):
    if getattr(config.option, "nbval", False):
        return f"notebooks: figures={config.option.figures}, {config.option.kernel_threads} thread(s), on {processor()}"


@pytest.hookimpl(wrapper=True)
def pytest_collect_file(file_path, parent):
    collectors = yield
    if getattr(parent.config.option, "nbval", False):
        for i, collector in enumerate(collectors):
            if type(collector) is IPyNbFile:
                collectors[i] = Notebook.from_parent(parent, path=file_path)
    return collectors


class Kernel(RunningKernel):
    """A kernel that keeps its input, without which IPython ignores the semicolon that hides a result."""

    def execute_cell_input(self, cell_input, allow_stdin=None):
        return self.kc.execute(cell_input, store_history=True, allow_stdin=allow_stdin, stop_on_error=False)


class Notebook(IPyNbFile):
    """A notebook: one test a code cell, and one for the running time."""

    def collect(self):
        for cell in super().collect():
            yield Cell.from_parent(
                self, name=_cell_name(cell), cell_num=cell.cell_num, cell=cell.cell, options=cell.options
            )
        yield RunningTime.from_parent(self, name="running time")

    def setup(self):
        self.surroundings = contextlib.ExitStack()
        environment = self.surroundings.enter_context(kernel_environment(self.config.option.kernel_threads))
        with patch.dict(os.environ, environment), patch("nbval.plugin.RunningKernel", Kernel):
            super().setup()
        if self.config.option.figures == "auto" and not self.compares_figures:
            place = self.nb.metadata.recorded_on
            message = f"{self.path.name} was recorded on another processor ({place}): only the size of figures is compared"
            warnings.warn(pytest.PytestWarning(message))

    def teardown(self):
        super().teardown()
        self.surroundings.close()

    @property
    def seconds(self) -> float:
        """Processor time of the kernel so far: that of one thread without pauses, however busy the machine is."""
        if not self.kernel.is_alive():
            return 0.0
        used = psutil.Process(self.kernel.km.provisioner.pid).cpu_times()
        return used.user + used.system

    @property
    def compares_figures(self) -> bool:
        mode = self.config.option.figures
        return mode == "on" or (mode == "auto" and self.nb.metadata.get("recorded_on") in (None, processor()))

    @property
    def is_chaotic(self) -> bool:
        return bool(self.nb.metadata.get("chapter", {}).get("adversarial_training"))


class Cell(IPyNbCell):
    """A code cell, which must show what it shows in the notebook."""

    def runtest(self):
        super().runtest()
        if self.cell.execution_count is None and self.cell.source.strip():
            self.raise_cell_error("The cell was never executed; run tools/execute.py")

    def compare_outputs(self, test, ref, skip_compare=None):
        strict = self.parent.compares_figures
        differences, figures = output_differences(
            recorded=ref,
            now=test,
            tolerance=STRICT if strict else LOOSE,
            exact_text="source" in self.cell.metadata.get("tags", []),
            # elsewhere, the numbers of an adversarial run are other numbers: what holds of them is what it claims
            numbers=strict or not self.parent.is_chaotic,
        )
        for number, figure in enumerate(figures, start=1):
            differences.append(f"    recorded, now, and where they differ: {self._write(figure.panels, number)}")
        self.comparison_traceback = differences
        return not differences

    def _write(self, panels, number: int) -> Path:
        folder = self.config.option.figure_differences or Path(tempfile.gettempdir()) / "figure-differences"
        folder.mkdir(parents=True, exist_ok=True)
        name = re.sub(r"[^\w-]+", "-", f"{self.parent.path.stem}-{self.name}")
        panels.save(folder / f"{name}-{number}.png")
        return folder / f"{name}-{number}.png"

    def repr_failure(self, excinfo):
        error = excinfo.value
        if not isinstance(error, NbCellError):
            return super().repr_failure(excinfo)
        lines = [f"{self.parent.path.name}, {self.name}: {error}", *(error.inner_traceback or "").splitlines()]
        return "\n".join([*lines, "", "The cell:", *("    " + line for line in self.cell.source.splitlines())])

    def reportinfo(self):
        return self.path, 0, f"{self.path.name}::{self.name}"


class RunningTime(pytest.Item):
    """The time that the notebook's cells took together."""

    def runtest(self):
        seconds, limit = self.parent.seconds, self.config.option.notebook_seconds
        message = f"{self.parent.path.name} took {seconds:.1f} s of processor time; the limit is {limit:g} s"
        if seconds > FAIL_FACTOR * limit:
            pytest.fail(f"{message}, and it fails at {FAIL_FACTOR * limit:g} s", pytrace=False)
        if seconds > limit:
            warnings.warn(pytest.PytestWarning(message))

    def reportinfo(self):
        return self.path, 0, f"{self.path.name}::{self.name}"


def _cell_name(cell: IPyNbCell) -> str:
    return f"cell {cell.cell.get('id', cell.cell_num)}"
