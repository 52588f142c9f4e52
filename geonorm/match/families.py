"""The changes of features that have a name, as directions in the space of inputs."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match import actions
from geonorm.match.blocks import eigh
from geonorm.numerics import safe_norm

Features = Float[Tensor, "nodes *features"]
Batch = Int[Tensor, " nodes"] | None

#: The sine of the largest angle at which a named direction counts as lying in a space.
ANGLE = 1e-2


def families(
    x: Features, batch: Batch, irreps: str | tuple | None, groups: int | None
) -> list[tuple[str, tuple[str, ...], str, Float[Tensor, "inputs directions"]]]:
    """Every family of named directions at x: kind, what a parameter belongs to, name, and an orthonormal basis."""
    columns = actions.column_groups(x, irreps, groups)
    kinds = {"shift": torch.ones_like(x), "scale": x}
    if "field" in columns:
        kinds["shift of lengths"] = _unit_fields(x, columns["field"])
    found = []
    for kind, values in kinds.items():
        for row in ((), ("sample",), ("node",)):
            for column in ((), *((name,) for name in columns)):
                per = row + column
                pool = actions.pools(x, batch, per, irreps=irreps, groups=groups).flatten()
                number = int(pool.max()) + 1
                of = "" if kind == "shift of lengths" else " of all features"
                words = f" per {per[0]}" if len(per) == 1 else f" per ({', '.join(per)})" if per else of
                directions = values.new_zeros(x.numel(), number)
                directions[torch.arange(x.numel()), pool] = values.flatten()
                length = directions.norm(dim=0)
                # One parameter for a single entry names whatever happens to that entry, and so explains nothing.
                kept = (length > 0) & ((pool.bincount() > 1) | ("node" not in per))
                directions = directions[:, kept] / length[kept]
                found.append((kind, per, kind + words if per else f"one {kind}{words}", directions))
    return found


def _unit_fields(x: Features, field: Int[Tensor, " columns"]) -> Features:
    """Every field divided by its length: the direction in which its length grows; zero for fields of one component."""
    flat = x.flatten(1)
    unit = torch.zeros_like(flat)
    for number in field.unique().tolist():
        member = field == number
        if int(member.sum()) > 1:
            length = safe_norm(flat[:, member], dim=1, keepdim=True)
            unit[:, member] = flat[:, member] / torch.where(length > 0, length, 1)
    return unit.reshape(x.shape)


def intersection(
    directions: Float[Tensor, "inputs some"], basis: Float[Tensor, "inputs dimension"], angle: float = ANGLE
) -> Float[Tensor, "inputs common"]:
    """The directions (an orthonormal family) that lie in the space, up to the angle."""
    if not basis.shape[1]:
        return directions[:, :0]
    overlap = basis.T @ directions
    # Cosines and sines of the angles between the spaces; the small matrix is that of the squared sines.
    one = torch.eye(directions.shape[1], dtype=directions.dtype)
    squares, combinations = eigh(one - overlap.T @ overlap)
    return directions @ combinations[:, squares < angle**2]


def outside(
    directions: Float[Tensor, "inputs some"], basis: Float[Tensor, "inputs dimension"]
) -> Float[Tensor, "inputs new"]:
    """An orthonormal basis of what directions add to a space."""
    rest = directions - basis @ (basis.T @ directions)
    squares, combinations = eigh(rest.T @ rest)
    kept = squares > ANGLE**2
    return rest @ combinations[:, kept] * squares[kept].rsqrt()
