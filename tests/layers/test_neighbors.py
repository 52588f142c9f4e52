"""Neighbour counts: a node's own, and the average of a data set."""

import pytest
import torch
from layers.peers import assert_equal, assert_same_function, features, refused
from torch import Tensor
from torch_geometric.nn import MeanAggregation, SumAggregation

import geonorm as gn
from geonorm.layers.fields import Vectors

CHANNELS, NODES = 4, 6

#: Edges that end at nodes 0 to 4; node 5 is alone.
RECEIVERS = torch.tensor([0, 0, 0, 1, 2, 2, 3, 4, 4, 4, 4])


def test_the_count_is_the_number_of_edges_that_end_at_a_node() -> None:
    counts = gn.count_neighbors(RECEIVERS, NODES)
    assert counts.tolist() == [3, 1, 2, 1, 4, 0]
    assert counts.dtype == torch.int64
    assert gn.count_neighbors(RECEIVERS[:0], 2).tolist() == [0, 0]


# NeighborNorm


def test_neighbor_norm_makes_the_sum_over_neighbours_their_mean() -> None:
    layer = gn.NeighborNorm(CHANNELS)

    def ours(messages: Tensor) -> Tensor:
        return layer(SumAggregation()(messages, RECEIVERS, dim_size=NODES), gn.count_neighbors(RECEIVERS, NODES))

    def theirs(messages: Tensor) -> Tensor:
        return MeanAggregation()(messages, RECEIVERS, dim_size=NODES)

    assert_same_function(ours, theirs, {"messages": features(len(RECEIVERS), CHANNELS)})


def test_duplicating_every_neighbour_changes_nothing() -> None:
    x, counts, layer = features(NODES, CHANNELS), gn.count_neighbors(RECEIVERS, NODES), gn.NeighborNorm(CHANNELS)
    assert_equal(layer(2 * x, 2 * counts)[:5], layer(x, counts)[:5])


def test_a_node_without_neighbours_keeps_its_zero() -> None:
    assert_equal(gn.NeighborNorm(CHANNELS)(torch.zeros(2, CHANNELS), torch.tensor([0, 3])), torch.zeros(2, CHANNELS))


def test_counts_beyond_the_integers_of_half_precision_are_exact() -> None:
    # bfloat16 counts to 256 and then only every second number, float16 ends at 65504.
    counts = torch.tensor([257, 100_001])
    for dtype in (torch.bfloat16, torch.float16):
        x = torch.tensor([[1.0], [1000.0]], dtype=dtype)
        assert torch.equal(gn.NeighborNorm(1)(x, counts), (x.double() / counts[:, None]).to(dtype))


def test_neighbor_norm_refuses_counts_that_do_not_fit() -> None:
    layer = gn.NeighborNorm(CHANNELS)
    with refused(
        r"x has shape \[6, 4\] and num_neighbors \[5\], expected \[nodes, 4\], and \[nodes\]: count_neighbors"
    ):
        layer(torch.randn(6, 4), torch.ones(5))
    with refused(r"expected \[nodes, 12\] or \[nodes, 4, 3\], and \[nodes\]: count_neighbors"):
        gn.NeighborNorm("4x1o")(torch.randn(6, 3, 4), torch.ones(6))
    with refused(r"expected \[nodes, 12\] or \[nodes, 4, 3\]: one row"):
        gn.AverageNeighborNorm("4x1o", 3.0)(torch.randn(6, 3, 4))
    with refused(r"x has shape \[6, 3\]"):
        layer(torch.randn(6, 3), torch.ones(6))
    with refused("x has dtype torch.int64, expected a floating-point type"):
        layer(torch.ones(6, 4, dtype=torch.long), torch.ones(6))


# AverageNeighborNorm


@pytest.mark.parametrize(("power", "factor"), [(0.5, 12.25**-0.5), (1.0, 1 / 12.25), (0.0, 1.0)])
def test_average_neighbor_norm_multiplies_by_a_constant(power: float, factor: float) -> None:
    layer = gn.AverageNeighborNorm(CHANNELS, 12.25, power, dtype=torch.float64)
    assert_same_function(layer, lambda x: factor * x, {"x": features(NODES, CHANNELS)})


