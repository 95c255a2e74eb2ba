"""Every chapter keeps to the rules of `tests.book.rules`, and each rule sees what it is there to see."""

import warnings
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from tests.book import rules
from tests.book.rules import Chapter
from tools.notebooks import ROOT, toc_files, toc_notebooks, write_notebook
from tools.setup_cell import book_address, setup_cell

AVERAGE_BYTES = 300_000
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAWv5XUgAAAABJRU5ErkJggg=="


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("path", toc_notebooks(), ids=lambda path: str(path.relative_to(ROOT / "notebooks")))
def test_chapter(path, rule):
    findings = rule(Chapter.read(path))
    assert not findings, "\n".join(["", *findings])


def test_table_of_contents():
    """What it lists exists, and every chapter is listed."""
    listed = toc_files()
    missing = [name for name in listed if not any((ROOT / f"{name}{suffix}").is_file() for suffix in (".ipynb", ".md"))]
    assert not missing
    chapters = [path for path in (ROOT / "notebooks").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts]
    assert not {str(path.relative_to(ROOT).with_suffix("")) for path in chapters} - set(listed)
    ids = [Chapter.read(path).facts.get("id") for path in toc_notebooks()]
    assert len(set(ids)) == len(ids)


def test_average_size():
    sizes = [path.stat().st_size for path in toc_notebooks()]
    if sizes and sum(sizes) / len(sizes) > AVERAGE_BYTES:
        average = sum(sizes) / len(sizes) / 1000
        warnings.warn(f"notebooks have {average:.0f} kB on average; aim at {AVERAGE_BYTES // 1000}")


def markdown(id, source, **metadata):
    return new_markdown_cell(source, id=id, metadata=metadata)


def code(id, source, *outputs, **metadata):
    return new_code_cell(source, id=id, metadata=metadata, outputs=list(outputs))


def exercise(number, level, objective):
    facts = {"id": f"ex-e{number}", "objectives": [objective], "level": level, "minutes": 10, "points": 2}
    return [
        markdown(f"exercise-{number}", f"**Exercise ex-e{number}.** Change the code.", exercise=facts),
        code(
            f"solution-{number}",
            f"#@title Solution ex-e{number}\nprint({number})",
            new_output("stream", name="stdout", text=f"{number}\n"),
            solution=f"ex-e{number}",
            tags=["hide-cell"],
            cellView="form",
        ),
    ]


MATH = r"""
With $\{x\}$ and `![x](y)`, see [above](#ex-o1) and [there](https://example.org/a_(b)).

$$\frac{a}{b} \tag{EX.1}$$

```python
# no heading
x = '![](y.png)'
```
"""


def minimal_chapter() -> nbformat.NotebookNode:
    """A notebook that keeps to every rule."""
    figure = new_output("display_data", data={"image/png": PNG, "text/plain": "<Figure size 1x1>"})
    said = new_output("stream", name="stdout", text="✓ two: 2 (> 1)\n")
    cells = [
        markdown("title", "# A title"),
        code("setup", setup_cell(book_address()), tags=["hide-input"]),
        markdown("before", "Prerequisites: [next](other.ipynb#there), [notation](page.md#here)."),
        markdown("cost", "**Cost.** 5 minutes to read, 1 to run, 40 minutes for all exercises."),
        markdown("objectives", '1. <a id="ex-o1"></a>count\n2. <a id="ex-o2"></a>measure'),
        code("claim-1", "claim('two', 2, above=1)", said, objectives=["ex-o1"]),
        code("claim-2", "claim('two', 2, above=1)", said, objectives=["ex-o2"]),
        code("figure", "plt.show()", figure, mystnb={"image": {"alt": "A single white pixel alone"}}),
        code("source", "print(inspect.getsource(f))", tags=["source"]),
        markdown("math", MATH),
        markdown(
            "numbers",
            "Of 1,410 symbols in 2014, 12.5 % are worth $-1.386$ nats each, where $\\log 4 \\approx 1.386$ by "
            "[this](https://example.org/0.777) and (EX.1), see `0.888` and ex-e3; $x^{345}$ of 86.35.",
            numbers={"1.386": "math.log(4)", "1,410": "cell counts"},
            facts={"86.35": "Burda et al. 2016, table 1"},
        ),
        code("half", "print(-math.log(4))", new_output("stream", name="stdout", text="-1.38629, 0.1249\n")),
        markdown("elsewhere", "## Elsewhere"),
        code("counts", "SIDE = 128", new_output("stream", name="stdout", text="1,410 symbols, 0.4375 and 31.25 %\n")),
        markdown("predict-1", "**Predict, then run.** What comes?", tags=["predict"]),
        markdown("predict-2", "**Predict, then run.** What else?", tags=["predict"]),
        markdown("belief-1", "People say that 1 = 2.", tags=["misconception"]),
        markdown("belief-2", "People say that 2 = 3.", tags=["misconception"]),
        *exercise(1, "warm-up", "ex-o1"),
        *exercise(2, "core", "ex-o2"),
        *exercise(3, "challenge", "ex-o2"),
        *exercise(4, "open", "ex-o1"),
    ]
    for count, cell in enumerate((cell for cell in cells if cell.cell_type == "code"), start=1):
        cell.execution_count = count
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "recorded_on": "some processor",
        "chapter": {"id": "ex", "objectives": ["ex-o1", "ex-o2"], "adversarial_training": False},
    }
    return new_notebook(cells=cells, metadata=metadata)


