"""What every chapter keeps to. Each rule takes a chapter and returns what is wrong, one sentence a finding."""

import ast
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

import nbformat

from tests.book.numbers import Number, literals, printed, result, written
from tools.notebooks import read_notebook
from tools.setup_cell import CELL_ID, CELL_TAGS, book_address, setup_cell

MAX_BYTES = 1_500_000
MAX_WIDTH = 100  # characters of code that fit the site's column, by the font size in book/web/static/book.css
WORDS_A_MINUTE, CHARACTERS_A_MINUTE, FORMULAS_A_MINUTE = 150, 600, 2  # of prose, unfolded code, displayed mathematics
LEVELS = ("warm-up", "core", "challenge", "open")
FENCE_LANGUAGES = {"python", "bash", "console", "text", "json", "yaml", "toml", "diff", "powershell"}
FIGURE_TYPES = ("image/png", "image/jpeg")

ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
LINK = re.compile(r"(?<!!)\[(?:[^\[\]]|\[[^\[\]]*\])*\]\(<?([^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*)>?(?: \"[^\"]*\")?\)")
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(home|root|Users|work|mnt|media|opt|tmp|var)/|\b[A-Z]:\\+\w|site-packages")
MYST = {
    "role": re.compile(r"\{[a-z][\w:+.-]*\}`"),
    "directive": re.compile(r"^\s*(?:`{3,}|~{3,})\s*\{", re.MULTILINE),
    "colon fence": re.compile(r"^\s*:{3,}", re.MULTILINE),
    "target": re.compile(r"^\([\w:.-]+\)=\s*$", re.MULTILINE),
    "comment": re.compile(r"^%", re.MULTILINE),
    "block break": re.compile(r"^\+\+\+", re.MULTILINE),
}


@dataclass(frozen=True)
class Chapter:
    """A notebook and where it stands."""

    path: Path
    notebook: nbformat.NotebookNode

    @classmethod
    def read(cls, path: Path) -> "Chapter":
        return cls(path, read_notebook(path))

    @property
    def facts(self) -> dict:
        return self.notebook.metadata.get("chapter", {})

    @property
    def code(self) -> list:
        return [cell for cell in self.notebook.cells if cell.cell_type == "code"]

    @property
    def markdown(self) -> list:
        return [cell for cell in self.notebook.cells if cell.cell_type == "markdown"]

    @property
    def exercises(self) -> list[tuple[str, dict]]:
        return [(cell.id, cell.metadata.exercise) for cell in self.markdown if "exercise" in cell.metadata]

    @cached_property
    def prose(self) -> list[tuple[str, str]]:
        """Ids and texts of Markdown cells, without fenced and inline code."""
        return [(cell.id, _without_code(cell.source)) for cell in self.markdown]

    @property
    def outputs(self) -> list[tuple[str, nbformat.NotebookNode]]:
        return [(cell.id, output) for cell in self.code for output in cell.get("outputs", [])]


def tags(cell) -> list[str]:
    return cell.metadata.get("tags", [])


def is_claim(cell) -> bool:
    return cell.cell_type == "code" and bool(re.search(r"(?m)^[^#\n]*\bclaim\(", cell.source))


def valid_format(chapter: Chapter) -> list[str]:
    nb = chapter.notebook
    if (nb.nbformat, nb.nbformat_minor) < (4, 5):
        return [f"format {nb.nbformat}.{nb.nbformat_minor}: cells need ids, which came with 4.5"]
    ids = [cell.id for cell in nb.cells]
    found = [f"cell {id}: its id was not chosen by hand" for id in ids if _is_generated(id)]
    found += [f"cell {id}: two cells have this id" for id in sorted({id for id in ids if ids.count(id) > 1})]
    if not found:
        try:
            nbformat.validate(nb)
        except nbformat.ValidationError as error:
            found.append(f"not a valid notebook: {str(error).splitlines()[0]}")
    return found


