"""The built site, read from ``_build/html``: complete, whole, and served from itself. ``make book`` builds it."""

import html.parser
import json
import re
import subprocess
import sysconfig
from pathlib import Path
from urllib.parse import unquote

import pytest
import yaml

import gencore

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "_build" / "html"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text("utf-8"))
REPOSITORY, TAG = CONFIG["repository"]["url"], CONFIG["repository"]["branch"]


def toc_files(node) -> list[str]:
    """Return the documents of the table of contents, in reading order."""
    if isinstance(node, list):
        return [name for item in node for name in toc_files(item)]
    own = [node[key] for key in ("root", "file") if key in node]
    return own + [name for key in ("parts", "chapters", "sections") for name in toc_files(node.get(key, []))]


DOCUMENTS = toc_files(yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8")))
CHAPTERS = [name for name in DOCUMENTS if name.startswith("notebooks/")]


class Tags(html.parser.HTMLParser):
    """Every start tag of a page with its attributes."""

    def __init__(self, path: Path):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def pages() -> dict[str, Tags]:
    """All HTML pages of the site, by their path in it."""
    if not (SITE / "index.html").is_file():
        pytest.fail(f"the site is not built: run `make book` (no {SITE / 'index.html'})")
    paths = [path for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts]
    return {path.relative_to(SITE).as_posix(): Tags(path) for path in paths}


def test_every_document_of_the_contents_has_its_page_and_no_other_is_left_over(pages):
    documents = {name for name in pages if name.startswith(("book/", "notebooks/"))}
    assert documents == {f"{name}.html" for name in DOCUMENTS}


def test_no_link_is_broken_within_the_site(pages):
    """lychee follows every link, fragments included, without a network."""
    lychee = Path(sysconfig.get_path("scripts")) / "lychee"
    run = subprocess.run(
        [lychee, "--offline", "--include-fragments", "--no-progress", "--exclude-path", "_static", f"{SITE}/**/*.html"],
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) Total", run.stdout)[1]) > 100, "lychee found hardly any link: " + run.stdout


LOADING = {  # what a browser fetches by itself; links that a reader follows are in <a>
    "script": ["src"], "link": ["href"], "img": ["src", "srcset"], "iframe": ["src"], "source": ["src", "srcset"],
    "video": ["src", "poster"], "audio": ["src"], "embed": ["src"], "object": ["data"], "image": ["href", "xlink:href"],
    "use": ["href", "xlink:href"], "track": ["src"], "input": ["src"], "form": ["action"],
}  # fmt: skip
PASSIVE_LINKS = {"canonical", "license", "author", "search", "index", "next", "prev"}


def is_outside(url: str | None) -> bool:
    return bool(url) and re.match(r"\s*(https?:)?//", url, re.IGNORECASE) is not None


def test_pages_load_nothing_from_outside(pages):
    outside = []
    for name, page in pages.items():
        for tag, attributes in page.found:
            if tag == "link" and set((attributes.get("rel") or "").split()) <= PASSIVE_LINKS:
                continue
            urls = [attributes.get(key) for key in LOADING.get(tag, [])]
            urls += re.findall(r"url\(['\"]?([^)'\"]+)", attributes.get("style") or "")
            outside += [f"{name}: <{tag}> {url}" for url in urls if is_outside(url)]
    assert not outside


def test_stylesheets_load_nothing_from_outside(pages):
    outside = []
    for path in SITE.rglob("*.css"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text("utf-8"), flags=re.DOTALL)
        urls = re.findall(r"url\(\s*['\"]?([^)'\"]+)", text) + re.findall(r"@import\s+['\"]([^'\"]+)", text)
        outside += [f"{path.relative_to(SITE)}: {url}" for url in urls if is_outside(url)]
    assert not outside


def test_no_page_names_a_script_host_in_its_own_scripts(pages):
    """Inline scripts could load more: they may name no address at all."""
    for name in pages:
        scripts = re.findall(r"<script(?![^>]*\bsrc=)[^>]*>(.*?)</script>", (SITE / name).read_text("utf-8"), re.DOTALL)
        assert not [s for s in scripts if re.search(r"https?://", s)], name


def test_no_dollar_sign_is_left_beside_mathematics(pages):
    """It would be the rest of a displayed equation that was read as an inline one."""
    left = re.compile(r'\$\s*<(span|div) class="math|\\\)</span>\s*\$')
    assert not [name for name in pages if left.search((SITE / name).read_text("utf-8"))]


def test_every_image_has_an_alternative_text(pages):
    missing = [
        f"{name}: {attributes.get('src')}"
        for name, page in pages.items()
        for tag, attributes in page.found
        if tag == "img" and ("alt" not in attributes or (not attributes["alt"] and "logo" not in attributes["src"]))
    ]
    assert not missing


def test_file_names_do_not_stand_in_for_alternative_texts(pages):
    """Without an alt text of its own, a figure gets its file's name."""
    images = [(name, a) for name, page in pages.items() for tag, a in page.found if tag == "img"]
    file_name = re.compile(r"\.(png|jpe?g|svg|webp)$|_images/")
    assert not [f"{name}: {a['alt']}" for name, a in images if file_name.search(a.get("alt") or "")]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_colab_button_opens_the_chapter_of_this_release(pages, chapter):
    links = [a.get("href") or "" for tag, a in pages[f"{chapter}.html"].found if tag == "a"]
    colab = [link for link in links if "colab.research.google.com/github" in link]
    owner = REPOSITORY.removeprefix("https://github.com/")
    assert colab and set(colab) == {f"https://colab.research.google.com/github/{owner}/blob/{TAG}/{chapter}.ipynb"}


def test_tag_is_the_version_of_the_library():
    assert TAG == f"v{gencore.__version__}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "book").glob("*.md"))], ids=lambda path: path.name)
def test_prose_names_no_other_tag(page):
    assert set(re.findall(r"\bv\d+\.\d+\.\d+\b", page.read_text("utf-8"))) <= {TAG}


def test_links_to_the_repository_use_its_one_address(pages):
    """Every link to a repository named like ours goes to the address in ``_config.yml``."""
    name = REPOSITORY.rsplit("/", 1)[1]
    for page, tags in pages.items():
        for tag, attributes in tags.found:
            link = unquote(attributes.get("href") or "")
            if tag == "a" and re.match(rf"https://github\.com/[^/]+/{re.escape(name)}\b", link):
                assert link.startswith(REPOSITORY), f"{page}: {link}"


@pytest.mark.parametrize(
    "stem, document",
    [("discrimin", "notebooks/gan/adversarial-game"), ("convolut", "notebooks/gan/dcgan"), ("colab", "book/how-to-run")],
)
def test_search_index_has_the_words_of_a_page(pages, stem, document):
    text = (SITE / "searchindex.js").read_text("utf-8")
    index = json.loads(text.removeprefix("Search.setIndex(").rstrip().removesuffix(")"))
    found = [index[part].get(stem, []) for part in ("terms", "titleterms")]  # a document's number, or a list of them
    numbers = {i for hits in found for i in ([hits] if isinstance(hits, int) else hits)}
    assert document in {index["docnames"][i] for i in numbers}


def test_api_pages_describe_every_public_module(pages):
    anchors = {a.get("id") for name, page in pages.items() if name.startswith("book/api/") for _, a in page.found}
    paths = [path.relative_to(ROOT).with_suffix("").parts for path in (ROOT / "gencore").rglob("*.py")]
    modules = {".".join(parts).removesuffix(".__init__") for parts in paths}
    private = {name for name in modules if "._" in name}
    assert {f"module-{name}" for name in modules - private - {"gencore"}} <= anchors
