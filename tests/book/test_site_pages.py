"""The built site in a browser: headless Chromium opens every page, on a wide screen and on a phone.

Chromium is looked for under its usual names, or under the path in ``$CHROMIUM``; without it these tests are skipped.
``site_pages.mjs`` drives it and reports what it finds; the tests here judge.
"""

import functools
import http.server
import json
import os
import shutil
import subprocess
import sysconfig
import threading
from pathlib import Path

import pytest

from tests.book.test_site import CHAPTERS, DOCUMENTS, ROOT, SITE

NODE_MODULES = ROOT / "book" / "web" / "node_modules"
CHROMIUM = os.environ.get("CHROMIUM") or next(
    filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None
)
PAGES = [f"{name}.html" for name in DOCUMENTS] + ["search.html", "genindex.html"]
every_page = pytest.mark.parametrize("page", PAGES)


class Silent(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def result() -> dict:
    """What the browser found, on all pages."""
    if not CHROMIUM:
        pytest.skip("no Chromium: install one, or name it in $CHROMIUM, to test the pages in a browser")
    if not (SITE / "index.html").is_file() or not (NODE_MODULES / "playwright-core").is_dir():
        pytest.fail("the site is not built: run `make book`")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Silent, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        node = Path(sysconfig.get_path("scripts")) / "node"
        address = f"http://127.0.0.1:{server.server_port}"
        run = subprocess.run(
            [node, Path(__file__).with_name("site_pages.mjs"), NODE_MODULES, CHROMIUM, address, *PAGES],
            capture_output=True,
            text=True,
            timeout=2400,
        )
        server.shutdown()
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.fixture
def found(result, page) -> dict:
    return result["pages"][page]


@every_page
def test_makes_no_request_outside(found):
    assert found["outside"] == []


@every_page
def test_has_no_error_in_the_console(found):
    assert found["errors"] == []


@every_page
def test_mathematics_is_rendered(found):
    mathematics = found["mathematics"]
    assert mathematics["wrong"] == []
    assert mathematics["rendered"] >= mathematics["written"]


def test_some_page_has_mathematics(result):
    assert result["pages"]["book/notation.html"]["mathematics"]["rendered"] > 20


@every_page
def test_fits_a_phone(found):
    assert found["tooWide"] == []


@every_page
def test_mathematics_can_be_reached_on_a_phone(found):
    assert found["onPhone"]["outOfReach"] == []


@every_page
def test_images_are_shown(found):
    assert found["brokenImages"] == []


@every_page
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_theme_follows_the_system_and_is_accessible(found, theme):
    assert found[theme]["theme"] == theme
    assert found[theme]["axe"] == []


@pytest.mark.parametrize("page", [f"{name}.html" for name in CHAPTERS])
def test_folded_cells_open(found):
    """Solutions are folded, and one click opens one."""
    assert found["folded"] > 0
    assert found["unfolded"] == 1


def test_switch_changes_the_theme(result):
    assert {"light", "dark"} <= set(result["themes"])


def test_search_gives_results(result):
    assert any("notebooks/gan/adversarial-game" in link for link in result["found"])
    assert result["searchErrors"] == []
