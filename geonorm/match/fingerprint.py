"""The fingerprint of a row: everything that it keeps, breaks and forgets, measured."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from geonorm.layers.fields import Fields, Vectors
from geonorm.match.check import check
from geonorm.match.errors import invariance_error, relative_error
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.report import MatchReport
from geonorm.match.rotations import rotate
from geonorm.match.rows import layer_of
from geonorm.match.state import states
from geonorm.table.properties import sizes_of
from geonorm.table.row import Row

SIZES = (4, 5)
#: What each parameter of a shift or a scale belongs to; of vectors a scale belongs to a whole vector channel.
PER = ("batch", "sample", "node", "channel")
#: The relative change of the output below which a finite change counts as unseen.
UNSEEN = 1e-3
_CHANNELS = "declared for a map of flattened vectors, measured on the map between channels"
#: Rows and properties of which the table declares another reading than the one that is measured, and which.
OTHER_READING = {("ScaledWeight", "rotation"): _CHANNELS, ("ScaledWeight", "translation"): _CHANNELS}


@dataclass(frozen=True)
class Fingerprint:
    """Everything that was measured about one row.

    Args:
        row: The row.
        scalars: The report on scalars, or ``None`` for a layer that takes none.
        vectors: The report on vectors; for a layer made for scalars their components are channels.
        shifts: Whether a shift is unseen, by what each of its parameters belongs to.
        scales: The same for scales.
        inversion: Whether reflecting all vectors through the origin, without a rotation, does the same to the output.
        sizes: The number of nodes of each sample.
        seconds: The mean time of a check.
    """

    row: Row
    scalars: MatchReport | None
    vectors: MatchReport
    shifts: Mapping[str, bool]
    scales: Mapping[str, bool]
    inversion: bool
    sizes: tuple[int, ...]
    seconds: float

    @property
    def own(self) -> MatchReport:
        """The report on scalars if the layer takes them, else that on vectors."""
        return self.scalars or self.vectors

    def _keeps(self, symmetry: str, mode: str = "") -> bool:
        reports = [report for report in (self.scalars, self.vectors) if report]
        states = [s for report in reports for s in report.states if s.name.startswith(mode) and not s.degenerate]
        return all(s.errors[symmetry] <= s.bound for s in states if symmetry in s.errors)

    @property
    def permutation(self) -> bool:
        """Whether reordering nodes and samples reorders the output."""
        return self._keeps("node permutation") and self._keeps("sample permutation")

    @property
    def rotation(self) -> str | None:
        """The finest level of rotations that is respected: ``"node"``, ``"sample"``, ``"batch"``, or ``None``."""
        return self.vectors.level

    @property
    def translation(self) -> bool:
        """Whether moving the raw coordinates of each sample leaves the output of the layer, as built, as it is."""
        state = self.vectors.states[0]
        return "translation" in state.errors and state.errors["translation"] <= state.bound

    @property
    def independent_train(self) -> bool:
        """Whether in training mode the output of a sample does not depend on the others."""
        return self._keeps("sample independence", "training")

    @property
    def independent_eval(self) -> bool:
        """The same in evaluation mode, or in the only one."""
        modes = {state.name for state in self.own.states}
        return self._keeps("sample independence", "evaluation" if "evaluation" in modes else "")

    @property
    def tells_apart(self) -> bool:
        """Whether no second sample was found that gets the same output in the same batch."""
        return not self.own.confuses

    @property
    def forgets(self) -> int:
        """The number of directions that the layer, as it is built and in training mode, does not see."""
        return self.own.states[0].removed.dimension

    @property
    def compared(self) -> dict[str, tuple[object, object]]:
        """What the table declares and what was measured, by property."""
        said = self.row.properties
        names = ("permutation", "rotation", "inversion", "independent_train", "independent_eval")
        found = {name: (getattr(said, name), getattr(self, name)) for name in names}
        found["translation"] = (said.translation in ("sample", "node"), self.translation)
        found["forgets"] = (self._declared(), self.forgets)
        return found

    @property
    def differs(self) -> dict[str, tuple[object, object, str]]:
        """Where the two differ: what is declared, what was measured, and the reason if one is known."""
        pairs = {name: pair for name, pair in self.compared.items() if pair[0] != pair[1]}
        return {name: (*pair, OTHER_READING.get((self.row.name, name), "")) for name, pair in pairs.items()}

    def _declared(self) -> int:
        """The number of directions that the table says are removed from these features."""
        columns = self.own.inputs if self.row.features != "tensors" else Vectors(2, 9)
        sizes = {
            "samples": len(self.sizes),
            "nodes": sum(self.sizes),
            "groups": self.row.needs.get("num_groups", 1),
            "kinds": self.row.needs.get("num_types", 1),
        }
        of = "messages" if self.row.name == "MessageNorm" else "features"
        parts = [(each, sizes_of(columns, each.on)) for each in self.row.properties.invariances if each.of == of]
        return sum(each.count(**sizes, **part) for each, part in parts if part["channels"])


def take(row: Row, seed: int = 0) -> Fingerprint:
    """Measure a row: the checker on scalars and on vectors, and finite shifts and scales.

    Args:
        row: A row of either table, or a variant.
        seed: The seed of inputs and group elements.

    Returns:
        The fingerprint.
    """
    # Both types of nodes must occur in more than one sample, or a pool of a type is a pool of a sample.
    sizes = SIZES * 2 if row.name in ("TypedBatchNorm", "PerTypeScaleShift") else SIZES
    reports, begin = {}, time.perf_counter()
    for on in ("scalars", "vectors"):
        made = layer_of(row, on)
        if made:
            layer, inputs, outputs = made
            reports[on] = check(layer, inputs, outputs, sizes=sizes, coordinates=on == "vectors", seed=seed)
    seconds = (time.perf_counter() - begin) / len(reports)
    layer, inputs, _ = layer_of(row, "scalars" if "scalars" in reports else "vectors")
    x, batch = generic_features(Fields(inputs), sizes, seed), batch_of(sizes)

    def unseen(kind: str, per: str) -> bool:
        column = "field" if kind == "scale" and "scalars" not in reports else "channel"
        names = {"batch": (), "channel": (column,)}.get(per, (per,))
        irreps = inputs if column == "field" else None
        return invariance_error(layer, x, batch, len(sizes), kind=kind, per=names, irreps=irreps, seed=seed) < UNSEEN

    shifts, scales = ({per: unseen(kind, per) for per in PER} for kind in ("shift", "scale"))
    return Fingerprint(
        row, reports.get("scalars"), reports["vectors"], shifts, scales, _inverts(row, sizes, seed), sizes, seconds
    )


def _inverts(row: Row, sizes: tuple[int, ...], seed: int) -> bool:
    """The inversion alone: together with a rotation it could not fail without the rotation."""
    layer, inputs, outputs = layer_of(row, "vectors")
    batch = batch_of(sizes)

    def draw(seed: int) -> tuple[Tensor, Tensor, int]:
        return generic_features(Fields(inputs), sizes, seed), batch, len(sizes)

    def turned(x: Tensor, irreps: str) -> Tensor:
        return rotate(x, -torch.eye(3, dtype=x.dtype).expand(len(x), 3, 3), irreps)

    x, *samples = draw(seed)
    return all(
        relative_error(function(turned(x, inputs), *samples), turned(function(x, *samples), outputs)) < UNSEEN
        for function in states(layer, draw).values()
    )
