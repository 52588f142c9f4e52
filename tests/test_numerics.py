"""Values and derivatives where floating-point numbers are at their worst."""

import math

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from geonorm.numerics import accumulation_dtype, safe_norm, untracked

#: Sizes whose squares leave the range of the type, and ordinary ones; second derivatives are as large as their inverse.
SIZES = {
    torch.float64: [1e200, 1e20, 1.0, 1e-20, 1e-200],
    torch.float32: [2e38, 1e20, 1.0, 1e-20, 1e-37],
    torch.bfloat16: [2e38, 1e20, 1.0, 1e-20, 1e-37],
    torch.float16: [3e4, 300.0, 1.0, 1e-3, 1e-4],
}
DIRECTIONS = {
    "one entry": [1.0],
    "one among zeros": [0.0, 1.0, 0.0],
    "equal entries": [1.0, 1.0],
    "both signs": [-1.0, 1.0, -0.5],
    "huge and tiny": [1.0, 1e-30, -1e-15],
}
ROUNDING = {dtype: 8 * torch.finfo(dtype).eps for dtype in SIZES}

every_type = pytest.mark.parametrize("dtype", SIZES, ids=str)


def derivatives(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of a vector, its gradient and its Hessian, by autograd."""
    x = x.requires_grad_()
    norm = safe_norm(x)
    (gradient,) = torch.autograd.grad(norm, x, create_graph=True)
    rows = [torch.autograd.grad(entry, x, retain_graph=True)[0] for entry in gradient]
    return norm.detach(), gradient.detach(), torch.stack(rows)


def closed_form(size: float, direction: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    r"""$s|d|$, $d/|d|$ and $(1-dd^\top/|d|^2)/(s|d|)$, in float64, in which nothing here overflows."""
    d = torch.tensor(direction, dtype=torch.float64)
    length = math.sqrt(float(d.square().sum()))
    unit = d / length
    identity = torch.eye(len(d), dtype=torch.float64)
    return (
        torch.tensor(size * length, dtype=torch.float64),
        unit,
        (identity - torch.outer(unit, unit)) / (size * length),
    )


@every_type
@pytest.mark.parametrize("rank", range(5), ids=["largest", "large", "one", "small", "smallest"])
@pytest.mark.parametrize("direction", DIRECTIONS.values(), ids=DIRECTIONS)
def test_the_norm_and_its_first_two_derivatives_have_their_closed_form(dtype, rank, direction):
    size = SIZES[dtype][rank]
    for sign in (1.0, -1.0):
        signed = [sign * entry for entry in direction]
        given = derivatives((torch.tensor(signed, dtype=torch.float64) * size).to(dtype))
        expected = closed_form(size, signed)
        scales = (size, 1.0, 1.0 / size)
        for which, found, exact, scale in zip(("norm", "gradient", "Hessian"), given, expected, scales, strict=True):
            assert found.dtype == dtype
            error = (found.double() - exact).abs().max() / scale
            assert error <= ROUNDING[dtype], f"{which}: relative error {error:.1e}"


@every_type
def test_the_sum_of_squares_of_a_long_vector_may_leave_the_range_of_its_type(dtype):
    assert safe_norm(torch.ones(2**18, dtype=dtype)).item() == 2**9


@every_type
@pytest.mark.parametrize("length", [1, 3])
def test_at_zero_the_norm_and_all_derivatives_are_zero(dtype, length):
    x = torch.zeros(length, dtype=dtype)
    for value in derivatives(x):
        assert value.abs().max() == 0
    x = torch.zeros(2, length, dtype=torch.float64, requires_grad=True)
    value = safe_norm(x).sum()
    for _ in range(3):
        (gradient,) = torch.autograd.grad(value, x, create_graph=True)
        assert gradient.abs().max() == 0
        value = (gradient * torch.randn_like(x)).sum()


@every_type
def test_a_vector_does_not_disturb_its_neighbours(dtype):
    sizes = torch.tensor([*SIZES[dtype], 0.0], dtype=torch.float64)
    rows = (sizes[:, None] * torch.tensor([1.0, -0.5], dtype=torch.float64)).to(dtype).requires_grad_()
    norms = safe_norm(rows)
    (gradient,) = torch.autograd.grad(norms.sum(), rows)
    for row, norm, slope in zip(rows.detach(), norms, gradient, strict=True):
        alone, slope_alone, _ = derivatives(row)
        assert torch.equal(norm, alone)
        assert torch.equal(slope, slope_alone)


@every_type
def test_what_is_not_a_number_has_no_norm_and_infinity_an_infinite_one(dtype):
    x = torch.tensor([[math.nan, 1.0], [math.inf, 1.0], [-math.inf, 0.0], [3.0, 4.0]], dtype=dtype)
    norms = safe_norm(x).tolist()
    assert math.isnan(norms[0])
    assert norms[1:] == [math.inf, math.inf, 5.0]


@pytest.mark.parametrize("dim", [0, 1, 2, -1, -3])
@pytest.mark.parametrize("keepdim", [False, True])
def test_on_ordinary_numbers_it_is_the_norm_of_torch(dim, keepdim):
    x = torch.randn(3, 4, 5, dtype=torch.float64)
    expected = torch.linalg.vector_norm(x, dim=dim, keepdim=keepdim)
    torch.testing.assert_close(safe_norm(x, dim=dim, keepdim=keepdim), expected, rtol=1e-15, atol=0)


def test_derivatives_agree_with_finite_differences():
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(safe_norm, x, check_forward_ad=True)
    assert gradgradcheck(safe_norm, x)


@pytest.mark.parametrize(
    ("shape", "dim", "expected"), [((4, 0), 1, (4,)), ((0, 3), 1, (0,)), ((0, 3), 0, (3,)), ((4, 0), 0, (0,))]
)
def test_the_norm_of_nothing_is_zero(shape, dim, expected):
    x = torch.zeros(shape, requires_grad=True)
    norm = safe_norm(x, dim=dim)
    assert norm.shape == expected
    assert norm.abs().sum() == 0
    norm.sum().backward()
    assert x.grad.shape == shape


def test_function_transforms_see_through_it():
    x = torch.randn(5, 3, dtype=torch.float64)
    unit = x / x.norm(dim=1, keepdim=True)
    torch.testing.assert_close(torch.func.vmap(torch.func.grad(safe_norm))(x), unit)
    hessian = (torch.eye(3, dtype=torch.float64) - unit[:, :, None] * unit[:, None, :]) / x.norm(dim=1)[:, None, None]
    torch.testing.assert_close(torch.func.vmap(torch.func.hessian(safe_norm))(x), hessian)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_statistics_are_computed_in_float32_or_wider(dtype, expected):
    assert accumulation_dtype(dtype) == expected


def test_what_nobody_differentiates_or_transforms_is_untracked():
    x = torch.randn(3)
    assert not untracked()
    with torch.no_grad():
        assert untracked()
        with forward_ad.dual_level():
            assert not untracked()
        seen = []
        torch.func.vmap(lambda x: (seen.append(untracked()), x)[1])(x)
        torch.func.jvp(lambda x: (seen.append(untracked()), x)[1], (x,), (x,))
        assert seen == [False, False]
    with torch.inference_mode():
        assert untracked()
