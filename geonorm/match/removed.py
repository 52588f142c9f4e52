"""What a function forgets, in numbers: the result of a discovery."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Singular values below this part of the largest are zero up to rounding.
EXACT = 1e-9
#: Up to this part of the largest a direction is lost approximately, as ε in a divisor leaves it.
APPROXIMATE = 3e-2


@dataclass(frozen=True)
class Removed:
    """What a function forgets of a generic input.

    Args:
        added: Changes that the task does not declare irrelevant: the name, and the number of directions beyond those
            named before it.
        irrelevant: Changes that the task declares irrelevant.
        approximate: For named changes that only ε keeps from being exact: the largest singular value, relative to the
            largest of all.
        unnamed: The number of exactly lost directions that no name covers; found by probes, at least so many.
        near: The singular values, relative to the largest, of directions that no name covers and that only ε in a
            divisor keeps: those that fade as it lets them when the input grows.
        flips: Finite changes that leave the output as it is, such as reversing the vectors of a field.
        columns: Columns of the input that the output does not read at all.
        dimension: The number of lost directions, named or not.
        probes: The number of random probes; zero where the whole Jacobian was at hand.
        about: An unbiased estimate of the number of unnamed directions, where probes found no more than a bound.
        settled: Whether the search by probes came to an end.
    """

    added: dict[str, int] = field(default_factory=dict)
    irrelevant: dict[str, int] = field(default_factory=dict)
    approximate: dict[str, float] = field(default_factory=dict)
    unnamed: int = 0
    near: tuple[float, ...] = ()
    flips: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    dimension: int = 0
    probes: int = 0
    about: float | None = None
    settled: bool = True
