"""DynamicTanh: the published one on invariants, and the one that leaves directions alone."""

from collections.abc import Callable

import pytest
import torch
from e3nn import o3
from layers.peers import assert_equal, assert_formula, features, ragged_batch, randomize, refused
from torch import Tensor

import geonorm as gn
from geonorm.layers.fields import Vectors

NODES = 6
IRREPS = "3x0e+2x1o+2x0o+0x1e+1x2e"


def made(given: object, **options) -> gn.DynamicTanh:
    """A layer with random parameters in float64."""
    return randomize(gn.DynamicTanh(given, dtype=torch.float64, **options))


def test_on_scalars_it_is_the_published_formula() -> None:
    def formula(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        return given["weight"] * torch.tanh(given["alpha"] * x) + given["bias"]

    assert_formula(made(4), formula, features(NODES, 4))
    dense = torch.randn(2, 3, 4, dtype=torch.float64)
    layer = made(4)
    assert_equal(layer(dense), formula(dense, dict(layer.named_parameters())))
    assert_equal(layer(dense.flatten(0, 1), ragged_batch((3, 3)), 2), layer(dense).flatten(0, 1))


def test_vectors_get_the_length_of_the_formula_and_keep_their_direction() -> None:
    def formula(x: Tensor, given: dict[str, Tensor]) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        return given["weight"][:, None] * torch.tanh(given["alpha"] * norm) * x / norm

    for given in (Vectors(4), Vectors(4, 2), "4x1o", "4x2e"):
        layer = made(given)
        dim = layer.fields.block[1]
        x = torch.randn(NODES, 4, dim, dtype=torch.float64)
        assert_formula(layer, formula, x * torch.logspace(-3, 3, NODES, dtype=torch.float64)[:, None, None])
        assert_equal(layer(x.flatten(1)), layer(x).flatten(1))


def test_irreps_are_scalars_and_vectors_side_by_side() -> None:
    layer = made(IRREPS)
    x = torch.randn(NODES, layer.fields.dim, dtype=torch.float64)
    a, gain, shift = layer.alpha, layer.weight, layer.bias
    vectors = x[:, 3:9].view(NODES, 2, 3)
    norm = vectors.norm(dim=-1, keepdim=True)
    tensor = x[:, 11:]
    length = tensor.norm(dim=-1, keepdim=True)
    expected = [
        gain[:3] * torch.tanh(a * x[:, :3]) + shift,
        (gain[3:5, None] * torch.tanh(a * norm) / norm * vectors).flatten(1),
        gain[5:7] * torch.tanh(a * x[:, 9:11]),
        gain[7:] * torch.tanh(a * length) / length * tensor,
    ]
    assert_equal(layer(x), torch.cat(expected, 1))


def test_every_node_may_be_rotated_and_reflected_by_itself() -> None:
    layer, irreps = made(IRREPS), o3.Irreps(IRREPS)
    x = torch.randn(NODES, irreps.dim, dtype=torch.float64)
    angles = torch.stack(o3.rand_angles(NODES, dtype=torch.float64))
    inversion = torch.arange(NODES) % 2
    d = irreps.D_from_angles(*angles, inversion)
    rotated = torch.einsum("nij,nj->ni", d, x)
    assert_equal(layer(rotated), torch.einsum("nij,nj->ni", d, layer(x)))


def test_the_published_formula_on_the_columns_of_vectors_is_not_equivariant() -> None:
    x = 3 * torch.randn(200, 4, 3, dtype=torch.float64)
    rotation = o3.rand_matrix(dtype=torch.float64)

    @torch.no_grad()
    def error(apply: Callable[[Tensor], Tensor]) -> float:
        expected = apply(x) @ rotation.T
        return float((apply(x @ rotation.T) - expected).norm() / expected.norm())

    columns = gn.DynamicTanh(12, dtype=torch.float64)
    assert error(lambda v: columns(v.flatten(1)).view_as(v)) > 0.1
    assert error(gn.DynamicTanh(Vectors(4), dtype=torch.float64)) < 1e-14


@pytest.mark.parametrize("size", [0.0, 1e-30, 1e-8, 1e-3, 0.3])
def test_derivatives_at_and_near_zero_are_exact(size: float) -> None:
    layer = made("1x0e+2x1o")
    x = size * torch.randn(2, 7, dtype=torch.float64)
    x[1, 1:4] = 0
    x.requires_grad_()
    names = [name for name, _ in layer.named_parameters()]

    def apply(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (x, *(parameter.detach().requires_grad_() for parameter in layer.parameters()))
    assert torch.autograd.gradcheck(apply, inputs)
    assert torch.autograd.gradgradcheck(apply, inputs)


@pytest.mark.parametrize("z", [0.0, 1e-9, 1e-4, 0.3, 1 - 1e-7, 1.0, 1 + 1e-7, 1.5, 4.0])
def test_three_derivatives_along_a_vector_are_those_of_tanh(z: float) -> None:
    # The factor is a continued fraction below αn = 1 and the quotient above; nobody may see where they meet.
    layer = gn.DynamicTanh(Vectors(1), 1.0, affine=False, dtype=torch.float64)
    x = torch.tensor([[[0.0, z, 0.0]]], dtype=torch.float64, requires_grad=True)
    given = [layer(x)[0, 0, 1]]
    for _ in range(3):
        (gradient,) = torch.autograd.grad(given[-1], x, create_graph=True)
        given.append(gradient[0, 0, 1])
    t = torch.tanh(torch.tensor(z, dtype=torch.float64))
    s = 1 - t * t
    for value, expected in zip(given, (t, s, -2 * t * s, -2 * s * s + 4 * t * t * s), strict=True):
        assert abs(value.item() - expected.item()) < 3e-15


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_huge_vectors_become_unit_vectors(dtype: torch.dtype) -> None:
    size = min(1e30, float(torch.finfo(dtype).max) / 2)
    layer = gn.DynamicTanh("1x0e+1x1o", dtype=dtype)
    x = torch.tensor([[-size, size, 0.0, -size]], dtype=dtype, requires_grad=True)
    y = layer(x)
    half = 0.5**0.5
    assert_equal(y, torch.tensor([[-1.0, half, 0.0, -half]], dtype=dtype), tolerance=torch.finfo(dtype).eps)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert first.isfinite().all()
    assert second.isfinite().all()


def test_no_information_is_removed() -> None:
    # Injective: of the Jacobian of the published form no direction is lost, where LayerNorm loses two per node.
    x = features(1, 4)
    rank = [
        torch.linalg.matrix_rank(torch.autograd.functional.jacobian(layer, x).view(4, 4), rtol=1e-6)
        for layer in (made(4), gn.LayerNorm(4, mode="node", eps=0.0, dtype=torch.float64))
    ]
    assert rank == [4, 2]


def test_reset_and_representation() -> None:
    layer = made("2x0e+1x1o", alpha=0.8)
    layer.reset_parameters()
    assert layer.alpha.item() == 0.8
    assert (layer.weight == 1).all()
    assert (layer.bias == 0).all()
    assert layer.weight.shape == (3,)
    assert layer.bias.shape == (2,)
    assert repr(layer) == "DynamicTanh('2x0e+1x1o')"
    plain = gn.DynamicTanh("1x1o", affine=False)
    assert [name for name, _ in plain.named_parameters()] == ["alpha"]
    assert gn.DynamicTanh("1x1o").bias is None


def test_no_nodes_and_no_columns_are_fine() -> None:
    for given, columns in ((4, 4), ("0x0e+2x1o", 6), (0, 0), ("0x0e", 0)):
        for nodes in (0, 3):
            assert gn.DynamicTanh(given)(torch.zeros(nodes, columns)).shape == (nodes, columns)


def test_features_that_do_not_fit_are_refused() -> None:
    with refused(r"x has shape \[6, 5\], expected"):
        gn.DynamicTanh(4)(torch.randn(6, 5))
