"""The changes of features that have a name, each a family of directions with disjoint members."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match import actions
from geonorm.match.pooled import Pooled

Features = Float[Tensor, "nodes *features"]
Batch = Int[Tensor, " nodes"] | None


def named(
    x: Features, batch: Batch, irreps: str | tuple | None, groups: int | None
) -> Iterator[tuple[str, tuple[str, ...], str, Pooled]]:
    """Every family of named directions at x: kind, what a parameter belongs to, name, and its members."""
    columns = actions.column_groups(x, irreps, groups)
    kinds = {"shift": torch.ones_like(x), "scale": x}
    if "field" in columns:
        kinds["shift of lengths"] = _unit_fields(x, columns["field"])
    pers = [row + column for row in ((), ("sample",), ("node",)) for column in ((), *((name,) for name in columns))]
    pools = {per: actions.pools(x, batch, per, irreps=irreps, groups=groups).flatten() for per in pers}
    for kind, values in kinds.items():
        for per, pool in pools.items():
            # One parameter for a single entry names whatever happens to that entry, and so explains nothing.
            several = pool.bincount() > 1 if "node" in per else None
            words = f" per {per[0]}" if len(per) == 1 else f" per ({', '.join(per)})"
            of = "" if kind == "shift of lengths" else " of all features"
            yield kind, per, kind + words if per else f"one {kind}{of}", Pooled.of(pool, values.flatten(), several)


def _unit_fields(x: Features, field: Int[Tensor, " columns"]) -> Features:
    """Every field divided by its length: the direction in which its length grows; zero for fields of one component."""
    flat = x.flatten(1)
    number = int(field.max()) + 1
    wide = field.bincount() > 1
    length = flat.new_zeros(len(flat), number).index_add(1, field, flat.square()).sqrt()
    unit = flat / torch.where(length > 0, length, 1)[:, field]
    return torch.where(wide[field], unit, 0).reshape(x.shape)
