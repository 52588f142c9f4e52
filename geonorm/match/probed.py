"""Which changes of its input a large layer cannot see: found by random probes, named, and confirmed by making them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geonorm.match.families import ANGLE
from geonorm.match.finite import Function, flips, unseen
from geonorm.match.named import named
from geonorm.match.near import near_losses
from geonorm.match.places import forgotten_rotations, translations
from geonorm.match.pooled import Pooled, Span
from geonorm.match.probes import Found, largest_singular_value, lost_in, norm_on, search, sketch
from geonorm.match.products import Products
from geonorm.match.removed import APPROXIMATE, EXACT, Removed
from geonorm.match.tasks import Change

#: A sketch of sixteen rows knows a length up to such a factor; what it lets pass is measured again.
ROUGH = 2.0
#: What no name covers counts as nearly lost up to this part of the largest singular value. Of a network many more are
#: felt a little than there are probes, and would hide what ε leaves.
NEARLY = 3e-3
#: A family of more members than these is judged member by member only.
LIMIT = 1024


class _Candidate:
    """A family of which something is lost: its members, and what to call it."""

    def __init__(
        self, kind: str, per: tuple[str, ...], name: str, allowed: bool, whole: bool, exact: bool, *parts: Pooled
    ) -> None:
        self.kind, self.per, self.name = kind, per, name
        self.allowed, self.whole, self.exact, self.parts = allowed, whole, exact, parts
        self.number = parts[0].number if len(parts) == 1 else Span(len(parts[0].pool)).add(*parts)

    @property
    def order(self) -> tuple[bool, bool, int]:
        """What is declared comes first, then whole families, then large ones."""
        return not self.allowed, not self.whole, -self.number

    @property
    def finite(self) -> bool:
        """Whether a finite change has to confirm it."""
        return self.whole and self.kind in ("shift", "scale")


def discover_by_probes(
    function: Function,
    x: Float[Tensor, "nodes *features"],
    products: Products,
    batch: Int[Tensor, " nodes"],
    *,
    irreps: str | tuple | None = None,
    groups: int | None = None,
    irrelevant: Iterable[Change] = (),
    coordinates: bool = False,
    readout: bool = False,
    seed: int = 0,
) -> Removed:
    """Find, name and confirm what a function does not see, without its Jacobian as a matrix.

    A sketch of sixteen random combinations of rows tells of every named direction whether it is felt at all. What is
    left is searched with sixteen random probes; directions that turn up there get the name of the family in which
    they are combinations of members, if there is one.

    Args:
        function: The function of the features.
        x: Generic features.
        products: Products with its Jacobian there.
        batch: The sample of each node.
        irreps: What the columns are.
        groups: The number of groups of channels, if names may speak of them.
        irrelevant: What the task does not mind.
        coordinates: The features are raw coordinates, which can be translated.
        readout: The output has one row for each sample, so that only whole families of changes count.
        seed: The seed of probes and finite changes.

    Returns:
        What is removed, as :func:`geonorm.match.discover.discover` finds it from the matrix.
    """
    rows = sketch(products, seed)
    largest = largest_singular_value(products, rows)
    known = Span(x.numel())
    columns = _unread(rows, x)
    if columns:
        entries = torch.zeros(len(x), x[0].numel(), dtype=torch.bool)
        entries[:, list(columns)] = True
        known.add(Pooled.of(torch.arange(x.numel()), torch.ones(x.numel(), dtype=x.dtype), entries.flatten()))
    declared = {(change.kind, frozenset(change.per)) for change in irrelevant}
    families = list(named(x, batch, irreps, groups))
    if coordinates:
        families.append(("translation", ("sample",), "translation per sample", translations(x, batch)))
    met = _members(products, rows, families, largest, declared, readout)
    if irreps is not None:
        met += [
            _Candidate(
                "rotation", each.per, each.name, _in(each.per, "rotation", declared), each.whole, True, *each.around
            )
            for each in forgotten_rotations(rows, x, batch, str(irreps), largest)
            if each.whole or not readout or _in(each.per, "rotation", declared)
        ]
    found: dict[bool, dict[str, int]] = {True: {}, False: {}}
    approximate: dict[str, float] = {}
    y = function(x)
    for each in sorted(_shared(met, families, declared), key=lambda each: each.order):
        if not _outside(each, known).any() or (
            each.finite and not unseen(function, x, y, batch, each.kind, each.per, irreps, groups, seed)
        ):
            continue
        new = known.add(*each.parts)
        if new:
            found[each.allowed][each.name] = found[each.allowed].get(each.name, 0) + new
            error = 0.0 if each.exact or not largest else norm_on(products, each.parts[0], seed) / largest
            if error > EXACT:
                approximate[each.name] = error
    further = (
        Found.nothing(x.numel()) if readout else search(products, known, largest, exact=EXACT, small=NEARLY, seed=seed)
    )
    lost = further.basis[further.values <= EXACT * largest]
    unnamed = len(lost)
    if len(lost):
        unnamed = _combinations(products, families, known, largest, declared, found, lost)
    near: tuple[float, ...] = ()
    if len(further.values) > len(lost) and (further.complete or not len(lost)):
        skipped = len(lost)

        def spectrum(factor: float) -> Tensor:
            there = Products(function, factor * x)
            again = search(there, known, largest_singular_value(there, rows), exact=EXACT, small=NEARLY, seed=seed)
            return torch.cat([again.values[unnamed:], _size_outside(there, known, seed)])

        values = torch.cat([further.values[skipped:], _size_outside(products, known, seed)])
        near = near_losses(values, largest, spectrum)
    return Removed(
        added=found[False],
        irrelevant=found[True],
        approximate=approximate,
        unnamed=unnamed,
        near=near,
        flips=flips(function, x, y, batch, irreps, ("inversion", frozenset({"sample"})) in declared),
        columns=columns,
        dimension=known.rank + unnamed + len(near),
        probes=len(rows),
        about=None if further.complete or not unnamed + len(near) else further.estimate,
        settled=further.settled,
    )


def _in(per: tuple[str, ...], kind: str, declared: set[tuple[str, frozenset[str]]]) -> bool:
    return (kind, frozenset(per)) in declared


def _unread(rows: Tensor, x: Tensor) -> tuple[int, ...]:
    """The columns whose entries the output does not depend on, at any node."""
    felt = rows.abs().amax(0).reshape(len(x), -1).amax(0)
    return tuple(torch.nonzero(felt <= EXACT * felt.max())[:, 0].tolist()) if felt.max() > 0 else ()


def _size_outside(products: Products, known: Span, seed: int) -> Float[Tensor, " one"]:
    """How strongly random directions are felt that are not known: the root of the mean square of singular values."""
    generator = torch.Generator().manual_seed(seed + 4)
    z = known.without(torch.randn(8, products.x.numel(), dtype=torch.float64, generator=generator))
    return (torch.linalg.vector_norm(products.forward(z)) / torch.linalg.vector_norm(z)).reshape(1)


def _members(
    products: Products,
    rows: Tensor,
    families: list[tuple[str, tuple[str, ...], str, Pooled]],
    largest: float,
    declared: set[tuple[str, frozenset[str]]],
    readout: bool,
) -> list[_Candidate]:
    """The families of which members are lost: as a whole perhaps nearly, in part exactly."""
    met = []
    for kind, per, name, family in families:
        if not family.number:
            continue
        allowed = _in(per, kind, declared)
        felt = torch.linalg.vector_norm(family.coefficients(rows), dim=0)
        exact = felt <= EXACT * largest
        whole = bool((felt <= ROUGH * APPROXIMATE * largest).all()) and kind != "translation"
        whole = bool(exact.all()) or (whole and norm_on(products, family) <= (APPROXIMATE + ANGLE) * largest)
        lost = torch.ones_like(exact) if whole else exact
        if allowed and not whole and kind != "translation":
            lost = felt <= ANGLE * largest / ROUGH
        if lost.any() and (whole or allowed or not readout):
            met.append(_Candidate(kind, per, name, allowed, whole, bool(exact[lost].all()), family.only(lost)))
    return met


def _shared(
    met: list[_Candidate],
    families: list[tuple[str, tuple[str, ...], str, Pooled]],
    declared: set[tuple[str, frozenset[str]]],
) -> list[_Candidate]:
    """Split off what lies in a family that the task declares: a shift per sample is one per sample and channel."""
    result = []
    for each in met:
        rest = torch.ones(each.number, dtype=torch.bool)
        if not each.allowed and len(each.parts) == 1:
            for kind, per, name, family in families:
                if _in(per, kind, declared) and family.number:
                    inside = family.contains(each.parts[0], ANGLE) & rest
                    rest &= ~inside
                    if inside.any():
                        part = each.parts[0].only(inside)
                        result.append(_Candidate("part", per, name, True, False, each.exact, part))
        if len(each.parts) > 1 or rest.all():
            result.append(each)
        elif rest.any():
            part = each.parts[0].only(rest)
            result.append(_Candidate(each.kind, each.per, each.name, False, each.whole, each.exact, part))
    return result


def _outside(each: _Candidate, known: Span) -> Bool[Tensor, " members"]:
    """Which members do not lie in one of the known families."""
    outside = torch.zeros(0, dtype=torch.bool)
    for part in each.parts:
        inside = torch.zeros(part.number, dtype=torch.bool)
        for family in known.families:
            inside |= family.contains(part, ANGLE)
        outside = torch.cat([outside, ~inside])
    return outside


def _combinations(
    products: Products,
    families: list[tuple[str, tuple[str, ...], str, Pooled]],
    known: Span,
    largest: float,
    declared: set[tuple[str, frozenset[str]]],
    found: dict[bool, dict[str, int]],
    lost: Tensor,
) -> int:
    """Name further lost directions that are combinations of members; the number of those left without a name."""
    met = []
    for kind, per, name, family in families:
        if 1 < family.number <= LIMIT:
            inside = lost_in(products, family, largest, EXACT)
            if len(inside):
                allowed = _in(per, kind, declared)
                met.append(((not allowed, -len(inside), family.number), (allowed, name, inside)))
    for _, (allowed, name, inside) in sorted(met, key=lambda entry: entry[0]):
        new = known.add_single(inside, ANGLE)
        if new:
            found[allowed][name] = found[allowed].get(name, 0) + new
    rest = known.without(lost)
    return int((torch.linalg.svdvals(rest) > ANGLE).sum())
