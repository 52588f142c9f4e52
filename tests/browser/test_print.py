"""The printed book: the pages of the site behind one another, whose links stay inside."""

import importlib.util
import re
from html.parser import HTMLParser

import pytest
from browser.site import PAGES, ROOT, SITE

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: make book")

spec = importlib.util.spec_from_file_location("pdf", ROOT / "book" / "pdf.py")
pdf = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pdf)


class Whole(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.sources, self.sheets, self.titles = set(), [], [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        if "id" in attributes:
            self.ids.add(attributes["id"])
        if "sheet" in (attributes.get("class") or "").split():
            self.sheets.append(attributes["id"])
        self.titles += tag == "h1"
        self.links += [attributes["href"]] if tag == "a" and attributes.get("href") else []
        self.sources += [attributes["src"]] if tag in ("img", "script") and attributes.get("src") else []


@pytest.fixture(scope="module")
def whole():
    return Whole(pdf.assemble(SITE))


def test_every_page_of_the_contents_is_printed_once(whole):
    pages = [page for _, page in pdf.contents()]
    assert len(pages) == len(set(pages)) == len(whole.sheets)
    assert set(pages) == {page for page in PAGES if "/" in page}
    # One title each, and that of the cover.
    assert whole.titles == len(pages) + 1


def test_links_lead_to_places_of_the_print_or_out_of_it(whole):
    inside = [link for link in whole.links if link.startswith("#")]
    assert len(inside) > 100
    assert [link for link in inside if link[1:] not in whole.ids] == []
    assert [link for link in whole.links if not re.match(r"#|https?:|mailto:", link)] == []


def test_pictures_are_found(whole):
    local = [source.partition("?")[0] for source in whole.sources if not source.startswith(("data:", "http"))]
    assert local
    assert [source for source in local if not (SITE / "book" / source).resolve().is_file()] == []


def test_a_book_that_is_not_built_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"intro\.html is in _toc\.yml and not in .*make book"):
        pdf.assemble(tmp_path)
