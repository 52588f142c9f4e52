"""Every page of the built book, in a browser without a network, at the width of a laptop and of a phone."""

import pytest
from browser.site import PAGES, broken, settle

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: make book")
#: One page of prose, one with tables of the library's own HTML, one with code, reports and figures that move.
DARK = ("how_to_use", "errata", "17_choosing")
pages = pytest.mark.parametrize("name", PAGES)


@pages
def test_opens_without_an_error_and_without_a_network(name, visit):
    assert visit(name).errors == []
    assert visit(name).outside == []


@pages
def test_formulas_are_typeset(name, visit):
    facts = visit(name).facts
    assert facts["typeset"] == facts["formulas"]
    assert facts["failed"] == facts["raw"] == 0


@pages
def test_one_title(name, visit):
    assert len(visit(name).facts["titles"]) == 1


@pages
def test_pictures_are_there_and_have_words(name, visit):
    assert visit(name).facts["empty"] == []
    assert visit(name).facts["silent"] == []


@pages
def test_links_inside_the_book_lead_somewhere(name, visit, address):
    assert broken(visit(name).facts["links"], address) == []


@pages
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(name, width, visit):
    assert visit(name).wide[width] <= 0


@pages
def test_axe_finds_nothing(name, visit):
    assert visit(name).violations == []


@pytest.mark.parametrize("name", [name for name in PAGES if any(part in name for part in DARK)])
def test_words_can_be_read_on_a_dark_page(name, open_context, address, audit):
    page = open_context("dark").new_page()
    settle(page, address + name)
    assert audit(page, name, ["color-contrast"]) == []
