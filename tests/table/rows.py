"""The rows of both tables with their variants, and the features on which each is measured."""

import pytest

from geonorm.layers.fields import Features
from geonorm.table import AFTER_2022, TABLE1, Row
from geonorm.table.properties import measured_on

#: The number of channels, for irreps of each type; of scalars it has to divide into vectors and into groups.
CHANNELS = {"scalars": 12, "vectors": 4, "tensors": 2, "scalars and vectors": 3, "irreps": 3}

ROWS = [*TABLE1.values(), *AFTER_2022.values()]
EVERY = [each for row in ROWS for each in (row, *row.variants.values())]

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
every_layer = pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)


def fields_of(row: Row) -> Features:
    """The features on which a row's invariances are declared."""
    return measured_on(row.features, CHANNELS[row.features])


def with_every_parity(row: Row) -> Features:
    """The features on which symmetries are measured: irreps also of the types that are easily taken for another."""
    return "2x0e+2x0o+2x1o+2x1e+2x2e" if row.features == "irreps" else fields_of(row)