def test_the_root_keeps_the_variance_of_a_sum_and_the_first_power_keeps_its_mean() -> None:
    number = 16
    messages = torch.randn(number, 20_000, dtype=torch.float64) + 3
    sums = messages.sum(0)[:, None]
    root, mean = (gn.AverageNeighborNorm(1, float(number), power)(sums) for power in (0.5, 1.0))
    assert root.var().item() == pytest.approx(1, rel=0.05)
    assert mean.mean().item() == pytest.approx(3, rel=0.05)


def test_one_average_for_each_type() -> None:
    layer = gn.AverageNeighborNorm(CHANNELS, [4.0, 9.0, 16.0], dtype=torch.float64)
    types = torch.tensor([0, 2, 1, 1, 0, 2])
    factor = torch.tensor([1 / 2, 1 / 4, 1 / 3, 1 / 3, 1 / 2, 1 / 4], dtype=torch.float64)
    assert_same_function(lambda x: layer(x, types), lambda x: factor[:, None] * x, {"x": features(NODES, CHANNELS)})


@pytest.mark.parametrize("average", [12, 12.0, torch.tensor(12.0)], ids=repr)
@pytest.mark.parametrize("power", [0.5, 1.0])
def test_the_average_may_be_a_number_of_any_kind(average: float | Tensor, power: float) -> None:
    layer = gn.AverageNeighborNorm(CHANNELS, average, power)
    assert layer.avg_num_neighbors.dtype == torch.float32
    assert_equal(layer(torch.ones(1, CHANNELS)), torch.full((1, CHANNELS), 12.0**-power), tolerance=1e-6)


@pytest.mark.parametrize("averages", [[4, 9], (4.0, 9.0), torch.tensor([4.0, 9.0])], ids=repr)
def test_the_averages_per_type_may_be_a_list_or_a_tensor(averages: list[int] | Tensor) -> None:
    layer = gn.AverageNeighborNorm(1, averages)
    assert_equal(layer(torch.ones(2, 1), torch.tensor([0, 1])), torch.tensor([[1 / 2], [1 / 3]]), tolerance=1e-6)


DATASET = [
    (RECEIVERS, NODES, torch.tensor([0, 1, 0, 1, 0, 1])),
    (torch.tensor([1, 1]), 2, torch.tensor([0, 0])),
    (torch.tensor([], dtype=torch.long), 1, torch.tensor([1])),  # an atom alone
]


def test_the_average_of_a_data_set_counts_every_node_also_the_isolated_ones() -> None:
    layer = gn.AverageNeighborNorm.from_dataset(CHANNELS, (sample[:2] for sample in DATASET), power=1.0)
    assert_equal(layer.avg_num_neighbors, torch.tensor(13 / 9))
    assert layer.power == 1.0
    assert not layer.per_type


def test_the_average_of_a_data_set_for_each_type_of_receiver() -> None:
    layer = gn.AverageNeighborNorm.from_dataset(CHANNELS, DATASET, num_types=2, dtype=torch.float64)
    # Type 0: nodes 0, 2, 4 of the first sample with 3 + 2 + 4 and both of the second with 0 + 2; type 1: 1 + 1 + 0, 0.
    assert_equal(layer.avg_num_neighbors, torch.tensor([11 / 5, 2 / 4], dtype=torch.float64))
    assert layer.per_type


def test_types_in_the_data_set_are_left_alone_when_no_averages_per_type_are_asked_for() -> None:
    assert_equal(gn.AverageNeighborNorm.from_dataset(CHANNELS, DATASET).avg_num_neighbors, torch.tensor(13 / 9))


def test_the_state_dict_carries_the_average() -> None:
    fitted = gn.AverageNeighborNorm.from_dataset(CHANNELS, DATASET)
    restored = gn.AverageNeighborNorm(CHANNELS, 1.0)
    restored.load_state_dict(fitted.state_dict())
    x = torch.randn(NODES, CHANNELS)
    assert list(fitted.state_dict()) == ["avg_num_neighbors"]
    assert not list(fitted.parameters())
    assert torch.equal(restored(x), fitted(x))


