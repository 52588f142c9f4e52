r"""Same layer, different names: rows of the table whose outputs differ by no more than one constant factor."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.table.readings import SHAPES, Draw, Reading, readings
from geonorm.table.row import Row


@dataclass(frozen=True)
class Twins:
    """Readings of rows that are one function up to constant factors, the oldest row first.

    Args:
        on: ``"scalars"``, ``"vectors"`` or ``"irreps"``: the features on which they are equal.
        members: The readings.
        factors: What the output of the first member is multiplied by to give the output of each member.
        error: The largest relative difference that then remains.
        constant: The function is the multiplication by a constant.
    """

    on: str
    members: tuple[Reading, ...]
    factors: tuple[float, ...]
    error: float
    constant: bool

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows, each once, the oldest first."""
        return tuple({reading.row.name: reading.row for reading in self.members}.values())

    def __contains__(self, name: object) -> bool:
        return any(name in (reading.name, reading.row.name) for reading in self.members)

    def __repr__(self) -> str:
        listed = ", ".join(
            reading.name + ("" if abs(factor - 1) < 1e-6 else f" × {factor_in_words(factor)}")
            for reading, factor in zip(self.members, self.factors, strict=True)
        )
        return f"Twins on {self.on}: {listed}"


def factor_in_words(factor: float) -> str:
    r"""Write a constant as a fraction or a root where it is one: ``"√3"``, ``"1/√3"``, ``"2"``, ``"0.7"``."""
    square = Fraction(factor * factor).limit_denominator(100)
    if abs(factor * factor - square) > 1e-9 * factor * factor or 1 not in (square.numerator, square.denominator):
        return f"{factor:.3g}"
    number = max(square.numerator, square.denominator)
    root = round(number**0.5)
    said = str(root) if root * root == number else f"√{number}"
    return ("-" if factor < 0 else "") + (said if square.denominator == 1 else f"1/{said}")


def constant_factor(first: Float[Tensor, "*shape"], second: Float[Tensor, "*shape"]) -> tuple[float, float]:
    r"""The number that turns one tensor into another, and how much is then left.

    $$ c=\frac{\langle a,b\rangle}{\langle a,a\rangle},\qquad \frac{\|b-c\,a\|}{\|b\|} $$

    Args:
        first: The tensor $a$.
        second: The tensor $b$, of the same shape; neither may be zero.

    Returns:
        The factor and the relative error; an error of order one says that there is no such number.
    """
    factor = (first * second).sum() / first.square().sum()
    return factor.item(), ((second - factor * first).norm() / second.norm()).item()


def find_twins(
    rows: Iterable[Row] | None = None, *, tolerance: float = 1e-9, draws: int = 3, seed: int = 0
) -> list[Twins]:
    """Run every layer on the same random batches in training mode, and find those that are one function.

    All draws share the constant, so that a divisor of a batch or a sample does not pass for one. The samples have
    different sizes, offsets and scales. Every row is tried in each of its settings, on scalars, on vectors, and on
    irreps of three types at once; a layer made for scalars is given the components of vectors as channels and as nodes.
    Such readings are reported only beside a layer made for vectors: alone they say again what holds of scalars.

    Args:
        rows: Rows of the table; by default ``TABLE1`` and ``AFTER_2022``.
        tolerance: The largest relative difference of two equal outputs.
        draws: The number of random batches.
        seed: The seed of the first of them.

    Returns:
        Groups of at least two different rows: on scalars, on vectors, on irreps; the largest first.

    Raises:
        ValueError: If there is no draw.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}, expected at least one random batch")
    if rows is None:
        from geonorm.table import AFTER_2022, TABLE1

        rows = (*TABLE1.values(), *AFTER_2022.values())
    rows = list(rows)
    return [twins for on in SHAPES for twins in _on(rows, on, tolerance, draws, seed)]


def _on(rows: list[Row], on: str, tolerance: float, draws: int, seed: int) -> list[Twins]:
    batches = [Draw.random(on, seed + number) for number in range(draws)]
    inputs = torch.cat([draw.x.flatten() for draw in batches])
    outputs: list[tuple[Reading, Tensor]] = []
    for reading in sorted(readings(rows, on), key=lambda reading: reading.row.year):
        output = torch.cat([reading(draw).flatten() for draw in batches])
        outputs.append((reading, output))
    groups: list[list[tuple[Reading, Tensor]]] = []
    for reading, output in outputs:
        # Of a layer that gives zero, such as FieldNorm of scalars, the error is not a number: it is nobody's twin.
        home = next((group for group in groups if constant_factor(group[0][1], output)[1] < tolerance), None)
        if home is None:
            groups.append(home := [])
        home.append((reading, output))
    found = [_twins(group, inputs, tolerance) for group in groups]
    kept = [each for each in found if len(each.rows) > 1 and not all(reading.components for reading in each.members)]
    return sorted(kept, key=lambda twins: -len(twins.rows))


def _twins(group: list[tuple[Reading, Tensor]], inputs: Tensor, tolerance: float) -> Twins:
    first = group[0][1]
    compared = [constant_factor(first, output) for _, output in group]
    factors, errors = zip(*compared, strict=True)
    members = tuple(reading for reading, _ in group)
    return Twins(members[0].on, members, factors, max(errors), constant_factor(inputs, first)[1] < tolerance)
