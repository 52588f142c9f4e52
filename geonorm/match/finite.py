"""Finite changes of the input that a function may not see: shifts and scales, reversals, reciprocal lengths."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from geonorm.layers.fields import Fields
from geonorm.match import actions
from geonorm.match.errors import relative_error
from geonorm.match.tasks import Change

Function = Callable[[Tensor], Tensor]

#: The relative change of the output below which a finite change of the input counts as unseen: ε may be in the way.
UNSEEN = 3e-2
#: The same for reversals and reciprocal lengths, which no ε disturbs.
SAME = 1e-6


def unseen(
    function: Function, x: Tensor, y: Tensor, batch: Tensor, kind: str, per: tuple[str, ...], irreps, groups, seed: int
) -> bool:
    """Whether the output stays the same when the change is made."""
    pool = actions.pools(x, batch, per, irreps=irreps, groups=groups)
    changed = {"shift": actions.shift, "scale": actions.scale}[kind](x, pool, seed)
    return relative_error(function(changed), y) < UNSEEN


def flips(
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
