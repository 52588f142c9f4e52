"""The changes of features that have a name, as directions in the space of inputs."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match.blocks import eigh
from geonorm.match.named import named

Features = Float[Tensor, "nodes *features"]
Batch = Int[Tensor, " nodes"] | None

#: The sine of the largest angle at which a named direction counts as lying in a space.
ANGLE = 1e-2


def families(
    x: Features, batch: Batch, irreps: str | tuple | None, groups: int | None
) -> list[tuple[str, tuple[str, ...], str, Float[Tensor, "inputs directions"]]]:
    """Every family of named directions at x: kind, what a parameter belongs to, name, and an orthonormal basis."""
    found = []
    for kind, per, name, family in named(x, batch, irreps, groups):
        found.append((kind, per, name, family.combine(torch.eye(family.number, dtype=x.dtype)).T))
    return found


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
