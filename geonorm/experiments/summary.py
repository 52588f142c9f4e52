"""The final error of every variant of an experiment: its mean over seeds, how sure that is, and what did not finish."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any


@dataclass(frozen=True)
class FinalError:
    """What is known of the last epochs of one variant.

    Args:
        variant: The values of the columns that tell variants apart.
        values: The error of every finite run by its seed.
        not_finite: The seeds of the runs whose error is NaN or infinite in one of the last epochs.
    """

    variant: tuple[Any, ...]
    values: dict[int, float]
    not_finite: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """The geometric mean over the finite runs; not a number if there are none."""
        return math.exp(self._mean_of_logarithms) if self.values else math.nan

    @property
    def smallest(self) -> float:
        """The smallest error of a finite run."""
        return min(self.values.values(), default=math.nan)

    @property
    def largest(self) -> float:
        """The largest error of a finite run."""
        return max(self.values.values(), default=math.nan)

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        r"""An interval for the geometric mean, by Student's distribution of the logarithms over seeds.

        $$ \exp\Big(\bar\ell\pm t_{n-1}\,\frac{s}{\sqrt n}\Big) $$

        with mean $\bar\ell$ and standard deviation $s$ of the logarithms of the n finite errors.

        Args:
            level: The part of such intervals that hold the mean, if the logarithms are normally distributed.

        Returns:
            Both ends; not a number with fewer than two finite runs.
        """
        number = len(self.values)
        if number < 2:
            return math.nan, math.nan
        from scipy.stats import t  # e3nn brings it; its import takes longer than all the rest of this file

        squares = sum((math.log(value) - self._mean_of_logarithms) ** 2 for value in self.values.values())
        half = float(t.ppf((1 + level) / 2, number - 1)) * math.sqrt(squares / (number - 1) / number)
        # With two runs the interval may be wider than numbers go.
        ends = (self._mean_of_logarithms + sign * half for sign in (-1, 1))
        low, high = (math.inf if end > 700 else math.exp(end) for end in ends)
        return low, high

    @property
    def _mean_of_logarithms(self) -> float:
        return sum(math.log(value) for value in self.values.values()) / len(self.values)


def final_errors(
    records: Sequence[dict[str, Any]], column: str, by: Sequence[str] = ("normalization",), last: int = 1
) -> dict[Any, FinalError]:
    """Sum up the last epochs of the runs of every variant.

    Of every run the median over its last epochs is taken. A run that is not finite in one of them has none: its seed is
    named, and it is in no mean.

    Args:
        records: With ``seed``, ``epoch``, ``column`` and the columns of ``by``.
        column: The error, positive where it is finite.
        by: The columns that tell variants apart.
        last: The number of last epochs.

    Returns:
        The final errors in the order of the records, by the value of the column where ``by`` is one, else by the tuple
        of values.

    Raises:
        ValueError: If there are no records, a column is missing, an error is not positive, or runs end at different
            epochs: those are not finished.
    """
    by = tuple(by)
    if not records or last < 1:
        raise ValueError(f"got {len(records)} records and last={last}, expected some records and epochs.")
    missing = [name for name in (column, "seed", "epoch", *by) if name not in records[0]]
    if missing:
        raise ValueError(f"records have no column {', '.join(missing)}; there are {', '.join(records[0])}.")
    runs: dict[tuple, dict[int, dict[int, float]]] = {}
    for record in records:
        of_variant = runs.setdefault(tuple(record[name] for name in by), {})
        of_variant.setdefault(record["seed"], {})[record["epoch"]] = float(record[column])
    end = max(record["epoch"] for record in records)
    found = {}
    for variant, of_variant in runs.items():
        values, not_finite = {}, []
        for seed, curve in of_variant.items():
            if max(curve) != end:
                raise ValueError(
                    f"the run {variant} of seed {seed} ends at epoch {max(curve)} and others at {end}: leave it out or "
                    "finish it, an error is not comparable with that of a later epoch."
                )
            of_end = [curve[epoch] for epoch in sorted(curve)[-last:]]
            if all(math.isfinite(value) for value in of_end):
                values[seed] = median(of_end)
            else:
                not_finite.append(seed)
        low = min(values.values(), default=1.0)
        if low <= 0:
            raise ValueError(
                f"{column} of {variant} is {low}, expected positive errors: their logarithms are averaged."
            )
        found[variant[0] if len(by) == 1 else variant] = FinalError(variant, values, tuple(not_finite))
    return found
