"""Large batches on the CPU: samples in blocks and sums in bags change nothing but time and memory."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

import geonorm as gn
from geonorm import axes
from geonorm.axes import NodeFeatures, Segments
from geonorm.kernels import choice, plan


@pytest.fixture(autouse=True)
def implementation() -> Iterator[None]:
    """Blocks and bags belong to the implementation in torch."""
    with choice.using("analytic"):
        yield


#: Empty samples at both ends and in the middle, one that is longer than a block, many short ones.
SIZES = (0, 3, 5, 0, 40, 1, 1, 7, 4, 0, 9, 2, 6, 0, 0)
BATCH = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
CHANNELS = 6
LAYERS = [
    gn.GraphNorm(CHANNELS),
    gn.LayerNorm(CHANNELS),
    gn.LayerNorm(CHANNELS, mode="node"),
    gn.PairNorm(CHANNELS, scale=1.5),
    gn.PairNorm(CHANNELS, scale_individually=True),
    gn.GroupNorm(CHANNELS, 2),
    gn.FilterResponseNorm(CHANNELS),
    gn.InstanceNorm(CHANNELS, affine=True, track_running_stats=True),
    gn.Standardize("3x0e+1x1o", mean="x", scale="xm", exponent=0.5, learn_exponent=True, learn_alpha=True),
    gn.Standardize(CHANNELS, mean=None, scale="x", statistic="own"),
    gn.BatchNorm(CHANNELS),
]


@pytest.fixture
def small_blocks(monkeypatch) -> None:
    """Blocks of about ten rows in float64."""
    monkeypatch.setattr(plan, "BLOCK", 10 * CHANNELS * 8)


@pytest.fixture
def bags(monkeypatch) -> None:
    """Sums in bags however small the batch."""
    monkeypatch.setattr(axes, "LARGE", 0)


def derivatives(layer: gn.Standardize, x: Tensor, batch: Tensor) -> list[Tensor]:
    """Output, gradients and double backward, and the running statistics after them."""
    layer.train()
    x, g = x.clone().requires_grad_(), torch.cos(torch.arange(x.numel())).view_as(x).to(x.dtype).requires_grad_()
    inputs = [x, *layer.parameters()]
    y = layer(x, batch, len(SIZES))
    first = torch.autograd.grad(y, inputs, g, create_graph=True)
    loss = sum(value.square().sum() for value in first)
    second = torch.autograd.grad(loss, [g, *inputs], materialize_grads=True)
    with torch.no_grad():
        again = layer(x, batch, len(SIZES))
    if layer.track_running_stats:
        layer.reset_running_stats()
    return [y, *first, *second, again]


def blocks_of(layer: gn.Standardize, x: Tensor, batch: Tensor) -> list[plan.Block]:
    with torch.no_grad():
        return layer._plan(NodeFeatures.read(x, batch, len(SIZES), CHANNELS)).blocks(len(x))


@pytest.mark.parametrize("layer", LAYERS, ids=repr)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_results_in_blocks_are_those_of_the_whole(layer, dtype, monkeypatch) -> None:
    x = (torch.randn(len(BATCH), CHANNELS, dtype=torch.float64) + 0.5).to(dtype)
    layer = layer.to(torch.float64 if dtype == torch.float64 else torch.float32)
    whole = derivatives(layer, x, BATCH)
    monkeypatch.setattr(plan, "BLOCK", 10 * CHANNELS * (8 if dtype == torch.float64 else 4))
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 0.02, "atol": 1e-3}
    for value, expected in zip(derivatives(layer, x, BATCH), whole, strict=True):
        torch.testing.assert_close(value, expected, **tolerance)


@pytest.mark.usefixtures("small_blocks")
def test_a_block_holds_whole_samples_and_blocks_follow_each_other() -> None:
    x = torch.randn(len(BATCH), CHANNELS, dtype=torch.float64)
    for layer in (gn.GraphNorm(CHANNELS), gn.LayerNorm(CHANNELS)):
        parts = blocks_of(layer, x, BATCH)
        assert len(parts) >= 4
        row = pool = 0
        for part in parts:
            assert (part.rows.start, part.pools.start) == (row, pool)
            row, pool = part.rows.stop, part.pools.stop
            inside = BATCH[part.rows]
            assert inside.min() >= part.pools.start
            assert inside.max() < part.pools.stop
            assert torch.equal(part.plan.scale.segments.index, inside - part.pools.start)
            assert part.plan.scale.count.shape[0] == part.pools.stop - part.pools.start
        assert (row, pool) == (len(x), len(SIZES))
        assert max(part.rows.stop - part.rows.start for part in parts if 40 not in SIZES[part.pools]) <= 20


@pytest.mark.usefixtures("small_blocks")
def test_there_is_one_block_where_samples_do_not_follow_each_other_or_belong_together() -> None:
    x = torch.randn(len(BATCH), CHANNELS, dtype=torch.float64)
    assert len(blocks_of(gn.GraphNorm(CHANNELS), x, BATCH.flip(0))) == 1
    assert len(blocks_of(gn.BatchNorm(CHANNELS), x, BATCH)) == 1
    assert len(blocks_of(gn.PairNorm(CHANNELS, scale_individually=True), x, BATCH)) == 1
    assert len(blocks_of(gn.LayerNorm(CHANNELS, mode="node"), x, BATCH.flip(0))) >= 4


def test_a_small_batch_and_a_derivative_of_a_derivative_of_a_derivative_are_one_block(monkeypatch) -> None:
    x = torch.randn(len(BATCH), CHANNELS, dtype=torch.float64)
    assert len(blocks_of(gn.GraphNorm(CHANNELS), x, BATCH)) == 1
    monkeypatch.setattr(plan, "BLOCK", 10 * CHANNELS * 8)
    layer = gn.GraphNorm(CHANNELS)
    assert len(layer._plan(NodeFeatures.read(x, BATCH, len(SIZES), CHANNELS)).blocks(len(x))) == 1


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("layer", [gn.GraphNorm(CHANNELS), gn.LayerNorm(CHANNELS, mode="node")], ids=repr)
def test_vmap_and_grad_of_blocks_are_loops(layer) -> None:
    layer = layer.double()
    x = torch.randn(3, len(BATCH), CHANNELS, dtype=torch.float64)

    def value(x: Tensor) -> Tensor:
        return layer(x, BATCH, len(SIZES))

    def slope(x: Tensor) -> Tensor:
        return torch.func.grad(lambda x: value(x).square().sum())(x)

    for function in (value, slope):
        found = torch.vmap(function)(x)
        torch.testing.assert_close(found, torch.stack([function(entry) for entry in x]))


@pytest.mark.usefixtures("bags")
@pytest.mark.parametrize("batch", [BATCH, BATCH[torch.randperm(len(BATCH))]], ids=["sorted", "shuffled"])
def test_sums_in_bags_are_sums(batch: Tensor) -> None:
    values = torch.randn(len(BATCH), CHANNELS)
    segments = Segments(batch, len(SIZES), len(batch))
    with torch.no_grad():
        assert axes._may_add_in_bags(values)
        found = segments.sum(values)
    assert not axes._may_add_in_bags(values)
    expected = torch.zeros(len(SIZES), CHANNELS, dtype=torch.float64).index_add(0, batch, values.double())
    # Sums of float32 that cancel keep the rounding of their largest part.
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-5)


@pytest.mark.usefixtures("bags")
@pytest.mark.parametrize("layer", LAYERS, ids=repr)
@pytest.mark.parametrize("batch", [BATCH, BATCH[torch.randperm(len(BATCH))]], ids=["sorted", "shuffled"])
def test_layers_in_bags_and_blocks_are_those_of_float64(layer, batch: Tensor, monkeypatch) -> None:
    x = torch.randn(len(BATCH), CHANNELS) + 0.5
    # A sample of one or two nodes has derivatives that float32 does not know.
    keep = torch.isin(batch, torch.nonzero(torch.tensor(SIZES) > 2)[:, 0])
    expected = derivatives(layer.double(), x[keep].double(), batch[keep])
    monkeypatch.setattr(plan, "BLOCK", 10 * CHANNELS * 4)
    for value, reference in zip(derivatives(layer.float(), x[keep], batch[keep]), expected, strict=True):
        scale = reference.abs().max().clamp(min=1)
        torch.testing.assert_close(value.double() / scale, reference / scale, rtol=0, atol=2e-5)


def test_what_is_computed_in_between_is_as_small_as_a_block() -> None:
    x, batch = torch.randn(40_000, 64), torch.arange(40_000) // 20
    layer = gn.GraphNorm(64)
    layer(x, batch, 2000)
    held = peak = 0
    with torch.no_grad(), torch.profiler.profile(profile_memory=True) as profile:
        layer(x, batch, 2000)
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    assert peak < 2.5 * x.numel() * x.element_size()
