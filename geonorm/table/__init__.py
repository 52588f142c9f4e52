"""The survey's Table 1 as data: formulas, verdicts, axes, symmetries, invariances and the layer of every row."""

from __future__ import annotations

from typing import Any

from geonorm.table import geometric, graph, language_and_vision
from geonorm.table.mapping import Table, UnknownRowError
from geonorm.table.properties import Invariance, Properties
from geonorm.table.row import VERDICTS, Row

__all__ = ["TABLE1", "VERDICTS", "Invariance", "Properties", "Row", "Table", "UnknownRowError", "make"]

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


def make(name: str, *args: Any, **kwargs: Any) -> Any:
    """Build a normalization layer by name, so that a model can take the name as an option.

    Args:
        name: Row name of Table 1, class name or lower_snake name: ``"GraphNorm"``, ``"graph_norm"``.
        *args: Arguments of the layer, the number of channels first.
        **kwargs: Keyword arguments of the layer.

    Returns:
        The layer; for ``"weight_norm"``, ``"spectral_norm"`` and ``"scaled_weight"`` the module that was given.

    Raises:
        UnknownRowError: If no row has the name; the message gives the nearest ones.
    """
    return TABLE1.make(name, *args, **kwargs)
