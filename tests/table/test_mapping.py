"""The table as a mapping, a resolver and a rendering."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
from table.rows import CHANNELS, EVERY, ROWS, every_layer, every_row, fields_of
from torch import nn

import geonorm.layers.modern
from geonorm import EGANNorm, GraphNorm, GroupNorm, NeighborNorm, RMSNorm
from geonorm.table import AFTER_2022, TABLE1, Properties, Row, Table, UnknownRowError, make
from geonorm.table.render import axes_in_words, facts, row_text

SURVEY = [  # the survey's Table 1: left column, then right column
    "BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "FilterResponseNorm", "VarianceNorm", "WeightNorm",
    "SpectralNorm", "ScaledWeight", "Quaternion", "Vector Perceptron / EGAN", "GraphNorm", "PairNorm",
    "MeanSubtractionNorm", "MessageNorm", "DiffGroupNorm", "SetNorm", "EvNorm", "Vector Neuron", "GraphSizeNorm",
    "SchNet", "Allegro / MACE",
]  # fmt: skip
MISSING = ["Vector Field"]  # the layer of Case 3, for which the survey's table has no row
REFERENCES = Path(__file__).parents[2] / "book" / "references.bib"
both_tables = pytest.mark.parametrize("table", [TABLE1, AFTER_2022], ids=["TABLE1", "AFTER_2022"])


def entries() -> dict[str, str]:
    """The entries of the references by their keys."""
    texts = re.split(r"^(?=@)", REFERENCES.read_text(), flags=re.MULTILINE)[1:]
    return {re.match(r"@\w+\{([^,]+),", text)[1]: text for text in texts}


def keys() -> set[str]:
    return set(entries())


def test_rows_are_the_surveys_22_in_the_surveys_order_and_the_one_it_leaves_out() -> None:
    assert list(TABLE1) == SURVEY + MISSING
    assert len(SURVEY) == 22
    assert [row.name for row in TABLE1.values() if row.printed is None] == MISSING
    assert [row.name for row in TABLE1.values() if row.verdict == "missing"] == MISSING


def test_the_continuation_has_every_layer_that_is_none_of_table_1() -> None:
    classes = {getattr(geonorm.layers.modern, name) for name in geonorm.layers.modern.__all__}
    classes = {each for each in classes if isinstance(each, type)}
    assert {row.layer for row in AFTER_2022.values()} == classes
    assert all(row.verdict == "unlisted" and row.printed is None for row in AFTER_2022.values())
    assert not set(AFTER_2022) & set(TABLE1)


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
        ("allegro", "Allegro / MACE"),
        ("mace", "MACE"),
        ("quaternion_norm", "Quaternion"),
        ("GVP", "Vector Perceptron / EGAN"),
        ("vector_perceptron_egan", "Vector Perceptron / EGAN"),
        ("EGAN", "EGAN"),
        ("egan_norm", "EGAN"),
        ("EQGAT", "EGAN"),
        ("VectorNeuronNorm", "Vector Neuron"),
        ("RotEqNet", "Vector Field"),
        ("layer norm per node", "LayerNorm per node"),
    ],
)
def test_a_row_is_found_by_its_name_its_class_and_in_lower_snake(name: str, found: str) -> None:
    assert TABLE1[name].name == found
    assert name in TABLE1


@every_layer
def test_every_row_is_found_by_every_name_of_it(row: Row) -> None:
    table = TABLE1 if row.name in TABLE1 else AFTER_2022
    snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", row.name).lower().replace(" ", "_")
    for name in (row.name, row.name.upper(), snake, *row.aliases):
        assert table[name] is row, name
    assert table[row.layer.__name__].layer is row.layer


@every_layer
def test_every_layer_is_made_by_its_name(row: Row) -> None:
    features = nn.Linear(4, 4) if row.acts_on == "weights" else fields_of(row)
    if row.features == "tensors":
        features = CHANNELS["tensors"]
    made = make(row.name, features, **row.needs)
    assert isinstance(made, nn.Module)
    assert row.acts_on == "weights" or type(made) is row.layer


def test_a_variant_is_made_with_its_options() -> None:
    assert isinstance(make("EGAN", 4), EGANNorm)
    assert make("MACE", 4, 9.0).power == 1.0
    assert make("Allegro", 4, 9.0).power == 0.5
    assert make("quaternion per sample", 4).mode == "sample"
    assert make("LayerNorm per node", 4).mode == "node"
    assert repr(make("VarianceNorm RMS", 4)) == "VarianceNorm(4, statistic='rms')"
    assert make("EvNorm per node", 4).statistics == "node"
    assert make("EquivariantLayerNorm with vectors centred", "4x1o").mean_on == "all"


@pytest.mark.parametrize("look_up", [TABLE1.__getitem__, make])
def test_unknown_names_get_the_nearest_ones(look_up) -> None:
    with pytest.raises(UnknownRowError, match=r"no normalization layer is called 'grafnorm': try 'GraphNorm'"):
        look_up("grafnorm")
    with pytest.raises(KeyError, match="try one of BatchNorm, LayerNorm"):
        look_up("xyz")


def test_unknown_names_get_the_nearest_of_both_tables_and_of_variants() -> None:
    with pytest.raises(UnknownRowError, match="'EquivariantLayerNorm'"):
        make("equivariant_layernorms", 4)
    with pytest.raises(UnknownRowError, match="try 'LayerNorm per node'"):
        make("layernorm_by_node", 4)


def test_get_and_membership_work_as_for_any_mapping() -> None:
    assert "no such layer" not in TABLE1
    assert TABLE1.get("no such layer") is None
    assert 3 not in TABLE1


def test_make_builds_layers_with_their_arguments() -> None:
    assert isinstance(make("graph_norm", 8), GraphNorm)
    assert make("GroupNorm", 8, num_groups=4).num_groups == 4
    assert isinstance(make("GroupNorm", 8, 4), GroupNorm)
    assert isinstance(make("SchNet", 8), NeighborNorm)
    assert isinstance(make("rms_norm", "8x0e+4x1o"), RMSNorm)
    linear = nn.Linear(3, 3)
    assert make("weight_norm", linear) is linear


def test_two_rows_cannot_share_a_name() -> None:
    row = TABLE1["GraphNorm"]
    with pytest.raises(ValueError, match="share the name 'graphnorm'"):
        Table([row, replace(row, name="graph norm")])
    with pytest.raises(ValueError, match="share the name 'egan'"):
        Table([TABLE1["Vector Perceptron / EGAN"], replace(row, aliases=("EGAN",))])


def test_a_row_needs_a_known_verdict_and_a_reason_where_nothing_is_defined() -> None:
    row = TABLE1["GraphNorm"]
    with pytest.raises(ValueError, match="verdict of 'GraphNorm' is 'wrong', expected one of same, notation"):
        replace(row, verdict="wrong")
    with pytest.raises(ValueError, match="needs either as_printed or the reason"):
        replace(row, as_printed=None)
    assert replace(row, as_printed=None, undefined="the axis y has no meaning").undefined
    with pytest.raises(ValueError, match="verdict 'error', which does not fit printed=None"):
        replace(row, printed=None)
    with pytest.raises(ValueError, match="prints nothing, expected neither"):
        replace(row, printed=None, verdict="missing")
    with pytest.raises(ValueError, match="features of 'GraphNorm' are 'spinors', expected one of scalars, vectors"):
        replace(row, features="spinors")


def test_nullity_counts_the_declared_invariances() -> None:
    sizes = {"samples": 2, "nodes": 9, "channels": 8}
    counted = {
        name: TABLE1[name].nullity(**sizes) for name in ("InstanceNorm", "PairNorm", "BatchNorm", "GraphSizeNorm")
    }
    assert counted == {"InstanceNorm": 32, "PairNorm": 18, "BatchNorm": 16, "GraphSizeNorm": 0}
    assert TABLE1["GroupNorm"].nullity(**sizes, groups=4) == 16
    assert TABLE1["BatchNorm"].nullity(**sizes, training=False) == 0
    assert TABLE1["Quaternion"].nullity(**sizes) == 8
    assert TABLE1["EGAN"].nullity(**sizes) == 6
    assert AFTER_2022["EquivariantLayerNorm"].nullity(**sizes) == 9 + 3 * 9
    assert AFTER_2022["EquivariantLayerNorm"].nullity(**sizes, features="4x0e+4x1o") == 9 + 2 * 9
    assert AFTER_2022["TypedBatchNorm"].nullity(**sizes, kinds=3) == 48
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


def test_properties_default_to_what_a_constant_factor_has() -> None:
    properties = Properties()
    assert properties.permutation
    assert properties.independent_train
    assert properties.invariances == ()
