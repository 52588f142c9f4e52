"""The survey's Table 1 as data: formulas, verdicts, axes, symmetries, invariances and the layer of every row."""

from __future__ import annotations

from typing import Any

from geonorm.table import (
    after_2022_constants,
    after_2022_lengths,
    after_2022_statistics,
    general,
    geometric,
    graph,
    language_and_vision,
)
from geonorm.table.mapping import Table, UnknownRowError
from geonorm.table.properties import Invariance, Properties
from geonorm.table.row import FEATURES, VERDICTS, Row

__all__ = [
    "AFTER_2022",
    "FEATURES",
    "TABLE1",
    "VERDICTS",
    "Invariance",
    "Properties",
    "Row",
    "Table",
    "UnknownRowError",
    "make",
]

#: The 22 rows of Table 1 in the survey's order, and the layer of its Case 3; keys are the survey's row names.
TABLE1 = Table(
    (
        *language_and_vision.ROWS,
        geometric.QUATERNION,
        geometric.VECTOR_PERCEPTRON,
        *graph.GRAPH_NORMS,
        geometric.EV_NORM,
        geometric.VECTOR_NEURON,
        *graph.SIZE_AND_NEIGHBOR_NORMS,
        geometric.VECTOR_FIELD,
    ),
    caption="Normalization layers of Table 1, as printed and as published",
)

#: What Table 1 does not have and equivariant networks use today: layers from after the survey, and some from before it.
AFTER_2022 = Table(
    (*after_2022_statistics.ROWS, *after_2022_lengths.ROWS, *after_2022_constants.ROWS),
    caption="Normalization layers that Table 1 does not have: from after 2022, and from before where the year says so",
)

#: What is found by name: the rows of both tables, and the general form whose settings they are.
_EVERY_ROW = Table((*TABLE1.values(), *AFTER_2022.values(), general.GENERAL))


def find(name: str) -> Row:
    """Look a row up in both tables; ``"GeometricNorm"``, the general form, is found too.

    Args:
        name: Name of a row, of a variant or of a class, also in lower_snake.

    Returns:
        The row.

    Raises:
        UnknownRowError: If no row has the name; the message gives the nearest ones.
    """
    return _EVERY_ROW[name]


def make(name: str, *args: Any, **kwargs: Any) -> Any:
    """Build a normalization layer by name, so that a model can take the name as an option.

    Args:
        name: Name of a row of Table 1 or of its continuation, of a variant, or of a class, also in lower_snake:
            ``"GraphNorm"``, ``"graph_norm"``, ``"EGAN"``, ``"rms_norm"``; or ``"GeometricNorm"``.
        *args: Arguments of the layer, the number of channels first.
        **kwargs: Keyword arguments of the layer.

    Returns:
        The layer; for ``"weight_norm"``, ``"spectral_norm"`` and ``"scaled_weight"`` the module that was given.

    Raises:
        UnknownRowError: If no row has the name; the message gives the nearest ones.
    """
    return _EVERY_ROW.make(name, *args, **kwargs)
