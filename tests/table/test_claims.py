"""The claims: every one has its place, its verdict, a cell that computes, and links that lead somewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from geonorm.table.claims import CLAIMS, JUDGEMENTS, Claim, Judgements

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book" / "text" / "claims.md").read_text()
TEXTS = [*(ROOT / "notebooks" / "text").glob("*.md"), *(ROOT / "book" / "text").glob("*.md")]
#: Where every label of the book stands.
LABELS = {label: path for path in TEXTS for label in re.findall(r"^\(([a-z0-9-]+)\)=$", path.read_text(), re.MULTILINE)}
#: What a number may belong to without being a result.
NAMES = (
    r"(?:Sections?|Tables?|Figures?|Cases?|Definitions?|condition|chapters?|Chapters?) \d+(?:\.\d)?(?: (?:and|to) \d+)?"
)
every_claim = pytest.mark.parametrize("claim", CLAIMS.values(), ids=lambda claim: claim.id)


class Tags(HTMLParser):
    """The links of a piece of HTML, and whether every tag is closed."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.links, self.open = [], []
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.links += [value for name, value in attrs if name == "href"]
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def section(claim: Claim) -> str:
    """What the page says about a claim: from its label to the next label or part."""
    (start,) = [found.end() for found in re.finditer(rf"^\({claim.anchor}\)=$", PAGE, re.MULTILINE)]
    return re.split(r"^\(claim-|^## ", PAGE[start:], flags=re.MULTILINE)[0]


def prose(text: str) -> str:
    """The text without front matter, code cells, formulas and roles."""
    text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.DOTALL)
    text = re.sub(r"```\{code-cell\}.*?\n```", "", text, flags=re.DOTALL)
    return re.sub(r"\{[\w:]+\}`[^`]*`|`[^`]*`|\$[^$]*\$", "", text)


def test_there_are_27_claims_in_order():
    assert list(CLAIMS) == [f"C{number}" for number in range(1, 28)]


def test_no_other_verdict_is_possible():
    with pytest.raises(ValueError, match="'plausible', expected one of confirmed, refined, not confirmed, not test"):
        Claim(id="C0", section="1", title="", statement="", verdict="plausible", finding="", shown=())


@every_claim
def test_a_claim_says_what_was_claimed_what_was_found_and_where(claim):
    assert claim.verdict in JUDGEMENTS
    for text in (claim.statement, claim.finding):
        assert text.endswith(".")
        assert text.count("$") % 2 == 0
    assert claim.shown
    assert re.findall(r"\d", re.sub(NAMES, "", claim.finding)) == [], "numbers belong into cells"


@every_claim
def test_the_page_discusses_a_claim_once_and_leads_to_where_it_is_shown(claim):
    words = section(claim)
    assert words.strip().startswith(f"### {claim.id}: ")
    assert f'CLAIMS["{claim.id}"]' in words
    elsewhere = set(claim.shown) - {claim.anchor}
    assert elsewhere <= set(re.findall(r"\{ref\}`(?:[^`<]*<)?([a-z0-9-]+)>?`", words))
    assert set(claim.shown) <= set(LABELS), "a label that no text of the book has"


@every_claim
def test_a_cell_computes_something_on_every_claim(claim):
    cells = re.findall(r"```\{code-cell\} ipython3\n(.*?)```", section(claim), re.DOTALL)
    assert [cell for cell in cells if "remove-input" not in cell]


def test_every_number_of_the_page_is_printed_by_a_cell():
    words = re.sub(rf"{NAMES}|\b[A-Z]+\d+\b", "", prose(PAGE))  # MD17 is a name, C4 is one, too
    words = re.sub(r"^\(claim-c\d+\)=$", "", words, flags=re.MULTILINE)
    assert re.findall(r".*\d.*", words) == []


def test_the_list_has_every_claim_under_its_verdict_with_a_link_to_its_place():
    verdicts = Judgements(CLAIMS)
    assert [len(claims) for claims in verdicts.by_verdict.values()] == [
        sum(claim.verdict == verdict for claim in CLAIMS.values()) for verdict in verdicts.by_verdict
    ]
    tags = Tags(verdicts._repr_html_())
    assert tags.open == []
    assert sorted(tags.links) == sorted(f"#{claim.anchor}" for claim in CLAIMS.values())
    assert set(re.findall(r"\bC\d+\b", repr(verdicts))) == set(CLAIMS)


@every_claim
def test_a_claim_shows_itself_in_a_notebook(claim):
    html = claim._repr_html_()
    assert Tags(html).open == []
    assert f"{claim.verdict}: {JUDGEMENTS[claim.verdict]}" in html
    assert "$" not in html
