"""What the book adds to Sphinx: API pages that find their own modules, and pages that load nothing from elsewhere.

In a page, the line ``{{ modules of gencore.data }}`` becomes one section with ``automodule`` for each public module
of that package, in alphabetical order; new modules appear on the site by themselves.
"""

import pkgutil
import re
from importlib import import_module

MODULES = re.compile(r"^\{\{ modules of ([\w.]+) \}\}$", re.MULTILINE)


def modules(package):
    """Return the dotted names of the public modules of a package."""
    names = (module.name for module in pkgutil.iter_modules(import_module(package).__path__) if not module.ispkg)
    return [f"{package}.{name}" for name in sorted(names) if not name.startswith("_")]


def automodule(name):
    return f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n```\n"


def list_modules(app, docname, source):
    source[0] = MODULES.sub(lambda match: "\n".join(map(automodule, modules(match[1]))), source[0])


def reread_module_lists(app, env, added, changed, removed):
    """Have the API pages read again in every build: a module may have been added since."""
    return [doc for doc in env.found_docs if doc.startswith("book/api/")]


def remove_thebe(app, pagename, templatename, context, doctree):
    """Drop the scripts of sphinx-thebe: the book does not use it, it declares constants twice, and it names a CDN."""

    def wanted(script):
        return "thebe" not in f"{getattr(script, 'filename', script)}{getattr(script, 'attributes', '')}".lower()

    context["script_files"] = [script for script in context.get("script_files", []) if wanted(script)]


def setup(app):
    app.connect("source-read", list_modules)
    app.connect("env-get-outdated", reread_module_lists)
    app.connect("html-page-context", remove_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
