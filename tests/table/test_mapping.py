"""The tables as mappings and as resolvers of names, against the survey's list."""

import re
from dataclasses import replace

import pytest
from table.rows import CHANNELS, every_layer, fields_of
from torch import nn

import geonorm.layers.modern
from geonorm import EGANNorm, GraphNorm, GroupNorm, NeighborNorm, RMSNorm
from geonorm.table import AFTER_2022, TABLE1, Properties, Row, Table, UnknownRowError, make

SURVEY = [  # the survey's Table 1: left column, then right column
    "BatchNorm", "LayerNorm", "InstanceNorm", "GroupNorm", "FilterResponseNorm", "VarianceNorm", "WeightNorm",
    "SpectralNorm", "ScaledWeight", "Quaternion", "Vector Perceptron / EGAN", "GraphNorm", "PairNorm",
    "MeanSubtractionNorm", "MessageNorm", "DiffGroupNorm", "SetNorm", "EvNorm", "Vector Neuron", "GraphSizeNorm",
    "SchNet", "Allegro / MACE",
]  # fmt: skip
MISSING = ["Vector Field"]  # the layer of Case 3, for which the survey's table has no row


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


def test_properties_default_to_what_a_constant_factor_has() -> None:
    properties = Properties()
    assert properties.permutation
    assert properties.independent_train
    assert properties.invariances == ()
