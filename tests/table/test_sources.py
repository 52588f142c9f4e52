"""The formulas of the tables and where they come from: plain LaTeX, citations that exist, years that agree."""

import re
from pathlib import Path

from table.rows import every_layer, every_row

from geonorm.table import Row

REFERENCES = Path(__file__).parents[2] / "book" / "references.bib"


def entries() -> dict[str, str]:
    """The entries of the references by their keys."""
    texts = re.split(r"^(?=@)", REFERENCES.read_text(), flags=re.MULTILINE)[1:]
    return {re.match(r"@\w+\{([^,]+),", text)[1]: text for text in texts}


def keys() -> set[str]:
    return set(entries())


@every_layer
def test_every_citation_key_is_in_the_references(row: Row) -> None:
    assert row.citations[0] == row.paper
    assert set(row.citations) <= keys()
    assert row.code is None or row.code.startswith("code_")


@every_layer
def test_the_year_is_that_of_the_first_preprint_or_else_of_the_publication(row: Row) -> None:
    entry = entries()[row.paper]
    published = int(re.search(r"year\s+= \{(\d{4})\}", entry)[1])
    preprint = re.search(r"arxiv\.org/abs/(\d\d)\d\d\.|arXiv:(\d\d)\d\d\.", entry)
    if preprint:
        assert row.year == 2000 + int(preprint[1] or preprint[2]) <= published
    elif row.paper.startswith("code_"):
        assert row.year <= published  # of the version that was read
    else:
        assert row.year == published


@every_row
def test_who_made_a_layer_is_said_in_one_of_a_few_words(row: Row) -> None:
    assert row.community in {
        "computer vision", "language", "learning theory", "graph learning", "sets", "point clouds", "molecules",
        "proteins", "equivariant networks",
    }  # fmt: skip
    assert row.side in ("language and vision", "graph and geometric")


def test_the_references_hold_the_survey_and_each_of_its_38_references_once() -> None:
    text = REFERENCES.read_text()
    numbers = [int(number) for number in re.findall(r"Reference \[(\d+)\] of the survey", text)]
    assert numbers == list(range(1, 39))
    assert "aalto2022geometric" in keys()
    assert len(keys()) == len(re.findall(r"^@", text, re.MULTILINE))


@every_row
def test_formulas_are_plain_latex_with_balanced_braces(row: Row) -> None:
    texts = (row.note, row.verified, row.undefined or "")
    for formula in (
        row.printed or "",
        row.published,
        *(found for text in texts for found in re.findall(r"\$([^$]+)\$", text)),
    ):
        bare = re.sub(r"\\[{}]", "", formula)
        assert bare.count("{") == bare.count("}")
        assert formula.count(r"\{") == formula.count(r"\}")
        assert "|" not in formula, "a bar would end a cell of a Markdown table: use \\lvert"
        assert "$" not in formula
    assert all(text.count("$") % 2 == 0 for text in texts)
    assert row.note.endswith(".")
    assert row.verified.endswith(".")
