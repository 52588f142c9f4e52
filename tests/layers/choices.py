"""Every choice of axes that a statistic may pool."""

from itertools import combinations

from geonorm.axes import LETTERS, Axes


def _has_a_meaning(letters: str) -> bool:
    return ("b" not in letters or "x" in letters) and ("t" not in letters or {"v", "m"} <= set(letters))


#: Nodes, samples or the batch, times columns apart, channels, components, both, and all types.
AXES = [
    Axes("".join(letters))
    for size in range(len(LETTERS) + 1)
    for letters in combinations(LETTERS, size)
    if _has_a_meaning("".join(letters))
]
