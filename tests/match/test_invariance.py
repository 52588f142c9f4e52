"""Null spaces have the dimensions and the names that the mathematics gives, on graphs of 4 and 5 nodes, 8 channels."""

import pytest
import torch
from e3nn.nn import BatchNorm as E3nnBatchNorm
from torch import nn

from geonorm import (
    BatchNorm,
    DiffGroupNorm,
    FilterResponseNorm,
    GraphNorm,
    GraphSizeNorm,
    GroupNorm,
    InstanceNorm,
    LayerNorm,
    MeanSubtractionNorm,
    PairNorm,
    SetNorm,
    Standardize,
    VarianceNorm,
)
from geonorm.match import explain_null_space, null_space, null_space_dimension
from geonorm.table import TABLE1

BATCH = torch.repeat_interleave(torch.arange(2), torch.tensor([4, 5]))
GRAPHS, NODES, CHANNELS = 2, 9, 8


def graph_norm(alpha: float | torch.Tensor) -> GraphNorm:
    layer = GraphNorm(CHANNELS)
    with torch.no_grad():
        layer.mean_scale.copy_(torch.as_tensor(alpha))
    return layer


CLOSED_FORMS = [
    (InstanceNorm(8), {"shift per (sample, channel)": 16, "scale per (sample, channel)": 16}),
    (LayerNorm(8), {"shift per sample": 2, "scale per sample": 2}),
    (SetNorm(8), {"shift per sample": 2, "scale per sample": 2}),
    (LayerNorm(8, mode="node"), {"shift per node": 9, "scale per node": 9}),
    (nn.LayerNorm(8), {"shift per node": 9, "scale per node": 9}),
    (nn.RMSNorm(8), {"scale per node": 9}),
    (PairNorm(8), {"shift per (sample, channel)": 16, "scale per sample": 2}),
    (PairNorm(8, scale_individually=True), {"shift per (sample, channel)": 16, "scale per sample": 2}),
    (MeanSubtractionNorm(8), {"shift per (sample, channel)": 16}),
    (BatchNorm(8), {"shift per channel": 8, "scale per channel": 8}),
    (nn.BatchNorm1d(8), {"shift per channel": 8, "scale per channel": 8}),
    (graph_norm(1.0), {"shift per (sample, channel)": 16, "scale per (sample, channel)": 16}),
    (graph_norm(0.7), {"scale per (sample, channel)": 16}),
    (VarianceNorm(8), {"scale per channel": 8}),
    (VarianceNorm(8, statistic="rms"), {"scale per channel": 8}),
    (FilterResponseNorm(8, threshold=False), {"scale per (sample, channel)": 16}),
    (GroupNorm(8, 2), {"shift per (sample, group)": 4, "scale per (sample, group)": 4}),
    (GraphSizeNorm(8), {}),
    (DiffGroupNorm(8, 3), {}),
    (Standardize(8, mean=None, scale="bxv", statistic="rms"), {"one scale of all features": 1}),
    (Standardize(8, mean="bxv", scale=None), {"one shift of all features": 1}),
    (Standardize(8, mean="x", scale="x", exponent=0.5), {"shift per (sample, channel)": 16}),
    (nn.Identity(), {}),
]


@pytest.mark.parametrize(("layer", "named"), CLOSED_FORMS, ids=lambda value: repr(value)[:40])
def test_every_layer_loses_the_directions_of_the_closed_form_and_they_are_named(layer, named: dict[str, int]) -> None:
    found = explain_null_space(layer, torch.randn(NODES, CHANNELS), BATCH, groups=2)
    assert found.named == named
    assert found.unexplained == 0
    assert found.dimension == sum(named.values())
    assert found.gap > 100


@pytest.mark.parametrize("layer", [BatchNorm(8), VarianceNorm(8), nn.BatchNorm1d(8)], ids=repr)
def test_eval_mode_loses_nothing(layer) -> None:
    for _ in range(3):
        layer(torch.randn(NODES, CHANNELS))
    assert null_space_dimension(layer, torch.randn(NODES, CHANNELS), BATCH, training=False) == 0


ON_SCALARS = [row for row in TABLE1.values() if row.acts_on == "features" and row.features == "scalars"]


