"""The bases against SciPy, at the distances of bonds too: there the explicit formulas fail in float32."""

import math

import numpy as np
import pytest
import torch
from scipy.special import eval_legendre, spherical_jn
from torch.testing import assert_close

from geonorm.models.gemnet.basis import RadialBasis, SphericalBesselBasis, bessel_zeros, envelope, legendre

CUTOFF = 5.0
#: From half a bond to the cutoff, with H–H among them.
DISTANCES = torch.cat([torch.linspace(0.3, 5.0, 300, dtype=torch.float64), torch.tensor([0.74], dtype=torch.float64)])


def waves(d: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The circular basis without its envelope, and its slope, ``[distances, degrees, zeros]``."""
    zeros = bessel_zeros(7, 6)
    degrees = np.arange(7)[:, None]
    scale = math.sqrt(2 / CUTOFF**3) / np.abs(spherical_jn(degrees + 1, zeros))
    t = zeros * d[:, None, None] / CUTOFF
    return scale * spherical_jn(degrees, t), scale * zeros / CUTOFF * spherical_jn(degrees, t, derivative=True)


def polynomial(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The envelope as it is printed, and its slope by the distance."""
    p = 5
    a, b, c = -(p + 1) * (p + 2) / 2, p * (p + 2), -p * (p + 1) / 2
    value = 1 + a * x**p + b * x ** (p + 1) + c * x ** (p + 2)
    return value, (a * p * x ** (p - 1) + b * (p + 1) * x**p + c * (p + 2) * x ** (p + 1)) / CUTOFF


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 3e-12)])
def test_circular_basis_and_its_slope_from_half_a_bond_to_the_cutoff(dtype: torch.dtype, tolerance: float) -> None:
    d = DISTANCES.to(dtype).clone().requires_grad_()
    values = SphericalBesselBasis(7, 6, CUTOFF).to(dtype)(d)
    each = [torch.autograd.grad(column.sum(), d, retain_graph=True)[0] for column in values.flatten(1).unbind(1)]
    exact = d.detach().double().numpy()
    wave, slope = waves(exact)
    u, du = (part[:, None, None] for part in polynomial(exact / CUTOFF))
    assert_close(values.detach(), torch.from_numpy(u * wave), rtol=0, atol=tolerance)
    assert_close(
        torch.stack(each, 1).double(), torch.from_numpy(du * wave + u * slope).flatten(1), rtol=0, atol=tolerance
    )


def test_the_explicit_formula_would_fail_in_float32() -> None:
    t = (bessel_zeros(7, 1)[6, 0] * DISTANCES / CUTOFF).float()
    below, wave = torch.sin(t) / t, torch.sin(t) / t**2 - torch.cos(t) / t
    for degree in range(1, 6):
        below, wave = wave, (2 * degree + 1) / t * wave - below
    exact = torch.from_numpy(spherical_jn(6, t.double().numpy()))
    assert (wave - exact).abs().max() > 1e-3


def test_the_circular_basis_may_be_differentiated_again_and_again() -> None:
    d = torch.tensor([0.4, 0.74, 2.0, 4.99], dtype=torch.float64, requires_grad=True)
    basis = SphericalBesselBasis(4, 2, CUTOFF)
    assert torch.autograd.gradcheck(basis, d)
    assert torch.autograd.gradgradcheck(basis, d)
    # The radial equation: r² j'' + 2 r j' + (k² r² - l (l + 1)) j = 0, here for f = r j.
    order = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    f = order * basis(order)[:, 3, 1] / envelope(order / CUTOFF)
    (first,) = torch.autograd.grad(f.sum(), order, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), order)
    k = bessel_zeros(4, 2)[3, 1] / CUTOFF
    assert_close(second, ((12 / order**2 - k**2) * f).detach(), rtol=1e-9, atol=1e-9)


def test_zeros_are_zeros_and_none_is_left_out() -> None:
    zeros = bessel_zeros(7, 6)
    assert np.abs(spherical_jn(np.arange(7)[:, None], zeros)).max() < 1e-14
    fine = np.linspace(1e-3, zeros[6, -1] + 0.1, 4000)
    for degree in range(7):
        signs = np.sign(spherical_jn(degree, fine[fine <= zeros[degree, -1] + 0.1]))
        assert (signs[1:] != signs[:-1]).sum() == 6


@pytest.mark.parametrize("number", [1, 2, 7])
def test_angular_basis(number: int) -> None:
    cosine = torch.linspace(-1, 1, 31, dtype=torch.float64)
    degrees = np.arange(number)
    expected = np.sqrt((2 * degrees + 1) / (4 * math.pi)) * eval_legendre(degrees, cosine.numpy()[:, None])
    assert_close(legendre(cosine, number), torch.from_numpy(expected), rtol=1e-12, atol=1e-12)


def test_radial_basis() -> None:
    basis = RadialBasis(6, CUTOFF).double()
    d = DISTANCES[:, None]
    expected = math.sqrt(2 / CUTOFF) * torch.sin(torch.arange(1, 7) * math.pi * d / CUTOFF) / d
    u = torch.from_numpy(polynomial(DISTANCES.numpy() / CUTOFF)[0])[:, None]
    assert_close(basis(DISTANCES), u * expected, rtol=1e-6, atol=1e-7)  # the frequencies were float32
    assert basis.frequencies.requires_grad


def test_the_envelope_ends_with_two_vanishing_derivatives() -> None:
    x = torch.tensor([0.3, 1 - 1e-4, 1.0, 1.5], dtype=torch.float64, requires_grad=True)
    value = envelope(x)
    assert_close(value[0].item(), polynomial(np.array(0.3))[0].item(), rtol=1e-14, atol=0)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    assert not value[2:].any()
    assert not first[2:].any()
    assert not second[2:].any()
    assert 0 < value[1] < 1e-10
    assert -1e-5 < first[1] < 0
    assert 0 < second[1] < 0.1