def test_data_sets_that_cannot_be_counted_are_refused() -> None:
    def count(*samples: tuple, **options: int) -> None:
        gn.AverageNeighborNorm.from_dataset(CHANNELS, samples, **options)

    edges = torch.tensor([0, 1])
    with refused("the data set has no neighbours: check the cutoff"):
        count()
    with refused("the data set has no neighbours: check the cutoff"):
        count((edges[:0], 3))
    with refused(r"the data set has no neighbours for the types \[1, 2\]: check .* the numbering of the types"):
        count((edges, 3, torch.tensor([0, 0, 1])), num_types=3)
    with refused(r"sample 1 has 2 nodes but edges that end at nodes 0 to 7: give receivers that count from 0"):
        count((edges, 2), (torch.tensor([0, 7]), 2))
    with refused(r"sample 0 has 2 nodes and no types, but averages per type were asked for: give"):
        count((edges, 2), num_types=2)
    with refused(r"sample 0 has 2 nodes and types of shape \[3\], but averages per type"):
        count((edges, 2, torch.tensor([0, 0, 1])), num_types=2)
    with refused(r"sample 0 has types 0 to 5, but num_types is 2: number the types from 0"):
        count((edges, 2, torch.tensor([0, 5])), num_types=2)


@pytest.mark.parametrize("average", [0.0, -1.0, float("nan"), float("inf"), [], [3.0, 0.0]], ids=str)
def test_averages_that_are_no_positive_numbers_are_refused(average: float) -> None:
    with refused("expected positive numbers: AverageNeighborNorm.from_dataset counts them"):
        gn.AverageNeighborNorm(CHANNELS, average)


def test_features_and_types_that_do_not_fit_are_refused() -> None:
    one, each = gn.AverageNeighborNorm(CHANNELS, 3.0), gn.AverageNeighborNorm(CHANNELS, [3.0, 4.0])
    x, types = torch.randn(NODES, CHANNELS), torch.zeros(NODES, dtype=torch.long)
    with refused(r"x has shape \[6, 3\], expected \[nodes, 4\]"):
        one(x[:, :3])
    with refused(r"x has dtype torch.int64, expected a floating-point type"):
        one(x.long())
    with refused("one average per atom type: pass types"):
        each(x)
    with refused("one average for all atom types: leave types out"):
        one(x, types)
    with refused(r"types have shape \[5\], expected \[6\]"):
        each(x, types[:5])


# Irreps and vectors


COUNTS, TYPES = gn.count_neighbors(RECEIVERS, NODES), torch.tensor([0, 1, 0, 1, 1, 0])


@pytest.mark.parametrize(
    ("build", "others"),
    [
        (gn.NeighborNorm, (COUNTS,)),
        (lambda features: gn.AverageNeighborNorm(features, 12.25), ()),
        (lambda features: gn.AverageNeighborNorm(features, [4.0, 9.0]), (TYPES,)),
    ],
    ids=["own count", "average", "average per type"],
)
def test_of_irreps_and_vectors_it_is_the_layer_on_their_columns(build, others: tuple[Tensor, ...]) -> None:
    x = features(NODES, 12)
    expected = build(12)(x, *others)
    for given in ("3x0e+3x1o", "4x1o", Vectors(4), Vectors(6, 2)):
        assert_equal(build(given)(x, *others), expected)
    assert_equal(build(Vectors(4))(x.view(NODES, 4, 3), *others), expected.view(NODES, 4, 3))
    assert_equal(build("4x1o")(x.view(NODES, 4, 3), *others), expected.view(NODES, 4, 3))
    with refused(r"x has shape \[6, 3, 4\].*expected \[nodes, 12\]"):
        build("4x1o")(x.view(NODES, 3, 4), *others)
    assert repr(build("4x1o")).startswith(f"{type(build(1)).__name__}('4x1o'")


def test_the_average_of_a_data_set_is_there_for_vectors_too() -> None:
    layer = gn.AverageNeighborNorm.from_dataset("2x1o", (sample[:2] for sample in DATASET), power=1.0)
    assert_equal(layer(torch.ones(2, 2, 3)), torch.full((2, 2, 3), 9 / 13), tolerance=1e-6)
