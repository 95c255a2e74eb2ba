r"""Equations with an id, ``\tag{AG.3}``, are implemented where the id stands in a comment, and pinned by a test."""

import re
from pathlib import Path

import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from tests.book.rules import Chapter
from tools.equations import MENTION, TAG, commented, displayed, normal, page, pins, sources
from tools.notebooks import toc_notebooks

ID = re.compile(r"[A-Z]{2,5}\.[1-9]\d*")


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
    in_library = set().union(*map(commented, library))
    in_tests = {id for source in tests for id in MENTION.findall(source)}
    pinned: dict[str, list[str]] = {}
    for pin in (pin for source in tests for pin in pins(source)):
        pinned.setdefault(pin.id, []).append(pin.tex)
    mentioned = {}
    for chapter in chapters:
        name, prefix = chapter.path.stem, chapter.facts.get("id", "").upper()
        here = set().union(*(commented(cell.source) for cell in chapter.code))
        mentioned |= {id: name for id in here}
        shown = {equation.id: equation for equation in displayed(chapter.prose)}
        for cell_id, text in chapter.prose:
            for id in TAG.findall(text):
                place = f"{name}, cell {cell_id}: equation ({id})"
                if id not in shown:
                    found.append(f"{place} is not displayed between $$ and $$")
                if not ID.fullmatch(id) or not id.startswith(f"{prefix}."):
                    found.append(f"{place} is not called {prefix}. and a number")
                    continue
                if id in owner:
                    found.append(f"{place} has an id that {owner[id]} gave away already")
                owner[id] = name
                if id not in here | in_library:
                    found.append(f"{place} stands in no comment of the code that implements it")
                if id in shown:
                    found += [f"{place} {fault}" for fault in faults(shown[id], pinned.get(id, []))]
        prose = {id for _, text in chapter.prose for id in MENTION.findall(text)}
        mentioned |= {id: name for id in prose}
    prefixes = {chapter.facts.get("id", "").upper() for chapter in chapters}
    mentioned |= {id: "gencore" for id in in_library} | {id: "tests" for id in in_tests | set(pinned)}
    for id, where in sorted(mentioned.items()):
        if id not in owner and id.partition(".")[0] in prefixes:
            found.append(f"{where} names equation ({id}), which no chapter has")
    return found


def faults(equation, pinned: list[str]) -> list[str]:
    """Return what is wrong with one equation and the formulas that tests hold it to."""
    found = []
    if equation.anchor != (anchor := f"eq-{equation.id.lower().replace('.', '-')}"):
        found.append(f'has no <a id="{anchor}"></a> in the line above')
    mark = f'@equation("{equation.id}", r"{normal(equation.tex)}")'
    if not pinned:
        found.append(f"is pinned by no test; put this on the test: {mark}")
    found += [
        f"differs from what its test is marked with, {tex!r}; if the test still pins it: {mark}"
        for tex in pinned
        if normal(tex) != normal(equation.tex)
    ]
    return found


def test_equations_of_the_book():
    tests = [source for file, source in sources("tests").items() if not file.endswith("book/test_equations.py")]
    findings = check([Chapter.read(path) for path in toc_notebooks()], list(sources("gencore").values()), tests)
    assert not findings, "\n".join(["", *findings])


def test_the_page_of_equations_lists_every_equation_with_its_code_and_its_test():
    text = page("https://example.org/book", "v1")
    for path in toc_notebooks():
        for equation in displayed(Chapter.read(path).prose):
            entry = re.search(rf"(?m)^\[\({equation.id}\)\].*(?:\n.+)?$", text)[0]
            assert f"{path.name}#{equation.anchor})" in entry
            assert re.search(r"Code: .+, line \d+", entry), entry
            assert re.search(r"Test: \[`tests/[\w/]+\.py::test_\w+`", entry), entry
            assert normal(equation.tex) in normal(text)


EQUATION = 'Text.\n\n<a id="eq-ab-1"></a>\n$$a = b \\tag{AB.1}$$\n\n$$untagged$$'
CODE = "x = 1  # (AB.1)"
TEST = '@equation("AB.1", r"a = b")\ndef test_it(): pass\n'


def chapter(text, code="x = 1", id="ab", name="a"):
    cells = [new_markdown_cell(text, id="text"), new_code_cell(code, id="code")]
    return Chapter(Path(f"{name}.ipynb"), new_notebook(cells=cells, metadata={"chapter": {"id": id}}))


def test_an_equation_is_implemented_in_the_chapter_or_the_library():
    assert check([chapter(EQUATION, CODE)], [], [TEST]) == []
    assert check([chapter(EQUATION)], ["y = 2", CODE], [TEST]) == []
    assert check([chapter("$$a$$")], [], []) == []


def test_spaces_and_the_final_stop_do_not_count():
    spread = 'def f():\n    @equation("AB.1", r"""\n    a\n    = b\n    """)\n    def test_it(): pass\n'
    assert check([chapter(EQUATION.replace("= b", "= b."), CODE)], [], [spread]) == []


@pytest.mark.parametrize(
    ("chapters", "library", "tests", "sentence"),
    [
        ([chapter(EQUATION)], [], [TEST], "equation (AB.1) stands in no comment"),
        ([chapter(EQUATION, "x = '(AB.1)'")], [], [TEST], "stands in no comment"),
        ([chapter(EQUATION, CODE)], [], [], "pinned by no test"),
        ([chapter(EQUATION, CODE)], [], ["# (AB.1)"], "pinned by no test"),
        ([chapter(EQUATION, CODE)], [], [TEST.replace("AB.1", "AB.10")], "pinned by no test"),
        ([chapter(EQUATION, CODE)], [], [TEST.replace("a = b", "a = -b")], "differs from what its test"),
        ([chapter(EQUATION.replace("a = b", "a = -b"), CODE)], [], [TEST], "differs from what its test"),
        ([chapter(EQUATION, CODE)], [], [TEST, TEST.replace("a = b", "a = c")], "differs from what its test"),
        ([chapter(EQUATION.replace("eq-ab-1", "eq-ab-2"), CODE)], [], [TEST], 'has no <a id="eq-ab-1">'),
        ([chapter(EQUATION, CODE)], [], [TEST, "# (AB.10)"], "tests names equation (AB.10)"),
        ([chapter(EQUATION, CODE)], [], [TEST, TEST.replace("AB.1", "AB.7")], "tests names equation (AB.7)"),
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