@pytest.mark.parametrize("row", ON_SCALARS, ids=lambda row: row.name)
def test_names_and_dimensions_are_those_that_the_table_declares(row) -> None:
    layer = row.make(CHANNELS, **row.needs)
    if row.name == "FilterResponseNorm":
        nn.init.constant_(layer.threshold, -100)
    sizes = {"samples": GRAPHS, "nodes": NODES, "channels": CHANNELS, "groups": row.needs.get("num_groups", 1)}
    found = explain_null_space(layer, torch.randn(NODES, CHANNELS), BATCH, groups=row.needs.get("num_groups"))
    assert found.named == {each.name: each.count(**sizes) for each in row.properties.invariances}
    assert found.unexplained == 0


@pytest.mark.parametrize(("nodes", "channels", "dimension"), [(5, 2, 5), (5, 8, 9), (9, 3, 9), (4, 4, 5)])
def test_individually_scaled_pair_norm_loses_more_than_any_group_of_shifts_and_scales(
    nodes, channels, dimension
) -> None:
    layer = PairNorm(channels, scale_individually=True)
    found = explain_null_space(layer, torch.randn(nodes, channels))
    assert found.dimension == dimension
    assert found.unexplained == dimension - channels - 1


def test_an_unnamed_loss_is_reported_as_unexplained() -> None:
    direction = nn.functional.normalize(torch.randn(NODES * CHANNELS, dtype=torch.float64), dim=0).reshape(NODES, -1)
    found = explain_null_space(lambda x: x - (direction * x).sum() * direction, torch.randn(NODES, CHANNELS), BATCH)
    assert (found.named, found.dimension, found.unexplained) == ({}, 1, 1)


def test_a_mean_removed_from_some_channels_only_is_found_in_part() -> None:
    alpha = torch.tensor([1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5, 0.5])
    found = explain_null_space(graph_norm(alpha), torch.randn(NODES, CHANNELS), BATCH)
    assert found.named == {"scale per (sample, channel)": 16, "shift per (sample, channel)": 6}
    assert found.unexplained == 0


def test_a_scale_is_found_whole_where_eps_leaves_a_part_of_it() -> None:
    x = torch.randn(NODES, CHANNELS, dtype=torch.float64)
    x[:, 0] *= 1e-2
    layer = VarianceNorm(8, eps=1e-6)
    assert null_space_dimension(layer, x, BATCH) == 7
    found = explain_null_space(layer, x, BATCH)
    assert (found.named, found.dimension, found.unexplained) == ({"scale per channel": 8}, 8, 0)
    assert 1 < found.gap < 100  # which says that the count is none of singular values


def test_columns_that_are_not_read_are_named() -> None:
    found = explain_null_space(lambda x: x[:, 2:], torch.randn(NODES, CHANNELS), BATCH)
    assert found.named == {"everything in the columns 0-1": 2 * NODES}
    assert (found.dimension, found.unexplained) == (2 * NODES, 0)


def test_rotations_are_named_where_columns_are_vectors() -> None:
    found = explain_null_space(lambda x: x[:, :3].norm(dim=1, keepdim=True), torch.randn(NODES, 3), irreps="1x1o")
    assert found.named == {"rotation per node": 2 * NODES}
    assert (found.dimension, found.unexplained) == (2 * NODES, 0)


def test_overlapping_families_are_counted_once() -> None:
    def centred_over_nodes_and_channels(x):
        u = x - x.mean(0)
        return u - u.mean(1, keepdim=True)

    found = explain_null_space(centred_over_nodes_and_channels, torch.randn(NODES, CHANNELS))
    assert found.named == {"shift per node": 9, "shift per channel": 7}
    assert (found.dimension, found.unexplained) == (16, 0)


IRREPS_CASES = [
    (E3nnBatchNorm("2x0e+2x1o"), {"scale per field": 4, "shift per field": 2}),
    (Standardize("2x0e+2x1o", mean="bx", scale="bxm"), {"scale per field": 4, "shift per field": 2}),
    (Standardize("2x0e+2x1o", mean="x", scale="xm"), {"scale per (sample, field)": 8, "shift per (sample, field)": 4}),
    (Standardize("2x0e+2x1o", mean=None, scale="vm"), {"scale per (node, type)": 18}),
    (Standardize("2x0e+2x1o", mean=None, scale="xvtm", statistic="rms"), {"scale per sample": 2}),
]


