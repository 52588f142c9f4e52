"""Blocks and bags: how a large batch is worked through changes no result."""

from itertools import product

import pytest
import torch
from kernels.oracle import COLUMNS, PARTITIONS, Case, Statistic
from layers.peers import assert_equal, ragged_batch
from torch import Tensor
from torch.autograd import forward_ad, grad
from untyped import untyped

from geonorm import axes
from geonorm.axes import Segments
from geonorm.kernels import plan
from geonorm.kernels.operator import standardize
from geonorm.kernels.plan import Parameters

SIZES = [(3, 2, 4, 1), (0, 3, 0, 0, 5, 1, 0), (9,), (1, 1, 1), (0, 0), (6, 0, 0)]
CASES = [
    Case(mean and Statistic(rows, mean), Statistic(rows, scale), statistic)
    for rows, mean, scale, statistic in product(
        ("node", "sample", "batch"),
        (None, PARTITIONS["pairs"]),
        (PARTITIONS["each"], PARTITIONS["all"], PARTITIONS["uneven"]),
        ("rms", "residual", "own"),
    )
    if mean is not None or statistic != "residual"
]


def everything(case: Case, x: Tensor, parameters: Parameters, batch: Tensor, samples: int) -> list[Tensor]:
    """Result, statistics, gradients and gradients of gradients."""
    inputs = {"x": x, **{name: value for name, value in vars(parameters).items() if value is not None}}
    inputs = {name: value.detach().clone().requires_grad_() for name, value in inputs.items()}
    variables, x = list(inputs.values()), inputs.pop("x")
    y, mean, square = standardize(x, Parameters(**inputs), case.plan(x, batch, samples))
    weight = torch.cos(torch.arange(y.numel(), dtype=y.dtype)).view_as(y).requires_grad_()
    first = grad((y * weight).sum(), variables, create_graph=True)
    second = grad(sum(value.square().sum() for value in first), [*variables, weight], allow_unused=True)
    found = [y, mean, square, *first, *second]
    with torch.no_grad():
        found += standardize(x, Parameters(**inputs), case.plan(x, batch, samples))
    return [None if value is None else value.detach() for value in found]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_batch_in_blocks_has_the_result_of_the_whole(sizes, rows, monkeypatch):
    batch, samples = ragged_batch(sizes), len(sizes)
    x = torch.randn(len(batch), COLUMNS, dtype=torch.float64) + 0.3
    for case in CASES:
        parameters = case.parameters()
        with untyped():
            whole = everything(case, x, parameters, batch, samples)
        with monkeypatch.context() as patch, untyped():
            patch.setattr(plan, "BLOCK", rows * COLUMNS * x.element_size())
            in_blocks = everything(case, x, parameters, batch, samples)
        for one, other in zip(in_blocks, whole, strict=True):
            assert (one is None) == (other is None)
            if other is not None:
                assert_equal(one, other, str(case))


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("rows", ["node", "sample"])
def test_blocks_hold_every_row_and_every_pool_once(sizes, rows, monkeypatch):
    monkeypatch.setattr(plan, "BLOCK", 2 * COLUMNS * 8)
    batch, nodes = ragged_batch(sizes), sum(sizes)
    x = torch.randn(nodes, COLUMNS, dtype=torch.float64)
    case = Case(None, Statistic(rows, PARTITIONS["each"]), "rms")
    with torch.no_grad():
        blocks = case.plan(x, batch, len(sizes)).blocks(nodes)
    assert torch.equal(torch.cat([block.rows_of(x) for block in blocks]), x)
    if rows == "sample":
        pools = torch.arange(len(sizes), dtype=torch.float64)[:, None]
        assert torch.equal(torch.cat([block.pools_of(pools) for block in blocks]), pools)
        sample = batch[:, None].double()
        for block in blocks:
            inside = set(block.pools_of(pools).flatten().tolist())
            assert set(block.rows_of(sample).flatten().tolist()) <= inside, "a sample stays in one block"
    if sizes == (3, 2, 4, 1):
        assert len(blocks) > 1


