"""Measuring a layer happens in float64, gives the same answer twice, and leaves the layer as it was."""

import pytest
import torch
from torch import nn
from untyped import untyped

from geonorm import AverageNeighborNorm, BatchNorm, GraphNorm, MessageNorm, spectral_norm
from geonorm.match import (
    cross_sample_influence,
    explain_null_space,
    frozen,
    node_permutation_error,
    null_space,
    rotation_error,
)

BATCH = torch.tensor([0, 0, 0, 1, 1])


def test_a_measurement_leaves_mode_dtype_parameters_and_running_statistics_of_the_layer_alone() -> None:
    layer = BatchNorm(8).eval()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = torch.randn(5, 8)
    for training in (True, False):
        null_space(layer, x, BATCH, training=training)
        explain_null_space(layer, x, BATCH, training=training)
        cross_sample_influence(layer, x, BATCH, training=training)
        node_permutation_error(layer, x, BATCH, training=training)
    assert not layer.training
    assert all(parameter.grad is None for parameter in layer.parameters())
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("make", [lambda: nn.BatchNorm1d(8, momentum=0.5), lambda: spectral_norm(nn.Linear(8, 8))])
def test_every_call_starts_from_the_same_buffers(make) -> None:
    function = frozen(make(), training=True)
    x = torch.randn(5, 8)
    torch.testing.assert_close(function(x), function(x), rtol=0, atol=0)


def test_a_float32_layer_is_measured_in_float64() -> None:
    x = torch.randn(5, 8)
    y = frozen(GraphNorm(8))(x, BATCH)
    expected = GraphNorm(8, dtype=torch.float64)(x.double(), BATCH)
    torch.testing.assert_close(y, expected, rtol=1e-14, atol=1e-14)


def test_eval_mode_and_training_mode_are_two_functions() -> None:
    layer, x = BatchNorm(8), torch.randn(5, 8) + 1
    torch.testing.assert_close(frozen(layer, training=False)(x), x.double() / (1 + 1e-5) ** 0.5)
    torch.testing.assert_close(frozen(layer, training=True)(x).mean(0), torch.zeros(8, dtype=torch.float64))


def test_what_a_layer_takes_is_what_it_gets() -> None:
    x = torch.randn(5, 8, dtype=torch.float64)
    calls = []

    def everything(x, batch, batch_size):
        calls.append((batch, batch_size))
        return x

    frozen(everything)(x, BATCH, 2)
    frozen(lambda x, b: calls.append(b) or x)(x, BATCH, 2)
    frozen(lambda *arguments: calls.append(arguments[1:]) or x)(x, BATCH, 2)
    frozen(lambda x, slope=2.0: calls.append(slope) or x)(x, BATCH, 2)
    assert calls == [(BATCH, 2), BATCH, (BATCH, 2), 2.0]
    torch.testing.assert_close(frozen(torch.tanh)(x, BATCH), x.tanh())
    torch.testing.assert_close(frozen(nn.LayerNorm(8))(x, BATCH), nn.LayerNorm(8).double()(x))
    torch.testing.assert_close(frozen(AverageNeighborNorm(8, avg_num_neighbors=4.0))(x, BATCH), x / 2)


def test_inputs_that_are_not_known_here_are_asked_for_by_name() -> None:
    with pytest.raises(TypeError, match=r"MessageNorm needs message.*wrap it"):
        frozen(MessageNorm(8))
    with untyped(), pytest.raises(TypeError, match="expected a module or a function"):
        frozen(3)
    with pytest.raises(TypeError, match="takes no features"):
        frozen(lambda: torch.zeros(1))
    with pytest.raises(TypeError, match="returned a tuple, expected a tensor, or several with one row for each node"):
        frozen(lambda x: (x, x[0]))(torch.zeros(2, 3))
    with pytest.raises(TypeError, match="returned a float"):
        frozen(lambda x: 1.0)(torch.zeros(2, 3))


def test_gradients_flow_to_the_features_and_not_to_the_buffers() -> None:
    x = torch.randn(5, 8, dtype=torch.float64, requires_grad=True)
    for layer in (nn.BatchNorm1d(8), BatchNorm(8)):
        (gradient,) = torch.autograd.grad(frozen(layer)(x, BATCH).pow(3).sum(), x)
        assert gradient.isfinite().all()
        assert gradient.abs().max() > 1e-3


def test_several_outputs_of_a_node_are_columns_side_by_side() -> None:
    x = torch.randn(5, 4, 3, dtype=torch.float64)
    y = frozen(lambda x: (x.square().sum(2), 2 * x))(x)
    torch.testing.assert_close(y[:, :4], x.square().sum(2))
    torch.testing.assert_close(y[:, 4:], 2 * x.flatten(1))
    error = rotation_error(lambda x: (x.square().sum(2), 2 * x), x, irreps_out="4x0e+4x1o", level="node")
    assert error < 1e-14
    assert rotation_error(lambda x: (x.sum(2), 2 * x), x, irreps_out="4x0e+4x1o") > 1e-2
