"""The errata: every row of the table has its place, and the page says of it what the table says."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from geonorm.table import TABLE1, VERDICTS, Row
from geonorm.table.errata import Card, Index, Verdicts, anchor

PAGE = (Path(__file__).parents[2] / "book" / "text" / "errata.md").read_text()
# What stands above the rows of each verdict.
HEADINGS = {
    "error": "Another function than the published layer",
    "ambiguous": "Two layers under one name, or an axis without a name",
    "missing": "Left out of the table",
    "incomplete": "A part is left out",
    "notation": "The letters do not say it",
    "same": "Right as printed",
}
every_row = pytest.mark.parametrize("row", TABLE1.values(), ids=lambda row: row.name)


class Tags(HTMLParser):
    """The links of a piece of HTML, its text, and whether every tag is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links, self.words, self.open = [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name == "href"]
        self.open += [tag] * (tag != "br")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def section(row: Row) -> str:
    """What the page says about a row: from its anchor to the next heading of any kind."""
    (start,) = [found.end() for found in re.finditer(rf"^\({anchor(row)}\)=$", PAGE, re.MULTILINE)]
    return re.split(r"^\(erratum-|^## ", PAGE[start:], flags=re.MULTILINE)[0]


def test_anchors_are_different_and_plain() -> None:
    names = [anchor(row) for row in TABLE1.values()]
    assert len(set(names)) == len(TABLE1)
    assert all(re.fullmatch(r"erratum(-[a-z0-9]+)+", name) for name in names)


def test_the_index_has_every_row_in_order_with_its_verdict_and_a_link() -> None:
    tags = Tags(Index(TABLE1)._repr_html_())
    assert tags.open == []
    assert tags.links == [f"#{anchor(row)}" for row in TABLE1.values()]
    assert "".join(tags.words) == "".join(f"{row.name}: {row.verdict}" for row in TABLE1.values())
    assert [line.split()[-1] for line in repr(Index(TABLE1)).splitlines()] == [row.verdict for row in TABLE1.values()]


def test_verdicts_count_every_row_once_and_leave_out_those_that_nobody_has() -> None:
    verdicts = Verdicts(TABLE1)
    assert sorted(name for names in verdicts.rows.values() for name in names) == sorted(TABLE1)
    assert all(TABLE1[name].verdict == verdict for verdict, names in verdicts.rows.items() for name in names)
    assert "unlisted" in VERDICTS
    assert "unlisted" not in repr(verdicts)
    html = verdicts._repr_html_()
    assert Tags(html).open == []
    for verdict, names in verdicts.rows.items():
        assert f"<strong>{verdict}: {len(names)}</strong>" in html


@every_row
def test_a_card_says_what_the_row_says(row: Row) -> None:
    said, html = repr(Card(row)), Card(row)._repr_html_()
    for text in (row.published, row.note, row.verified, VERDICTS[row.verdict]):
        assert text in said
    assert (f"${row.printed}$" in said) == (row.printed is not None)
    assert ("the table has no such row" in said) == (row.printed is None)
    assert ("not defined" in said) == (row.undefined is not None)
    assert Tags(html).open == []
    assert html.count(r"\(\displaystyle") >= 1 + (row.printed is not None)


@every_row
def test_the_page_has_a_section_on_every_row_under_its_verdict(row: Row) -> None:
    words = section(row)
    assert words.strip().startswith(f"### {row.name}\n")
    assert f'Card(gn.TABLE1["{row.name}"])' in words
    before = PAGE[: PAGE.index(f"({anchor(row)})=")]
    assert re.findall(r"^## (.*)$", before, re.MULTILINE)[-1] == HEADINGS[row.verdict]


@every_row
def test_the_page_cites_what_the_table_cites_and_runs_something_on_every_row(row: Row) -> None:
    words = section(row)
    cited = {key for keys in re.findall(r"\{cite:[tp]\}`([^`]+)`", words) for key in keys.split(",")}
    assert set(row.citations) <= cited
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", words, re.DOTALL)
    assert len([cell for cell in cells if "remove-input" not in cell]) >= 1


def test_the_caveat_stands_before_everything_else() -> None:
    top = PAGE[: PAGE.index("\n## ")]
    assert "**submission version**" in top
    assert "A later version\nexists" in top
    assert top.index("submission version") < top.index("slips")
