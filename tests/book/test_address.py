"""The public address stands in one place, and one command carries it everywhere."""

import re
import subprocess
import sys

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

import gencore
from tools.notebooks import ROOT, read_notebook, toc_notebooks, write_notebook
from tools.set_address import files, rewrite, set_address
from tools.setup_cell import book_address, setup_cell

OLD, NEW = "https://github.com/old-owner/old.book", "https://github.com/New/a-book"
TEXTS = {
    "_config.yml": "title: T\nrepository:\n  url: {address}\n  branch: v{version}\n",
    "README.md": "[![x](https://img.shields.io/badge/{pair}.svg)]\n"
    "(https://colab.research.google.com/github/{pair}/blob/v{version}/a.ipynb)\n"
    "git clone --branch v{version} {address}.git\nsite: https://{owner}.github.io/{name}/x.html\n",
    "book/deep/page.md": "pip install 'gencore @ git+{address}@v{version}' and {address}/issues\n"
    "not ours: https://github.com/other/{name} {address}-2 https://github.com/my-{pair} v9.9.9\n",
    ".github/workflows/w.yml": "run: echo {address}\n",
    "CITATION.cff": "repository-code: {address}\n",
}


def write_book(folder, address, version):
    owner, name = address.split("/")[-2:]
    for path, text in TEXTS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        filled = text.format(address=address, owner=owner, name=name, pair=f"{owner}/{name}", version=version)
        (folder / path).write_text(filled, "utf-8")
    cells = [
        new_markdown_cell(f"# Title\n[issues]({address}/issues)", id="title"),
        new_code_cell(setup_cell(address, version), id="setup", execution_count=1),
    ]
    (folder / "notebooks").mkdir(exist_ok=True)
    write_notebook(folder / "notebooks" / "a.ipynb", new_notebook(cells=cells))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_link_is_rewritten_and_nothing_else(tmp_path):
    write_book(tmp_path / "old", OLD, "0.1.0")
    write_book(tmp_path / "new", NEW, "1.2.0rc1")
    expected = contents(tmp_path / "new")
    page = "book/deep/page.md"  # other people's repositories stay
    expected[page] = expected[page].replace(b"other/a-book", b"other/old.book")
    expected[page] = expected[page].replace(NEW.encode() + b"-2", OLD.encode() + b"-2")
    expected[page] = expected[page].replace(b"my-New/a-book", b"my-old-owner/old.book")
    changed = set_address(tmp_path / "old", NEW + "/", "1.2.0rc1")
    assert contents(tmp_path / "old") == expected
    assert len(changed) == len(TEXTS) + 1
    assert set_address(tmp_path / "old", NEW, "1.2.0rc1") == []


def test_a_new_set_up_cell_reaches_the_notebooks(tmp_path):
    write_book(tmp_path, OLD, "0.1.0")
    path = tmp_path / "notebooks" / "a.ipynb"
    path.write_text(path.read_text().replace("--quiet", "--silent"))
    assert set_address(tmp_path, OLD, "0.1.0") == [path]
    assert read_notebook(path).cells[1].source == setup_cell(OLD, "0.1.0")


@pytest.mark.parametrize(
    "bad", ["github.com/a/b", "https://github.com/a", "https://github.com/a/b/c", "https://x.org/a/b"]
)
def test_other_addresses_are_refused(tmp_path, bad):
    write_book(tmp_path, OLD, "0.1.0")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match="expected https://github.com/OWNER/REPO"):
        set_address(tmp_path, bad)
    assert contents(tmp_path) == before


def test_the_book_is_in_step():
    """Running the command would change nothing, and no link goes to another owner's copy of the book."""
    address = book_address()
    owner, name = address.split("/")[-2:]
    for path in files(ROOT):
        text = path.read_text("utf-8")
        assert rewrite(text, address, address, gencore.__version__) == text, f"{path}: run tools/set_address.py"
        for other in re.findall(rf"(?:github\.com|github)/([\w-]+)/{re.escape(name)}(?![\w-])", text):
            assert other == owner, f"{path}: names the book of {other}"
        for other in re.findall(rf"([\w-]+)\.github\.io/{re.escape(name)}(?![\w-])", text):
            assert other == owner, f"{path}: names the site of {other}"
    assert f"  branch: v{gencore.__version__}\n" in (ROOT / "_config.yml").read_text("utf-8")
    for path in toc_notebooks():
        setup = [cell.source for cell in read_notebook(path).cells if cell.id == "setup"]
        assert setup == [setup_cell(address)], f"{path}: run tools/set_address.py"


def test_the_set_up_cell_installs_in_colab_and_is_silent_elsewhere():
    source = setup_cell(OLD, "0.1.0")
    run = """
import subprocess, sys
calls = []
subprocess.run = lambda command, **how: calls.append((command, how))
if {colab}: sys.modules["google.colab"] = sys
exec({source!r})
pip = [sys.executable, "-m", "pip", "install", "--quiet", "gencore @ git+{address}@v0.1.0"]
assert calls == ([(pip, dict(check=True))] if {colab} else []), calls
"""
    for colab in (True, False):
        code = run.format(colab=colab, source=source, address=OLD)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
