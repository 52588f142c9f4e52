"""The Jacobian is exact, and its blocks between samples are the coupling that theory gives."""

import pytest
import torch
from torch import nn

from geonorm import BatchNorm, GraphNorm, LayerNorm, MeanSubtractionNorm, PairNorm, VarianceNorm
from geonorm.match import cross_sample_influence, jacobian, sample_influence

SIZES = torch.tensor([4, 5])
BATCH = torch.repeat_interleave(torch.arange(2), SIZES)


def test_the_jacobian_of_mean_subtraction_is_a_projection_in_closed_form() -> None:
    same = BATCH[:, None] == BATCH[None, :]
    projection = torch.eye(9) - same / SIZES[BATCH]
    expected = torch.einsum("ij,cd->icjd", projection, torch.eye(3)).double()
    torch.testing.assert_close(jacobian(MeanSubtractionNorm(3), torch.randn(9, 3), BATCH), expected)


def test_the_jacobian_of_batch_norm_is_that_of_the_formula() -> None:
    layer, x = BatchNorm(3, eps=0.1), torch.randn(9, 3, dtype=torch.float64)
    nn.init.uniform_(layer.weight)
    u = x - x.mean(0)
    size = (u.square().mean(0) + 0.1).sqrt()
    y = u / size
    by_node = torch.eye(9)[:, None, :] - (1 + y[:, :, None] * y.T[None]) / 9
    expected = torch.einsum("icj,cd->icjd", layer.weight[:, None].double() / size[:, None] * by_node, torch.eye(3))
    torch.testing.assert_close(jacobian(layer, x), expected.double())


@pytest.mark.parametrize("layer", [GraphNorm(3), PairNorm(3), nn.Tanh()], ids=repr)
def test_the_jacobian_agrees_with_finite_differences(layer) -> None:
    x = torch.randn(9, 3, dtype=torch.float64)
    direction = torch.randn_like(x)
    step = 1e-6
    moved = [
        layer.double()(x + sign * step * direction, *[BATCH] * (not isinstance(layer, nn.Tanh))) for sign in (1, -1)
    ]
    along = torch.einsum("icjd,jd->ic", jacobian(layer, x, BATCH), direction)
    torch.testing.assert_close(along, (moved[0] - moved[1]) / (2 * step), rtol=1e-6, atol=1e-8)


def test_a_jacobian_has_no_gradient_of_its_own() -> None:
    assert not jacobian(GraphNorm(8), torch.randn(9, 8), BATCH).requires_grad


def test_an_operation_that_cannot_be_batched_is_differentiated_one_output_at_a_time() -> None:
    class Square(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x.square()

        @staticmethod
        def backward(ctx, g):
            assert g.sum().item() == g.sum().item()
            return 2 * ctx.saved_tensors[0] * g

    x = torch.randn(2, 3, dtype=torch.float64)
    expected = torch.diag(2 * x.flatten()).reshape(2, 3, 2, 3)
    torch.testing.assert_close(jacobian(lambda x: Square.apply(x), x), expected)


def test_inputs_and_outputs_keep_their_shapes() -> None:
    assert jacobian(lambda x: x.norm(dim=2), torch.randn(4, 2, 3)).shape == (4, 2, 4, 2, 3)


@pytest.mark.parametrize("layer", [GraphNorm(8), LayerNorm(8), PairNorm(8), MeanSubtractionNorm(8)], ids=repr)
def test_independent_samples_have_blocks_that_are_exactly_zero(layer) -> None:
    influence = sample_influence(layer, torch.randn(9, 8), BATCH)
    assert influence[0, 1] == 0
    assert influence[1, 0] == 0
    assert influence.diagonal().min() > 0
    assert cross_sample_influence(layer, torch.randn(9, 8), BATCH) == 0


@pytest.mark.parametrize("layer", [BatchNorm(8), VarianceNorm(8)], ids=repr)
def test_batch_statistics_couple_samples_in_training_and_not_in_eval(layer) -> None:
    x = torch.randn(9, 8)
    assert cross_sample_influence(layer, x, BATCH) > 0.1
    assert cross_sample_influence(layer, x, BATCH, training=False) == 0


def test_the_influence_on_one_output_of_batch_norm_is_the_closed_form() -> None:
    x = torch.randn(400, 1, dtype=torch.float64)
    derivative = jacobian(BatchNorm(1, eps=0.0), x)[:, 0, :, 0]
    others = (derivative - torch.diag(derivative.diagonal())).norm(dim=1)
    y = (x - x.mean()) / x.std(correction=0)
    expected = ((1 + y.square()) / 400).sqrt()[:, 0] / x.std(correction=0)
    torch.testing.assert_close(others, expected, rtol=0.02, atol=0)


def test_samples_without_nodes_influence_nobody() -> None:
    influence = sample_influence(GraphNorm(8), torch.randn(9, 8), 2 * BATCH, 4)
    assert influence.shape == (4, 4)
    assert torch.equal(influence[[1, 3]], torch.zeros(2, 4, dtype=torch.float64))