def recorded_by_the_tool(chapter: Chapter) -> list[str]:
    metadata = chapter.notebook.metadata
    found = []
    if metadata.get("kernelspec", {}).get("name") != "python3":
        found.append("metadata: the kernel must be python3")
    if set(metadata.get("language_info", {})) - {"name", "pygments_lexer"}:
        found.append("metadata: language_info holds details of one Python; record by tools/execute.py")
    if not metadata.get("recorded_on"):
        found.append("metadata: recorded_on is missing; record by tools/execute.py")
    for cell in chapter.notebook.cells:
        if volatile := {"execution", "executionInfo", "ExecuteTime", "colab", "outputId"} & set(cell.metadata):
            found.append(f"cell {cell.id}: metadata {sorted(volatile)} change with every run")
    return found


def chapter_facts(chapter: Chapter) -> list[str]:
    facts, found = chapter.facts, []
    if not re.fullmatch(r"[a-z]{2,5}", str(facts.get("id", ""))):
        found.append("metadata: chapter id must be two to five small letters")
    objectives = facts.get("objectives")
    if not objectives or len(set(objectives)) != len(objectives):
        found.append("metadata: chapter needs a list of different objectives")
    for objective in objectives or []:
        if not re.fullmatch(rf"{facts.get('id')}-o\d+", objective):
            found.append(f"metadata: objective {objective} is not called {facts.get('id')}-o and a number")
    if not isinstance(facts.get("adversarial_training"), bool):
        found.append("metadata: chapter must say whether it has adversarial_training")
    return found


def title(chapter: Chapter) -> list[str]:
    cells = chapter.notebook.cells
    if not cells or cells[0].cell_type != "markdown" or not cells[0].source.startswith("# "):
        return ["the first cell is not Markdown that begins with '# ' and the title"]
    titles = sum(len(re.findall(r"(?m)^# ", text)) for _, text in chapter.prose)
    return [f"{titles} titles: only the first heading has a single #"] if titles != 1 else []


def setup(chapter: Chapter) -> list[str]:
    if not chapter.code or chapter.code[0].id != CELL_ID:
        return [f"the first code cell is not the one with id {CELL_ID}"]
    cell, found = chapter.code[0], []
    if cell.source != setup_cell(book_address()):
        found.append("the set-up cell differs from tools/setup_cell.py; run tools/set_address.py")
    if tags(cell) != CELL_TAGS:
        found.append(f"the set-up cell is not tagged {CELL_TAGS}")
    if cell.outputs:
        found.append("the set-up cell shows something")
    return found


def cost_line(chapter: Chapter) -> list[str]:
    lines = [line for _, text in chapter.prose for line in text.splitlines() if line.startswith("**Cost.**")]
    if len(lines) != 1:
        return [f"{len(lines)} lines begin with **Cost.**; there must be one"]
    if not all(word in lines[0] for word in ("minute", "to read", "to run", "exercises")):
        return ["the cost line does not tell the minutes to read, to run and to do the exercises"]
    stated = re.search(r", (?:(\d+) hours?)? ?(?:(\d+) minutes)? for all exercises", lines[0])
    if not stated:
        return ["the cost line does not end in '2 hours 30 minutes for all exercises'"]
    minutes = 60 * int(stated[1] or 0) + int(stated[2] or 0)
    needed = sum(exercise.get("minutes", 0) for _, exercise in chapter.exercises)
    if abs(minutes - needed) > 10:
        return [f"the cost line gives {minutes} minutes to the exercises, which add up to {needed}"]
    return []


def reading_minutes(chapter: Chapter) -> float:
    """Return how long a first reading takes, by the rule that the teaching page tells; what is folded is not read."""
    text = "\n".join(text for _, text in chapter.prose)
    formulas = re.findall(r"(?s)\$\$.*?\$\$", text)
    words = len(re.sub(r"(?s)\$\$.*?\$\$", " ", re.sub(r"\$[^$\n]+\$", "x", text)).split())
    shown = [cell.source for cell in chapter.code if not {"hide-input", "hide-cell"} & set(tags(cell))]
    characters = sum(len(line.strip()) for source in shown for line in source.splitlines())
    return words / WORDS_A_MINUTE + characters / CHARACTERS_A_MINUTE + len(formulas) / FORMULAS_A_MINUTE


