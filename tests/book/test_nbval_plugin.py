"""The notebook plugin sees each defect that a notebook can have, and nothing else.

Tiny notebooks are recorded, doctored cell by cell, and validated by pytest in a process of its own.
"""

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook
from PIL import Image

from tests.nbval_figures import RunningTime
from tools.execute import execute
from tools.notebooks import ROOT, processor, write_notebook

CURVE = "x = np.linspace(0, 1, 200); plt.plot(x, np.exp(-4 * x) * np.cos(9 * x)); plt.show()"
GRID = "plt.imshow(grid(seed={}), cmap='gray', interpolation='nearest'); plt.show()"
JPEG = """f = io.BytesIO(); Image.fromarray(grid(seed={})).save(f, 'JPEG', quality=85)
display({{'image/jpeg': base64.b64encode(f.getvalue()).decode()}}, raw=True)"""
CELLS = {
    "imports": """import base64, io, os
import matplotlib.pyplot as plt, numpy as np
from PIL import Image

def grid(seed):  # 4 x 4 blotchy images of 16 x 16 pixels, each twice as large; all grids have the same mean
    blots = np.random.default_rng(seed).random((4, 4, 8, 8)) > 0.5
    blots[..., ::2] = ~blots[..., 1::2]
    return np.kron(blots.transpose(0, 2, 1, 3).reshape(32, 32), np.ones((4, 4))).astype(np.uint8) * 200""",
    "surroundings": "print(os.environ['OMP_NUM_THREADS'], os.environ['TQDM_DISABLE'], plt.get_backend())",
    "curve": CURVE,
    "antialiasing": "plt.rcParams['text.hinting'] = 'default'\n" + CURVE,
    "reversed": CURVE,
    "grid": GRID.format(0),
    "swapped-1": GRID.format(1),
    "swapped-2": GRID.format(2),
    "other-jpeg": JPEG.format(1),
    "jpeg": JPEG.format(0),
    "bigger-figure": "plt.figure(figsize=(4, 3)); plt.plot([0, 1]); plt.show()",
    "same-number": "print('distance 0.412 after 1000 images')",
    "drift": "print('distance 0.412\\n-0.001 of 1,234, error 3.1e-08')",
    "number": "print('distance 0.412')",
    "number-beyond": "print('distance 0.412')",
    "words": "print('distance 0.412')",
    "result": "0.412",
    "hidden-result": "0.412;",
    "source": "print('for step in range(1000):')",
    "missing": "print('distance 0.412')",
    "missing-figure": CURVE,
    "extra": "print('distance 0.412')",
    "extra-figure": CURVE,
    "unexecuted": "silent = 1",
    "complains": "pass",
}
# what is done to a recorded cell: its source is edited, so that it shows something else than the notebook
EDITS = {
    "antialiasing": ("'default'", "'none'"),
    "reversed": ("plt.plot(x,", "plt.plot(x[::-1],"),
    "other-jpeg": ("seed=1", "seed=3"),
    "bigger-figure": ("(4, 3)", "(4, 3.3)"),
    "drift": ("0.412\\n-0.001 of 1,234, error 3.1e-08", "0.413\\n0.000 of 1,230, error 9.8e-09"),
    "number": ("0.412", "0.470"),
    "number-beyond": ("0.412", "0.912"),
    "words": ("distance", "length"),
    "result": ("0.412", "0.912"),
    "source": ("1000", "1001"),
    "extra": ("print('distance 0.412')", "pass"),
    "extra-figure": ("plt.show()", "plt.close()"),
    "complains": ("pass", "import sys; print('careful', file=sys.stderr)"),
}
PASS_STRICTLY = {"imports", "surroundings", "curve", "antialiasing", "grid", "jpeg", "same-number", "drift"}
PASS_STRICTLY |= {"hidden-result"}
PASS_LOOSELY = PASS_STRICTLY | {"reversed", "swapped-1", "swapped-2", "other-jpeg", "number"}

TRAINING = """
import torch
from torch import nn
from torch.nn.functional import interpolate, mse_loss
torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 32, 3, padding=1), nn.SiLU(),
                    nn.Conv2d(32, 1, 3, padding=1))
optimiser = torch.optim.Adam(net.parameters(), 2e-3)
losses = []
for step in range(40):
    x = interpolate(torch.rand(32, 1, 4, 4), scale_factor=4, mode="bilinear")
    loss = mse_loss(net(x + 0.5 * torch.randn_like(x)), x)
    optimiser.zero_grad(); loss.backward(); optimiser.step()
    losses.append(loss.item())
print(f"mean squared error {sum(losses[-20:]) / 20:.3g}")
plt.plot(losses); plt.yscale("log"); plt.show()
plt.imshow(net(x + 0.5 * torch.randn_like(x))[0, 0].detach(), cmap="gray"); plt.show()
written = open("threads.txt", "w").write(str(torch.get_num_threads()))
"""


def record(cells: dict[str, str], folder) -> nbformat.NotebookNode:
    notebook = new_notebook(cells=[new_code_cell(source, id=name) for name, source in cells.items()])
    for cell in notebook.cells:
        cell.metadata.tags = ["source"] if cell.id == "source" else []
    return execute(notebook, folder)


