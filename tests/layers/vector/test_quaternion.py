"""QuaternionNorm: its formula, the published code's missing gradient and wrong start, and who else computes it."""

import pytest
import torch
from e3nn.nn import BatchNorm as E3nnBatchNorm
from layers.peers import SIZES, assert_equal, difference, mean_of_sample, ragged_batch, refused
from layers.vector.published import ReqnnBatchNorm, reqnn_sample_norm
from layers.vector.support import CHANNELS, NODES, assert_formula, vectors
from torch import Tensor

import geonorm as gn


def per_channel(v: Tensor) -> Tensor:
    """Over the batch, for each channel."""
    return v / (v.square().mean((0, 2)) + 1e-5).sqrt()[:, None]


def test_per_channel_it_computes_its_formula() -> None:
    for layer in (gn.QuaternionNorm(CHANNELS), gn.QuaternionNorm(CHANNELS, track_running_stats=False).eval()):
        assert_formula(layer.double(), per_channel, vectors(), batch=(ragged_batch(), len(SIZES)))


@pytest.mark.parametrize("shuffled", [False, True], ids=["sorted", "unsorted"])
@pytest.mark.parametrize("batch_size", [None, len(SIZES)])
def test_per_sample_it_computes_its_formula_and_the_one_of_reqnn(shuffled: bool, batch_size: int | None) -> None:
    batch = ragged_batch(shuffled=shuffled)

    def formula(v: Tensor) -> Tensor:
        square = mean_of_sample(batch, v.square().mean((1, 2))[:, None])
        return v / (square + 1e-5).sqrt()[..., None]

    layer = gn.QuaternionNorm(CHANNELS, mode="sample")
    assert not layer.state_dict()
    assert_formula(layer, formula, vectors(), batch=(batch, batch_size))
    v = vectors()
    assert_equal(layer(v, batch, batch_size), reqnn_sample_norm(v, batch))
    assert_equal(layer.eval()(v, batch, batch_size), reqnn_sample_norm(v, batch))


@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_are_the_second_moments_and_evaluation_uses_them(momentum: float | None) -> None:
    layer, v = gn.QuaternionNorm(CHANNELS, momentum=momentum, dtype=torch.float64), vectors()
    assert_equal(layer.running_var, torch.ones(CHANNELS, dtype=torch.float64))
    expected = torch.ones(CHANNELS, dtype=torch.float64)
    for step in range(1, 4):
        layer(step * v)
        weight = 1 / step if momentum is None else momentum
        expected = expected + weight * ((step * v).square().mean((0, 2)) - expected)
    assert_equal(layer.running_var, expected)
    assert_formula(layer.eval(), lambda v: v / (expected + 1e-5).sqrt()[:, None], v)


def test_the_axes_are_all_that_tells_it_from_the_perceptron() -> None:
    v, batch = vectors(), ragged_batch()
    lengths = {
        "channel": lambda y: y.square().sum(2).mean(0),
        "sample": lambda y: mean_of_sample(batch, y.square().sum(2).mean(1, keepdim=True)),
        "node": lambda y: y.square().sum(2).mean(1),
    }
    layers = {
        "channel": gn.QuaternionNorm(CHANNELS, eps=0.0),
        "sample": gn.QuaternionNorm(CHANNELS, mode="sample", eps=0.0),
        "node": gn.VectorPerceptronNorm(CHANNELS, vector_eps=0.0),
    }
    for name, layer in layers.items():
        for pool, mean_square in lengths.items():
            constant = 1.0 if name == "node" else 3.0
            same = difference(mean_square(layer(v, batch)), torch.full_like(mean_square(v), constant)) < 1e-12
            # What holds for every node holds for the mean of a sample.
            assert same == (pool == name or (name, pool) == ("node", "sample")), (
                f"{name} leaves a mean squared length of {constant} over each {pool}"
            )


def test_it_is_the_batch_norm_of_e3nn_on_vectors_without_gain() -> None:
    ours = gn.QuaternionNorm("4x1o", dtype=torch.float64)
    theirs = E3nnBatchNorm("4x1o", affine=False).double()
    for step in range(3):
        x = vectors(NODES + step).flatten(1)
        assert_equal(ours(x), theirs(x))
        assert_equal(ours.running_var, theirs.running_var)
    assert_equal(ours.eval()(x), theirs.eval()(x))


def test_the_gradient_flows_through_the_statistic_where_reqnn_detaches_it() -> None:
    # The layer forgets the scale of a channel, so its gradient is orthogonal to the channel (Euler): up to ε.
    v, weight = vectors().requires_grad_(), torch.randn(NODES, CHANNELS, 3, dtype=torch.float64)

    def along_the_input(layer: torch.nn.Module) -> Tensor:
        y = layer(v)
        (gradient,) = torch.autograd.grad((y * weight).sum(), v)
        return (gradient * v).sum((0, 2)).abs() / (y * weight).sum((0, 2)).abs()

    ours, theirs = gn.QuaternionNorm(CHANNELS, dtype=torch.float64), ReqnnBatchNorm(CHANNELS)
    assert_equal(ours(v), theirs(v))
    assert along_the_input(ours).max() < 1e-4
    assert_equal(along_the_input(theirs), torch.ones(CHANNELS, dtype=torch.float64), "as if the scale mattered")


def test_evaluation_after_one_step_is_ten_times_too_large_in_reqnn_and_infinite_before() -> None:
    v, theirs = vectors(), ReqnnBatchNorm(CHANNELS)
    assert theirs.eval()(v).isinf().all()
    expected = theirs.train()(v)
    assert_equal(theirs.eval()(v), 10 * expected)
    ours = gn.QuaternionNorm(CHANNELS, dtype=torch.float64)
    assert ours.eval()(v).isfinite().all()
    ours.train()(v)
    ratio = ours.eval()(v).norm() / expected.norm()
    assert 0.5 < ratio < 2


def test_an_unknown_mode_is_refused() -> None:
    with refused("mode is 'batch', expected 'channel' .* or 'sample'"):
        gn.QuaternionNorm(4, mode="batch")