def reading_time(chapter: Chapter) -> list[str]:
    stated = re.search(r"(?m)^\*\*Cost\.\*\* (\d+) minutes to read", "\n".join(text for _, text in chapter.prose))
    minutes = reading_minutes(chapter)
    if not stated:
        return ["the cost line does not begin with the minutes to read, '**Cost.** 60 minutes to read'"]
    if abs(int(stated[1]) - minutes) > 5:
        return [f"the cost line gives {stated[1]} minutes to reading, which takes {minutes:.0f}"]
    return []


def code_width(chapter: Chapter) -> list[str]:
    return [
        f"cell {cell.id}: line {number} has {len(line)} characters; {MAX_WIDTH} fit the site's column"
        for cell in chapter.code
        if cell.id != CELL_ID
        for number, line in enumerate(cell.source.splitlines(), start=1)
        if len(line) > MAX_WIDTH
    ]


def executed_in_order(chapter: Chapter) -> list[str]:
    found = [f"cell {cell.id}: is empty" for cell in chapter.notebook.cells if not cell.source.strip()]
    expected = 1
    for cell in chapter.code:
        if cell.source.strip():
            if cell.execution_count != expected:
                found.append(f"cell {cell.id}: has execution count {cell.execution_count} instead of {expected}")
            expected += 1
    return found


def clean_outputs(chapter: Chapter) -> list[str]:
    found = []
    for id, output in chapter.outputs:
        if output.output_type == "error":
            found.append(f"cell {id}: shows an error, {output.ename}")
        elif output.output_type == "stream" and output.name == "stderr":
            found.append(f"cell {id}: shows what was written to stderr")
        elif re.search(r"\b\w*Warning\b:", _text(output)):
            found.append(f"cell {id}: shows a warning")
        if re.search(r"\bat 0x[0-9a-f]{6,}", _text(output)):
            found.append(f"cell {id}: shows a memory address, which changes with every run")
    return found


def comparable_outputs(chapter: Chapter) -> list[str]:
    """Nothing escapes validation, and nothing is shown that cannot be compared."""
    found = []
    for cell in chapter.code:
        escapes = {"nbval-skip", "nbval-ignore-output", "raises-exception"} & set(tags(cell))
        if escapes or re.search(r"(?m)^\s*#\s*(NBVAL_|PYTEST_VALIDATE_)", cell.source):
            found.append(f"cell {cell.id}: escapes validation")
        if re.search(r"\b(clear_output|update_display|display_id)\b", cell.source):
            found.append(f"cell {cell.id}: replaces outputs, which validation cannot follow")
        if re.search(r"\binspect\.getsource\(", cell.source) and "source" not in tags(cell):
            found.append(f'cell {cell.id}: shows source code but is not tagged "source"')
    for id, output in chapter.outputs:
        kinds = set(output.get("data", {}))
        if odd := kinds - {"text/plain", "text/html", "text/latex", "text/markdown", *FIGURE_TYPES}:
            found.append(f"cell {id}: shows {', '.join(sorted(odd))}; figures are PNG or JPEG")
        if "<svg" in _text(output):
            found.append(f"cell {id}: shows SVG; figures are PNG or JPEG")
    return found


def size(chapter: Chapter) -> list[str]:
    nbytes = len(nbformat.writes(chapter.notebook).encode("utf-8"))
    return [f"{nbytes / 1e6:.2f} MB; at most {MAX_BYTES / 1e6} MB"] if nbytes > MAX_BYTES else []


