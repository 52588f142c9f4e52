"""Declared invariances as directions in the space of inputs, written down from their definition alone."""

import torch
from table.cases import Case
from torch import Tensor

from geonorm.table.properties import Invariance


def directions(
    invariance: Invariance, case: Case, batch: Tensor, *, groups: int | None = None, kinds: Tensor | None = None
) -> Tensor:
    """An orthonormal basis of a shift, a scale or a shift of lengths, one vector for each parameter."""
    columns = case.fields.columns
    x = case.features.flatten(1)
    if len(columns) != x.shape[1]:
        raise ValueError("tensors of rank two have no named directions")
    keys: dict[tuple, Tensor] = {}
    for node in range(len(x)):
        rows = {"sample": int(batch[node]), "node": node, "kind": None if kinds is None else int(kinds[node])}
        for number, column in enumerate(columns):
            if invariance.on != "all" and column.trivial != (invariance.on == "scalars"):
                continue
            value = torch.ones((), dtype=x.dtype)
            if invariance.kind == "scale":
                value = x[node, number]
            if invariance.kind == "shift of lengths":
                own = [place for place, other in enumerate(columns) if other.field == column.field]
                value = x[node, number] / x[node, own].norm()
            named = rows | {
                "channel": number,
                "field": column.field,
                "type": column.type,
                "component": (column.type, column.component),
                "group": None if groups is None else number * groups // len(columns),
            }
            key = tuple(named[thing] for thing in invariance.per)
            keys.setdefault(key, torch.zeros_like(x))[node, number] = value
    return torch.stack([direction.flatten() / direction.norm() for direction in keys.values()], 1)
