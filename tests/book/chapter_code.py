"""The functions that a chapter defines, so that a test can hold them to their equations."""

import ast

from tools.notebooks import ROOT, read_notebook

DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef)


def load(chapter: str, *names: str) -> list:
    """Return functions and classes that a chapter's notebook defines, without running the rest of it.

    Parameters
    ----------
    chapter : str
        Part and name, such as ``"foundations/likelihood"``.
    names : str
        What to return. All imports and definitions at the top level of cells are there for them to use, and so are
        constants: names in capitals whose values call nothing.

    Raises
    ------
    KeyError
        If the chapter defines no such name.
    """
    scope: dict = {"__name__": "chapter"}
    for cell in read_notebook(ROOT / "notebooks" / f"{chapter}.ipynb").cells:
        if cell.cell_type != "code" or cell.id == "setup":
            continue
        kept = [node for node in ast.parse(cell.source).body if isinstance(node, DEFINITIONS) or _is_constant(node)]
        exec(compile(ast.Module(kept, type_ignores=[]), f"{chapter}, cell {cell.id}", "exec"), scope)
    return [scope[name] for name in names]


def _is_constant(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign):
        return False
    names = [name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.expr)]
    named = all(isinstance(name, ast.Tuple) or isinstance(name, ast.Name) and name.id.isupper() for name in names)
    return named and not any(isinstance(part, ast.Call) for part in ast.walk(node.value))
