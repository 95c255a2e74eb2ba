"""The repository's root holds what the layout names, and nothing else."""

import shutil
import subprocess

import pytest

from tools.notebooks import ROOT

FOLDERS = {".ci", ".github", "benchmarks", "book", "gencore", "notebooks", "tests", "tools"}
FILES = {
    ".gitignore", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "_config.yml", "_toc.yml",
    "conftest.py", "constraints.txt", "pyproject.toml", "requirements.txt",
}  # fmt: skip


def test_the_root_holds_what_the_layout_names():
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a clone")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [path for path in listed.split("\0") if path]
    assert {path for path in paths if "/" not in path} == FILES
    assert {path.partition("/")[0] for path in paths if "/" in path} <= FOLDERS
