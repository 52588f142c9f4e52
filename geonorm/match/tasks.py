"""What a task respects, and which changes of the features it does not mind: the reference of Definition 3."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: What can be respected, with what it means for a layer.
SYMMETRIES = {
    "node permutation": "reordering the nodes of a sample reorders the output",
    "sample permutation": "reordering the samples of a batch reorders the output",
    "rotation": "rotating each sample by an element of its own rotates its output",
    "inversion": "rotating each sample and reflecting it through the origin does the same to its output",
    "translation": "moving the raw coordinates of a sample leaves its output as it is, or moves it along",
    "sample independence": "the output of a sample does not depend on the other samples of the batch",
}
_CHANGE = re.compile(r"^(shift|scale|rotation|inversion|translation)(?: per (?:(\w+)|\((\w+(?:, \w+)*)\)))?$")


@dataclass(frozen=True)
class Change:
    """A family of changes of the features, with a parameter of its own for each of a set of things.

    Args:
        kind: ``"shift"``, ``"scale"``; of what has a place in space ``"rotation"``, ``"inversion"``, ``"translation"``.
        per: What each parameter belongs to: ``"sample"``, ``"node"``, ``"channel"``, ``"field"``, ``"type"``.
    """

    kind: str
    per: tuple[str, ...] = ()

    @classmethod
    def read(cls, text: str | Change) -> Change:
        """Read ``"scale"``, ``"shift per sample"`` or ``"scale per (sample, channel)"``.

        Raises:
            ValueError: If the text has another form.
        """
        if isinstance(text, cls):
            return text
        found = _CHANGE.match(text)
        if not found:
            raise ValueError(
                f"{text!r} is no change of features: write for example 'shift per sample' or "
                "'scale per (sample, channel)'"
            )
        kind, one, several = found.groups()
        return cls(kind, tuple((one or several or "").split(", ")) if one or several else ())

    def __str__(self) -> str:
        if not self.per:
            return self.kind
        return f"{self.kind} per {self.per[0] if len(self.per) == 1 else '(' + ', '.join(self.per) + ')'}"


class Task:
    """What a target respects and which changes of the features do not matter for it.

    ``Task("toxicity", respects=["node permutation", "sample independence"], irrelevant=["scale per sample"])``

    Args:
        name: The name of the task.
        respects: Some of ``geonorm.match.tasks.SYMMETRIES``: condition 1 of Definition 3 asks a layer for these.
        irrelevant: Changes of the features under which the target stays the same, such as ``"shift per sample"``. An
            invariance that is not among them is one that the task does not respect: condition 2.
        about: The target in one sentence.

    Raises:
        ValueError: If a symmetry or a change is unknown.
    """

    def __init__(
        self, name: str, *, respects: Iterable[str], irrelevant: Iterable[str | Change] = (), about: str = ""
    ) -> None:
        self.name, self.about = name, about
        asked = tuple(respects)
        unknown = [symmetry for symmetry in asked if symmetry not in SYMMETRIES]
        if unknown:
            raise ValueError(
                f"task {name!r} respects {', '.join(map(repr, unknown))}, expected some of "
                f"{', '.join(map(repr, SYMMETRIES))}"
            )
        self.respects = tuple(symmetry for symmetry in SYMMETRIES if symmetry in asked)
        self.irrelevant = tuple(Change.read(change) for change in irrelevant)

    def __repr__(self) -> str:
        irrelevant = f", irrelevant={[str(change) for change in self.irrelevant]}" if self.irrelevant else ""
        return f"Task({self.name!r}, respects={list(self.respects)}{irrelevant})"

    def __eq__(self, other: object) -> bool:
        same = isinstance(other, Task) and (self.name, self.respects) == (other.name, other.respects)
        return same and self.irrelevant == other.irrelevant

    def __hash__(self) -> int:
        return hash((self.name, self.respects, self.irrelevant))


_SETS = ("node permutation", "sample permutation", "sample independence")
_MOLECULES = (*_SETS, "rotation", "inversion", "translation")
# An invariant of a molecule does not mind how it lies in space; a force turns with it, so that to forget is to lose.
_INVARIANT = ("rotation per sample", "inversion per sample", "translation per sample")

ENERGY = Task(
    "energy",
    respects=_MOLECULES,
    irrelevant=_INVARIANT,
    about="The energy of a molecule or crystal: every length and every neighbour counts.",
)
FORCES = Task(
    "forces",
    respects=_MOLECULES,
    irrelevant=["translation per sample"],
    about="The forces on the atoms: they turn with the molecule and depend on nothing else in the batch.",
)
DIPOLE = Task(
    "dipole",
    respects=_MOLECULES,
    irrelevant=["translation per sample"],
    about="The dipole moment of a neutral molecule: a vector that turns, changes sign under inversion, and ignores "
    "where the molecule is.",
)
COUPLING = Task(
    "coupling",
    respects=_MOLECULES,
    irrelevant=_INVARIANT,
    about="Scalar couplings between pairs of nuclei: invariants of each molecule by itself.",
)
POINT_CLOUD_CLASS = Task(
    "point cloud class",
    respects=(*_SETS, "rotation", "translation"),
    irrelevant=["scale per sample", "rotation per sample", "translation per sample"],
    about="The class of a shape in any pose, place and size; mirror images may differ.",
)
SET_REGRESSION = Task(
    "set regression",
    respects=_SETS,
    about="A number for a set, which may be its mean or its spread.",
)
NODE_CLASS = Task(
    "node class",
    respects=("node permutation", "sample independence"),
    irrelevant=["shift per (sample, channel)", "scale per sample"],
    about="The classes of the nodes of a graph, told from how nodes differ.",
)
IMAGE_STYLE = Task(
    "image style",
    respects=("sample permutation", "sample independence"),
    irrelevant=["shift per (sample, channel)", "scale per (sample, channel)"],
    about="Repainting an image in another style: its own brightness and contrast do not matter.",
)

#: The tasks by name.
TASKS = {
    task.name: task
    for task in (ENERGY, FORCES, DIPOLE, COUPLING, POINT_CLOUD_CLASS, SET_REGRESSION, NODE_CLASS, IMAGE_STYLE)
}
