"""Which changes of its input a layer cannot see, found from its Jacobian, named, and confirmed by making them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.layers.fields import Fields
from geonorm.match import actions
from geonorm.match.errors import relative_error
from geonorm.match.families import families, intersection, outside
from geonorm.match.places import lost_rotations, translations
from geonorm.match.tasks import Change

Function = Callable[[Tensor], Tensor]
#: A place in the order, and: declared, kind, what a parameter belongs to if a finite change confirms it, name, basis.
Met = tuple[tuple[bool, bool, int, int], tuple[bool, str, tuple[str, ...] | None, str, Tensor]]

#: Singular values below this part of the largest are zero up to rounding.
EXACT = 1e-9
#: Up to this part of the largest a direction is lost approximately, as ε in a divisor leaves it.
APPROXIMATE = 3e-2
#: The sine of the angle up to which directions of a part of a family lie in the exactly lost space.
ALIGNED = 1e-5
#: The relative change of the output below which a finite change of the input counts as unseen: ε may be in the way.
UNSEEN = 3e-2
#: The same for reversals and reciprocal lengths, which no ε disturbs.
SAME = 1e-6


@dataclass(frozen=True)
class Removed:
    """What a function forgets of a generic input.

    Args:
        added: Changes that the task does not declare irrelevant: the name, and the number of directions beyond those
            named before it.
        irrelevant: Changes that the task declares irrelevant.
        approximate: For named changes that only ε keeps from being exact: the largest singular value, relative to the
            largest of all.
        unnamed: The number of exactly lost directions that no name covers.
        flips: Finite changes that leave the output as it is, such as reversing the vectors of a field.
        columns: Columns of the input that the output does not read at all.
        dimension: The number of lost directions, exact and named.
    """

    added: dict[str, int] = field(default_factory=dict)
    irrelevant: dict[str, int] = field(default_factory=dict)
    approximate: dict[str, float] = field(default_factory=dict)
    unnamed: int = 0
    flips: tuple[str, ...] = ()
    columns: tuple[int, ...] = ()
    dimension: int = 0


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
    space, exact, largest = _lost(matrix)
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
        if not new.shape[1] or (
            per is not None and not _unseen(function, x, y, batch, kind, per, irreps, groups, seed)
        ):
            continue
        found[allowed][name] = new.shape[1]
        error = torch.linalg.matrix_norm(matrix @ new, 2).item() / largest if largest else 0.0
        if error > EXACT:
            approximate[name] = error
        covered = torch.cat([covered, new], 1)
    unnamed = 0 if readout else outside(exact, covered).shape[1]
    return Removed(
        added=found[False],
        irrelevant=found[True],
        approximate=approximate,
        unnamed=unnamed,
        flips=_flips(function, x, y, batch, irreps, ("inversion", frozenset({"sample"})) in declared),
        columns=columns,
        dimension=covered.shape[1] + unnamed,
    )


def _lost(matrix: Float[Tensor, "outputs inputs"]) -> tuple[Tensor, Tensor, float]:
    """Orthonormal bases of what is lost approximately and exactly, and the largest singular value.

    The squares of the singular values come first, which is several times faster and sees what is small; how small, the
    singular values of the matrix on that space alone tell to the last digit.
    """
    squares, directions = torch.linalg.eigh(matrix.T @ matrix)
    largest = squares[-1].clamp(min=0).sqrt().item() if len(squares) else 0.0
    space = directions[:, squares <= (APPROXIMATE * largest) ** 2]
    _, values, combinations = torch.linalg.svd(matrix @ space, full_matrices=True)
    values = torch.cat([values, values.new_zeros(space.shape[1] - len(values))])
    return space, space @ combinations[values <= EXACT * largest].T, largest


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
    for kind, per, name, directions in families(x, batch, irreps, groups):
        inside = intersection(directions, space)
        partial = inside.shape[1] < directions.shape[1]
        allowed = (kind, frozenset(per)) in declared
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
    lost = [] if irreps is None else lost_rotations(matrix, x, batch, str(irreps), largest)
    if coordinates:
        inside = intersection(translations(x, batch), exact, ALIGNED)
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


def _unseen(
    function: Function, x: Tensor, y: Tensor, batch: Tensor, kind: str, per: tuple[str, ...], irreps, groups, seed: int
) -> bool:
    """Whether the output stays the same when the change is made."""
    pool = actions.pools(x, batch, per, irreps=irreps, groups=groups)
    changed = {"shift": actions.shift, "scale": actions.scale}[kind](x, pool, seed)
    return relative_error(function(changed), y) < UNSEEN


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


def _flips(
    function: Function, x: Tensor, y: Tensor, batch: Tensor, irreps: str | tuple | None, inverted: bool
) -> tuple[str, ...]:
    """Finite changes that the output does not show: reversals, and lengths that become their reciprocals.

    One for each node and field comes first; it implies all coarser ones, which are then left out. Where all fields are
    odd, reversing a sample is to invert it, which a task may not mind.
    """
    odd = inverted and irreps is not None and all(irrep.p == -1 for irrep in Fields(str(irreps)).types)
    columns = actions.column_groups(x, irreps)
    finest = "field" if "field" in columns else "channel"
    found: list[tuple[str, tuple[str, ...]]] = []
    for kind, change in (("reversal", _reversed), ("reciprocal lengths", _reciprocal)):
        pers = (("node", finest), ("node",), (finest,), ("sample",), ())
        for per in pers if kind == "reversal" else pers[:2]:
            pool = actions.pools(x, batch, per, irreps=irreps)
            implied = any(kind == other and _refines(finer, per) for other, finer in found)
            if kind == "reciprocal lengths":  # which is a scale, where scales are lost anyway
                implied = implied or relative_error(function(actions.scale(x, pool)), y) < UNSEEN
            if implied or (odd and kind == "reversal" and _whole_samples(pool, batch)):
                continue
            if relative_error(function(change(x, pool)), y) < SAME:
                found.append((kind, per))
    return tuple(str(Change(kind, per)) if per else f"{kind} of all features" for kind, per in found)


def _refines(finer: tuple[str, ...], coarser: tuple[str, ...]) -> bool:
    """Whether what is done per the one can be done per the other too: a node belongs to one sample."""
    return set(coarser) <= set(finer) | ({"sample"} if "node" in finer else set())


def _whole_samples(pool: Tensor, batch: Tensor) -> bool:
    """Whether reversing every second pool does the same to all entries of a sample."""
    odd = pool % 2 == 1
    return all(bool(odd[batch == sample].all()) or not bool(odd[batch == sample].any()) for sample in batch.unique())


def _reversed(x: Tensor, pool: Tensor) -> Tensor:
    """Every second pool of entries with the opposite sign."""
    number = int(pool.max()) + 1
    sign = -torch.ones(number, dtype=x.dtype)
    sign[1::2] = 1
    return x * sign[pool]


def _reciprocal(x: Tensor, pool: Tensor) -> Tensor:
    """Every pool of entries reflected in the unit sphere: of reciprocal length, in the same direction."""
    square = x.new_zeros(int(pool.max()) + 1).index_add(0, pool.flatten(), x.square().flatten())
    return x / square[pool]
