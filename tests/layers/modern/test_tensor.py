"""TensorNorm: TensorNet's squashing, for every tensor by itself."""

import pytest
import torch
from e3nn import o3
from layers.peers import assert_equal, assert_same_function, refused
from torch import Tensor

import geonorm as gn

CHANNELS, NODES = 4, 6


def tensors(*nodes: int) -> Tensor:
    """Random tensors of rank two."""
    return torch.randn(*nodes, CHANNELS, 3, 3, dtype=torch.float64)


def formula(x: Tensor) -> Tensor:
    """X / (‖X‖² + 1)."""
    return x / (torch.linalg.matrix_norm(x)[..., None, None] ** 2 + 1)


def test_tensor_norm_computes_its_formula() -> None:
    assert_same_function(gn.TensorNorm(CHANNELS), formula, {"x": tensors(NODES)})


def test_all_shapes_are_the_same_tensors() -> None:
    layer, x = gn.TensorNorm(CHANNELS), tensors(2, 3)
    expected = formula(x)
    assert_equal(layer(x), expected)
    assert_equal(layer(x.flatten(2)), expected.flatten(2))
    assert_equal(layer(x.flatten(0, 1), torch.tensor([0, 0, 1, 1, 1, 2]), 3), expected.flatten(0, 1))
    assert_equal(layer(x.flatten(0, 1).flatten(1)), expected.flatten(0, 1).flatten(1))


def test_every_node_may_be_rotated_and_reflected_by_itself() -> None:
    x, layer = tensors(NODES), gn.TensorNorm(CHANNELS)
    rotations = o3.rand_matrix(NODES, dtype=torch.float64)[:, None]
    rotations[::2] *= -1

    def rotate(tensor: Tensor) -> Tensor:
        return rotations @ tensor @ rotations.mT

    assert_equal(layer(rotate(x)), rotate(layer(x)))


def test_a_tensor_and_its_inversion_at_the_unit_sphere_have_the_same_result() -> None:
    x, layer = tensors(NODES), gn.TensorNorm(CHANNELS)
    square = x.square().sum((-1, -2), keepdim=True)
    assert_equal(layer(x / square), layer(x))


def test_the_length_rises_to_one_half_and_falls_again() -> None:
    direction = torch.nn.functional.normalize(torch.randn(9, dtype=torch.float64), dim=0).view(1, 3, 3)
    lengths = torch.linspace(0, 5, 501, dtype=torch.float64)
    result = torch.linalg.matrix_norm(gn.TensorNorm(1)(lengths[:, None, None, None] * direction)).flatten()
    assert lengths[result.argmax()] == 1
    assert result.max().item() == pytest.approx(0.5, abs=1e-14)
    assert (result[:100].diff() > 0).all()
    assert (result[101:].diff() < 0).all()


def test_derivatives_are_exact_also_at_zero() -> None:
    x = tensors(2)
    x[0, 0] = 0
    x[1, 1] = 1e-8 * x[1, 1]
    x.requires_grad_()
    assert torch.autograd.gradcheck(gn.TensorNorm(CHANNELS), x)
    assert torch.autograd.gradgradcheck(gn.TensorNorm(CHANNELS), x)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("size", [0.0, 1e-30, 6e4, torch.inf], ids=["zero", "tiny", "large", "huge"])
def test_tiny_and_huge_tensors_have_finite_derivatives(dtype: torch.dtype, size: float) -> None:
    limits = torch.finfo(dtype)
    size = min(size, 1e30, limits.max)
    x = (size * torch.ones(1, 1, 3, 3)).to(dtype).requires_grad_()
    y = gn.TensorNorm(1)(x)
    assert y.dtype == dtype
    wide = x.detach().double()
    expected = wide / (9 * wide[0, 0, 0, 0] ** 2 + 1)
    smallest = max(1e-19, limits.smallest_normal * limits.eps)
    assert torch.allclose(y.double(), expected, rtol=2 * limits.eps, atol=smallest)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_no_nodes_and_no_channels_are_fine() -> None:
    assert gn.TensorNorm(CHANNELS)(tensors(0)).shape == (0, CHANNELS, 3, 3)
    assert gn.TensorNorm(0)(torch.zeros(5, 0, 3, 3)).shape == (5, 0, 3, 3)
    layer = gn.TensorNorm(CHANNELS)
    assert not layer.state_dict()
    assert repr(layer) == "TensorNorm(4)"


def test_what_is_not_a_tensor_for_each_channel_is_refused() -> None:
    layer = gn.TensorNorm(CHANNELS)
    with refused(r"x has shape \[6, 5, 3, 3\], expected \[nodes, 4, 3, 3\]"):
        layer(torch.randn(6, 5, 3, 3))
    with refused(r"x has shape \[4, 3, 3\]"):
        layer(torch.randn(4, 3, 3))
    with refused("x has dtype torch.int64, expected a floating-point type"):
        layer(torch.ones(6, 4, 3, 3, dtype=torch.long))
    with refused("channels is -1"):
        gn.TensorNorm(-1)
