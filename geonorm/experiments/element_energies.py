"""One constant energy per element: what a network need not learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from geonorm.data import Configurations


def fit_element_energies(configurations: Configurations) -> dict[int, float]:
    r"""Return one constant per element whose sums over atoms are nearest to the energies.

    $$ \min_c\sum_m\Big(E_m-\sum_{a\in m}c_{z_a}\Big)^2 $$

    Where the compositions leave constants open, the smallest are taken.

    Args:
        configurations: To which the constants are fitted.

    Returns:
        The constant of every nuclear charge of the set, in its unit of energy.
    """
    charges = sorted(set(configurations.z.tolist()))
    solution = np.linalg.lstsq(_counts(configurations, charges), configurations.energies.astype(np.float64))[0]
    return dict(zip(charges, solution.tolist(), strict=True))


def without_element_energies(configurations: Configurations, constants: Mapping[int, float]) -> Configurations:
    """Return the same configurations with the constants of their atoms subtracted from the energies.

    Args:
        configurations: The configurations.
        constants: By nuclear charge; an element that is not among them has none.

    Returns:
        New configurations.
    """
    shift = _counts(configurations, list(constants)) @ np.array(list(constants.values()))
    return replace(configurations, energies=configurations.energies - shift)


def _counts(configurations: Configurations, charges: Sequence[int]) -> Float[ndarray, "configurations charges"]:
    """How many atoms of each charge a configuration has."""
    first = np.concatenate([[0], np.cumsum(configurations.sizes, dtype=np.int64)[:-1]])
    found = configurations.z[:, None] == np.array(charges)
    return np.add.reduceat(found.astype(np.float64), first)
