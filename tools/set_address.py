"""Tell the whole book where it is published.

    python tools/set_address.py https://github.com/OWNER/REPO
    python tools/set_address.py        keep the address, after gencore got a new version or the set-up cell a new text

Rewrites `repository: url:` in _config.yml and everything that follows from it: links and badges in Markdown, in the
workflows and in the notebooks, each notebook's set-up cell, and the release tag that these name.
"""

import argparse
import re
import sys
from pathlib import Path

if __package__ in (None, ""):  # started as a script: the repository's root is not on the path
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import gencore
from tools.notebooks import ROOT, read_notebook, write_notebook
from tools.setup_cell import CELL_ID, book_address, setup_cell

ADDRESS = re.compile(r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?")
FILES = ("*.yml", "*.md", "*.cff", "*.toml", ".github/**/*.yml", "book/**/*.md", "book/*.bib", "notebooks/**/*.ipynb")


def files(root: Path) -> list[Path]:
    """Return the files that may name the address."""
    found = {path for pattern in FILES for path in root.glob(pattern) if path.is_file()}
    hidden = {path for path in found if ".ipynb_checkpoints" in path.parts or "node_modules" in path.parts}
    return sorted(found - hidden)


def rewrite(text: str, old: str, new: str, version: str) -> str:
    """Return a text with every link of one address, and the release tags in them, replaced.

    Parameters
    ----------
    text : str
        Any text.
    old, new : str
        Addresses of the form ``https://github.com/OWNER/REPO``.
    version : str
        The release that links with a tag shall point to.
    """
    (old_owner, old_name), (new_owner, new_name) = (ADDRESS.fullmatch(address).groups() for address in (old, new))
    pair = rf"{re.escape(old_owner)}/{re.escape(old_name)}(?![\w-])"
    # Colab, badges, raw files and git itself all name OWNER/REPO; Pages has a domain for each owner
    tag = r"v\d[\w.]*\w"
    text = re.sub(rf"(?<![\w.-])({pair}(?:\.git)?(?:@|/(?:blob|tree|raw)/)){tag}", rf"\g<1>v{version}", text)
    text = re.sub(rf"(--branch ){tag}( \S*{pair})", rf"\g<1>v{version}\g<2>", text)
    text = re.sub(rf"(?<![\w.-]){pair}", f"{new_owner}/{new_name}", text)
    pages = rf"(?<![\w.-]){re.escape(old_owner)}\.github\.io/{re.escape(old_name)}(?![\w-])"
    return re.sub(pages, f"{new_owner}.github.io/{new_name}", text)


def set_address(root: Path, new: str, version: str = gencore.__version__) -> list[Path]:
    """Rewrite the book under a folder; return the files that changed.

    Raises
    ------
    ValueError
        If the address is not of the form ``https://github.com/OWNER/REPO``.
    """
    match = ADDRESS.fullmatch(new)
    if not match:
        raise ValueError(f"{new}: expected https://github.com/OWNER/REPO")
    old, new = book_address(root), "https://github.com/{}/{}".format(*match.groups())
    changed = []
    for path in files(root):
        before = path.read_bytes()
        text = rewrite(before.decode("utf-8"), old, new, version)
        if path.name == "_config.yml":
            text = re.sub(r"(?m)^(  branch: )v\d\S*$", rf"\g<1>v{version}", text)
        if text.encode("utf-8") != before:
            path.write_bytes(text.encode("utf-8"))
        if path.suffix == ".ipynb":
            notebook = read_notebook(path)
            cells = [cell for cell in notebook.cells if cell.get("id") == CELL_ID]
            if cells and cells[0].source != setup_cell(new, version):
                cells[0].source = setup_cell(new, version)
                write_notebook(path, notebook)
        if path.read_bytes() != before:
            changed.append(path)
    return changed


def main() -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", nargs="?", default=book_address(), help="https://github.com/OWNER/REPO")
    options = parser.parse_args()
    try:
        changed = set_address(ROOT, options.address)
    except ValueError as error:
        parser.error(str(error))
    for path in changed:
        print(path.relative_to(ROOT))
    print(f"{len(changed)} files changed; the book is at {book_address()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