@pytest.fixture
def shelf(tmp_path) -> Path:
    """A folder with the pages that the minimal chapter links to."""
    other = new_notebook(cells=[markdown("there", 'Here <a id="there"></a>it is, and `<a id="code"></a>` is code.')])
    write_notebook(tmp_path / "other.ipynb", other)
    (tmp_path / "page.md").write_text('<a id="here"></a>\n\n(label)=\n## Heading\n')
    (tmp_path / "data.csv").write_text("")
    return tmp_path


def findings(notebook, folder) -> dict[str, list[str]]:
    chapter = Chapter(folder / "chapter.ipynb", notebook)
    found = {rule.__name__: rule(chapter) for rule in rules.RULES}
    return {name: sentences for name, sentences in found.items() if sentences}


def test_the_minimal_chapter_is_valid(shelf):
    assert findings(minimal_chapter(), shelf) == {}


def cell(nb, id):
    return next(cell for cell in nb.cells if cell.id == id)


def put(id, source):
    return lambda nb: cell(nb, id).update(source=source)


def add(id, text):
    return lambda nb: cell(nb, id).update(source=cell(nb, id).source + "\n" + text)


def change(id, old, new):
    return lambda nb: cell(nb, id).update(source=cell(nb, id).source.replace(old, new))


def declare(origins):
    return lambda nb: cell(nb, "numbers").metadata.numbers.update(origins)


def mark(id, **metadata):
    return lambda nb: cell(nb, id).metadata.update(metadata)


def drop(id, key):
    return lambda nb: cell(nb, id).metadata.pop(key)


def remove(id):
    return lambda nb: nb.cells.remove(cell(nb, id))


def rename(id, new):
    return lambda nb: cell(nb, id).update(id=new)


def show(id, kind, content):
    return lambda nb: cell(nb, id).outputs.append(new_output("display_data", data={kind: content}))


def say(id, text, name="stdout"):
    return lambda nb: cell(nb, id).outputs.append(new_output("stream", name=name, text=text))


def fail(id):
    return lambda nb: cell(nb, id).outputs.append(new_output("error", ename="E", evalue="", traceback=[]))


def state(**facts):
    return lambda nb: nb.metadata.chapter.update(facts)


def ask(exercise_id, **facts):
    return lambda nb: cell(nb, exercise_id).metadata.exercise.update(facts)


def run(id, count):
    return lambda nb: cell(nb, id).update(execution_count=count)