def test_samples_that_are_mixed_stay_in_one_block(monkeypatch):
    monkeypatch.setattr(plan, "BLOCK", 1)
    x = torch.randn(6, COLUMNS)
    case = Case(None, Statistic("sample", PARTITIONS["each"]), "rms")
    with torch.no_grad():
        assert len(case.plan(x, torch.tensor([0, 1, 0, 1, 2, 2]), 3).blocks(6)) == 1
        assert len(case.plan(x, torch.tensor([0, 0, 1, 1, 2, 2]), 3).blocks(6)) == 3


@pytest.mark.parametrize("rows", ["node", "sample", "batch"])
def test_the_order_of_features_and_gradients_in_memory_does_not_matter(rows, monkeypatch):
    monkeypatch.setattr(axes, "LARGE", 0)
    monkeypatch.setattr(plan, "BLOCK", 2 * COLUMNS * 4)
    batch, samples = ragged_batch(SIZES[1]), len(SIZES[1])
    nodes = len(batch)
    features = [
        torch.randn(COLUMNS, nodes).T,
        torch.randn(2 * nodes, COLUMNS)[::2],
        torch.randn(nodes, 1).expand(-1, 6),
    ]
    gradients = [torch.ones(()).expand(nodes, COLUMNS), torch.randn(COLUMNS, nodes).T, torch.randn(nodes, 12)[:, ::2]]
    case = Case(Statistic(rows, PARTITIONS["pairs"]), Statistic(rows, PARTITIONS["uneven"]), "residual")
    for x, g in product(features, gradients):
        results = []
        for one, other in ((x, g), (x.contiguous(), g.contiguous())):
            one = one.detach().requires_grad_()
            y, _, _ = standardize(one, Parameters(), case.plan(one, batch, samples))
            (first,) = grad(y, one, other, create_graph=True)
            results.append([y, first, *grad(first, one, other)])
        for found, expected in zip(*results, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


# Sums of rows


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
def test_sums_in_bags_are_those_of_each_sample(sizes, shuffled, monkeypatch):
    monkeypatch.setattr(axes, "LARGE", 0)
    batch = ragged_batch(sizes, shuffled=shuffled)
    x = torch.randn(len(batch), COLUMNS)
    segments = Segments.from_batch(x, batch, len(sizes))
    expected = torch.stack([x[batch == sample].double().sum(0) for sample in range(len(sizes))])
    with torch.no_grad():
        torch.testing.assert_close(segments.sum(x).double(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
def test_bags_and_blocks_together_give_the_result_of_float64(shuffled, monkeypatch):
    batch = ragged_batch(SIZES[1], shuffled=shuffled)
    x = torch.randn(len(batch), COLUMNS)
    for case in CASES:
        parameters = case.parameters(dtype=torch.float32)
        wide = Parameters(**{name: None if v is None else v.double() for name, v in vars(parameters).items()})
        with untyped():
            exact = everything(case, x.double(), wide, batch, len(SIZES[1]))
        with monkeypatch.context() as patch:
            patch.setattr(axes, "LARGE", 0)
            patch.setattr(plan, "BLOCK", 2 * COLUMNS * 4)
            found = everything(case, x, parameters, batch, len(SIZES[1]))
        for one, other in zip(found, exact, strict=True):
            if other is not None:
                assert_equal(one.double(), other, str(case), tolerance=2e-4)


def test_forward_mode_needs_no_gradients_to_be_enabled(monkeypatch):
    monkeypatch.setattr(axes, "LARGE", 0)
    monkeypatch.setattr(plan, "BLOCK", 1)
    batch = ragged_batch(SIZES[1])
    x, v = torch.randn(2, len(batch), COLUMNS)
    case = Case(Statistic("sample", PARTITIONS["each"]), Statistic("sample", PARTITIONS["each"]), "residual")

    def function(x: Tensor) -> Tensor:
        return standardize(x, Parameters(), case.plan(x, batch, len(SIZES[1])))[0]

    expected = torch.autograd.functional.jvp(function, x, v)[1]
    with torch.no_grad(), forward_ad.dual_level():
        along = forward_ad.unpack_dual(function(forward_ad.make_dual(x, v))).tangent
    torch.testing.assert_close(along, expected)