def doctor(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    notebook = nbformat.from_dict(notebook)
    cells = {cell.id: cell for cell in notebook.cells}
    for name, (old, new) in EDITS.items():
        assert old in cells[name].source
        cells[name].source = cells[name].source.replace(old, new)
    one, two = cells["swapped-1"], cells["swapped-2"]
    one.outputs, two.outputs = two.outputs, one.outputs
    cells["missing"].outputs, cells["missing-figure"].outputs = [], []
    cells["unexecuted"].execution_count = None
    return notebook


def validate(folder, *options: str) -> tuple[dict[tuple[str, str], bool], str]:
    """Run pytest on the notebooks of a folder; return which (notebook, cell) passed, and what it printed."""
    xml = folder / "result.xml"
    plugins = ["-p", "tests.nbval_figures", "-p", "no:cacheprovider", "-c", "/dev/null", f"--rootdir={folder}"]
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--nbval", *plugins, f"--junitxml={xml}", *options, str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert xml.exists(), run.stdout + run.stderr
    passed = {}
    for case in ElementTree.parse(xml).iter("testcase"):
        notebook = case.get("classname").removesuffix(".ipynb")
        passed[notebook, case.get("name").removeprefix("cell ")] = len(case) == 0
    return passed, run.stdout


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    return record(CELLS, tmp_path_factory.mktemp("recorded"))


@pytest.fixture(scope="module")
def strict(recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("strict")
    write_notebook(folder / "clean.ipynb", recorded)
    write_notebook(folder / "doctored.ipynb", doctor(recorded))
    return validate(folder, "--figures=on", f"--figure-differences={folder / 'seen'}", "-n2"), folder


@pytest.fixture(scope="module")
def loose(recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("loose")
    elsewhere = doctor(recorded)
    elsewhere.metadata.recorded_on = "another processor"
    write_notebook(folder / "elsewhere.ipynb", elsewhere)
    few = ("imports", "reversed", "number-beyond", "words")
    for name, adversarial, place in (("here", False, processor()), ("chaotic", True, "another processor")):
        notebook = doctor(recorded)
        notebook.cells = [cell for cell in notebook.cells if cell.id in few]
        notebook.metadata.update(recorded_on=place, chapter={"adversarial_training": adversarial})
        write_notebook(folder / f"{name}.ipynb", notebook)
    return validate(folder)


def test_an_unchanged_notebook_passes(strict):
    (passed, printed), _ = strict
    clean = {cell: ok for (notebook, cell), ok in passed.items() if notebook == "clean"}
    assert set(clean) == set(CELLS) | {"running time"}
    assert all(clean.values()), printed


@pytest.mark.parametrize("cell", CELLS)
def test_strict_comparison(strict, cell):
    (passed, printed), _ = strict
    assert passed["doctored", cell] == (cell in PASS_STRICTLY), printed


@pytest.mark.parametrize("cell", CELLS)
def test_loose_comparison(loose, cell):
    passed, printed = loose
    assert passed["elsewhere", cell] == (cell in PASS_LOOSELY), printed


def test_figures_are_compared_on_the_processor_that_recorded_them(loose):
    passed, printed = loose
    assert not passed["here", "reversed"]
    assert passed["elsewhere", "reversed"]
    assert "elsewhere.ipynb was recorded on another processor (another processor)" in printed
    assert " here.ipynb was recorded on another" not in printed


def test_numbers_of_an_adversarial_run_are_not_compared_elsewhere(loose):
    passed, _ = loose
    assert passed["chaotic", "number-beyond"]
    assert not passed["chaotic", "words"]


def test_the_message_says_which_cell_differs_and_by_how_much(strict):
    (_, printed), folder = strict
    assert "doctored.ipynb, cell number-beyond: Cell outputs differ" in printed
    assert "recorded 0.412, now 0.912 (121.4% off)" in printed
    assert "an output is missing from the notebook (recorded: nothing; now: stdout)" in printed
    assert "the notebook has an extra output (recorded: image/png; now: nothing)" in printed
    assert "figure 1: size" in printed
    picture = folder / "seen" / "doctored-cell-reversed-1.png"
    assert f"recorded, now, and where they differ: {picture}" in printed
    assert Image.open(picture).width > 3 * 400
    assert not (folder / "seen" / "clean-cell-curve-1.png").exists()


def test_training_without_an_adversary_passes_on_two_threads(tmp_path):
    notebook = record({"imports": CELLS["imports"], "training": TRAINING}, tmp_path)
    assert (tmp_path / "threads.txt").read_text() == "1"
    write_notebook(tmp_path / "training.ipynb", notebook)
    passed, printed = validate(tmp_path, "--figures=on", "--kernel-threads=2")
    assert (tmp_path / "threads.txt").read_text() == "2"
    assert passed["training", "training"], printed


def test_a_notebook_that_takes_too_long_is_stopped_and_fails(tmp_path):
    cells = {"sleep": "import time; time.sleep(0)", "after": "print('awake')"}
    notebook = record(cells, tmp_path)
    notebook.cells[0].source = "import time; time.sleep(60)"
    write_notebook(tmp_path / "slow.ipynb", notebook)
    passed, printed = validate(tmp_path, "--notebook-seconds=0.05")  # starting a kernel takes longer
    assert "slow.ipynb, cell sleep: Timeout of 0.15 seconds exceeded" in printed
    assert "of processor time; the limit is 0.05 s, and it fails at 0.15 s" in printed
    assert not passed["slow", "sleep"] and not passed["slow", "running time"]


def test_running_time():
    def run(seconds):
        parent = SimpleNamespace(seconds=seconds, path=ROOT / "chapter.ipynb")
        config = SimpleNamespace(option=SimpleNamespace(notebook_seconds=90))
        RunningTime.runtest(SimpleNamespace(parent=parent, config=config))

    run(89)
    with pytest.warns(pytest.PytestWarning, match="chapter.ipynb took 100.0 s of processor time; the limit is 90 s"):
        run(100)
    with pytest.raises(pytest.fail.Exception, match="fails at 270 s"):
        run(280)
