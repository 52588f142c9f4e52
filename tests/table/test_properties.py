"""Every declared symmetry and invariance of the table, measured."""

import pytest
from table.cases import BATCH, CHANNELS, NODES, SIZES, VECTORS, Case, build

from geonorm.layers.standardize import Standardize
from geonorm.match import (
    cross_sample_influence,
    explain_null_space,
    invariance_error,
    node_permutation_error,
    null_space,
    null_space_dimension,
    rotation_error,
)
from geonorm.table import TABLE1, Row

ROUNDING = 1e-12
every_row = pytest.mark.parametrize("row", TABLE1.values(), ids=lambda row: row.name)
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def sizes(row: Row) -> dict[str, int]:
    return {"samples": len(SIZES), "nodes": NODES, "channels": CHANNELS, "groups": row.needs.get("num_groups", 1)}


@every_row
@modes
def test_permuting_the_nodes_permutes_the_output_as_declared(row: Row, training: bool) -> None:
    case = Case(row)
    error = node_permutation_error(case.layer, case.x, BATCH, training=training)
    assert (error < ROUNDING) == row.properties.permutation


@every_row
def test_rotations_of_naive_columns_are_respected_up_to_the_declared_level_and_no_further(row: Row) -> None:
    levels = ["batch", "sample", "node"]
    respected = levels[: levels.index(row.properties.rotation) + 1] if row.properties.rotation else []
    case = Case(row)
    for level in levels:
        error = rotation_error(case.layer, case.x, BATCH, irreps=case.irreps, irreps_out=VECTORS, level=level)
        assert error < ROUNDING if level in respected else error > 1e-2, level


@every_row
@modes
def test_samples_are_independent_as_declared(row: Row, training: bool) -> None:
    case = Case(row)
    influence = cross_sample_influence(case.of_features(), case.features, BATCH, training=training)
    declared = row.properties.independent_train if training else row.properties.independent_eval
    assert influence == 0 if declared else influence > 1e-3


@every_row
@modes
def test_the_layer_removes_as_many_directions_as_declared(row: Row, training: bool) -> None:
    case = Case(row)
    found = null_space(case.of_features(), case.features, BATCH, training=training)
    assert found.dimension == row.nullity(**sizes(row), training=training)
    assert found.smallest_kept > 1e-3
    assert found.largest_dropped < 1e-9


@every_row
def test_what_the_layer_removes_is_what_is_declared(row: Row) -> None:
    case = Case(row)
    of_features = [each for each in row.properties.invariances if each.of == "features"]
    groups = row.needs.get("num_groups")
    for each in of_features:
        error = invariance_error(case.of_features(), case.features, BATCH, kind=each.kind, per=each.per, groups=groups)
        assert error < 1e-10, each.name
    found = explain_null_space(case.of_features(), case.features, BATCH, groups=groups)
    assert found.named == {each.name: each.count(**sizes(row)) for each in of_features}
    assert found.unexplained == 0


def test_message_norm_removes_one_scale_of_each_message() -> None:
    row = TABLE1["MessageNorm"]
    case = Case(row)
    removed = null_space_dimension(case.of_messages, case.further)
    assert removed == row.nullity(**sizes(row), of="messages") == NODES


@pytest.mark.parametrize(
    ("name", "expected"), [("WeightNorm", CHANNELS), ("SpectralNorm", 1), ("ScaledWeight", 2 * CHANNELS)]
)
def test_invariances_of_the_weights_are_as_declared(name: str, expected: int) -> None:
    row = TABLE1[name]
    parametrization = build(row).parametrizations.weight.eval()
    *gains, weight = [original.detach() for original in parametrization.parameters(recurse=False)]
    removed = null_space_dimension(lambda x: parametrization[0](*gains, x), weight)
    assert removed == row.nullity(**sizes(row), of="weights") == expected


@every_row
def test_declared_axes_are_the_axes_of_the_layer(row: Row) -> None:
    layer = build(row)
    if isinstance(layer, Standardize):
        assert (layer.mean_axes, layer.scale_axes) == (row.mean, row.scale)
        assert layer.statistic == row.statistic or row.scale is None


@every_row
def test_declared_parameters_and_statistics_are_those_of_the_layer(row: Row) -> None:
    if row.acts_on == "weights":
        return
    layer = build(row)
    lengths = {"channels": CHANNELS, "groups": row.needs.get("groups", 1)}
    declared = {name: [lengths[word] for word in shape.split(", ")] for name, shape in row.learnable.items()}
    assert {name: list(p.shape) for name, p in layer.named_parameters() if p.requires_grad} == declared
    buffers = {name for name, buffer in layer.named_buffers() if name.startswith("running") and buffer is not None}
    assert buffers == set(row.running)


@pytest.mark.parametrize(
    ("name", "options"),
    [("InstanceNorm", {"affine": True, "track_running_stats": True}), ("MessageNorm", {"learn_scale": True})],
)
def test_what_is_declared_on_request_exists_on_request(name: str, options: dict) -> None:
    row = TABLE1[name]
    layer = build(row, **options)
    learned = {name for name, parameter in layer.named_parameters() if parameter.requires_grad}
    assert set(row.on_request) == learned | {name for name, _ in layer.named_buffers() if name.startswith("running")}
    assert not set(row.on_request) & (row.learnable.keys() | set(row.running))
