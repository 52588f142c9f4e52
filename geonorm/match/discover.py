"""Which changes of its input a layer cannot see, found from its Jacobian, named, and confirmed by making them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match.blocks import lost_directions
from geonorm.match.families import ANGLE, intersection, outside
from geonorm.match.finite import Function, flips, unseen
from geonorm.match.named import named
from geonorm.match.near import derivative_alike, near_losses, remaining_values
from geonorm.match.places import lost_rotations, translations
from geonorm.match.removed import APPROXIMATE, EXACT, Removed
from geonorm.match.tasks import Change

#: A place in the order, and: declared, kind, what a parameter belongs to if a finite change confirms it, name, basis.
Met = tuple[tuple[bool, bool, int, int], tuple[bool, str, tuple[str, ...] | None, str, Tensor]]

#: The sine of the angle up to which directions of a part of a family lie in the exactly lost space.
ALIGNED = 1e-5
#: So many members of a family are looked at before all.
FIRST = 4
#: So many random combinations of rows stand for the matrix where single directions are asked for.
COMBINED = 16


def discover(
    function: Function,
    x: Float[Tensor, "nodes *features"],
    matrix: Float[Tensor, "outputs inputs"],
    batch: Int[Tensor, " nodes"],
    *,
    irreps: str | tuple | None = None,
    groups: int | None = None,
    irrelevant: Iterable[Change] = (),
    coordinates: bool = False,
    readout: bool = False,
    seed: int = 0,
) -> Removed:
    """Find, name and confirm what a function does not see.

    Args:
        function: The function of the features.
        x: Generic features.
        matrix: Its Jacobian there.
        batch: The sample of each node.
        irreps: What the columns are.
        groups: The number of groups of channels, if names may speak of them.
        irrelevant: What the task does not mind.
        coordinates: The features are raw coordinates, which can be translated.
        readout: The output has one row for each sample: it forgets most of a sample by design, so that only whole
            families of changes count.
        seed: The seed of the finite changes.

    Returns:
        What is removed.
    """
    space, sizes, largest = lost_directions(matrix, APPROXIMATE)
    exact = space[:, sizes <= EXACT * largest]
    y = function(x)
    covered = space[:, :0]
    columns = _unread(matrix, x)
    if columns:
        covered = _entries(columns, x)
    found: dict[bool, dict[str, int]] = {True: {}, False: {}}
    approximate = {}
    declared = {(change.kind, frozenset(change.per)) for change in irrelevant}
    met = _inside(x, batch, irreps, groups, space, exact, declared, readout)
    met += _places(matrix, x, batch, irreps, largest, declared, coordinates, exact, readout)
    for allowed, kind, per, name, inside in (entry for _, entry in sorted(met, key=lambda entry: entry[0])):
        new = outside(inside, covered)
        if not new.shape[1] or (per is not None and not unseen(function, x, y, batch, kind, per, irreps, groups, seed)):
            continue
        found[allowed][name] = new.shape[1]
        error = torch.linalg.matrix_norm(matrix @ new, 2).item() / largest if largest else 0.0
        if error > EXACT:
            approximate[name] = error
        covered = torch.cat([covered, new], 1)
    unnamed = 0 if readout else outside(exact, covered).shape[1]
    near: tuple[float, ...] = ()
    more = space.shape[1] > covered.shape[1] + unnamed or outside(space, covered).shape[1] > unnamed
    if more and not readout:

        def spectrum(factor: float) -> Tensor:
            return remaining_values(derivative_alike(function, factor * x, matrix), covered)[unnamed:]

        near = near_losses(remaining_values(matrix, covered)[unnamed:], largest, spectrum)
    return Removed(
        added=found[False],
        irrelevant=found[True],
        approximate=approximate,
        unnamed=unnamed,
        near=near,
        flips=flips(function, x, y, batch, irreps, ("inversion", frozenset({"sample"})) in declared),
        columns=columns,
        dimension=covered.shape[1] + unnamed + len(near),
    )


def _inside(
    x: Tensor,
    batch: Tensor,
    irreps: str | tuple | None,
    groups: int | None,
    space: Tensor,
    exact: Tensor,
    declared: set[tuple[str, frozenset[str]]],
    readout: bool,
) -> list[Met]:
    """The families that meet the space, in the order: what is declared, then whole ones, large ones, coarse ones.

    A whole family may be lost approximately, since it is confirmed by a finite change; of others only directions that
    are lost exactly count, since the parameters of a part cannot be chosen freely.
    """
    met = []
    for kind, per, name, family in named(x, batch, irreps, groups):
        allowed = (kind, frozenset(per)) in declared
        one = torch.eye(family.number, dtype=x.dtype)
        # A whole family lies in the space only if its first members do, and few families get further.
        first = torch.linalg.vector_norm(family.combine(one[:FIRST]) @ space, dim=1)
        partial = bool((1 - first.square() >= ANGLE**2).any())
        if partial and not allowed and (readout or not exact.shape[1]):
            continue
        directions = family.combine(one).T
        inside = directions[:, :0]
        if not partial or allowed:
            inside = intersection(directions, space)
            partial = inside.shape[1] < directions.shape[1]
        if partial and not allowed:
            inside = inside[:, :0] if readout else intersection(directions, exact, ALIGNED)
        if inside.shape[1]:
            order = (not allowed, partial, -inside.shape[1], directions.shape[1])
            met.append((order, (allowed, kind, None if partial or "lengths" in kind else per, name, inside)))
    return met


def _places(
    matrix: Tensor,
    x: Tensor,
    batch: Tensor,
    irreps: str | tuple | None,
    largest: float,
    declared: set[tuple[str, frozenset[str]]],
    coordinates: bool,
    exact: Tensor,
    readout: bool,
) -> list[Met]:
    """Lost rotations, and lost translations of raw coordinates; both are lost exactly, whatever ε."""
    lost = []
    if irreps is not None:
        generator = torch.Generator().manual_seed(0)
        combined = torch.randn(COMBINED, len(matrix), dtype=matrix.dtype, generator=generator) / COMBINED**0.5
        rows = combined @ matrix if len(matrix) > COMBINED else matrix
        lost = lost_rotations(rows, x, batch, str(irreps), largest)
    if coordinates:
        moved = translations(x, batch)
        moved = moved.combine(torch.eye(moved.number, dtype=x.dtype)).T
        inside = intersection(moved, exact, ALIGNED)
        if inside.shape[1]:
            lost.append(("translation", ("sample",), True, "translation per sample", inside))
    met = []
    for kind, per, whole, name, inside in lost:
        allowed = (kind, frozenset(per)) in declared
        if whole or allowed or not readout:
            met.append(
                ((not allowed, not whole, -inside.shape[1], inside.shape[1]), (allowed, kind, None, name, inside))
            )
    return met


def _unread(matrix: Tensor, x: Tensor) -> tuple[int, ...]:
    """The columns whose entries the output does not depend on, at any node."""
    felt = matrix.abs().amax(0).reshape(len(x), -1).amax(0)
    return tuple(torch.nonzero(felt <= EXACT * felt.max())[:, 0].tolist()) if felt.max() > 0 else ()


def _entries(columns: tuple[int, ...], x: Tensor) -> Float[Tensor, "inputs entries"]:
    """Every entry of some columns as a direction of its own."""
    number = torch.arange(x.numel()).reshape(len(x), -1)[:, list(columns)].flatten()
    directions = x.new_zeros(x.numel(), len(number))
    directions[number, torch.arange(len(number))] = 1
    return directions
