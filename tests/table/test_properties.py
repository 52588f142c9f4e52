"""Every declared symmetry and invariance of the table, measured."""

import pytest
import torch
from table.measure import (
    CHANNELS,
    NODES,
    SIZES,
    Case,
    build,
    coupling,
    jacobian,
    nullity,
    permutation_error,
    rotation_error,
    weight_jacobian,
)

from geonorm.layers.standardize import Standardize
from geonorm.table import TABLE1, Row

ROUNDING = 1e-12
every_row = pytest.mark.parametrize("row", TABLE1.values(), ids=lambda row: row.name)


def sizes(row: Row) -> dict[str, int]:
    return {"samples": len(SIZES), "nodes": NODES, "channels": CHANNELS, "groups": row.needs.get("num_groups", 1)}


@every_row
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_permuting_the_nodes_permutes_the_output_as_declared(row: Row, training: bool) -> None:
    case = Case(row)
    case.layer.train(training)
    assert (permutation_error(case) < ROUNDING) == row.properties.permutation


@every_row
def test_rotations_of_naive_columns_are_respected_up_to_the_declared_level_and_no_further(row: Row) -> None:
    levels = ["batch", "sample", "node"]
    respected = levels[: levels.index(row.properties.rotation) + 1] if row.properties.rotation else []
    for level in levels:
        error = rotation_error(Case(row), level)
        assert error < ROUNDING if level in respected else error > 1e-2, level


@every_row
def test_samples_are_independent_in_training_as_declared(row: Row) -> None:
    cross = coupling(jacobian(Case(row)))
    assert cross == 0 if row.properties.independent_train else cross > 1e-3


@every_row
def test_samples_are_independent_in_evaluation_as_declared(row: Row) -> None:
    case = Case(row)
    for _ in range(3):
        case(torch.randn_like(case.x))
    case.layer.eval()
    assert row.properties.independent_eval
    assert coupling(jacobian(case)) == 0


@every_row
def test_the_layer_removes_as_many_directions_as_declared(row: Row) -> None:
    assert nullity(jacobian(Case(row))) == row.nullity(**sizes(row))


@every_row
def test_evaluation_with_stored_statistics_removes_nothing(row: Row) -> None:
    case = Case(row)
    case(case.x)
    case.layer.eval()
    assert nullity(jacobian(case)) == row.nullity(**sizes(row), training=False)
    if row.running:
        assert row.nullity(**sizes(row), training=False) == 0


@pytest.mark.parametrize("row", [row for row in TABLE1.values() if row.name == "MessageNorm"], ids=lambda row: row.name)
def test_message_norm_removes_one_scale_of_each_message(row: Row) -> None:
    case = Case(row)
    assert nullity(jacobian(case, of="messages")) == row.nullity(**sizes(row), of="messages") == NODES


@pytest.mark.parametrize(
    ("name", "expected"), [("WeightNorm", CHANNELS), ("SpectralNorm", 1), ("ScaledWeight", 2 * CHANNELS)]
)
def test_invariances_of_the_weights_are_as_declared(name: str, expected: int) -> None:
    row = TABLE1[name]
    assert nullity(weight_jacobian(Case(row))) == row.nullity(**sizes(row), of="weights") == expected


@every_row
def test_declared_shifts_and_scales_leave_the_output_as_it_is(row: Row) -> None:
    case = Case(row)
    sample = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
    group = torch.arange(CHANNELS) * sizes(row)["groups"] // CHANNELS
    for invariance in row.properties.invariances:
        if invariance.of != "features":
            continue
        number = {"sample": len(SIZES), "node": NODES, "channel": CHANNELS, "group": sizes(row)["groups"]}
        parameter = torch.rand([number[thing] for thing in invariance.per], dtype=torch.float64) + 0.5
        index = [{"sample": sample, "node": torch.arange(NODES)}.get(thing) for thing in invariance.per]
        columns = [{"channel": torch.arange(CHANNELS), "group": group}.get(thing) for thing in invariance.per]
        place = tuple(
            rows[:, None] if rows is not None else cols[None, :] for rows, cols in zip(index, columns, strict=True)
        )
        change = parameter[place].expand(NODES, CHANNELS)
        changed = case.x + change if invariance.kind == "shift" else case.x * change
        torch.testing.assert_close(case(changed), case(case.x), rtol=0, atol=1e-10)


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
    lengths = {"channels": CHANNELS, "groups": row.needs.get("groups", 1), "1": 1}
    declared = {name: [lengths[word] for word in shape.split(", ")] for name, shape in row.learnable.items()}
    assert {name: list(p.shape) for name, p in layer.named_parameters() if p.requires_grad} == declared
    buffers = {name for name, buffer in layer.named_buffers() if name.startswith("running") and buffer is not None}
    assert buffers == set(row.running)
    options = {"InstanceNorm": {"affine": True, "track_running_stats": True}, "MessageNorm": {"learn_scale": True}}
    full = build(row, **options.get(row.name, {}))
    found = {name for name, p in full.named_parameters() if p.requires_grad} | dict(full.named_buffers()).keys()
    assert set(row.on_request) <= found - set(row.learnable) - set(row.running)
