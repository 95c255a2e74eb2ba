"""What the book adds to Sphinx.

- The line ``{{ modules of gencore.data }}`` becomes one section with ``automodule`` for each public module of that
  package and of the packages in it, in alphabetical order: new modules appear on the site by themselves.
- The line ``{{ all equations }}`` becomes the list of the book's numbered equations, with the code and the test of each.
- ``<a id="ag-o1"></a>``, the anchor that also works in Colab, can be the target of a checked link.
- Pages load nothing from anyone else's server.
"""

import pkgutil
import re
import sys
from importlib import import_module
from pathlib import Path

from docutils import nodes
from docutils.transforms import Transform

sys.path.append(str(Path(__file__).resolve().parents[3]))  # the repository's root, however Sphinx was started
from tools import equations

MODULES = re.compile(r"^\{\{ modules of ([\w.]+) \}\}$", re.MULTILINE)
EQUATIONS = "{{ all equations }}"
EQUATIONS_PAGE = "book/equations"


def modules(package):
    """Return the dotted names of the public modules of a package; a package in it is followed by its own."""
    found = []
    for module in sorted(pkgutil.iter_modules(import_module(package).__path__), key=lambda module: module.name):
        if not module.name.startswith("_"):
            name = f"{package}.{module.name}"
            found += [name, *modules(name)] if module.ispkg else [name]
    return found


def automodule(name):
    return f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n```\n"


def list_modules(app, docname, source):
    source[0] = MODULES.sub(lambda match: "\n".join(map(automodule, modules(match[1]))), source[0])


def list_equations(app, docname, source):
    if docname == EQUATIONS_PAGE:
        theme = app.config.html_theme_options
        source[0] = source[0].replace(EQUATIONS, equations.page(theme["repository_url"], theme["repository_branch"]))


def always_list_equations(app, env, added, changed, removed):
    """Read the page of equations at each build: any chapter, line of code or test may have changed."""
    return [EQUATIONS_PAGE] if EQUATIONS_PAGE in env.found_docs else []


def skip_tuple_fields(app, what, name, member, skip, options):
    """Leave out the fields of named tuples: the signature names them, and their docstrings say only "alias"."""
    return True if type(member).__name__ == "_tuplegetter" else None


def plain_bars(app, what, name, obj, options, lines):
    """Let ``|x|`` in a docstring be an absolute value, where reStructuredText would see a substitution."""
    literal = None  # indentation above which lines belong to a literal block
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None:
            pieces = line.split("``")  # every second piece is code
            pieces[::2] = [piece.replace("|", r"\|") for piece in pieces[::2]]
            lines[i] = "``".join(pieces)
            literal = indent if line.endswith("::") else None


class HtmlAnchors(Transform):
    """Tell MyST about anchors written in HTML, so that it accepts links to them (and still warns of others)."""

    default_priority = 870  # before MyST resolves links within a page, at 879

    def apply(self):
        raw = " ".join(node.astext() for node in self.document.findall(nodes.raw))
        anchors = {name: (0, name, name) for name in re.findall(r'<a id="([^"]+)"', raw)}
        self.document.myst_slugs = anchors | getattr(self.document, "myst_slugs", {})
        env = self.document.settings.env
        env.metadata[env.docname]["myst_slugs"] = self.document.myst_slugs


def keep_tags(app, doctree, docname):
    r"""Let equations of several lines have a number.

    Sphinx puts whatever holds a line break into ``split``, in which MathJax accepts no ``\tag``. The chapters' equations
    bring their own ``aligned``, ``cases`` and matrices, and go to MathJax as they are.
    """
    for node in doctree.findall(nodes.math_block):
        if r"\tag" in node.astext() and r"\\" in node.astext() and not node.get("nowrap"):
            node["nowrap"] = True
            node[:] = [nodes.Text(rf"\[{node.astext()}\]")]


def remove_thebe(app, pagename, templatename, context, doctree):
    """Drop the scripts of sphinx-thebe: the book does not use it, it declares constants twice, and it names a CDN."""

    def wanted(script):
        return "thebe" not in f"{getattr(script, 'filename', script)}{getattr(script, 'attributes', '')}".lower()

    context["script_files"] = [script for script in context.get("script_files", []) if wanted(script)]


def setup(app):
    app.add_transform(HtmlAnchors)
    app.connect("source-read", list_modules)
    app.connect("source-read", list_equations)
    app.connect("env-get-outdated", always_list_equations)
    app.connect("autodoc-skip-member", skip_tuple_fields)
    app.connect("autodoc-process-docstring", plain_bars, priority=900)  # after napoleon
    app.connect("doctree-resolved", keep_tags)
    app.connect("html-page-context", remove_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
