"""Every declared symmetry and invariance of the two tables, measured."""

from functools import lru_cache

import pytest
import torch
from table.cases import BATCH, NODES, SIZES, Case, build
from table.directions import directions
from table.rows import CHANNELS, EVERY, every_layer, fields_of, with_every_parity
from torch import Tensor

from geonorm.layers.standardize import Standardize
from geonorm.layers.vector.perceptron import ScalarsAndVectors
from geonorm.match import (
    NullSpace,
    cross_sample_influence,
    explain_null_space,
    frozen,
    invariance_error,
    node_permutation_error,
    null_space,
    null_space_dimension,
    relative_error,
    rotate,
    rotation_error,
)
from geonorm.table import AFTER_2022, TABLE1, Row
from geonorm.table.properties import Invariance, sizes_of

ROUNDING = 1e-12
LEVELS = ["batch", "sample", "node"]
KINDS = {"shift", "scale", "shift of lengths"}
every_number = pytest.mark.parametrize("number", range(len(EVERY)), ids=[row.name for row in EVERY])
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def sizes(row: Row) -> dict[str, int]:
    return {
        "samples": len(SIZES),
        "nodes": NODES,
        "channels": CHANNELS[row.features],
        "groups": row.needs.get("num_groups", 1),
        "kinds": row.needs.get("num_types", 1),
    }


def symmetric_case(row: Row) -> Case:
    """A layer with parameters of its own, on features of every parity: what holds here holds after training."""
    return Case(row, random_parameters=True, features=with_every_parity(row))


@every_layer
@modes
def test_permuting_the_nodes_permutes_the_output_as_declared(row: Row, training: bool) -> None:
    case = symmetric_case(row)
    error = node_permutation_error(case.layer, case.x, BATCH, training=training)
    assert (error < ROUNDING) == row.properties.permutation


@every_layer
@modes
def test_rotations_are_respected_up_to_the_declared_level_and_no_further(row: Row, training: bool) -> None:
    finest = row.properties.rotation
    respected = LEVELS[: LEVELS.index(finest) + 1] if finest else []
    case = symmetric_case(row)
    for level in LEVELS:
        error = rotation_error(
            case.layer,
            case.x,
            BATCH,
            irreps=case.irreps,
            irreps_out=case.irreps_out,
            level=level,
            improper=False,
            training=training,
        )
        assert error < ROUNDING if level in respected else error > 1e-2, level


@every_layer
@modes
def test_the_inversion_is_respected_as_declared(row: Row, training: bool) -> None:
    case = symmetric_case(row)
    function, inversion = frozen(case.layer, training), -torch.eye(3, dtype=torch.float64).expand(NODES, 3, 3)
    inverted = function(rotate(case.x, inversion, case.irreps), BATCH)
    error = relative_error(inverted, rotate(function(case.x, BATCH), inversion, case.irreps_out))
    assert error < ROUNDING if row.properties.inversion else error > 1e-2


@every_layer
def test_translations_of_raw_coordinates_are_removed_up_to_the_declared_level_and_no_further(row: Row) -> None:
    case = Case(row)
    removed = LEVELS[: LEVELS.index(row.properties.translation) + 1] if row.properties.translation else []
    function = frozen(case.of_features(), training=True)
    for level in LEVELS:
        error = relative_error(function(translated(case, level), BATCH), function(case.features, BATCH))
        assert error < 1e-10 if level in removed else error > 1e-3, level


def translated(case: Case, level: str) -> Tensor:
    """Features that are raw coordinates, moved by one vector per batch, sample or node; scalars stay."""
    number = {"batch": torch.zeros_like(BATCH), "sample": BATCH, "node": torch.arange(NODES)}[level]
    vectors = torch.randn(NODES, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(7))[number]
    if case.row.features == "tensors":
        return case.features + torch.einsum("ni,nj->nij", vectors, vectors)[:, None]
    if case.row.features in ("scalars", "vectors"):
        return (case.features.reshape(NODES, -1, 3) + vectors[:, None]).reshape(case.features.shape)
    moved = case.features.clone()
    for number, column in enumerate(case.fields.columns):
        if column.dim == 3:
            moved[:, number] += vectors[:, column.component]
    return moved


