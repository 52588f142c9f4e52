"""The search finds a layer by its name."""

import pytest
from browser.site import PAGES, settle

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built: make book")


def test_search_finds_graphnorm(open_context, address):
    page = open_context().new_page()
    settle(page, address + "search.html?q=GraphNorm")
    page.wait_for_selector("#search-results li a")
    found = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
    assert any("08_table1_graph.html" in link for link in found)


def test_the_search_button_opens_the_search_field(open_context, address):
    page = open_context().new_page()
    settle(page, address + "book/intro.html")
    page.keyboard.press("Control+k")
    field = page.locator("input[type=search]:visible").first
    field.fill("PairNorm")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=PairNorm*")
