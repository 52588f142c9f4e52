"""Whether two different samples of one batch can get the same output: the third corner of the trilemma."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.layers.fields import Fields
from geonorm.match import actions
from geonorm.match.errors import relative_error
from geonorm.match.pairs import partner
from geonorm.match.tasks import Change

BatchFunction = Callable[[Tensor, Tensor, int], Tensor]

#: The relative difference of two outputs below which samples count as confused; ε keeps it from zero.
SAME = 3e-2


def confusions(
    function: BatchFunction,
    x: Float[Tensor, "nodes *features"],
    batch: Int[Tensor, " nodes"],
    *,
    irreps: str | tuple | None = None,
    irrelevant: Iterable[Change] = (),
    coordinates: bool = False,
    seed: int = 0,
) -> dict[str, float]:
    """Put a sample and a changed copy of it into one batch: for which changes are their outputs the same?

    A layer that standardizes every sample by itself confuses a sample with what it turns into under the lost shift or
    scale. A layer with statistics of the batch loses as much, but of all samples at once: it tells them apart. Where no
    shift or scale confuses, :func:`~geonorm.match.pairs.partner` looks for another sample.

    Args:
        function: The function of features, batch vector and number of samples.
        x: Generic features.
        batch: The sample of each node, sorted; the first sample is copied.
        irreps: What the columns are.
        irrelevant: Changes that the task does not mind, which are left out.
        coordinates: The features are raw coordinates: some shifts are translations.
        seed: The seed of the changes.

    Returns:
        The changes that confuse, with the relative difference of the two outputs: shifts and scales, coarse ones first,
        or else what the search has found.
    """
    own = batch == 0
    first, rest = x[own], x[~own]
    nodes = len(first)
    again = torch.cat([batch[own], batch[own] + 1, batch[~own] + 1])
    number = int(batch.max()) + 2
    irrelevant = tuple(irrelevant)
    declared = [(each.kind, _pool(first, each.per, irreps)) for each in irrelevant if each.kind in ("shift", "scale")]
    if coordinates and any(change.kind == "translation" for change in irrelevant):
        declared.append(("shift", (torch.arange(first[0].numel()) % 3).expand(first.shape)))
    found = {}
    for kind, per in _changes(first, irreps):
        pool = actions.pools(first, None, per, irreps=irreps)
        if any(kind == known and _refines(finer, pool) for known, finer in declared):
            continue
        changed = {"shift": actions.shift, "scale": actions.scale}[kind](first, pool, seed + 1)
        if relative_error(changed, first) < SAME:
            continue
        y = function(torch.cat([first, changed, rest]), again, number)
        if y.shape[0] == number:
            one, other = y[0], y[1]
        else:
            one, other = y[:nodes], y[nodes : 2 * nodes]
        difference = relative_error(one, other)
        if difference < SAME:
            found[str(Change(kind, per)) if per else f"{kind} of the sample"] = difference
    if found or any("node" in change.per for change in irrelevant):  # what differs at one node may be declared
        return found
    acting = {"rotation": irreps is not None and bool(Fields(irreps).nontrivial_types), "translation": coordinates}
    acting["inversion"] = acting["rotation"]
    # What is lost along a direction may be declared too.
    whole = not any(acting.get(change.kind, True) for change in irrelevant)
    pair = partner(function, x, batch, irreps=irreps, whole=whole)
    return {} if pair is None else dict([pair])


def _pool(x: Tensor, per: tuple[str, ...], irreps: str | tuple | None) -> Tensor:
    """The pools of a change that a task declares, inside one sample; names that mean nothing here are no pools."""
    known = {"sample", "node", *actions.column_groups(x, irreps)}
    return actions.pools(x, None, tuple(name for name in per if name in known), irreps=irreps)


def _refines(finer: Tensor, coarser: Tensor) -> bool:
    """Whether every pool of the one lies in a pool of the other: then what the other can do, the one can do."""
    pairs = torch.stack([finer.flatten(), coarser.flatten()]).unique(dim=1)
    return pairs.shape[1] == len(finer.unique())


def _changes(x: Tensor, irreps: str | tuple | None) -> list[tuple[str, tuple[str, ...]]]:
    """What can be done to one sample, coarse changes first."""
    names = actions.column_groups(x, irreps)
    pers: list[tuple[str, ...]] = [(), *((name,) for name in names), ("node",), *(("node", name) for name in names)]
    return [(kind, per) for per in pers for kind in ("shift", "scale") if not (kind == "shift" and "node" in per[:-1])]
