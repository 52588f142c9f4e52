r"""Directions without a name that only ε in a divisor keeps: known from how they fade when the input grows.

A layer that divides by $\sqrt{s^2+\varepsilon}$ forgets a scale up to the singular value
$\varepsilon/(s^2+\varepsilon)$, relative to what it keeps. Where the scale is that of a mixture of features, no family
of the dictionary holds the direction, and a small singular value alone proves nothing: random matrices and deep
networks have them too. So the Jacobian is taken at c times the input. What a normalizer keeps falls like $1/c$, since
its output does not grow. What only ε keeps falls like $\varepsilon/c^3$ ($\varepsilon/c^2$ with ε outside of the root).
The singular values of a linear map do not fall at all, nor do those of a network of rectifiers; those of units that
saturate exponentially fall faster than every power, and those of softer ones leave the law when c grows further.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.match.removed import APPROXIMATE, EXACT

#: How much larger the inputs are made; where a constant sits beside the features, the law holds from here on.
FACTORS = (8.0, 16.0, 32.0)
#: Much larger ones: units that saturate like a power seem to follow the law of a normalizer for a while, and then stop.
FAR = (256.0, 2048.0)
#: The powers of c with which ε lets singular values fall, inside and outside of the root, and with which others fall.
LOST, KEPT = (-3.0, -2.0), -1.0
#: How far an exponent may be from its law between the last two factors; twice as far between the first two.
WITHIN = 0.15


def remaining_values(
    matrix: Float[Tensor, "outputs inputs"], known: Float[Tensor, "inputs dimension"]
) -> Float[Tensor, " values"]:
    """The singular values of a Jacobian outside of known directions, in ascending order."""
    values = torch.linalg.svdvals(matrix - (matrix @ known) @ known.T)
    inputs, dimension = known.shape
    missing = values.new_zeros(max(inputs - len(values), 0))  # fewer outputs than inputs
    return torch.cat([values, missing]).flip(0)[dimension:]


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
    found = [spectrum(factor) for factor in FACTORS]
    slopes = [_slope(*found[n : n + 2], *factors[n : n + 2]) for n in range(2)]

    def follow(power: float) -> Tensor:
        return ((slopes[0] - power).abs() < 2 * WITHIN) & ((slopes[1] - power).abs() < WITHIN)

    kept = follow(KEPT)
    if not (kept.any() and any(follow(power).any() for power in LOST)):
        return ()
    found += [spectrum(factor) for factor in FAR]
    for n in (2, 3):
        kept &= (_slope(*found[n : n + 2], *factors[n : n + 2]) - KEPT).abs() < WITHIN
    if not kept.any():
        return ()
    number = 0
    for power in LOST:
        # What the law says of the input as it is: lost is what is small beside the kept directions of the normalizer.
        before = found[2][follow(power)] / found[2][kept].median() * FACTORS[-1] ** (KEPT - power)
        number += int((before <= APPROXIMATE).sum())
    lost = small[small > EXACT * largest][:number] / largest
    return tuple(lost.flip(0).tolist())


def _slope(earlier: Tensor, later: Tensor, before: float, after: float) -> Tensor:
    """With which power of the factor values change; not a number where there is none."""
    if len(earlier) != len(later):
        return torch.full_like(earlier, float("nan"))
    return torch.log(later.abs() / earlier.abs()) / math.log(after / before)