def alternative_texts(chapter: Chapter) -> list[str]:
    found = []
    for cell in chapter.code:
        figures = sum(bool(set(FIGURE_TYPES) & set(output.get("data", {}))) for output in cell.get("outputs", []))
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if figures and len(alt.split()) < 4:
            found.append(f"cell {cell.id}: shows a figure but has no alt text (metadata: mystnb, image, alt)")
        if figures > 1:
            found.append(f"cell {cell.id}: shows {figures} figures under one alt text; draw them in two cells")
        if alt and not figures:
            found.append(f"cell {cell.id}: has an alt text but shows no figure")
    return found


def objectives_met(chapter: Chapter) -> list[str]:
    objectives = set(chapter.facts.get("objectives", []))
    anchors = [anchor for _, text in chapter.prose for anchor in ANCHOR.findall(text)]
    claimed, found = set(), []
    for cell in chapter.code:
        named = set(cell.metadata.get("objectives", []))
        if named and not is_claim(cell):
            found.append(f"cell {cell.id}: names objectives but claims nothing")
        claimed |= named
    practised = {objective for _, exercise in chapter.exercises for objective in exercise.get("objectives", [])}
    for objective in sorted(objectives):
        if anchors.count(objective) != 1:
            found.append(f'objective {objective}: has {anchors.count(objective)} anchors <a id="{objective}"></a>')
        if objective not in claimed:
            found.append(f"objective {objective}: no claim meets it")
        if objective not in practised:
            found.append(f"objective {objective}: no exercise meets it")
    unknown = (claimed | practised) - objectives
    found += [f"objective {objective}: not in the chapter's list" for objective in sorted(unknown)]
    return found


def exercises(chapter: Chapter) -> list[str]:
    found, ids = [], []
    if len(chapter.exercises) < 4:
        found.append(f"{len(chapter.exercises)} exercises; at least four")
    solved = {cell.metadata.solution for cell in chapter.code if "solution" in cell.metadata}
    for id, exercise in chapter.exercises:
        name = exercise.get("id", "")
        ids.append(name)
        if not re.fullmatch(rf"{chapter.facts.get('id')}-e\d+", name):
            found.append(f"cell {id}: exercise id {name!r} is not {chapter.facts.get('id')}-e and a number")
        if exercise.get("level") not in LEVELS:
            found.append(f"exercise {name}: level is not one of {', '.join(LEVELS)}")
        for field in ("minutes", "points"):
            if not isinstance(exercise.get(field), int) or exercise[field] <= 0:
                found.append(f"exercise {name}: {field} is not a positive whole number")
        if not exercise.get("objectives"):
            found.append(f"exercise {name}: meets no objective")
        if name not in solved:
            found.append(f"exercise {name}: has no solution")
    found += [f"exercise {name}: two exercises have this id" for name in sorted({n for n in ids if ids.count(n) > 1})]
    found += [f"solution {name}: there is no such exercise" for name in sorted(solved - set(ids))]
    levels = {exercise.get("level") for _, exercise in chapter.exercises}
    found += [f"no exercise of level {level}" for level in ("warm-up", "open") if level not in levels]
    return found


def solutions(chapter: Chapter) -> list[str]:
    found = []
    for cell in chapter.notebook.cells:
        if "solution" not in cell.metadata:
            continue
        if cell.cell_type != "code":
            found.append(f"cell {cell.id}: a solution is a code cell")
            continue
        if "hide-cell" not in tags(cell) or cell.metadata.get("cellView") != "form":
            found.append(f'cell {cell.id}: a solution is tagged "hide-cell" and has cellView "form"')
        if cell.source.partition("\n")[0] != f"#@title Solution {cell.metadata.solution}":
            found.append(f"cell {cell.id}: its first line is not '#@title Solution {cell.metadata.solution}'")
        if not _does_something(cell.source):
            found.append(f"cell {cell.id}: the solution does nothing")
        if cell.execution_count is None:
            found.append(f"cell {cell.id}: the solution was not executed")
    return found


