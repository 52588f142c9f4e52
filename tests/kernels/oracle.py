"""Standardization written naively: every entry has the number of its pool, and a mean is a sum over equal numbers."""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from geonorm.axes import Segments
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import Columns, Pool

#: Samples of 3, 0, 1 and 4 nodes, not sorted.
BATCH = torch.tensor([3, 0, 0, 2, 3, 3, 0, 3])
SAMPLES = 4
NODES = len(BATCH)
COLUMNS = 6
EPS = 0.1

ROWS = ("node", "sample", "batch")
#: Types are numbered like samples, but their pools reach over all processes.
ROWS_AND_TYPES = (*ROWS, "type")
#: Groups of columns: each its own, all together, groups of equal and of different sizes, and columns left out.
PARTITIONS = {
    "each": (0, 1, 2, 3, 4, 5),
    "all": (0, 0, 0, 0, 0, 0),
    "pairs": (0, 0, 1, 1, 2, 2),
    "uneven": ("b", "a", "b", "c", "b", "a"),
}
LEFT_OUT = (0, None, 1, 0, None, 1)


@dataclass(frozen=True)
class Statistic:
    """Which rows and columns a statistic pools, and what each column is divided by."""

    rows: str
    keys: Sequence[Hashable | None]
    divisors: Sequence[int] | None = None

    @property
    def divided_by(self) -> list[int]:
        """The divisors; the size of its group makes a weighted sum the mean."""
        return list(self.divisors) if self.divisors else [self.keys.count(key) for key in self.keys]

    def pool(self, x: Tensor, batch: Tensor, samples: int) -> Pool:
        """The same statistic for the library."""
        segments = Segments(batch, samples, len(batch))
        return Pool.build(self.rows, Columns(self.keys, self.divided_by), x, segments)

    def average(self, values: Tensor, batch: Tensor) -> Tensor:
        """The weighted mean over the pool of every entry; zero for columns that are left out."""
        nodes = len(batch)
        row = {"node": torch.arange(nodes), "sample": batch, "type": batch, "batch": torch.zeros_like(batch)}[self.rows]
        names = list(dict.fromkeys(self.keys))
        column = torch.tensor([names.index(key) for key in self.keys])
        number = (row[:, None] * len(names) + column).flatten()
        weight = torch.tensor(self.divided_by, dtype=values.dtype).reciprocal() / torch.bincount(row)[row][:, None]
        kept = torch.tensor([key is not None for key in self.keys])
        total = values.new_zeros(int(number.max()) + 1 if nodes else 0)
        return (total.index_add(0, number, (values * weight).flatten())[number]).view_as(values) * kept


@dataclass(frozen=True)
class Case:
    """A standardization: what :class:`Plan` says, before the pools of a batch are known."""

    mean: Statistic | None
    scale: Statistic | None
    statistic: str
    eps: float = EPS

    def plan(self, x: Tensor, batch: Tensor = BATCH, samples: int = SAMPLES) -> Plan:
        """The plan for the library."""
        pools = (None if which is None else which.pool(x, batch, samples) for which in (self.mean, self.scale))
        return Plan(*pools, self.statistic, self.eps)

    @property
    def num_groups(self) -> int:
        """The number of groups of columns that share a scale."""
        return 0 if self.scale is None else len(set(self.scale.keys))

    def __call__(self, x: Tensor, parameters: Parameters, batch: Tensor = BATCH) -> Tensor:
        """The formula, entry by entry."""
        alpha = 1.0 if parameters.alpha is None else parameters.alpha
        u = x if self.mean is None else x - alpha * self.mean.average(x, batch)
        y = u
        if self.scale is not None:
            names = list(dict.fromkeys(self.scale.keys))
            group = torch.tensor([names.index(key) for key in self.scale.keys])
            tau = 1.0 if parameters.tau is None else parameters.tau[group]
            if self.statistic == "own":
                c = x - self.scale.average(x, batch)
            else:
                c = x if self.statistic == "rms" else u
            y = u / (self.scale.average(c * c, batch) + self.eps) ** (tau / 2)
        y = y if parameters.gamma is None else parameters.gamma * y
        return y if parameters.beta is None else y + parameters.beta

    def parameters(self, *, some: bool = True, dtype: torch.dtype = torch.float64) -> Parameters:
        """Random parameters, or none."""
        if not some:
            return Parameters()

        def near_one(number: int) -> Tensor:
            return (1 + 0.5 * torch.rand(number, dtype=torch.float64)).to(dtype)

        return Parameters(
            alpha=near_one(COLUMNS) - 0.5 if self.mean is not None else None,
            gamma=near_one(COLUMNS),
            beta=torch.randn(COLUMNS, dtype=torch.float64).to(dtype),
            tau=near_one(self.num_groups) - 0.5 if self.scale is not None else None,
        )

    def __str__(self) -> str:
        """A name for a report."""

        def name(which: Statistic | None) -> str:
            keys = "".join("-" if key is None else str(key) for key in which.keys) if which else ""
            return f"{which.rows}:{keys}" if which else "none"

        return f"mean {name(self.mean)}, scale {name(self.scale)}, {self.statistic}"


def every_case(statistic: str, mean_rows: str | None, scale_rows: str | None) -> Iterator[Case]:
    """All partitions of the columns for given rows; mean and scale also with columns left out or unevenly weighed."""
    means, scales = [None], [None]
    if mean_rows is not None:
        means = [Statistic(mean_rows, keys) for keys in (*PARTITIONS.values(), LEFT_OUT)]
    if scale_rows is not None:
        scales = [Statistic(scale_rows, keys) for keys in PARTITIONS.values()]
        if statistic != "own":
            scales += [
                Statistic(scale_rows, PARTITIONS["pairs"], (1, 1, 1, 1, 1, 1)),
                Statistic(scale_rows, PARTITIONS["uneven"], (2, 1, 3, 1, 4, 5)),
                Statistic(scale_rows, PARTITIONS["all"], (2, 1, 3, 1, 4, 5)),
            ]
    for mean, scale in product(means, scales):
        yield Case(mean, scale, statistic)


def every_choice_of_rows() -> list[tuple[str, str | None, str | None]]:
    """Statistic, rows of the mean, rows of the scale; without a scale the statistic does not matter."""
    rows = [*product((None, *ROWS), ROWS), (None, "type"), ("type", "type")]
    choices = [(statistic, *chosen) for statistic in ("rms", "residual", "own") for chosen in rows]
    return choices + [("rms", chosen, None) for chosen in (None, *ROWS_AND_TYPES)]
