"""Functions of distances and angles, differentiable to any order and exact where atoms are close."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn


def envelope(x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    r"""Go from one to zero, with two derivatives that vanish at the end.

    $$ u(x)=1-21x^5+35x^6-15x^7=(1-x)^3(1+3x+6x^2+10x^3+15x^4)\ \ (x<1),\qquad 0\ \ (x\ge1) $$

    The product keeps its digits near the end, where the sum loses them.

    Args:
        x: Distances over the cutoff.

    Returns:
        The weights, of the shape of ``x``.

    Source: Gasteiger, Groß and Günnemann 2020 (arXiv 2003.03123), with p = 5.
    """
    return (1 - x).clamp(min=0) ** 3 * (1 + x * (3 + x * (6 + x * (10 + x * 15))))


class RadialBasis(nn.Module):
    r"""Sines of the distance with trainable frequencies.

    $$ e_n(d)=u(d/c)\sqrt{\tfrac2c}\,\frac{\sin(\omega_n d/c)}d,\qquad \omega_n=n\pi\ \text{at the start} $$

    Args:
        number: How many.
        cutoff: c, in the length unit of the data.

    Source: Gasteiger, Groß and Günnemann 2020 (arXiv 2003.03123).
    """

    def __init__(self, number: int, cutoff: float) -> None:
        super().__init__()
        self.cutoff = cutoff
        self.frequencies = nn.Parameter(math.pi * torch.arange(1, number + 1, dtype=torch.get_default_dtype()))

    def forward(self, d: Float[Tensor, " edges"]) -> Float[Tensor, "edges number"]:
        """Evaluate at distances.

        Args:
            d: Positive distances, ``[edges]``.

        Returns:
            The functions, ``[edges, number]``, in the dtype of the frequencies.
        """
        d = d.to(self.frequencies.dtype)[:, None]
        x = d / self.cutoff
        return envelope(x) * math.sqrt(2 / self.cutoff) * torch.sin(self.frequencies * x) / d

    def extra_repr(self) -> str:
        """The number of functions and the cutoff."""
        return f"{len(self.frequencies)}, cutoff={self.cutoff}"


class ChebyshevSeries(torch.autograd.Function):
    r"""Evaluate series of Chebyshev polynomials; the derivative is such a series, to any order.

    $$ f_j(x)=\sum_k C_{kj}T_k(x),\qquad T_k(x)=\cos(k\arccos x) $$
    """

    @staticmethod
    def forward(
        ctx, x: Float[Tensor, " points"], coefficients: Float[Tensor, "terms functions"]
    ) -> Float[Tensor, "points functions"]:
        """Evaluate at points of [-1, 1]."""
        ctx.save_for_backward(x, coefficients)
        terms = torch.arange(len(coefficients), dtype=x.dtype, device=x.device)
        return torch.cos(torch.arccos(x)[:, None] * terms) @ coefficients

    @staticmethod
    def backward(ctx, gradient: Float[Tensor, "points functions"]) -> tuple[Float[Tensor, " points"], None]:
        """The derivative of every function, weighed by the gradient."""
        x, coefficients = ctx.saved_tensors
        if len(coefficients) == 1:
            return torch.zeros_like(x) * gradient.sum(), None
        return (gradient * ChebyshevSeries.apply(x, _derivative(coefficients))).sum(1), None


def _derivative(coefficients: Float[Tensor, "terms functions"]) -> Float[Tensor, "fewer functions"]:
    """The series of the derivative: its k-th coefficient sums 2p times the p-th over p = k + 1, k + 3 and so on."""
    terms = torch.arange(len(coefficients), dtype=coefficients.dtype, device=coefficients.device)
    higher = (terms > terms[:, None]) & ((terms - terms[:, None]) % 2 == 1)
    matrix = (2 * terms * higher)[:-1]
    matrix[0] /= 2
    return matrix @ coefficients


def bessel_zeros(num_spherical: int, num_radial: int) -> Float[np.ndarray, "degrees zeros"]:
    r"""Return the first positive zeros of the spherical Bessel functions.

    Args:
        num_spherical: The number of degrees, from 0.
        num_radial: The number of zeros of each.

    Returns:
        $z_{ln}$ with $j_l(z_{ln})=0$, ``[num_spherical, num_radial]``.
    """
    from scipy.optimize import brentq
    from scipy.special import spherical_jn

    zeros = math.pi * np.arange(1, num_spherical + num_radial)
    rows = [zeros[:num_radial]]
    for degree in range(1, num_spherical):
        # Between two zeros of one degree lies exactly one of the next.
        wave = functools.partial(spherical_jn, degree)
        zeros = np.array([brentq(wave, a, b, xtol=1e-14) for a, b in itertools.pairwise(zeros)])
        rows.append(zeros[:num_radial])
    return np.stack(rows)


@functools.lru_cache
def _bessel_series(num_spherical: int, num_radial: int) -> Float[np.ndarray, "terms functions"]:
    """Chebyshev series in 2x - 1 of the normalized functions on [0, 1], exact to the digits of float64."""
    from scipy.special import spherical_jn

    zeros = bessel_zeros(num_spherical, num_radial)
    terms = int(zeros.max()) + 24

    def function(degree: int, zero: float) -> Float[np.ndarray, " terms"]:
        scale = math.sqrt(2) / abs(spherical_jn(degree + 1, zero))
        return np.polynomial.chebyshev.chebinterpolate(
            lambda s: scale * spherical_jn(degree, zero * (s + 1) / 2), terms
        )

    return np.stack([function(degree, zero) for degree, row in enumerate(zeros) for zero in row], 1)


class SphericalBesselBasis(nn.Module):
    r"""The radial parts of standing waves in a ball that vanish at the cutoff.

    $$ R_{ln}(d)=u(d/c)\,\sqrt{\tfrac2{c^3}}\;\frac{j_l(z_{ln}d/c)}{|j_{l+1}(z_{ln})|} $$

    The explicit formula of $j_l$ subtracts powers of 1/d: at l = 6 and 0.74 Å, the length of H–H, float32 keeps no
    digit of the slope. So the functions are Chebyshev series, in float64 whatever the dtype of the network.

    Args:
        num_spherical: The number of degrees l.
        num_radial: The number of functions n of each.
        cutoff: c, in the length unit of the data.

    Source: Gasteiger, Groß and Günnemann 2020 (arXiv 2003.03123).
    """

    def __init__(self, num_spherical: int, num_radial: int, cutoff: float) -> None:
        super().__init__()
        self.num_spherical, self.num_radial, self.cutoff = num_spherical, num_radial, cutoff
        # No buffer: a network that becomes float32 must not round it.
        self.series = torch.from_numpy(_bessel_series(num_spherical, num_radial) / cutoff**1.5)

    def forward(self, d: Float[Tensor, " edges"]) -> Float[Tensor, "edges num_spherical num_radial"]:
        """Evaluate at distances.

        Args:
            d: Distances up to the cutoff, ``[edges]``.

        Returns:
            The functions, ``[edges, num_spherical, num_radial]``, in float64.
        """
        if self.series.device != d.device:
            self.series = self.series.to(d.device)
        x = (d.double() / self.cutoff).clamp(max=1)
        waves = ChebyshevSeries.apply(2 * x - 1, self.series)
        return (envelope(x)[:, None] * waves).unflatten(1, (self.num_spherical, self.num_radial))

    def extra_repr(self) -> str:
        """The numbers of degrees and functions, and the cutoff."""
        return f"{self.num_spherical}, {self.num_radial}, cutoff={self.cutoff}"


def legendre(cosine: Float[Tensor, " triplets"], number: int) -> Float[Tensor, "triplets number"]:
    r"""Spherical harmonics of the angle alone, by the recurrence of the Legendre polynomials.

    $$ Y_l=\sqrt{\tfrac{2l+1}{4\pi}}\,P_l(\cos\theta),\qquad (l+1)P_{l+1}=(2l+1)\cos\theta\,P_l-l\,P_{l-1} $$

    Polynomials of the cosine, so that nothing is special where three atoms are in line.

    Args:
        cosine: Cosines of the angles, ``[triplets]``.
        number: The number of degrees, from 0.

    Returns:
        The functions, ``[triplets, number]``.
    """
    values = [torch.ones_like(cosine), cosine]
    for degree in range(1, number - 1):
        values.append(((2 * degree + 1) * cosine * values[-1] - degree * values[-2]) / (degree + 1))
    degrees = torch.arange(number, dtype=cosine.dtype, device=cosine.device)
    return torch.stack(values[:number], 1) * ((2 * degrees + 1) / (4 * math.pi)).sqrt()