@pytest.mark.parametrize(("layer", "named"), IRREPS_CASES, ids=lambda value: repr(value)[:60])
def test_losses_on_irreps_are_named_by_fields_and_types(layer, named: dict[str, int]) -> None:
    found = explain_null_space(layer, torch.randn(NODES, 8), BATCH, irreps="2x0e+2x1o")
    assert found.named == named
    assert found.unexplained == 0


class TestVectors:
    x = torch.randn(9, 4, 3, generator=torch.Generator().manual_seed(1))

    def test_unit_vectors_lose_every_length(self) -> None:
        found = explain_null_space(lambda x: x / x.norm(dim=2, keepdim=True), self.x, BATCH)
        assert (found.named, found.unexplained) == ({"scale per (node, field)": 36}, 0)

    def test_layer_norm_over_channels_and_components_loses_two_directions_per_node(self) -> None:
        found = explain_null_space(nn.LayerNorm([4, 3]), self.x, BATCH)
        assert (found.named, found.unexplained) == ({"shift per node": 9, "scale per node": 9}, 0)

    def test_batch_norm_of_lengths_loses_shift_and_scale_of_lengths_per_channel(self) -> None:
        def vector_neuron_batch_norm(x):
            length = x.norm(dim=2, keepdim=True)
            return x / length * (length - length.mean(0)) / length.std(0)

        found = explain_null_space(vector_neuron_batch_norm, self.x, BATCH)
        assert (found.named, found.unexplained) == ({"scale per field": 4, "shift of lengths per field": 4}, 0)

    def test_lengths_as_output_lose_the_directions(self) -> None:
        found = explain_null_space(lambda x: x.norm(dim=2), self.x, BATCH)
        assert (found.dimension, found.unexplained) == (72, 72)


def test_the_dropped_singular_value_of_a_scale_is_the_one_that_eps_leaves() -> None:
    x = torch.randn(NODES, CHANNELS, dtype=torch.float64)
    for eps in (1e-9, 1e-7, 1e-5):
        space = null_space(Standardize(8, mean=None, scale="bxv", statistic="rms", eps=eps, bias=False), x)
        assert space.dimension == 1
        assert space.largest_dropped == pytest.approx(eps / (x.square().mean() + eps).item(), rel=1e-3)


def test_the_basis_is_orthonormal_and_moving_along_it_changes_nothing() -> None:
    layer, x = InstanceNorm(8, eps=1e-12).double(), torch.randn(NODES, CHANNELS, dtype=torch.float64)
    space = null_space(layer, x, BATCH)
    torch.testing.assert_close(space.basis.T @ space.basis, torch.eye(32, dtype=torch.float64))
    step = (space.basis @ torch.randn(32, dtype=torch.float64)).reshape(x.shape)
    change = layer(x + 1e-5 * step, BATCH) - layer(x, BATCH)
    assert change.norm() < 1e-8
    assert repr(space).startswith("NullSpace(dimension=32, gap=")


def test_constant_and_locally_constant_layers_lose_everything() -> None:
    x = torch.randn(2, CHANNELS)
    assert null_space_dimension(lambda x: 0 * x, x) == 2 * CHANNELS
    assert null_space_dimension(lambda x: torch.ones_like(x), x) == 2 * CHANNELS
    # Two nodes, no ε: the output is a sign, whose derivative is round-off.
    assert null_space_dimension(InstanceNorm(8, eps=0.0), x) == 2 * CHANNELS


@pytest.mark.parametrize("factor", [1e-8, 1.0, 1e8])
def test_the_unit_of_input_and_output_does_not_matter(factor: float) -> None:
    x = torch.randn(NODES, CHANNELS)
    assert null_space_dimension(lambda x: factor * x, x) == 0
    assert null_space_dimension(lambda x: factor * (x - x.mean(0)), x) == CHANNELS
    assert null_space_dimension(lambda x: x - x.mean(0), factor * x) == CHANNELS


def test_a_verdict_does_not_depend_on_the_input_drawn() -> None:
    for seed in range(50):
        x = torch.randn(NODES, CHANNELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        found = explain_null_space(GraphNorm(8, eps=1e-9), x, BATCH)
        assert found.named == {"shift per (sample, channel)": 16, "scale per (sample, channel)": 16}
        assert found.unexplained == 0


def test_a_jacobian_that_is_not_finite_is_an_error() -> None:
    with pytest.raises(ValueError, match="not finite"):
        null_space(lambda x: x.norm(dim=1, keepdim=True).sqrt() * x, torch.zeros(3, 2))
