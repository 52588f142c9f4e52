"""Running statistics follow torch's conventions, and batches without nodes leave them alone."""

import copy

import pytest
import torch
from layers.peers import EXACT, assert_equal, ragged_batch, refused
from torch import Tensor, nn

import geonorm as gn

CHANNELS = 4
BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def batches(number: int = 4) -> list[Tensor]:
    """Batches of different sizes, means and scales."""
    return [torch.randn(5 + 3 * k, CHANNELS, dtype=torch.float64) * (k + 1) - k for k in range(number)]


def state(layer: nn.Module) -> dict[str, Tensor]:
    return {name: getattr(layer, name).clone() for name in BUFFERS if getattr(layer, name) is not None}


def assert_state(layer: nn.Module, expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        assert_equal(getattr(layer, name), value, name)


@pytest.mark.parametrize("momentum", [0.1, 0.0, 1.0, None])
def test_they_are_those_of_torch(momentum):
    ours = gn.BatchNorm(CHANNELS, momentum=momentum, dtype=torch.float64)
    theirs = nn.BatchNorm1d(CHANNELS, momentum=momentum, dtype=torch.float64)
    for x in batches():
        ours(x)
        theirs(x)
        assert_state(ours, state(theirs))
    assert ours.num_batches_tracked == 4
    for layer in (ours, theirs):
        layer.reset_running_stats()
    assert_state(ours, state(theirs))


def test_without_momentum_they_are_the_average_over_all_batches_to_the_last_digit():
    # A weight 1/n in float32 would leave an error of 1e-8.
    layer = gn.BatchNorm(CHANNELS, momentum=None, dtype=torch.float64)
    seen = batches(7)
    for x in seen:
        layer(x)
    assert_equal(layer.running_mean, torch.stack([x.mean(0) for x in seen]).mean(0), tolerance=EXACT)
    assert_equal(layer.running_var, torch.stack([x.var(0) for x in seen]).mean(0), tolerance=EXACT)


@pytest.mark.parametrize(
    ("statistic", "mean", "unbiased"),
    [("residual", "bx", True), ("own", "bx", True), ("own", None, True), ("rms", "bx", False), ("rms", None, False)],
)
def test_a_variance_is_kept_unbiased_and_a_second_moment_as_it_is(statistic, mean, unbiased):
    x = batches()[1]
    layer = gn.Standardize(
        CHANNELS,
        mean=mean,
        scale="bx",
        statistic=statistic,
        track_running_stats=True,
        momentum=1.0,
        dtype=torch.float64,
    )
    layer(x)
    assert_equal(layer.running_var, x.var(0) if unbiased else x.square().mean(0))


def test_a_partly_subtracted_mean_leaves_a_second_moment():
    x = batches()[1]
    layer = gn.Standardize(
        CHANNELS, mean="bx", scale="bx", alpha=0.5, track_running_stats=True, momentum=1.0, dtype=torch.float64
    )
    layer(x)
    assert_equal(layer.running_mean, x.mean(0))
    assert_equal(layer.running_var, (x - 0.5 * x.mean(0)).square().mean(0))


@pytest.mark.parametrize(
    ("mean", "scale"), [("x", "x"), ("bx", "x"), ("x", "bx"), ("bx", "bx"), ("xv", "bxv"), ("bxv", "x")]
)
def test_statistics_per_sample_are_averaged_over_the_samples_with_nodes_each_by_its_own_pools(mean, scale):
    batch = ragged_batch((4, 0, 3, 6))
    x = torch.randn(13, CHANNELS, dtype=torch.float64)
    layer = gn.Standardize(
        CHANNELS, mean=mean, scale=scale, statistic="rms", track_running_stats=True, momentum=1.0, dtype=torch.float64
    )
    layer(x, batch, 4)

    def average(axes: str, values: Tensor) -> Tensor:
        samples = [values] if "b" in axes else [values[batch == sample] for sample in (0, 2, 3)]
        means = torch.stack([sample.mean(0) for sample in samples]).mean(0)
        return means.mean(0, keepdim=True) if "v" in axes else means

    assert_equal(layer.running_mean, average(mean, x))
    assert_equal(layer.running_var, average(scale, x.square()))
    assert layer.num_batches_tracked == 1


@pytest.mark.parametrize("kwargs", [dict(mean="bx", scale=None), dict(mean=None, scale="bx", statistic="rms")], ids=str)
def test_a_layer_without_mean_or_without_scale_keeps_the_other(kwargs):
    layer = gn.Standardize(CHANNELS, track_running_stats=True, momentum=1.0, dtype=torch.float64, **kwargs)
    x = batches()[0]
    layer(x)
    assert (layer.running_mean is None) == (kwargs["mean"] is None)
    assert (layer.running_var is None) == (kwargs["scale"] is None)
    expected = layer(x)
    assert_equal(layer.eval()(x), expected)


def test_irreps_without_invariants_have_no_mean_to_keep():
    layer = gn.Standardize("2x1o", mean="bx", scale=None, track_running_stats=True)
    x = torch.randn(5, 6)
    assert torch.equal(layer(x), x)
    assert torch.equal(layer.eval()(x), x)
    layer = gn.Standardize("2x1o", mean="bx", scale="bxm", track_running_stats=True)
    layer(x)
    assert layer.running_mean is None
    assert layer.running_var.shape == (2,)


# When they stay


@pytest.mark.parametrize(
    "kind", [gn.BatchNorm, lambda c: gn.InstanceNorm(c, track_running_stats=True)], ids=["bx", "x"]
)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_a_batch_without_nodes_leaves_them_alone(kind, momentum):
    layer = kind(CHANNELS)
    layer.momentum = momentum
    nothing, no_batch = torch.zeros(0, CHANNELS), torch.zeros(0, dtype=torch.long)
    before = state(layer)
    for batch_size in (0, 3):
        assert layer(nothing, no_batch, batch_size).shape == (0, CHANNELS)
        assert_state(layer, before)
    layer(torch.randn(6, CHANNELS))
    before = state(layer)
    layer(nothing, no_batch, 2)
    assert_state(layer, before)


def test_in_eval_mode_they_stay_and_are_used():
    layer = gn.BatchNorm(CHANNELS, dtype=torch.float64)
    first, second, third = batches(3)
    layer(first)
    layer.eval()
    before = state(layer)
    expected = (second - layer.running_mean) / (layer.running_var + layer.eps).sqrt()
    assert_equal(layer(second), expected)
    layer(third)
    assert_state(layer, before)


def test_without_tracking_there_are_none_and_eval_is_train():
    layer = gn.BatchNorm(CHANNELS, track_running_stats=False)
    assert not dict(layer.named_buffers()).keys() & set(BUFFERS)
    x = torch.randn(6, CHANNELS)
    assert torch.equal(layer(x), layer.eval()(x))


@pytest.mark.parametrize(
    "kind", [gn.BatchNorm, lambda c: gn.InstanceNorm(c, track_running_stats=True)], ids=["bx", "x"]
)
def test_they_hold_no_graph(kind):
    layer = kind(CHANNELS)
    x = torch.randn(6, CHANNELS, requires_grad=True)
    for _ in range(2):
        layer(x).square().sum().backward()
    for name in BUFFERS:
        buffer = getattr(layer, name)
        assert not buffer.requires_grad
        assert buffer.grad_fn is None
    copy.deepcopy(layer)
    # Nor does eval mode look back into the graph of an earlier batch.
    layer.eval()(x).sum().backward()
    layer(x).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_of_half_precision_features_they_are_kept_in_the_type_of_the_module(dtype):
    layer = gn.BatchNorm(CHANNELS, momentum=1.0)
    x = (100 + 10 * torch.randn(3000, CHANNELS)).to(dtype)
    assert layer(x).dtype == dtype
    assert layer.running_mean.dtype == torch.float32
    torch.testing.assert_close(layer.running_mean, x.float().mean(0))
    torch.testing.assert_close(layer.running_var, x.float().var(0), rtol=1e-4, atol=0)
    assert layer.eval()(x).dtype == dtype


# What cannot be tracked


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(mean="v", scale="v"), r"need a statistic over nodes: add x \(or bx\)"),
        (dict(mean="bx", scale="v"), r"need a statistic over nodes: add x \(or bx\)"),
        (dict(mean=None, scale=None), r"need a statistic over nodes"),
        (dict(momentum=1.5), r"momentum is 1.5, expected the weight of the new value in \[0, 1\], or None"),
        (dict(momentum=-0.1), "momentum is -0.1"),
    ],
)
def test_a_layer_without_statistics_over_nodes_has_nothing_to_track(kwargs, message):
    with refused(message):
        gn.Standardize(CHANNELS, track_running_stats=True, **kwargs)


def test_a_running_mean_of_vectors_would_be_a_fixed_direction():
    with refused("points in a fixed direction: subtract the mean from 0e only"):
        gn.Standardize("2x1o", mean="bx", scale="bxm", mean_on="all", level="batch", track_running_stats=True)