@every_layer
@modes
def test_samples_are_independent_as_declared(row: Row, training: bool) -> None:
    case = symmetric_case(row)
    influence = cross_sample_influence(case.of_features(), case.features, BATCH, training=training)
    declared = row.properties.independent_train if training else row.properties.independent_eval
    assert influence == 0 if declared else influence > 1e-3


@lru_cache(None)
def losses(number: int, training: bool) -> NullSpace:
    """What a layer as it is built removes; the Jacobian is the slow part of these tests."""
    case = Case(EVERY[number])
    return null_space(case.of_features(), case.features, BATCH, training=training)


@every_number
@modes
def test_the_layer_removes_as_many_directions_as_declared(number: int, training: bool) -> None:
    row, found = EVERY[number], losses(number, training)
    assert found.dimension == row.nullity(**sizes(row), training=training)
    assert found.smallest_kept > 1e-3
    assert found.largest_dropped < tolerance(row)


def tolerance(row: Row) -> float:
    """Vector Neuron adds 10⁻⁶ to every length, so that a scale is not quite lost."""
    return 1e-5 if row.name == "Vector Neuron" else 1e-9


@every_number
def test_what_the_layer_removes_is_what_is_declared(number: int) -> None:
    row, found = EVERY[number], losses(number, training=True)
    case = Case(row)
    kinds = case.further[:, 0].long() if "num_types" in row.needs else None
    declared = [each for each in row.properties.invariances if each.of == "features"]
    bases, others = [found.basis[:, :0]], 0
    for each in declared:
        expected = each.count(**sizes(row) | sizes_of(fields_of(row), each.on))
        if each.kind not in KINDS:
            others += expected
            continue
        bases.append(directions(each, case, BATCH, groups=row.needs.get("num_groups"), kinds=kinds))
        assert bases[-1].shape[1] == expected, each.name
        outside = bases[-1] - found.basis @ (found.basis.T @ bases[-1])
        assert outside.abs().max() < 1e2 * tolerance(row), each.name
    named = torch.cat(bases, 1)
    # No direction is declared twice, and what has no formula of its own is as much as the others leave.
    assert (int(torch.linalg.matrix_rank(named)) if named.shape[1] else 0) == named.shape[1]
    assert found.dimension == named.shape[1] + others


@every_layer
def test_a_finite_change_of_what_is_removed_changes_nothing(row: Row) -> None:
    case = Case(row)
    groups = row.needs.get("num_groups")
    known = ("channel", "group", "field", "type", "sample", "node")
    for each in row.properties.invariances:
        if each.kind in ("shift", "scale") and (each.of, each.on) == ("features", "all") and set(each.per) <= {*known}:
            layer, irreps = case.of_features(), None if row.features == "scalars" else case.irreps
            error = invariance_error(
                layer, case.features, BATCH, kind=each.kind, per=each.per, groups=groups, irreps=irreps
            )
            assert error < tolerance(row), each.name


@pytest.mark.parametrize("name", [row.name for row in TABLE1.values() if row.features in ("scalars", "vectors")])
def test_the_checker_gives_the_losses_the_names_of_the_table(name: str) -> None:
    row = TABLE1[name]
    case = Case(row)
    found = explain_null_space(case.of_features(), case.features, BATCH, groups=row.needs.get("num_groups"))
    known = {**sizes(row), **sizes_of(fields_of(row))}
    of_features = [each for each in row.properties.invariances if each.of == "features"]
    assert found.named == {each.name: each.count(**known) for each in of_features}
    assert found.unexplained == 0


