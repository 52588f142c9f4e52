"""The table as a mapping, a resolver and a rendering."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from geonorm import GraphNorm, GroupNorm, NeighborNorm
from geonorm.table import TABLE1, Properties, Row, Table, UnknownRowError, make

SURVEY = [  # the survey's Table 1: left column, then right column
    "BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "FilterResponseNorm", "VarianceNorm", "WeightNorm",
    "SpectralNorm", "ScaledWeight", "Quaternion", "Vector Perceptron / EGAN", "GraphNorm", "PairNorm",
    "MeanSubtractionNorm", "MessageNorm", "DiffGroupNorm", "SetNorm", "EvNorm", "Vector Neuron", "GraphSizeNorm",
    "SchNet", "Allegro / MACE",
]  # fmt: skip
REFERENCES = Path(__file__).parents[2] / "book" / "references.bib"
every_row = pytest.mark.parametrize("row", TABLE1.values(), ids=lambda row: row.name)


def keys() -> set[str]:
    return set(re.findall(r"^@\w+\{([^,]+),", REFERENCES.read_text(), re.MULTILINE))


def test_rows_are_the_surveys_in_the_surveys_order() -> None:
    present = list(TABLE1)
    assert present == [name for name in SURVEY if name in present]
    assert len(TABLE1) == len(present) >= 18


@every_row
def test_every_citation_key_is_in_the_references(row: Row) -> None:
    assert {row.paper, *row.sources} | ({row.code} if row.code else set()) <= keys()


def test_the_references_hold_the_survey_and_each_of_its_38_references_once() -> None:
    text = REFERENCES.read_text()
    numbers = [int(number) for number in re.findall(r"Reference \[(\d+)\] of the survey", text)]
    assert numbers == list(range(1, 39))
    assert "aalto2022geometric" in keys()
    assert len(keys()) == len(re.findall(r"^@", text, re.MULTILINE))


@every_row
def test_formulas_are_plain_latex_with_balanced_braces(row: Row) -> None:
    for formula in (row.printed, row.published, *re.findall(r"\$([^$]+)\$", row.note)):
        bare = re.sub(r"\\[{}]", "", formula)
        assert bare.count("{") == bare.count("}")
        assert formula.count(r"\{") == formula.count(r"\}")
        assert "|" not in formula, "a bar would end a cell of a Markdown table: use \\lvert"
        assert "$" not in formula
    assert row.note.count("$") % 2 == 0
    assert row.note.endswith(".")
    assert row.verified.endswith(".")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("BN", "BatchNorm"),
        ("batch_norm", "BatchNorm"),
        ("GraphNorm", "GraphNorm"),
        ("graph_norm", "GraphNorm"),
        ("Scaled Weight", "ScaledWeight"),
        ("scaled_weight_standardization", "ScaledWeight"),
        ("SchNet", "SchNet"),
        ("neighbor_norm", "SchNet"),
        ("Allegro / MACE", "Allegro / MACE"),
        ("average_neighbor_norm", "Allegro / MACE"),
    ],
)
def test_a_row_is_found_by_its_name_its_class_and_in_lower_snake(name: str, found: str) -> None:
    assert TABLE1[name].name == found
    assert name in TABLE1


@pytest.mark.parametrize("look_up", [TABLE1.__getitem__, make])
def test_unknown_names_get_the_nearest_ones(look_up) -> None:
    with pytest.raises(UnknownRowError, match=r"no normalization layer is called 'grafnorm': try 'GraphNorm'"):
        look_up("grafnorm")
    with pytest.raises(KeyError, match="try one of BatchNorm, LayerNorm"):
        look_up("xyz")


def test_get_and_membership_work_as_for_any_mapping() -> None:
    assert "no such layer" not in TABLE1
    assert TABLE1.get("no such layer") is None
    assert 3 not in TABLE1


def test_make_builds_layers_with_their_arguments() -> None:
    assert isinstance(make("graph_norm", 8), GraphNorm)
    assert make("GroupNorm", 8, num_groups=4).num_groups == 4
    assert isinstance(make("GroupNorm", 8, 4), GroupNorm)
    assert isinstance(make("SchNet", 8), NeighborNorm)
    linear = nn.Linear(3, 3)
    assert make("weight_norm", linear) is linear


def test_two_rows_cannot_share_a_name() -> None:
    row = TABLE1["GraphNorm"]
    with pytest.raises(ValueError, match="share the name 'graphnorm'"):
        Table([row, replace(row, name="graph norm")])


def test_a_row_needs_a_known_verdict_and_a_reason_where_nothing_is_defined() -> None:
    row = TABLE1["GraphNorm"]
    with pytest.raises(ValueError, match="verdict of 'GraphNorm' is 'wrong', expected one of same, notation"):
        replace(row, verdict="wrong")
    with pytest.raises(ValueError, match="needs either as_printed or the reason"):
        replace(row, as_printed=None)
    assert replace(row, as_printed=None, undefined="the axis y has no meaning").undefined


def test_nullity_counts_the_declared_invariances() -> None:
    sizes = {"samples": 2, "nodes": 9, "channels": 8}
    counted = {
        name: TABLE1[name].nullity(**sizes) for name in ("InstanceNorm", "PairNorm", "BatchNorm", "GraphSizeNorm")
    }
    assert counted == {"InstanceNorm": 32, "PairNorm": 18, "BatchNorm": 16, "GraphSizeNorm": 0}
    assert TABLE1["GroupNorm"].nullity(**sizes, groups=4) == 16
    assert TABLE1["BatchNorm"].nullity(**sizes, training=False) == 0
    assert TABLE1["PairNorm"].invariances == {
        "shift per (sample, channel)": "samples * channels",
        "scale per sample": "samples",
    }


def test_pools_name_the_axes_for_a_picture() -> None:
    assert TABLE1["BatchNorm"].pools == ("bx", "bx")
    assert TABLE1["PairNorm"].pools == ("x", "xv")
    assert TABLE1["GroupNorm"].pools == ("xg", "xg")
    assert TABLE1["FilterResponseNorm"].pools == (None, "x")


def test_rows_and_table_say_what_they_are_in_text() -> None:
    assert repr(TABLE1["SetNorm"]) == "Row('SetNorm', verdict='error', layer=SetNorm)"
    lines = repr(TABLE1).splitlines()
    assert len(lines) == 1 + len(TABLE1)
    assert lines[1].split() == ["BatchNorm", "same", "BatchNorm"]


@every_row
def test_a_row_renders_its_formulas_for_mathjax(row: Row) -> None:
    page = row._repr_html_()
    assert page.count(r"\(") == page.count(r"\)") >= 2
    assert page.count("<tr>") == page.count("</tr>")
    assert f">{row.name}</caption>" in page
    assert row.verdict in page
    text = row._repr_markdown_()
    assert f"| Printed | ${row.printed}$ |" in text
    assert all(line.startswith("|") for line in text.splitlines())


def test_html_escapes_what_a_formula_may_contain() -> None:
    row = replace(TABLE1["GraphNorm"], printed="a<b", note="Smaller: $a<b$ & so on.")
    assert r"\(\displaystyle a&lt;b\)" in row._repr_html_(), "a formula alone in its cell is set large"
    assert r"\(a&lt;b\)" in row._repr_html_(), "a formula in a sentence is set as text"
    assert "&amp; so on." in row._repr_html_()


def test_the_table_renders_every_row() -> None:
    page, text = TABLE1._repr_html_(), TABLE1._repr_markdown_()
    for row in TABLE1.values():
        assert f">{row.name}</th>" in page
        assert f"| {row.name} | {row.verdict} | ${row.printed}$ | ${row.published}$ |" in text
    assert len(text.splitlines()) == 2 + len(TABLE1)
    assert 'role="region"' in page, "wide tables scroll inside a region that the keyboard reaches"


def test_properties_default_to_what_a_constant_factor_has() -> None:
    properties = Properties()
    assert properties.permutation
    assert properties.independent_train
    assert properties.invariances == ()