def moments(chapter: Chapter) -> list[str]:
    found = []
    for tag in ("predict", "misconception"):
        count = sum(tag in tags(cell) for cell in chapter.markdown)
        if count < 2:
            found.append(f'{count} Markdown cells tagged "{tag}"; at least two')
    return found


def plain_markdown(chapter: Chapter) -> list[str]:
    found = []
    for cell in chapter.markdown:
        text = re.sub(r"(?s)\$\$.*?\$\$|\$[^$\n]+\$", "$", cell.source)  # mathematics may hold any braces
        for kind, pattern in MYST.items():
            if match := pattern.search(text if kind in ("role", "directive") else _without_code(text)):
                found.append(f"cell {cell.id}: a MyST {kind} shows as raw text in Colab: {match.group().strip()!r}")
        opened = None
        for line in cell.source.splitlines():
            fence = re.match(r"\s{0,3}(`{3,}|~{3,})\s*(\S*)", line)
            if fence and opened is None:
                opened = fence[1]
                if fence[2] not in FENCE_LANGUAGES and not fence[2].startswith("{"):
                    found.append(f"cell {cell.id}: code fence of language {fence[2]!r}")
            elif fence and fence[1].startswith(opened) and not fence[2]:
                opened = None
        if opened:
            found.append(f"cell {cell.id}: a code fence is not closed")
    return found


def no_pictures_in_text(chapter: Chapter) -> list[str]:
    found = []
    for id, text in chapter.prose:
        if re.search(r"!\[[^\]]*\][(\[]|<(img|iframe|video|script|object)\b", text):
            found.append(f"cell {id}: shows a picture from a file or an address; pictures come from output cells")
    for id, output in chapter.outputs:
        if re.search(r"<(script|iframe)\b|(src|href)\s*=\s*[\"']?(https?:)?//", _text(output)):
            found.append(f"cell {id}: its output loads something from elsewhere")
    return found


def no_machine_paths(chapter: Chapter) -> list[str]:
    found = []
    for cell in chapter.notebook.cells:
        shown = "\n".join(_text(output) for output in cell.get("outputs", []))
        for place, text in (("source", cell.source), ("output", shown), ("metadata", json.dumps(cell.metadata))):
            if match := MACHINE_PATH.search(text):
                found.append(f"cell {cell.id}: its {place} names a path of some machine, {match.group()!r}")
    return found


def links(chapter: Chapter) -> list[str]:
    found = []
    for id, text in chapter.prose:
        for target in LINK.findall(text):
            if re.match(r"(https?|mailto):", target):
                continue
            name, _, anchor = unquote(target).partition("#")
            path = (chapter.path.parent / name).resolve() if name else chapter.path
            if name and not path.is_file():
                found.append(f"cell {id}: link to {target}, but there is no such file")
            elif name and path.suffix not in (".ipynb", ".md"):
                found.append(f"cell {id}: link to {target}, which is no page of the book")
            elif anchor and anchor not in _anchors(path if name else chapter):
                found.append(f'cell {id}: link to {target}, but there is no <a id="{anchor}"></a>')
    anchors = [anchor for _, text in chapter.prose for anchor in ANCHOR.findall(text)]
    found += [f"anchor {a}: stands twice" for a in sorted({a for a in anchors if anchors.count(a) > 1})]
    return found


