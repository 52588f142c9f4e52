r"""Directions without a name that only ε in a divisor keeps: known from how they fade when the input grows.

A layer that divides by $\sqrt{s^2+\varepsilon}$ forgets a scale up to the singular value
$\varepsilon/(s^2+\varepsilon)$, relative to what it keeps. Where the scale is that of a mixture of features, no family
of the dictionary holds the direction, and a small singular value alone proves nothing: random matrices and deep
networks have them too. So the Jacobian is taken at c times the input. What a normalizer keeps falls like $1/c$, since
its output does not grow. What only ε keeps falls like $\varepsilon/c^3$ ($\varepsilon/c^2$ with ε outside of the root).
The singular values of a linear map do not fall at all, nor do those of a network of rectifiers; those of units that
saturate exponentially fall faster than every power, and those of softer ones leave the law when c grows further.

Losses that this does not find: those of an ε that is proportional to the statistic, or learned to be, since it grows
with the input and keeps the same part at every c; behind a rectifier those of the nodes and channels that it cuts off,
so that only a part is counted; and, where probes stand for the Jacobian, those of a normalizer beside a part that is
passed on unchanged, since of the values that fall like $1/c$ the probes see only the root of a mean, in which the part
that does not fall is larger.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.match.blocks import parts
from geonorm.match.jacobian import derivative
from geonorm.match.products import AGREE, Products
from geonorm.match.removed import APPROXIMATE, EXACT

#: How much larger the inputs are made; where a constant sits beside the features, the law holds from here on.
FACTORS = (8.0, 16.0, 32.0)
#: Much larger ones: units that saturate like a power seem to follow the law of a normalizer for a while, and then stop.
FAR = (256.0, 2048.0)
#: The powers of c with which ε lets singular values fall, inside and outside of the root, and with which others fall.
LOST, KEPT = (-3.0, -2.0), -1.0
#: How far an exponent may be from its law between the last two factors; twice as far between the first two.
WITHIN = 0.15
#: With so many blocks, one row of each is differentiated at a time.
SEVERAL = 8


def remaining_values(
    matrix: Float[Tensor, "outputs inputs"], known: Float[Tensor, "inputs dimension"]
) -> Float[Tensor, " values"]:
    """The singular values of a Jacobian outside of known directions, in ascending order, found block by block.

    Args:
        matrix: A Jacobian.
        known: Orthonormal directions to leave out.

    Returns:
        One value for each further direction of the input; zeros where there are fewer outputs.
    """
    outputs, found = len(matrix), [matrix.new_zeros(0)]
    for rows, columns in parts(torch.cat([matrix, known.T])):  # a known direction may link what the matrix does not
        part = matrix[rows[rows < outputs][:, None], columns]
        inside = known[columns[:, None], rows[rows >= outputs] - outputs]
        values = torch.linalg.svdvals(part - (part @ inside) @ inside.T)
        missing = values.new_zeros(len(columns) - len(values))  # fewer outputs than inputs
        found.append(torch.cat([values, missing]).flip(0)[inside.shape[1] :])
    return torch.cat(found).sort().values


def derivative_alike(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "nodes *features"], matrix: Float[Tensor, "outputs inputs"]
) -> Float[Tensor, "outputs inputs"]:
    """The Jacobian at x of a function whose Jacobian is known elsewhere: of many blocks there, one row each at a time.

    Args:
        function: A function of x.
        x: Where to differentiate.
        matrix: Its Jacobian at another place.

    Returns:
        The Jacobian. A product with random weights tells whether it has the same blocks; else it is taken as a whole.
    """
    blocks = list(parts(matrix))
    longest = max((len(rows) for rows, _ in blocks), default=0)
    if longest * SEVERAL <= len(matrix):
        products = Products(function, x)
        one = matrix.new_zeros(longest, len(matrix))
        for rows, _ in blocks:
            one[torch.arange(len(rows)), rows] = 1
        together, found = products.backward(one), torch.zeros_like(matrix)
        for rows, columns in blocks:
            found[rows[:, None], columns] = together[: len(rows), columns]
        weights = torch.randn(1, len(matrix), dtype=matrix.dtype, generator=torch.Generator().manual_seed(0))
        if torch.allclose(weights @ found, products.backward(weights), rtol=AGREE, atol=AGREE * together.abs().max()):
            return found
    return derivative(function, x).reshape(-1, x.numel())


def near_losses(
    values: Float[Tensor, " values"], largest: float, spectrum: Callable[[float], Float[Tensor, " values"]]
) -> tuple[float, ...]:
    """The singular values of directions that ε alone keeps, of those that have no name.

    Certain is only what follows the law of ε over a factor of four in the input while other singular values follow
    that of a normalizer. Losses in a layer whose input saturates before it is normalized, or whose singular values
    mix with others that fall otherwise, stay unreported.

    Args:
        values: The singular values on what is not named, in ascending order, without those that are zero.
        largest: The largest singular value of all.
        spectrum: From c the same values of the Jacobian at c times the input.

    Returns:
        Their singular values, relative to the largest, in descending order.
    """
    small = values[values <= APPROXIMATE * largest]
    if not len(small):
        return ()
    factors = FACTORS + FAR
    found = [spectrum(factors[0])]
    if not _fade(values, found[0], small.max()):
        return ()
    follow = {power: torch.ones_like(found[0], dtype=torch.bool) for power in (KEPT, *LOST)}
    for n, within in enumerate((2 * WITHIN, WITHIN, WITHIN, WITHIN)):  # what has no candidates is not looked at further
        found.append(spectrum(factors[n + 1]))
        slope = _slope(*found[n:], *factors[n : n + 2])
        for power in (KEPT, *LOST) if n < 2 else (KEPT,):
            follow[power] &= (slope - power).abs() < within
        if not (follow[KEPT].any() and any(follow[power].any() for power in LOST)):
            return ()
    number = 0
    for power in LOST:
        # What the law says of the input as it is: lost is what is small beside the kept directions of the normalizer.
        before = found[2][follow[power]] / found[2][follow[KEPT]].median() * FACTORS[-1] ** (KEPT - power)
        number += int((before <= APPROXIMATE).sum())
    lost = small[small > EXACT * largest][:number] / largest
    return tuple(lost.flip(0).tolist())


def _fade(values: Tensor, larger: Tensor, small: Tensor) -> bool:
    """Whether anything small falls at all, and not everything alike: else nothing is lost in what is kept."""
    alike = len(larger) == len(values) and torch.allclose(FACTORS[0] * larger, values, rtol=1e-2, atol=0)
    return bool((larger <= 0.5 * small).any()) and not alike


def _slope(earlier: Tensor, later: Tensor, before: float, after: float) -> Tensor:
    """With which power of the factor values change; not a number where there is none."""
    if len(earlier) != len(later):
        return torch.full_like(earlier, float("nan"))
    return torch.log(later.abs() / earlier.abs()) / math.log(after / before)
