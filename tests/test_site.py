"""The built pages: links inside the book lead somewhere, pictures have words, buttons have their addresses.

`make test` builds the book first; without a built book these tests are skipped.
"""

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlparse

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "_build" / "html"
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
REPOSITORY = CONFIG["repository"]["url"]
BRANCH = CONFIG["repository"]["branch"]
SLUG = urlparse(REPOSITORY).path.strip("/")
PAGES = sorted([*SITE.glob("book/*.html"), *SITE.glob("notebooks/*.html")])

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: make book")
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)


class Page(HTMLParser):
    """What the tests look at in one page."""

    def __init__(self, path: Path):
        super().__init__()
        self.in_article = False
        self.links, self.sources, self.ids, self.images, self.titles, self.language = [], [], set(), [], 0, None
        self.headings, self.described = 0, []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.ids |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        # The theme repeats the title in a block that only the printed page shows.
        self.titles += tag == "h1" and self.in_article
        self.headings += tag == "h1"
        self.described += [attributes] if tag == "meta" else []
        self.in_article = self.in_article or tag == "article"
        if tag == "html":
            self.language = attributes.get("lang")
        if tag == "a" and "href" in attributes:
            self.links.append(attributes["href"])
        if tag in ("script", "img", "iframe", "source", "video") and attributes.get("src"):
            self.sources.append(attributes["src"])
        if tag == "link" and attributes.get("rel") in ("stylesheet", "icon", "preload"):
            self.sources.append(attributes["href"])
        if tag == "img":
            self.images.append(attributes)


_read: dict[Path, Page] = {}


def _page(path: Path) -> Page:
    if path not in _read:
        _read[path] = Page(path)
    return _read[path]


@pages
def test_links_inside_the_book_lead_somewhere(page):
    broken = []
    for link in _page(page).links:
        if urlparse(link).scheme or link.startswith("//") or not link:
            continue
        target, _, anchor = urljoin(page.relative_to(SITE).as_posix(), link).partition("#")
        path = SITE / unquote(target.partition("?")[0])
        path = path / "index.html" if path.is_dir() else path
        if not path.is_file() or (anchor and path.suffix == ".html" and unquote(anchor) not in _page(path).ids):
            broken.append(link)
    assert broken == []


@pages
def test_pictures_and_scripts_are_on_the_site(page):
    # A page that loads nothing from elsewhere works without a network, and for readers whose network forbids it.
    missing = []
    for source in _page(page).sources:
        inside = not source.startswith(("http", "//")) and (page.parent / unquote(urlparse(source).path)).is_file()
        if not inside and not source.startswith("data:"):
            missing.append(source)
    assert missing == []


@pages
def test_pictures_have_words(page):
    for image in _page(page).images:
        alt = (image.get("alt") or "").strip()
        # Sphinx writes the file's path where an author gave no words.
        assert alt, image["src"]
        assert not alt.endswith((".png", ".svg", ".jpg")), image["src"]


@pages
def test_one_title_and_a_language(page):
    assert _page(page).titles == 1
    assert _page(page).language == "en"


@pages
def test_buttons_have_the_addresses_of_the_repository(page):
    name = page.relative_to(SITE).with_suffix("").as_posix()
    links = _page(page).links
    assert REPOSITORY in links
    assert any(link.startswith(f"{REPOSITORY}/issues/new") for link in links)
    if not (ROOT / f"{name}.ipynb").is_file():
        assert (ROOT / f"{name}.md").is_file()
        assert f"{REPOSITORY}/edit/{BRANCH}/{name}.md" in links
        return
    assert f"https://mybinder.org/v2/gh/{SLUG}/{BRANCH}?urlpath=lab/tree/{name}.ipynb" in links
    assert f"https://colab.research.google.com/github/{SLUG}/blob/{BRANCH}/{name}.ipynb" in links


def test_the_search_index_and_the_missing_page_are_there():
    assert (SITE / "searchindex.js").is_file()
    lost = (SITE / "404.html").read_text()
    # A lost reader may be at any depth, so nothing on this page may be relative.
    relative = [source for source in Page(SITE / "404.html").sources if not source.startswith(("/", "http"))]
    assert relative == []
    assert "moved" in lost


def test_the_front_door_says_what_is_behind_it():
    door, landing = ((SITE / name).read_text(encoding="utf-8") for name in ("index.html", "book/intro.html"))
    assert _page(SITE / "index.html").language == "en"
    assert "book/intro.html" in _page(SITE / "index.html").links
    for said in ('property="og:title"', 'property="og:image"', 'property="og:description"', 'name="description"'):
        lines = [line.strip() for line in landing.splitlines() if said in line]
        assert len(lines) == 1, said
        assert " ".join(lines[0].split()) in " ".join(door.split())


@pages
def test_what_is_shared_of_a_page_reads_well(page):
    (said,) = [given["content"] for given in _page(page).described if given.get("name") == "description"]
    assert len(said) > 50
    # A space that no author has written, around the pieces of a citation.
    assert "[ " not in said
    assert " ]" not in said


@pytest.mark.parametrize("old", CONFIG["sphinx"]["config"]["rediraffe_redirects"])
def test_short_addresses_redirect(old):
    redirect = SITE / old.replace(".md", ".html")
    page = Page(redirect)
    target = next(link for link in page.links if link.endswith(".html"))
    assert (redirect.parent / target).is_file()
    assert page.language == "en"
    assert page.headings == 1