DEFECTS = [
    ("valid_format", lambda nb: nb.update(nbformat_minor=4), "cells need ids"),
    ("valid_format", lambda nb: cell(nb, "claim-1").update(output=3), "not a valid notebook"),
    ("valid_format", rename("claim-1", "3f2c9a01"), "not chosen by hand"),
    ("valid_format", rename("claim-1", "bD6DUkgzmFoR"), "not chosen by hand"),
    ("valid_format", rename("claim-1", "3f2c9a01-1111-4c4c-9999-123456789abc"), "not chosen by hand"),
    ("valid_format", rename("claim-1", "claim-2"), "two cells have this id"),
    ("recorded_by_the_tool", lambda nb: nb.metadata.kernelspec.update(name="my-env"), "must be python3"),
    ("recorded_by_the_tool", lambda nb: nb.metadata.language_info.update(version="3.11.7"), "details of one Python"),
    ("recorded_by_the_tool", lambda nb: nb.metadata.pop("recorded_on"), "recorded_on is missing"),
    ("recorded_by_the_tool", mark("figure", execution={"iopub.execute_input": "2026"}), "change with every run"),
    ("chapter_facts", lambda nb: nb.metadata.pop("chapter"), "chapter id"),
    ("chapter_facts", state(id="Ex 1"), "chapter id"),
    ("chapter_facts", state(objectives=[]), "list of different objectives"),
    ("chapter_facts", state(objectives=["ex-o1", "other-o2"]), "other-o2 is not called"),
    ("chapter_facts", lambda nb: nb.metadata.chapter.pop("adversarial_training"), "adversarial_training"),
    ("title", put("title", "A title"), "first cell"),
    ("title", add("math", "# Another"), "2 titles"),
    ("setup", remove("setup"), "first code cell"),
    ("setup", put("setup", setup_cell("https://github.com/some/one")), "differs from"),
    ("setup", mark("setup", tags=[]), "not tagged"),
    ("setup", say("setup", "installed"), "shows something"),
    ("cost_line", put("cost", "20 minutes"), "0 lines"),
    ("cost_line", put("cost", "**Cost.** 20 minutes to read, 1 to run."), "does not tell"),
    ("cost_line", put("cost", "**Cost.** 20 minutes to read, 1 to run, some for exercises."), "does not end in"),
    ("cost_line", put("cost", "**Cost.** 2 minutes to read, 1 to run, 1 hour 40 minutes for all exercises."), "gives 100 minutes"),
    ("cost_line", add("math", "**Cost.** 1 minute, 2, 3"), "2 lines"),
    ("reading_time", put("cost", "**Cost.** Five minutes to read, 1 to run."), "does not begin"),
    ("reading_time", add("math", "word " * 1500), "gives 5 minutes to reading, which takes 11"),
    ("reading_time", add("source", "    x = 123456\n" * 600), "which takes 11"),
    ("reading_time", add("math", "$$a$$\n\n" * 20), "which takes 12"),
    ("code_width", add("source", "x" * 101), "cell source: line 2 has 101 characters"),
    ("code_width", add("solution-1", "# " + "x" * 99), "cell solution-1: line 3 has 101 characters"),
    ("numbers", change("numbers", "-1.386", "-1.286"), "-1.286 stands in no"),
    ("numbers", change("numbers", "12.5 %", "12.6 %"), "12.6% stands in no"),
    ("numbers", change("numbers", "$-1.386$", "minus 1.387"), "-1.387 stands in no"),
    ("numbers", add("numbers", "A share of 0.4375."), "0.4375 stands in no"),
    ("numbers", add("elsewhere", "43.75 %, 31.3 per cent, $31.26\\,\\%$ of $128$."), "31.26% stands in no"),
    ("numbers", add("elsewhere", "We drew $1{,}411$."), "1,411 stands in no"),
    ("numbers", add("elsewhere", "A third: 0.44, 0.438, or 0.43750."), "0.43750 stands in no"),
    ("numbers", add("exercise-2", "Reach 0.25."), "cell exercise-2: 0.25 stands in no"),
    ("numbers", mark("figure", mystnb={"image": {"alt": "A white pixel at 0.98"}}), "cell figure: 0.98 stands"),
    ("numbers", declare({"1.386": "math.log(5)"}), "1.386 is not what math.log(5) gives"),
    ("numbers", declare({"1,410": "cell half"}), "1,410 is not what cell half gives"),
    ("numbers", declare({"1,410": "cell gone"}), "1,410 is not what cell gone gives"),
    ("numbers", mark("elsewhere", numbers={"0.3": "0.3"}), "declares 0.3, which its text does not state"),
    ("numbers", mark("numbers", facts={"86.35": "known"}), "86.35 is declared a fact without its source"),
    ("numbers", drop("numbers", "facts"), "86.35 stands in no"),
    ("executed_in_order", run("figure", None), "cell figure: has execution count None instead of 4"),
    ("executed_in_order", run("figure", 3), "cell figure: has execution count 3 instead of 4"),
    ("executed_in_order", put("claim-1", " "), "cell claim-1: is empty"),
    ("clean_outputs", fail("source"), "an error"),
    ("clean_outputs", say("source", "careful", "stderr"), "stderr"),
    ("clean_outputs", say("source", "x.py:3: UserWarning: careful"), "a warning"),
    ("clean_outputs", say("source", "<object at 0x7f3a5c2b>"), "memory address"),
    ("comparable_outputs", mark("figure", tags=["nbval-skip"]), "escapes validation"),
    ("comparable_outputs", mark("figure", tags=["nbval-ignore-output"]), "escapes validation"),
    ("comparable_outputs", mark("figure", tags=["raises-exception"]), "escapes validation"),
    ("comparable_outputs", put("figure", "# NBVAL_IGNORE_OUTPUT\n1"), "escapes validation"),
    ("comparable_outputs", put("figure", "clear_output()"), "replaces outputs"),
    ("comparable_outputs", drop("source", "tags"), 'not tagged "source"'),
    ("comparable_outputs", show("figure", "image/svg+xml", "<svg/>"), "image/svg+xml"),
    ("comparable_outputs", show("figure", "text/html", "<p><svg></svg>"), "shows SVG"),
    ("comparable_outputs", show("figure", "application/javascript", "1"), "application/javascript"),
    ("size", say("source", "x" * 1_500_000), "MB; at most 1.5 MB"),
    ("alternative_texts", drop("figure", "mystnb"), "no alt text"),
    ("alternative_texts", mark("figure", mystnb={"image": {"alt": "figure 1"}}), "no alt text"),
    ("alternative_texts", show("claim-1", "image/jpeg", PNG), "no alt text"),
    ("alternative_texts", show("figure", "image/png", PNG), "2 figures under one"),
    ("alternative_texts", lambda nb: cell(nb, "figure").outputs.clear(), "shows no figure"),
    ("objectives_met", put("objectives", '<a id="ex-o1"></a>'), "ex-o2: has 0 anchors"),
    ("objectives_met", add("math", '<a id="ex-o1"></a>'), "ex-o1: has 2 anchors"),
    ("objectives_met", drop("claim-1", "objectives"), "ex-o1: no claim"),
    ("objectives_met", put("claim-1", "2 > 1  # claim(x)"), "claims nothing"),
    ("objectives_met", lambda nb: [ask(f"exercise-{i}", objectives=["ex-o2"])(nb) for i in "14"], "ex-o1: no exercise"),
    ("objectives_met", mark("claim-1", objectives=["ex-o1", "ex-o9"]), "ex-o9: not in the chapter's list"),
    ("exercises", lambda nb: [remove(id)(nb) for id in ("exercise-2", "solution-2")], "3 exercises"),
    ("exercises", ask("exercise-2", id="e2"), "'e2' is not ex-e"),
    ("exercises", ask("exercise-2", id="ex-e1"), "ex-e1: two exercises"),
    ("exercises", ask("exercise-2", level="hard"), "level is not one of"),
    ("exercises", ask("exercise-2", minutes=0), "minutes is not"),
    ("exercises", ask("exercise-2", points="2"), "points is not"),
    ("exercises", ask("exercise-2", objectives=[]), "meets no objective"),
    ("exercises", remove("solution-2"), "ex-e2: has no solution"),
    ("exercises", mark("solution-2", solution="ex-e7"), "ex-e7: there is no such exercise"),
    ("exercises", ask("exercise-1", level="core"), "level warm-up"),
    ("exercises", ask("exercise-4", level="core"), "level open"),
    ("solutions", mark("exercise-1", solution="ex-e1"), "a solution is a code cell"),
    ("solutions", mark("solution-1", tags=[]), "hide-cell"),
    ("solutions", drop("solution-1", "cellView"), "cellView"),
    ("solutions", put("solution-1", "print(1)"), "first line"),
    ("solutions", put("solution-1", "#@title Solution ex-e1\n'Left to the reader.'\npass"), "does nothing"),
    ("solutions", run("solution-1", None), "was not executed"),
    ("moments", drop("predict-1", "tags"), '1 Markdown cells tagged "predict"'),
    ("moments", drop("belief-1", "tags"), '1 Markdown cells tagged "misconception"'),
    ("plain_markdown", add("math", "see {ref}`x`"), "MyST role"),
    ("plain_markdown", add("math", "```{note}\nx\n```"), "MyST directive"),
    ("plain_markdown", add("math", ":::{note}\n:::"), "MyST colon fence"),
    ("plain_markdown", add("math", "\n(label)=\n"), "MyST target"),
    ("plain_markdown", add("math", "% hidden"), "MyST comment"),
    ("plain_markdown", add("math", "```pyton\nx\n```"), "language 'pyton'"),
    ("plain_markdown", add("math", "```\nx\n```"), "language ''"),
    ("plain_markdown", add("math", "```python\nx"), "not closed"),
    ("no_pictures_in_text", add("math", "![x](https://example.org/x.png)"), "shows a picture"),
    ("no_pictures_in_text", add("math", '<img src="x.png">'), "shows a picture"),
    ("no_pictures_in_text", show("source", "text/html", '<img src="https://example.org/x.png">'), "from elsewhere"),
    ("no_pictures_in_text", show("source", "text/html", "<script>1</script>"), "from elsewhere"),
    ("no_machine_paths", say("source", "saved to /home/me/x.png"), "its output names a path"),
    ("no_machine_paths", say("source", "/tmp/x/y"), "its output names a path"),
    ("no_machine_paths", add("source", "open('C:\\\\Users\\\\me')"), "its source names a path"),
    ("no_machine_paths", add("math", "see lib/python3.11/site-packages/torch"), "its source names a path"),
    ("no_machine_paths", mark("source", file="/Users/me/x"), "its metadata names a path"),
    ("links", add("math", "[x](missing.ipynb)"), "no such file"),
    ("links", add("math", "[x](other.ipynb#nowhere)"), 'no <a id="nowhere">'),
    ("links", add("math", "[x](other.ipynb#code)"), 'no <a id="code">'),
    ("links", add("math", "[x](page.md#heading)"), 'no <a id="heading">'),
    ("links", add("math", "[$x$ and [y]](#nowhere)"), 'no <a id="nowhere">'),
    ("links", add("math", "[x](data.csv)"), "no page of the book"),
    ("links", add("math", '<a id="twice"></a> <a id="twice"></a>'), "twice: stands twice"),
]


