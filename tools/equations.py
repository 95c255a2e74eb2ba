r"""The numbered equations of the book: where each stands, which line of code it is, and which test pins it.

An equation is displayed in a chapter with ``\tag{AG.3}`` below the anchor ``eq-ag-3``; a comment ``# (AG.3)`` marks
the line of code that implements it; and ``@equation("AG.3", r"…")`` of `tests.book.equations` stands on the test that
pins it, with the same TeX. The site's page of equations is made from here (`page`); a test holds all of it together.
"""

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

from tools.notebooks import ROOT, read_notebook, toc_notebooks

TAG = re.compile(r"\\tag\*?\{([^}]*)\}")
MENTION = re.compile(r"\(([A-Z]{2,5}\.[1-9]\d*)\)")
DISPLAY = re.compile(r"(?s)(?:<a id=\"([^\"]*)\"></a>\s*)?\$\$(.*?)\$\$")


@dataclass(frozen=True)
class Equation:
    """A displayed equation: its id, TeX, the anchor right above it (or None) and the cell where it stands."""

    id: str
    tex: str
    anchor: str | None
    cell: str


@dataclass(frozen=True)
class Pin:
    """A test that pins an equation, and the TeX that it holds it to."""

    id: str
    tex: str
    file: str
    test: str
    line: int


def normal(tex: str) -> str:
    """Return TeX without its tag, with single spaces, and without the mark that ends its sentence."""
    return " ".join(TAG.sub("", tex).split()).rstrip(".,; ")


def displayed(cells: list[tuple[str, str]]) -> list[Equation]:
    """Return the tagged equations of Markdown cells, given as ids and texts."""
    return [
        Equation(id, match[2], match[1], cell)
        for cell, text in cells
        for match in DISPLAY.finditer(text)
        for id in TAG.findall(match[2])
    ]


def commented(source: str) -> dict[str, int]:
    """Return the ids that comments of Python code name, each with the first line that does."""
    source = re.sub(r"(?m)^(\s*)[%!].*$", r"\1pass", source)  # IPython's commands are no Python
    found: dict[str, int] = {}
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            for id in MENTION.findall(token.string):
                found.setdefault(id, token.start[0])
    return found


def pins(source: str, file: str = "") -> list[Pin]:
    """Return what ``@equation(id, tex)`` on the functions of a test file says."""
    return [
        Pin(*(ast.literal_eval(argument) for argument in mark.args), file, node.name, node.lineno)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef)
        for mark in node.decorator_list
        if isinstance(mark, ast.Call) and getattr(mark.func, "id", "") == "equation"
    ]


def sources(folder: str, root: Path = ROOT) -> dict[str, str]:
    """Return the Python files below a folder of the repository, by their path in it."""
    paths = sorted((root / folder).rglob("*.py"))
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in paths}


def page(repository: str, branch: str) -> str:
    """Return the list of all equations in MyST Markdown, chapter by chapter.

    Parameters
    ----------
    repository, branch : str
        Address on GitHub and the release to which links to lines of code lead.
    """

    def link(file: str, line: int) -> str:
        return f"[`{file}`, line {line}]({repository}/blob/{branch}/{file}#L{line})"

    library: dict[str, tuple[str, int]] = {}
    for file, source in sources("gencore").items():
        for id, line in commented(source).items():
            library.setdefault(id, (file, line))
    pinned = {pin.id: pin for file, source in sources("tests").items() for pin in pins(source, file)}
    parts = []
    for path in toc_notebooks():
        cells = read_notebook(path).cells
        chapter = path.relative_to(ROOT).as_posix()
        here: dict[str, tuple[str, int]] = {}
        for cell in cells:
            if cell.cell_type == "code":
                for id, line in commented(cell.source).items():
                    here.setdefault(id, (cell.id, line))
        found = displayed([(cell.id, cell.source) for cell in cells if cell.cell_type == "markdown"])
        if not found:
            continue
        title = cells[0].source.partition("\n")[0].removeprefix("# ")
        parts.append(f"## {title}")
        for equation in found:
            places = []
            if equation.id in here:
                cell, line = here[equation.id]
                places.append(f"the chapter's cell `{cell}`, line {line}")
            if equation.id in library:
                places.append(link(*library[equation.id]))
            test = ""
            if pin := pinned.get(equation.id):
                address = f"{repository}/blob/{branch}/{pin.file}#L{pin.line}"
                test = f"\\\nTest: [`{pin.file}::{pin.test}`]({address})."
            parts.append(f"$${TAG.sub('', equation.tex).strip().rstrip('.,; ')}$$")
            parts.append(f"[({equation.id})](../{chapter}#{equation.anchor}) Code: {' and '.join(places)}.{test}")
    return "\n\n".join(parts)
