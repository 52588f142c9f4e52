"""Rows and tables in words, as HTML, Markdown and plain text."""

from dataclasses import replace

import pytest
from table.rows import EVERY, ROWS, every_row

from geonorm.table import AFTER_2022, TABLE1, Row, Table
from geonorm.table.render import axes_in_words, facts, row_text

both_tables = pytest.mark.parametrize("table", [TABLE1, AFTER_2022], ids=["TABLE1", "AFTER_2022"])


def test_rows_and_table_say_what_they_are_in_text() -> None:
    assert repr(TABLE1["SetNorm"]) == "Row('SetNorm', verdict='error', layer=SetNorm)"
    lines = repr(TABLE1).splitlines()
    assert len(lines) == 1 + len(TABLE1)
    assert lines[1].split() == ["BatchNorm", "same", "BatchNorm"]


def test_the_text_of_a_table_without_verdicts_has_years() -> None:
    lines = repr(AFTER_2022).splitlines()
    assert len(lines) == 1 + len(AFTER_2022)
    assert lines[1].split() == ["RMSNorm", "2019", "RMSNorm"]
    assert repr(TABLE1).splitlines()[-1].split() == ["Vector", "Field", "missing", "VectorFieldNorm"]


@every_row
def test_a_row_renders_its_formulas_for_mathjax(row: Row) -> None:
    page = row._repr_html_()
    assert page.count(r"\(") == page.count(r"\)") >= (2 if row.printed else 1)
    assert page.count("<tr>") == page.count("</tr>")
    assert f">{row.name}</caption>" in page
    assert row.verdict in page
    text = row._repr_markdown_()
    printed = "not in Table 1" if row.printed is None else f"${row.printed}$"
    assert f"| Printed | {printed} |" in text
    assert f"| First published | {row.year}, {row.community} |" in text
    assert all(name in text for name in row.variants)
    assert all(line.startswith("|") and line.count("|") == 3 for line in text.splitlines())
    assert row_text(row).splitlines()[0] == row.name
    assert len(row_text(row).splitlines()) == len(text.splitlines()) - 1


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("GroupNorm", "mean and divisor over nodes and the channels of a group"),
        ("Quaternion", "no mean, divisor over samples, nodes and components"),
        ("Vector Neuron", "mean and divisor of the lengths over samples and nodes"),
        ("EGAN", "mean of the scalars over nodes and channels, divisor over nodes, channels and components"),
        ("GraphSizeNorm", "none: divides by a number that the graph or the data set gives"),
        ("WeightNorm", "none: acts on the weight, not on the data"),
        ("MaxMinNorm", "minimum and range of the lengths over channels"),
        ("FieldNorm", "mean of the scalars over components, divisor over components"),
        ("DynamicTanh", "none: every field by itself"),
        ("TypedBatchNorm", "mean and divisor over samples and nodes of one type of node"),
    ],
)
def test_axes_are_said_in_words(name: str, words: str) -> None:
    assert axes_in_words({row.name: row for row in EVERY}[name]) == words


def test_what_is_removed_is_said_in_the_words_of_the_features() -> None:
    removed = {name: facts(row)["Removes (number)"] for name, row in ((row.name, row) for row in ROWS)}
    assert removed["Vector Neuron"] == (
        "scale per vector channel (vector channels); shift of lengths per vector channel (vector channels)"
    )
    assert removed["EquivariantBatchNorm"] == "shift of scalars per field (scalar fields); scale per field (fields)"
    assert removed["TypedBatchNorm"].startswith("shift per (type of node, channel) (types of node * channels)")
    assert removed["WeightNorm"] == "scale per channel of the weights (channels)"
    assert removed["MaxMinNorm"].endswith("turn of the shortest vector per node (2 * nodes)")


def test_html_escapes_what_a_formula_may_contain() -> None:
    row = replace(TABLE1["GraphNorm"], printed="a<b", note="Smaller: $a<b$ & so on.")
    assert r"\(\displaystyle a&lt;b\)" in row._repr_html_(), "a formula alone in its cell is set large"
    assert r"\(a&lt;b\)" in row._repr_html_(), "a formula in a sentence is set as text"
    assert "&amp; so on." in row._repr_html_()


@both_tables
def test_the_table_renders_every_row(table: Table) -> None:
    page, text = table._repr_html_(), table._repr_markdown_()
    for row in table.values():
        assert f">{row.name}</th>" in page
        printed = "not in Table 1" if row.printed is None else f"${row.printed}$"
        begin = f"{row.verdict} | {printed}" if table is TABLE1 else f"{row.year}, {row.community}"
        assert f"| {row.name} | {begin} | ${row.published}$ |" in text
    assert len(text.splitlines()) == 2 + len(table)
    assert 'role="region"' in page, "wide tables scroll inside a region that the keyboard reaches"
