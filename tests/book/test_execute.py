"""tools/execute.py records notebooks as readers will see them, or leaves them alone."""

import base64
import io
import re

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from PIL import Image

from tools import execute
from tools.compare import STRICT, figure_difference
from tools.notebooks import processor, read_notebook, write_notebook

SOURCES = {
    "setup": "import sys",
    "imports": "import inspect, os, time\nimport shown\nfrom matplotlib import pyplot as plt\nstart = time.time()",
    "figure": "plt.plot([0, 1]); plt.show()",
    "streams": "print('one', flush=True); time.sleep(0.2); print('two')\nopen('runs.txt', 'a').write('.');",
    "surroundings": "print(os.environ['OMP_NUM_THREADS'], os.environ['TQDM_DISABLE'])",
    "source": "print(inspect.getsource(shown.function))",
}


def make(folder, name="chapter", sources=SOURCES):
    cells = [new_markdown_cell("# Title", id="title")]
    cells += [new_code_cell(source, id=id) for id, source in sources.items()]
    for cell in cells:
        cell.metadata.update({"tags": ["source"]} if cell.id == "source" else {})
    language = {"name": "python", "version": "3.1"}
    notebook = new_notebook(cells=cells, metadata={"chapter": {"id": "ex"}, "widgets": {}, "language_info": language})
    notebook.cells[1].metadata.update(execution={"iopub.status.busy": "2026"}, collapsed=True)
    (folder / "shown.py").write_text("def function():\n    return 1\n")
    write_notebook(folder / f"{name}.ipynb", notebook)
    return folder / f"{name}.ipynb"


def outputs(notebook, id):
    return next(cell.outputs for cell in notebook.cells if cell.id == id)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    path = make(tmp_path_factory.mktemp("recorded"))
    assert execute.main([str(path)]) == 0
    return path


@pytest.fixture
def copy(recorded, tmp_path):
    for path in recorded.parent.iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path / "chapter.ipynb"


def test_a_recorded_notebook(recorded):
    notebook = read_notebook(recorded)
    nbformat.validate(notebook)
    assert [cell.id for cell in notebook.cells] == ["title", *SOURCES]
    assert [cell.execution_count for cell in notebook.cells[1:]] == [1, 2, 3, 4, 5, 6]
    assert [(o.name, o.text) for o in outputs(notebook, "streams")] == [("stdout", "one\ntwo\n")]
    assert outputs(notebook, "surroundings")[0].text == "1 1\n"
    assert "return 1" in outputs(notebook, "source")[0].text


def test_what_changes_with_every_run_is_not_recorded(recorded):
    notebook = read_notebook(recorded)
    assert set(notebook.metadata) == {"chapter", "kernelspec", "language_info", "recorded_on"}
    assert notebook.metadata.chapter == {"id": "ex"}
    assert notebook.metadata.language_info == {"name": "python", "pygments_lexer": "ipython3"}
    assert notebook.metadata.recorded_on == processor()
    assert all(set(cell.metadata) <= {"tags"} for cell in notebook.cells)
    assert not re.search(r"20\d\d-\d\d-\d\d", recorded.read_text())


def test_figures_are_small(recorded):
    data = base64.b64decode(outputs(read_notebook(recorded), "figure")[0].data["image/png"])
    assert Image.open(io.BytesIO(data)).mode == "P" and len(data) < 10_000


def png(pixels, **how):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", **how)
    return file.getvalue()


def test_a_palette_is_used_only_where_it_shows_the_same():
    rng = np.random.default_rng(0)
    few = rng.integers(0, 256, (40, 3), dtype=np.uint8)[rng.integers(0, 40, (100, 120))]
    red, green, blue = np.mgrid[0:256:2, 0:256:2, 0:256:32].transpose(0, 1, 3, 2).reshape(3, -1, 128)
    every = np.stack([red, green, blue], axis=2) + rng.integers(0, 4, (*red.shape, 3))
    every = every.clip(0, 255).astype(np.uint8)  # too many colours for a palette, though it would be smaller
    level = rng.integers(0, 256, (100, 120))
    ramp = np.stack([level, level // 2, 255 - level], axis=2).astype(np.uint8)
    for pixels, mode in ((few, "P"), (ramp, "P"), (every, "RGB")):
        data = png(pixels, compress_level=0)
        small = execute.shrink_png(data)
        assert Image.open(io.BytesIO(small)).mode == mode
        assert len(small) < len(data)
        assert figure_difference(small, data).score < STRICT.figure / 2
    clear = np.zeros((20, 20, 4), np.uint8)
    assert (np.asarray(Image.open(io.BytesIO(execute.shrink_png(png(clear)))).convert("RGB")) == 255).all()


def test_only_source_is_refreshed(copy, capsys):
    before = read_notebook(copy)
    (copy.parent / "shown.py").write_text("def function():\n    return 2\n")
    assert execute.main([str(copy), "--source-only", "--check"]) == 1
    assert "cell source: stdout: line 2: recorded 'return 1', now 'return 2'" in capsys.readouterr().err
    assert read_notebook(copy) == before
    assert execute.main([str(copy), "--source-only"]) == 0
    after = read_notebook(copy)
    assert "return 2" in outputs(after, "source")[0].text
    assert (copy.parent / "runs.txt").read_text() == "."  # no other cell ran
    outputs(after, "source")[0].text = outputs(before, "source")[0].text
    assert after == before
    assert execute.main([str(copy), "--source-only", "--check"]) == 0


def test_check_compares_and_writes_nothing(copy, capsys):
    changed = copy.read_text().replace('"one\\n"', '"won\\n"')
    copy.write_text(changed)
    assert execute.main([str(copy), "--check"]) == 1
    said = capsys.readouterr().err
    assert "cell streams: stdout: line 1: recorded 'won', now 'one'" in said
    assert said.count("cell ") == 1  # all others agree
    assert copy.read_text() == changed


def test_a_failed_run_leaves_the_notebook_as_it_was(tmp_path, capsys):
    paths, before = [], []
    failures = {
        "raises": ("bad", "1 / 0", "cell bad failed:", "ZeroDivisionError"),
        "warns": ("loud", "import warnings; warnings.warn('oh')", "cell loud wrote to stderr:", "UserWarning: oh"),
        "dies": ("exits", "import os; os._exit(1)", "cell exits failed:", "died"),
    }
    for name, (id, source, *_) in failures.items():
        paths.append(make(tmp_path, name, {"setup": "print(1)", id: source, "after": "print(2)"}))
        before.append(paths[-1].read_bytes())
    assert execute.main([*map(str, paths), "--workers=2"]) == 1
    said = capsys.readouterr().err
    for name, (_, _, place, reason) in failures.items():
        assert f"{name}.ipynb: {place}" in said and reason in said
        assert f"{name}.ipynb: left as it was" in said
    assert [path.read_bytes() for path in paths] == before
    assert not list(tmp_path.glob("*.tmp"))


def test_a_source_cell_that_needs_more_than_imports_says_so(tmp_path, capsys):
    path = make(tmp_path, sources={"define": "def f(): pass", "source": "print(f)"})
    assert execute.main([str(path), "--source-only"]) == 1
    assert "cell source failed:" in capsys.readouterr().err


def test_a_missing_notebook(capsys):
    with pytest.raises(SystemExit):
        execute.main(["missing.ipynb"])
    assert "no such notebook" in capsys.readouterr().err


def test_writing_is_atomic(tmp_path, monkeypatch):
    path = make(tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_notebook(path, new_notebook())
    assert path.read_bytes() == before and sorted(p.name for p in tmp_path.iterdir()) == ["chapter.ipynb", "shown.py"]
