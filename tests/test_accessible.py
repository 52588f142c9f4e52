"""What book/_ext repairs in pages before they are written."""

import importlib.util
from pathlib import Path

from docutils import nodes

EXTENSIONS = Path(__file__).parents[1] / "book" / "_ext"


def _extension(name):
    spec = importlib.util.spec_from_file_location(name, EXTENSIONS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


accessible, door = _extension("accessible"), _extension("door")


def test_tables_of_one_name_are_told_apart():
    region = '<div role="region" aria-label="{}"><table></table></div>'
    body = "".join(map(region.format, ["table", "errors", "table", "table"]))
    assert accessible.tables(body) == "".join(map(region.format, ["table", "errors", "table (2)", "table (3)"]))


def test_an_empty_corner_is_no_header():
    head = '<tr><th scope="col" style="text-align: left"></th><th scope="col">error</th></tr>'
    assert accessible.tables(head) == '<tr><td></td><th scope="col">error</th></tr>'


def test_a_paragraph_that_is_shared_is_of_one_piece():
    paragraph = nodes.paragraph()
    paragraph += [nodes.Text("The survey "), nodes.inline("", "[Aalto, 2022]"), nodes.Text(" asks.")]
    page = nodes.section("", paragraph)
    accessible.in_one_piece(None, "page", "page.html", {}, page)
    assert page.astext() == "The survey [Aalto, 2022] asks."
    assert len(paragraph.children) == 1
    accessible.in_one_piece(None, "genindex", "genindex.html", {}, None)


def test_the_front_door_takes_over_what_the_landing_page_says():
    landing = """<head><title>The book &#8212; The book</title>
    <meta name="viewport" content="x"><meta property="og:title" content="The book &amp; more" />
    <meta name="description" content="About it." /></head>"""
    made = door.front_door(landing, "book/intro.html", (EXTENSIONS.parent / "_templates" / "moved.html").read_text())
    assert "<title>The book &amp; more</title>" in made
    assert '<meta property="og:title" content="The book &amp; more" />' in made
    assert '<meta name="description" content="About it." />' in made
    assert made.count('"book/intro.html"') == 3
    assert made.count("viewport") == 1