def test_max_min_norm_loses_the_direction_of_the_shortest_vector_of_each_node() -> None:
    case = Case(AFTER_2022["MaxMinNorm"])
    space = null_space(case.layer, case.features, BATCH)
    shortest = case.features.norm(dim=2).argmin(1)
    for node, channel in enumerate(shortest.tolist()):
        turn = torch.zeros_like(case.features)
        vector = case.features[node, channel]
        turn[node, channel] = torch.linalg.cross(vector, torch.ones(3, dtype=torch.float64))
        turn = turn.flatten() / turn.norm()
        assert (space.basis.T @ turn).norm() == pytest.approx(1)


def test_message_norm_removes_one_scale_of_each_message() -> None:
    row = TABLE1["MessageNorm"]
    case = Case(row)
    removed = null_space_dimension(case.of_messages, case.further)
    assert removed == row.nullity(**sizes(row), of="messages") == NODES


@pytest.mark.parametrize(("name", "expected"), [("WeightNorm", 12), ("SpectralNorm", 1), ("ScaledWeight", 24)])
def test_invariances_of_the_weights_are_as_declared(name: str, expected: int) -> None:
    row = TABLE1[name]
    parametrization = build(row).parametrizations.weight.eval()
    *gains, weight = [original.detach() for original in parametrization.parameters(recurse=False)]
    removed = null_space_dimension(lambda x: parametrization[0](*gains, x), weight)
    assert removed == row.nullity(**sizes(row), of="weights") == expected


@every_layer
def test_declared_axes_are_the_axes_of_the_layer(row: Row) -> None:
    layer = build(row)
    if isinstance(layer, ScalarsAndVectors):
        assert (layer.scalars.mean_axes, layer.vectors.scale_axes) == (row.mean, row.scale)
        assert layer.vectors.mean_axes is None
    if isinstance(layer, Standardize) and not row.of_lengths:
        assert (layer.mean_axes, layer.scale_axes) == (row.mean, row.scale)
        assert layer.statistic == row.statistic or row.scale is None
        assert (row.centred == "scalars") == (
            layer.mean_on == "0e" and row.features == "irreps" and row.mean is not None
        )


@every_layer
def test_declared_parameters_and_statistics_are_those_of_the_layer(row: Row) -> None:
    if row.acts_on == "weights":
        return
    layer = build(row)
    declared = {name: [length(row, word) for word in shape.split(", ")] for name, shape in row.learnable.items()}
    found = {name: list(p.shape) for name, p in layer.named_parameters() if p.requires_grad}
    assert {name.removeprefix("scalars."): shape for name, shape in found.items()} == declared
    buffers = {name.split(".")[-1] for name, buffer in layer.named_buffers() if "running" in name}
    assert buffers == set(row.running)


def length(row: Row, word: str) -> int:
    """The number that a word in a declared shape stands for."""
    features = fields_of(row)
    words = {
        "channels": CHANNELS[row.features],
        "groups": row.needs.get("groups", 1),
        "node types": row.needs.get("num_types", 1),
        "fields": sizes_of(features)["fields"],
        "scalar fields": sizes_of(features, "scalars")["fields"],
        "scalar channels": sizes_of(features, "scalars")["fields"],
    }
    return int(word) if word.isdigit() else words[word]


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


def test_invariances_are_named_and_counted_in_words() -> None:
    assert Invariance("scale").name == "one scale of all features"
    assert Invariance("shift", ("sample", "channel")).formula == "samples * channels"
    scalars = Invariance("shift", ("node", "field"), on="scalars")
    assert (scalars.name, scalars.formula) == ("shift of scalars per (node, field)", "nodes * scalar fields")
    turn = Invariance("turn of the shortest vector", ("node",), number=2)
    assert (turn.name, turn.formula, turn.count(nodes=9)) == ("turn of the shortest vector per node", "2 * nodes", 18)
    assert sizes_of("2x0e+3x0o+4x1o", "non-scalars") == {"channels": 15, "fields": 7, "types": 2, "components": 4}
