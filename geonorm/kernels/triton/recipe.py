"""What to standardize, as the kernels read it: tiles of columns and a few numbers, made once per layer and device."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from geonorm.kernels import recipe as shared
from geonorm.kernels.pools import Columns

#: The columns of a tile where groups are small, of one where pairs of columns are compared, and at most.
TILE, TILE_OF_PAIRS, LARGEST = 64, 32, 8192
#: The kinds of groups, in the order of :mod:`geonorm.kernels.triton.columns`.
NONE, EACH, ALL, SINGLE, PAIRS, ANY = range(6)
#: How the sum of w is known, in the order of :mod:`geonorm.kernels.triton.known`.
VANISHES, FOLLOWS, ADDED = range(3)


def power_of_two(number: int) -> int:
    """The least power of two that is not less."""
    return 1 << max(number - 1, 0).bit_length()


class Recipe(shared.Recipe):
    """The same in tiles of columns."""

    def __init__(self, mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> None:
        super().__init__(mean, scale, statistic, eps)
        self._centres_w = mean is not None and scale is not None and statistic == "residual"
        partitions = [None if k is None else k.groups for k in (mean, scale)]
        pairs = any(k is not None and not (k.single or k.all) for k in (mean, scale))
        tiles = tiles_of(
            partitions, [self.mean_groups, self.scale_groups], self.columns, TILE_OF_PAIRS if pairs else TILE
        )
        longest = max(map(len, tiles))
        self.width = power_of_two(longest)
        self.fits = self.width <= LARGEST
        self.tiles = len(tiles)
        steps = [column for tile in tiles for column in tile] == list(range(self.columns))
        self.step = longest if steps and all(len(tile) == longest for tile in tiles[:-1]) else 0
        self.mean_kind, self.scale_kind = (_kind(k, self.width) for k in (mean, scale))
        self._layout(tiles, mean, scale)
        self._on: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def _layout(self, tiles: list[list[int]], mean: Columns | None, scale: Columns | None) -> None:
        """The table of whole numbers and that of weights, place after place; a place without a column has -1 or 0."""
        places = [column for tile in tiles for column in (*tile, *[None] * (self.width - len(tile)))]
        table, weights, counts = [[-1 if c is None else c for c in places]], [], []
        for which in (mean, scale):
            groups = () if which is None else which.groups
            none = 0 if which is None else which.num_groups
            divisors = () if which is None else shared.divisors_of(which)
            group = [-1 if c is None or not groups or groups[c] == none else groups[c] for c in places]
            seen: set[int] = set()
            first = [-1 if g in seen or seen.add(g) else g for g in group]
            table += [group, first]
            weights += [0.0 if g < 0 else 1 / divisors[c] for g, c in zip(group, places, strict=True)]
            held = [set(group[start : start + self.width]) - {-1} for start in range(0, len(places), self.width)]
            counts.append(max(map(len, held)))
        self._table, self._numbers = table, [self.eps, *weights]
        self.mean_count, self.scale_count = counts

    def tables(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """The table of whole numbers and the numbers, on a device."""
        key = (device, dtype)
        if key not in self._on:
            whole = torch.tensor(self._table, dtype=torch.int32, device=device)
            self._on[key] = whole, torch.tensor(self._numbers, dtype=dtype, device=device)
        return self._on[key]

    def sum_of_w(self, alpha: Tensor | None) -> int:
        """How the sum of w over a pool is known."""
        if not self._centres_w:
            return VANISHES
        if alpha is None:
            return VANISHES if self.balanced else ADDED
        return FOLLOWS if self.single else ADDED

    @cached_property
    def constants(self) -> dict[str, int]:
        """What the compiler of the kernels knows of the columns."""
        return {
            "STATISTIC": self.statistic,
            "MEAN": self.mean_kind,
            "SCALE": self.scale_kind,
            # One loop goes over the groups of a tile; other kinds have none.
            "MEAN_COUNT": self.mean_count if self.mean_kind == ANY else 0,
            "SCALE_COUNT": self.scale_count if self.scale_kind == ANY else 0,
            "MEAN_GROUPS": self.mean_groups,
            "SCALE_GROUPS": self.scale_groups,
            "COLUMNS": self.columns,
            "WIDTH": self.tiles * self.width,
            "STEP": self.step,
            "C": self.width,
        }


def _kind(columns: Columns | None, width: int) -> int:
    if columns is None:
        return NONE
    if columns.each or columns.all:
        return EACH if columns.each else ALL
    if columns.single:
        return SINGLE
    return PAIRS if width <= TILE else ANY


def tiles_of(partitions: list[tuple[int, ...] | None], nothing: list[int], columns: int, tile: int) -> list[list[int]]:
    """Columns in tiles such that no group of any partition lies in two of them.

    Args:
        partitions: The group of each column, of mean and scale; ``None`` for neither.
        nothing: The number that stands for no group.
        columns: The number of columns.
        tile: The columns of a tile, but for columns that cannot be parted.

    Returns:
        The columns of each tile.
    """
    root = list(range(columns))

    def find(column: int) -> int:
        while root[column] != column:
            root[column] = root[root[column]]
            column = root[column]
        return column

    for groups, none in zip(partitions, nothing, strict=True):
        first: dict[int, int] = {}
        for column, group in enumerate(groups or ()):
            if group != none:
                one, other = sorted((find(first.setdefault(group, column)), find(column)))
                root[other] = one
    together: dict[int, list[int]] = {}
    for column in range(columns):
        together.setdefault(find(column), []).append(column)
    limit = max(tile, *map(len, together.values()))
    tiles: list[list[int]] = [[]]
    for inseparable in together.values():
        if len(tiles[-1]) + len(inseparable) > limit:
            tiles.append([])
        tiles[-1] += inseparable
    return [sorted(tile) for tile in tiles]


def _made(mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> Recipe | None:
    """A recipe, or ``None`` where a tile would be too wide."""
    found = Recipe(mean, scale, statistic, eps)
    return found if found.fits else None


recipe = shared.Recipes(_made)
