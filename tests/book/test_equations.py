r"""Equations with an id, ``\tag{AG.3}``, are implemented where the id stands in a comment, and tested."""

import io
import re
import tokenize
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.book.rules import Chapter
from tools.notebooks import ROOT, toc_notebooks

TAG = re.compile(r"\\tag\*?\{([^}]*)\}")
ID = re.compile(r"[A-Z]{2,5}\.[1-9]\d*")
MENTION = re.compile(r"\(([A-Z]{2,5}\.[1-9]\d*)\)")


def comments(source: str) -> set[str]:
    """Return the ids that comments name."""
    source = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)  # IPython's commands are no Python
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {id for token in tokens if token.type == tokenize.COMMENT for id in MENTION.findall(token.string)}


def sources(folder: Path) -> list[str]:
    return [path.read_text("utf-8") for path in sorted(folder.rglob("*.py"))]


def check(chapters: list[Chapter], library: list[str], tests: list[str]) -> list[str]:
    """Return what is wrong with the equations of some chapters.

    Parameters
    ----------
    chapters : list of Chapter
        The whole book.
    library, tests : list of str
        Sources of gencore and of its tests.
    """
    found, owner = [], {}
    in_library = set().union(*map(comments, library))
    in_tests = {id for source in tests for id in MENTION.findall(source)}
    mentioned = {}
    for chapter in chapters:
        name, prefix = chapter.path.stem, chapter.facts.get("id", "").upper()
        here = set().union(*(comments(cell.source) for cell in chapter.code))
        mentioned |= {id: name for id in here}
        for cell_id, text in chapter.prose:
            displays = re.findall(r"(?s)\$\$.*?\$\$", text)
            for id in TAG.findall(text):
                place = f"{name}, cell {cell_id}: equation ({id})"
                if not any(f"{{{id}}}" in display for display in displays):
                    found.append(f"{place} is not displayed between $$ and $$")
                if not ID.fullmatch(id) or not id.startswith(f"{prefix}."):
                    found.append(f"{place} is not called {prefix}. and a number")
                    continue
                if id in owner:
                    found.append(f"{place} has an id that {owner[id]} gave away already")
                owner[id] = name
                if id not in here | in_library:
                    found.append(f"{place} stands in no comment of the code that implements it")
                if id not in in_tests:
                    found.append(f"{place} is named by no test")
        prose = {id for _, text in chapter.prose for id in MENTION.findall(text)}
        mentioned |= {id: name for id in prose}
    prefixes = {chapter.facts.get("id", "").upper() for chapter in chapters}
    mentioned |= {id: "gencore" for id in in_library} | {id: "tests" for id in in_tests}
    for id, where in sorted(mentioned.items()):
        if id not in owner and id.partition(".")[0] in prefixes:
            found.append(f"{where} names equation ({id}), which no chapter has")
    return found


def test_equations_of_the_book():
    this = Path(__file__).read_text("utf-8")
    tests = [source for source in sources(ROOT / "tests") if source != this]
    findings = check([Chapter.read(path) for path in toc_notebooks()], sources(ROOT / "gencore"), tests)
    assert not findings, "\n".join(["", *findings])


EQUATION = "Text.\n\n$$a = b \\tag{AB.1}$$\n\n$$untagged$$"
CODE = "x = 1  # (AB.1)"
TEST = "# (AB.1)"


def chapter(text, code="x = 1", id="ab", name="a"):
    cells = [new_markdown_cell(text, id="text"), new_code_cell(code, id="code")]
    return Chapter(Path(f"{name}.ipynb"), new_notebook(cells=cells, metadata={"chapter": {"id": id}}))


def test_an_equation_is_implemented_in_the_chapter_or_the_library():
    assert check([chapter(EQUATION, CODE)], [], [TEST]) == []
    assert check([chapter(EQUATION)], ["y = 2", CODE], [TEST]) == []
    assert check([chapter("$$a$$")], [], []) == []


@pytest.mark.parametrize(
    ("chapters", "library", "tests", "sentence"),
    [
        ([chapter(EQUATION)], [], [TEST], "equation (AB.1) stands in no comment"),
        ([chapter(EQUATION, "x = '(AB.1)'")], [], [TEST], "stands in no comment"),
        ([chapter(EQUATION, CODE)], [], [], "named by no test"),
        ([chapter(EQUATION, CODE)], [], ["# (AB.10)"], "named by no test"),
        ([chapter(EQUATION, CODE)], [], [TEST, "# (AB.10)"], "tests names equation (AB.10)"),
        ([chapter(EQUATION, CODE)], ["# (AB.2)"], [TEST], "gencore names equation (AB.2)"),
        ([chapter(EQUATION, CODE + " and (AB.3)")], [], [TEST], "a names equation (AB.3)"),
        ([chapter(EQUATION + " By (AB.4),", CODE)], [], [TEST], "a names equation (AB.4)"),
        ([chapter(EQUATION, CODE), chapter(EQUATION, CODE, name="b")], [], [TEST], "gave away already"),
        ([chapter(EQUATION + EQUATION, CODE)], [], [TEST], "gave away already"),
        ([chapter(EQUATION, CODE, id="xy")], [], [TEST], "not called XY. and a number"),
        ([chapter("$$a \\tag{1}$$")], [], [], "not called AB. and a number"),
        ([chapter("$a \\tag{AB.1}$", CODE)], [], [TEST], "not displayed"),
    ],
)
def test_defects_are_seen(chapters, library, tests, sentence):
    assert any(sentence in line for line in check(chapters, library, tests))


def test_ids_of_other_books_are_free():
    assert check([chapter(EQUATION, CODE)], ["# (DDPM.4)"], [TEST]) == []