@pytest.mark.parametrize(("rule", "defect", "sentence"), DEFECTS, ids=[f"{d[0]}-{i}" for i, d in enumerate(DEFECTS)])
def test_each_rule_sees_its_defects(shelf, rule, defect, sentence):
    notebook = minimal_chapter()
    defect(notebook)
    found = findings(notebook, shelf).get(rule, [])
    assert any(sentence in line for line in found), found


def test_every_rule_is_tested():
    assert {defect[0] for defect in DEFECTS} == {rule.__name__ for rule in rules.RULES}


def test_table_of_contents_is_read_to_its_leaves(tmp_path):
    (tmp_path / "_toc.yml").write_text(
        "format: jb-book\nroot: book/index\nparts:\n  - caption: A\n    chapters:\n      - file: notebooks/a.ipynb\n"
        "        sections:\n          - file: notebooks/deep/b\n"
        "  - chapters:\n      - file: book/c.md\n      - url: https://example.org\n"
    )
    assert toc_files(tmp_path) == ["book/index", "notebooks/a", "notebooks/deep/b", "book/c"]
    (tmp_path / "notebooks/deep").mkdir(parents=True)
    (tmp_path / "notebooks/deep/b.ipynb").touch()
    assert toc_notebooks(tmp_path) == [tmp_path / "notebooks/deep/b.ipynb"]
