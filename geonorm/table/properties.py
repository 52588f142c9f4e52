"""What a row declares about its layer: the symmetries it respects, and what it removes. The tests measure all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from geonorm.layers.fields import Features, Fields, Vectors

_PLURAL = {
    "sample": "samples",
    "node": "nodes",
    "channel": "channels",
    "group": "groups",
    "field": "fields",
    "type": "types",
    "component": "components",
    "kind": "kinds of nodes",
}


@dataclass(frozen=True)
class Invariance:
    r"""A family of changes of the input that leaves the output as it is, one parameter for each of a set of things.

    ``Invariance("shift", ("sample", "channel"))`` is $a_{ic}\mapsto a_{ic}+t_{s(i)c}$: as many parameters as there are
    samples times channels. A scale is a factor $\lambda>0$; a shift of lengths leaves the directions of vectors alone.
    For a batch of generic features (no pool of equal entries) these parameters are independent, so their number is the
    dimension of what the layer removes.

    Args:
        kind: ``"shift"``, ``"scale"`` or ``"shift of lengths"``, or in words what else is lost.
        per: What each parameter belongs to: ``"sample"``, ``"node"``, ``"channel"`` (a column), ``"group"`` (of
            channels), ``"field"`` (an irrep copy: one vector channel), ``"type"`` (of irreps), ``"component"`` (of a
            type), ``"kind"`` (of node: all nodes of one type); a node belongs to one sample. Empty: one parameter for
            the whole batch (or weight).
        of: What is changed: ``"features"``, ``"messages"`` or ``"weights"``.
        on: Which features: ``"all"``, ``"scalars"`` (type 0e) or ``"non-scalars"``.
        number: How many parameters each has; more than one where a direction is lost.
    """

    kind: str
    per: tuple[str, ...] = ()
    of: str = "features"
    on: str = "all"
    number: int = 1

    @property
    def name(self) -> str:
        """The invariance in words, for example ``"shift per (sample, channel)"``."""
        part = "" if self.on == "all" else f" of {self.on}"
        if not self.per:
            return f"one {self.kind}{part or f' of all {self.of}'}"
        return f"{self.kind}{part} per {self.per[0] if len(self.per) == 1 else '(' + ', '.join(self.per) + ')'}"

    @property
    def formula(self) -> str:
        """The number of parameters in words, for example ``"samples * channels"``."""
        part = "" if self.on == "all" else f"{self.on[:-1]} "
        words = [f"{'' if thing in ('sample', 'node') else part}{_PLURAL[thing]}" for thing in self.per]
        return " * ".join(([str(self.number)] if self.number > 1 else []) + words) or "1"

    def count(self, **sizes: int) -> int:
        """The number of parameters in a batch of the given sizes (``samples``, ``nodes``, ``channels``, …)."""
        return self.number * math.prod(sizes[_PLURAL[thing].split()[0]] for thing in self.per)


def sizes_of(features: Features, on: str = "all") -> dict[str, int]:
    """How many channels (columns), fields, types and components features have, those of type 0e or the others only."""
    chosen = [column for column in Fields(features).columns if on == "all" or column.trivial == (on == "scalars")]
    return {
        "channels": len(chosen),
        "fields": len({column.field for column in chosen}),
        "types": len({column.type for column in chosen}),
        "components": len({(column.type, column.component) for column in chosen}),
    }


def measured_on(features: str, channels: int) -> Features:
    """The features on which a row's properties are declared, with a number of channels for each type."""
    return {
        "scalars": channels,
        "vectors": Vectors(channels),
        "tensors": Vectors(channels, 9),
        "scalars and vectors": f"{channels}x0e+{channels}x1o",
        "irreps": f"{channels}x0e+{channels}x1o+{channels}x2e",
    }[features]


@dataclass(frozen=True, kw_only=True)
class Properties:
    """What the axes of a layer imply. Every entry is measured in the tests.

    Symmetries hold for all values of the layer's parameters; for a layer that acts on weights, for a weight that mixes
    whole vectors. What is removed is said of the layer as it is built (gain 1, bias 0, α at its initial value).

    Args:
        permutation: Permuting the nodes of each sample permutes the output.
        rotation: The finest rotations that rotate the output: ``"node"`` one rotation per node, ``"sample"`` one per
            sample, ``"batch"`` one for all, or ``None``: not even that. What rotates are the row's vectors or irreps;
            of a row on scalars naive columns (x, y, z of a vector as three channels).
        inversion: The inversion of all of them inverts the output: polar vectors change their signs, axial ones do not.
        translation: Adding one vector to raw coordinates leaves the output as it is: ``"node"`` any vector per node
            (the same for all its channels), ``"sample"`` one per sample, ``"batch"`` one for all, or ``None``.
        independent_train: In training mode the output of a sample does not depend on the other samples.
        independent_eval: The same in evaluation mode.
        invariances: What the layer removes in training mode.
    """

    permutation: bool = True
    rotation: str | None = None
    inversion: bool = True
    translation: str | None = None
    independent_train: bool = True
    independent_eval: bool = True
    invariances: tuple[Invariance, ...] = ()
