"""Chapters 7 to 9 hold what they promise: every row of Table 1 has its card, and declared is measured."""

import re
from pathlib import Path

import nbformat
import pytest

from geonorm import TABLE1

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
CHAPTERS = ("07_table1_language_and_vision", "08_table1_graph", "09_table1_geometric")
chapters = pytest.mark.parametrize("chapter", CHAPTERS)


def outputs(chapter: str) -> list[str]:
    """Every printed or shown text of a chapter."""
    cells = nbformat.read(NOTEBOOKS / f"{chapter}.ipynb", as_version=4).cells
    found = [output for cell in cells for output in cell.get("outputs", [])]
    return [output["text"] if "text" in output else output["data"]["text/plain"] for output in found]


def tables(chapter: str, *columns: str) -> dict[str, list[list[str]]]:
    """The text tables of a chapter with these columns after the first: the name in the corner, and the lines."""
    found = {}
    for text in outputs(chapter):
        head, *lines = [re.split(r"  +", line) for line in text.splitlines()]
        if tuple(head[1:]) == columns:
            found[head[0]] = lines[1:]
    return found


def total(said: str) -> str:
    """The number of removed directions; families may be named in another way."""
    return (re.findall(r"together (\d+)", said) or [said])[0]


def test_every_row_of_the_table_has_its_card() -> None:
    cards = {
        re.split(r"  +", text.splitlines()[0])[-1].strip()
        for chapter in CHAPTERS
        for text in outputs(chapter)
        if re.search(r"^Printed ", text, re.MULTILINE) and re.search(r"^Published ", text, re.MULTILINE)
    }
    assert cards == set(TABLE1)


@chapters
def test_what_is_declared_of_a_row_is_what_is_measured(chapter: str) -> None:
    measured = tables(chapter, "declared", "measured")
    assert len(measured) >= 6
    for name, lines in measured.items():
        assert len(lines) >= 5, name
        for label, declared, found in lines:
            assert total(declared) == total(found), f"{name}, {label}"


@chapters
def test_every_comparison_with_a_reference_holds(chapter: str) -> None:
    said = [line for text in outputs(chapter) for line in text.splitlines() if line.startswith("max difference")]
    assert len(said) >= 7
    # A formula as printed may well be another function; the chapter then says so.
    assert [line for line in said if not line.endswith(": True") and "as printed" not in line] == []


def test_the_chapter_on_geometry_judges_the_claims_about_it() -> None:
    text = (NOTEBOOKS / "text" / "09_table1_geometric.md").read_text()
    found = "".join(re.findall(r"```\{admonition\} What we found.*?```", text, re.DOTALL))
    verdicts = dict(re.findall(r"\* \*\*(C\d+),.*?: ([^*]*?)\.?\*\*", found, re.DOTALL))
    assert set(verdicts) == {"C6", "C17", "C18", "C19", "C20", "C21"}
    assert verdicts["C21"] == "not confirmed"