def numbers(chapter: Chapter) -> list[str]:
    """A number in the prose stands in what its section prints or sets, or the cell's metadata say where it comes from.

    A section runs from one ``##`` to the next; whole numbers may also stand anywhere in the chapter's code. Metadata:
    ``"numbers": {"-1.386": "-math.log(4)", "0.86": "cell scores"}``, an expression or the cell that prints or sets the
    number, and ``"facts": {"86.35": "Burda et al. 2016, table 1"}``, a source outside the chapter.
    """
    by_id = {cell.id: cell for cell in chapter.code}
    whole = {number for number in literals([cell.source for cell in chapter.code]) if number.value % 1 == 0}
    found = []
    for section in _sections(chapter):
        local = _known(section) | whole
        for cell in section:
            declared, facts = cell.metadata.get("numbers", {}), cell.metadata.get("facts", {})
            stated = written(_prose_of(cell))
            for number in {**declared, **facts}:
                if number not in stated:
                    found.append(f"cell {cell.id}: declares {number}, which its text does not state")
                elif number in facts and len(facts[number].split()) < 2:
                    found.append(f"cell {cell.id}: {number} is declared a fact without its source")
            for number in (number for number in stated if number not in facts):
                known, where = local, "stands in no output of its section and is not declared"
                if origin := declared.get(number):
                    name = origin.removeprefix("cell ")
                    where = f"is not what {origin} gives"
                    known = (_known([by_id[name]]) if name in by_id else set()) if name != origin else {result(origin)}
                if not any(Number.read(number).rounds(exact) for exact in known):
                    found.append(f"cell {cell.id}: {number} {where}")
    return found


RULES = (
    valid_format,
    recorded_by_the_tool,
    chapter_facts,
    title,
    setup,
    cost_line,
    reading_time,
    code_width,
    executed_in_order,
    clean_outputs,
    comparable_outputs,
    size,
    alternative_texts,
    objectives_met,
    exercises,
    solutions,
    moments,
    plain_markdown,
    no_pictures_in_text,
    no_machine_paths,
    links,
    numbers,
)


def _anchors(page: Chapter | Path) -> set[str]:
    if isinstance(page, Path) and page.suffix == ".ipynb":
        page = Chapter.read(page)
    if isinstance(page, Chapter):
        return {anchor for _, text in page.prose for anchor in ANCHOR.findall(text)}
    text = page.read_text("utf-8")
    return set(ANCHOR.findall(text)) | set(re.findall(r"(?m)^\(([\w:.-]+)\)=\s*$", text))


def _sections(chapter: Chapter) -> list[list]:
    """Return the cells of each section, from one heading of the second level to the next."""
    sections: list[list] = [[]]
    for cell in chapter.notebook.cells:
        if cell.cell_type == "markdown" and re.search(r"(?m)^## ", _without_code(cell.source)):
            sections.append([])
        sections[-1].append(cell)
    return sections


def _known(cells: list) -> set[Number]:
    """Return the numbers that some cells print or set; library source that they show is neither."""
    code = [cell for cell in cells if cell.cell_type == "code"]
    shown = [_text(output) for cell in code if "source" not in tags(cell) for output in cell.get("outputs", [])]
    return printed(shown) | literals([cell.source for cell in code])


def _prose_of(cell) -> str:
    """Return what a cell tells in words: its Markdown, or its figure's alt text. The cost line has its own rule."""
    if cell.cell_type == "markdown":
        return re.sub(r"(?m)^\*\*Cost\.\*\*.*$", "", _without_code(cell.source))
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")


def _does_something(source: str) -> bool:
    body = ast.parse(re.sub(r"(?m)^\s*[%!].*$", "pass", source)).body
    idle = (ast.Pass, ast.Import, ast.ImportFrom)
    return any(
        not isinstance(node, idle) and not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for node in body
    )


def _is_generated(id: str) -> bool:
    words = re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", id)
    random = re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f-]+)?", id) and re.search(r"\d", id)
    return not words or bool(random)


def _text(output) -> str:
    """Return all text of an output, pictures aside."""
    if output.output_type == "stream":
        return output.text
    if output.output_type == "error":
        return "\n".join(output.traceback)
    return "\n".join(str(content) for kind, content in output.data.items() if kind not in FIGURE_TYPES)


def _without_code(text: str) -> str:
    text = re.sub(r"(?ms)^\s{0,3}(`{3,}|~{3,}).*?^\s{0,3}\1[`~]*\s*$", "", text)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
