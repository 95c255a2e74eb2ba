"""The front door: its pictures are the book's own, and its hours are the chapters'."""

import importlib.util
import re

import numpy as np
import pytest
from PIL import Image

from tests.book.rules import Chapter
from tools.notebooks import ROOT, toc_notebooks

STATIC = ROOT / "book" / "web" / "static"


def _load_front():
    spec = importlib.util.spec_from_file_location("draw_front", ROOT / "book" / "web" / "draw_front.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


front = _load_front()


def reading_minutes(chapter: Chapter) -> int:
    text = "\n".join(text for _, text in chapter.prose)
    return int(re.search(r"\*\*Cost\.\*\* (\d+) minutes to read", text)[1])


def row(path) -> str:
    """Return a chapter's line in the table of the teaching page."""
    chapter = Chapter.read(path)
    exercises = [exercise for _, exercise in chapter.exercises]
    facts = (reading_minutes(chapter), len(exercises), *(sum(e[key] for e in exercises) for key in ("minutes", "points")))
    link = f"[{front.title(path)}](../{path.relative_to(ROOT).as_posix()})"
    return f"| {link} | {' | '.join(map(str, facts))} |"


@pytest.mark.parametrize("path", toc_notebooks(), ids=lambda path: path.stem)
def test_every_chapter_is_listed_with_its_costs(path):
    assert row(path) in (ROOT / "book" / "teaching.md").read_text("utf-8").splitlines(), row(path)
    assert f"](../{path.relative_to(ROOT).as_posix()})" in (ROOT / "book" / "index.md").read_text("utf-8")


def test_the_hours_of_the_learning_paths():
    """``| path | chapters | 5 h | 12 h |``: the sums over the chapters that the line links to, to half an hour."""
    text = (ROOT / "book" / "index.md").read_text("utf-8")
    lines = re.findall(r"^\|.*\| ([\d.]+) h \| ([\d.]+) h \|$", text, re.MULTILINE)
    paths = [line for line in text.splitlines() if re.search(r"\| [\d.]+ h \| [\d.]+ h \|$", line)]
    assert len(paths) == len(lines) >= 2
    for line, stated in zip(paths, lines, strict=True):
        named = re.findall(r"\.\./(notebooks/[\w/-]+\.ipynb)", line)
        chapters = [Chapter.read(ROOT / name) for name in named] or [Chapter.read(path) for path in toc_notebooks()]
        reading = sum(map(reading_minutes, chapters)) / 60
        doing = sum(exercise["minutes"] for chapter in chapters for _, exercise in chapter.exercises) / 60
        assert abs(float(stated[0]) - reading) <= 0.25, (line, reading)
        assert abs(float(stated[1]) - doing) <= 0.25, (line, doing)


@pytest.mark.parametrize("name", front.FIGURES)
def test_figures_are_those_of_the_chapters(name):
    kind, picture = front.figure(*front.FIGURES[name])
    assert (STATIC / f"front-{name}.{kind}").read_bytes() == picture, "run book/web/draw_front.py"


def test_the_picture_is_drawn_by_the_zoo():
    shipped = Image.open(STATIC / "drawn.png").convert("RGB")
    fresh = front.drawn().convert("RGB")
    assert shipped.size == fresh.size
    assert np.abs(np.asarray(shipped, int) - np.asarray(fresh, int)).mean() < 1, "run book/web/draw_front.py"


def test_the_map_is_that_of_the_chapters():
    assert (STATIC / "map.svg").read_text("utf-8") == front.chapter_map(), "run book/web/draw_front.py"


def test_a_chapter_must_not_need_a_later_one(monkeypatch):
    first, second = toc_notebooks()[:2]
    monkeypatch.setattr(front, "needs", lambda path: [second.stem] if path == first else [])
    with pytest.raises(ValueError, match=f"{first.stem}: needs {second.stem}"):
        front.chapter_map()
