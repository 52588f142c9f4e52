"""Pools: groups of columns times rows of a node, a sample or the batch."""

import copy
from collections.abc import Iterator

import pytest
import torch
from kernels.oracle import BATCH, COLUMNS, LEFT_OUT, NODES, PARTITIONS, ROWS_AND_TYPES, SAMPLES, Statistic

from geonorm.axes import Segments
from geonorm.kernels import choice
from geonorm.kernels.pools import Columns, Pool


@pytest.fixture(autouse=True)
def implementation() -> Iterator[None]:
    """Pools are the same for every implementation."""
    with choice.using("analytic"):
        yield


every_rows = pytest.mark.parametrize("rows", ROWS_AND_TYPES)
every_partition = pytest.mark.parametrize(
    "keys",
    [
        *PARTITIONS.values(),
        LEFT_OUT,
        ("z", "y", "x", "z", "y", "x"),
        (2, 1, 1, 0, 0, 0),
        (0, 0, 0, 1, 2, 2),
        (None,) * 6,
        (None, None, 0, None, None, None),
    ],
    ids=lambda keys: "".join("-" if key is None else str(key) for key in keys),
)


def names(keys):
    return list(dict.fromkeys(key for key in keys if key is not None))


def plain(keys):
    return Columns(keys, [keys.count(key) for key in keys])


@every_partition
def test_the_sum_over_a_group_adds_its_columns(keys):
    values = torch.randn(NODES, COLUMNS, dtype=torch.float64)
    expected = [
        sum((values[:, column] for column in range(COLUMNS) if keys[column] == name), torch.zeros(NODES))
        for name in names(keys)
    ]
    given = plain(keys).sum(values)
    assert given.shape == (NODES, len(expected))
    assert not expected or torch.allclose(given, torch.stack(expected, 1), rtol=1e-14, atol=1e-14)


@every_partition
def test_giving_back_is_the_adjoint_of_adding(keys):
    columns = plain(keys)
    values, groups = torch.randn(NODES, COLUMNS), torch.randn(NODES, len(names(keys)))
    expanded = columns.expand(groups).expand(NODES, COLUMNS)
    torch.testing.assert_close((columns.sum(values) * groups).sum(), (values * expanded).sum())
    for column, key in enumerate(keys):
        expected = torch.zeros(NODES) if key is None else groups[:, names(keys).index(key)]
        assert torch.equal(expanded[:, column], expected)


@every_partition
@every_rows
def test_the_mean_of_a_pool_is_that_of_its_entries(keys, rows):
    x = torch.randn(NODES, COLUMNS, dtype=torch.float64)
    statistic = Statistic(rows, keys)
    pool = statistic.pool(x, BATCH, SAMPLES)
    given = pool.expand(pool.mean(x)).expand(NODES, COLUMNS)
    torch.testing.assert_close(given, statistic.average(x, BATCH), rtol=1e-13, atol=1e-14)


@every_rows
@pytest.mark.parametrize("keys", [PARTITIONS["uneven"], PARTITIONS["all"], PARTITIONS["each"]], ids=str)
def test_divisors_weigh_the_columns_of_a_pool(rows, keys):
    x = torch.randn(NODES, COLUMNS, dtype=torch.float64)
    for divisors in ((1,) * COLUMNS, (3,) * COLUMNS, (2, 1, 3, 1, 4, 5)):
        statistic = Statistic(rows, keys, divisors)
        pool = statistic.pool(x, BATCH, SAMPLES)
        given = pool.expand(pool.mean(x)).expand(NODES, COLUMNS)
        torch.testing.assert_close(given, statistic.average(x, BATCH), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("rows", "held"), [("node", [1]), ("sample", [3, 0, 1, 4]), ("type", [3, 0, 1, 4]), ("batch", [8])]
)
def test_a_pool_knows_its_number_of_rows_and_never_divides_by_zero(rows, held):
    pool = Statistic(rows, PARTITIONS["each"]).pool(torch.randn(NODES, COLUMNS), BATCH, SAMPLES)
    assert pool.rows_held.flatten().tolist() == held
    assert pool.count.flatten().tolist() == [max(number, 1) for number in held]
    # One process holds all of them.
    assert pool.count_here(torch.randn(NODES, COLUMNS)).clamp(min=1).tolist() == pool.count.tolist()


def test_pools_that_reach_over_processes_are_never_standardized_in_parts():
    x = torch.randn(NODES, COLUMNS)
    for rows, parts in (("node", True), ("sample", True), ("type", False), ("batch", False)):
        segments = Segments(BATCH.sort().values, SAMPLES, NODES)
        pool = Pool.build(rows, plain(PARTITIONS["each"]), x, segments)
        assert bool(pool.borders(2, NODES)) is parts


@every_rows
def test_no_change_of_type_changes_a_mean(rows):
    # Neither 1/259 nor 259 is a number of bfloat16: weights must not be stored in the type of the module.
    x = torch.randn(NODES, COLUMNS, dtype=torch.float64)
    columns = Columns(PARTITIONS["uneven"], (259, 7, 259, 1027, 259, 7))
    segments = Segments(BATCH, SAMPLES, NODES)
    exact = Pool.build(rows, columns, x, segments).mean(x)
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        rounded = copy.deepcopy(columns).to(dtype)
        assert torch.equal(Pool.build(rows, rounded, x, segments).mean(x), exact)


def test_a_partition_leaves_no_trace_in_a_state_dict():
    assert not plain(PARTITIONS["uneven"]).state_dict()


def test_features_without_columns_have_no_groups():
    columns = Columns([], [])
    assert columns.num_groups == 0
    values = torch.randn(NODES, 0)
    assert columns.sum(values).shape == (NODES, 0)
    assert columns.expand(values).shape == (NODES, 0)
