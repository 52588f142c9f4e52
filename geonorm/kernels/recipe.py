"""What to standardize, as compiled kernels need it: groups of columns, a statistic, eps; made once for each layer."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

from geonorm.kernels.pools import Columns


class Recipe:
    """What to standardize: the groups of columns, the statistic and eps.

    Args:
        mean: The groups of columns of the mean, or ``None``.
        scale: Those of the scale, or ``None``.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        eps: Added to the second moment.
    """

    def __init__(self, mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> None:
        some = mean if scale is None else scale
        self.columns, self.eps = some.num_columns, eps
        self.mean_groups = 0 if mean is None else mean.num_groups
        self.scale_groups = 0 if scale is None else scale.num_groups
        self.statistic = ("rms", "residual", "own").index(statistic)
        self.own = scale is not None and statistic == "own"
        self.single = mean is not None and mean.single
        #: Whether the weighted sums of w vanish when the whole mean is subtracted.
        self.balanced = self.single or (
            mean is not None and scale is not None and mean.groups == scale.groups and scale.uniform is not None
        )


class Recipes:
    """The recipes of one kind of kernels, as long as their groups of columns exist.

    Args:
        make: Makes one from groups of columns, statistic and eps; ``None`` where the kernels cannot do it.
    """

    def __init__(self, make: Callable[[Columns | None, Columns | None, str, float], Recipe | None]) -> None:
        self._make = make
        self.known: WeakKeyDictionary[Columns, WeakKeyDictionary[Columns, dict]] = WeakKeyDictionary()

    def __call__(self, mean: Columns | None, scale: Columns | None, statistic: str, eps: float) -> Recipe | None:
        """The recipe for these groups of columns, made once, or ``None`` if the kernels do not know it.

        Args:
            mean: The groups of columns of the mean, or ``None``.
            scale: Those of the scale, or ``None``.
            statistic: ``"rms"``, ``"residual"`` or ``"own"``.
            eps: Added to the second moment.
        """
        one, other = (scale, mean) if mean is None else (mean, scale)
        if one is None:
            return None
        try:
            return self.known[one][other or one][mean is None, scale is None, statistic, eps]
        except KeyError:
            known = self.known.setdefault(one, WeakKeyDictionary()).setdefault(other or one, {})
            found = self._make(mean, scale, statistic, eps) if _expressible(mean, scale, statistic) else None
            known[mean is None, scale is None, statistic, eps] = found
            return found


def divisors_of(columns: Columns) -> list[int]:
    """What each column is divided by; of columns without a group it is a number that nobody reads."""
    return [columns.uniform] * columns.num_columns if columns.divisor is None else columns.divisor.tolist()


def _expressible(mean: Columns | None, scale: Columns | None, statistic: str) -> bool:
    """Whether every column has a scale, means are means, and there is anything at all."""
    if (mean is not None and not _plain_mean(mean)) or (mean or scale).num_columns == 0:
        return False
    if scale is None:
        return mean.num_groups > 0
    return scale.complete and (statistic != "own" or _plain_mean(scale))


def _plain_mean(columns: Columns) -> bool:
    """Whether each column is divided by the size of its group."""
    sizes = [*columns.group_size.tolist(), None]
    return all(
        group == columns.num_groups or divisor == sizes[group]
        for group, divisor in zip(columns.groups, divisors_of(columns), strict=True)
    )
