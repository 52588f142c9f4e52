"""A row of the tables in the network: what it is given, where it stands, and how its layers are built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import nn

from geonorm.models.backbone.blocks import Block
from geonorm.models.backbone.places import Apart, AsTensors, Multiplied, OfMessages, Together
from geonorm.table import find
from geonorm.table.row import Row

#: Arguments that are constants of a data set, by the class of the layer.
CONSTANTS = {"AverageNeighborNorm": ("avg_num_neighbors",), "PerTypeScaleShift": ("scales", "shifts")}


def named_row(name: str) -> Row:
    """Find a row of either table.

    Args:
        name: In any spelling.

    Returns:
        The row.

    Raises:
        ValueError: If no row has the name.
    """
    try:
        return find(name)
    except KeyError as error:
        raise ValueError(f"{error}; or 'none'") from error


def takes(row: Row) -> str:
    """What a row is given in the network.

    Args:
        row: The row.

    Returns:
        ``"weights"``, ``"atom energies"``, ``"vectors"``, ``"irreps"`` (scalars and vectors in one layer),
        ``"tensors"``, or ``"columns"`` (scalars, and apart from them the components of vectors).
    """
    if row.acts_on == "weights":
        return "weights"
    if row.name == "PerTypeScaleShift":
        return "atom energies"
    # Of an invariant FieldNorm leaves nothing.
    if row.features == "vectors" or row.name == "FieldNorm":
        return "vectors"
    if row.features in ("irreps", "scalars and vectors") or row.name == "MessageNorm":
        return "irreps"
    return "tensors" if row.features == "tensors" else "columns"


def build_place(row: Row, width: int, with_vectors: bool, options: Mapping[str, Any]) -> nn.Module:
    """Build a row for the scalars and vectors of a block.

    Args:
        row: A row that acts on features or messages.
        width: The number of scalars, and of vectors.
        with_vectors: Normalize the vectors too.
        options: Arguments of the layer.

    Returns:
        A module of ``(scalars, vectors, known, features)``.

    Raises:
        ValueError: If nothing is left to normalize, or an option is unknown.
    """

    def make(features: int | str) -> nn.Module:
        return built(row, lambda: row.make(features, **options))

    kind = takes(row)
    if kind == "vectors":
        if not with_vectors:
            raise ValueError(
                f"{row.name} is a layer of vectors and on_vectors is 'none': nothing is left to normalize, "
                "take on_vectors='row'"
            )
        layer = make(f"{width}x1o")
        return Multiplied(layer, width) if row.layer.__name__ == "EvNorm" else Apart(None, layer)
    if kind == "tensors":
        return AsTensors(make(width), with_vectors)
    if kind == "irreps":
        if with_vectors:
            return Together(make(f"{width}x0e+{width}x1o"), row.name == "MessageNorm")
        return OfMessages(make(width)) if row.name == "MessageNorm" else Apart(make(f"{width}x0e"), None)
    return Apart(make(width), make(3 * width) if with_vectors else None)


def built(row: Row, make: Callable[[], nn.Module]) -> nn.Module:
    """Make a layer, and say in words if its arguments are wrong."""
    try:
        return make()
    except TypeError as error:
        raise ValueError(f"normalization {row.name!r} cannot be built: {error}; see norm_options") from error


def arguments(row: Row, options: Mapping[str, Any], num_types: int, cutoff: float) -> tuple[dict[str, Any], bool]:
    """The arguments of the layer of a row, and whether constants among them are to be found in data.

    Args:
        row: The row.
        options: Arguments that were given; of several constants those that are missing are left out.
        num_types: The number of types of atoms.
        cutoff: The cutoff of the network.

    Returns:
        The arguments, with constants that change nothing where they are to be found, and whether they are.
    """
    constants = CONSTANTS.get(row.layer.__name__, ())
    to_fit = bool(constants) and not any(name in options for name in constants)
    known = {"num_types": num_types, "cutoff": cutoff, "scales": 1.0, "shifts": [0.0] * num_types}
    known["avg_num_neighbors"] = 1.0
    needs = {name: known.get(name, value) for name, value in row.needs.items() if to_fit or name not in constants}
    return {**needs, **options}, to_fit


def normalize_blocks(
    row: Row,
    blocks: Iterable[Block],
    width: int,
    with_vectors: bool,
    options: Mapping[str, Any],
    dtype: torch.dtype | None,
) -> None:
    """Put a row into its place in every block.

    Args:
        row: A row, but for PerTypeScaleShift.
        blocks: The blocks; they are changed.
        width: The number of scalars, and of vectors.
        with_vectors: Normalize the vectors too.
        options: Arguments of the layer.
        dtype: Of the parameters.

    Raises:
        ValueError: If nothing is left to normalize, or an option is unknown.
    """
    for block in blocks:
        if takes(row) == "weights":
            for linear in [module for module in block.modules() if type(module) is nn.Linear]:
                if with_vectors or linear is not block.update.mix:
                    built(row, lambda linear=linear: row.make(linear, **options))
            continue
        place = build_place(row, width, with_vectors, options).to(dtype)
        if row.acts_on == "messages":
            block.sums = place
        else:
            block.after = place
