"""Which rows of the tables suit a task, what they cost and what they erase, and why the others do not."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from geonorm.layers.graph import GraphSizeNorm
from geonorm.match.tasks import Task
from geonorm.table import AFTER_2022, TABLE1
from geonorm.table.properties import Invariance
from geonorm.table.row import Row

#: What has to be read before the first number can be written: the measure of cost.
COSTS = (
    "nothing: a constant or a fixed function",
    "one node",
    "one sample",
    "the whole batch, of all processes",
)
#: The batch on which what is erased is counted.
SIZES = {"samples": 2, "nodes": 9, "channels": 8, "kinds": 2}
_PARTS = {"scalars": ("all", "scalars"), "vectors": ("all", "non-scalars")}


@dataclass(frozen=True)
class Advice:
    """What speaks for and against one row.

    Args:
        row: The row of the table.
        reasons: Why it does not match; empty for a match.
        remarks: What to know before using it.
        erases: The number of directions that it removes from a batch of 2 samples, 9 nodes and 8 channels.
        cost: A place in ``geonorm.guide.COSTS``.
    """

    row: Row
    reasons: tuple[str, ...]
    remarks: tuple[str, ...]
    erases: int
    cost: int

    @property
    def matched(self) -> bool:
        """Whether the row is a geometric match."""
        return not self.reasons

    def __str__(self) -> str:
        if self.reasons:
            return f"{self.row.name}: {'; '.join(self.reasons)}"
        erased = (
            f"removes {', '.join(i.name for i in self.row.properties.invariances)}" if self.erases else "erases nothing"
        )
        return f"{self.row.name}: {erased}; reads {COSTS[self.cost]}" + "".join(f"; {each}" for each in self.remarks)


@dataclass(frozen=True)
class Recommendation:
    """The rows of both tables and their variants, those that match a task first.

    Args:
        task: The task.
        features: ``"scalars"`` or ``"vectors"``.
        advice: One entry for each row: matches by cost and by what they erase, then the others in the tables' order.
    """

    task: Task
    features: str
    advice: tuple[Advice, ...]

    @property
    def matched(self) -> tuple[Advice, ...]:
        """The rows that match, the cheapest and least erasing first."""
        return tuple(each for each in self.advice if each.matched)

    @property
    def others(self) -> tuple[Advice, ...]:
        """The rows that do not match, with the reasons."""
        return tuple(each for each in self.advice if not each.matched)

    def __iter__(self) -> Iterator[Advice]:
        return iter(self.matched)

    def __getitem__(self, name: str) -> Advice:
        found = next((each for each in self.advice if each.row.name == name), None)
        if found is None:  # another spelling
            row = TABLE1[name] if name in TABLE1 else AFTER_2022[name]
            found = next(each for each in self.advice if each.row.name == row.name)
        return found

    def __str__(self) -> str:
        lines = [f"Matches for the task {self.task.name!r} on {self.features}:"]
        lines += [f"  {place}. {each}" for place, each in enumerate(self.matched, 1)] or ["  none"]
        return "\n".join([*lines, "No matches:", *(f"  {each}" for each in self.others)])

    def _repr_html_(self) -> str:
        import html

        def line(each: Advice) -> str:
            name, _, text = str(each).partition(": ")
            cells = (each.row.name, "match" if each.matched else "no match", text or name)
            return "<tr>" + "".join(f'<td style="text-align: left">{html.escape(c)}</td>' for c in cells) + "</tr>"

        head = "".join(f'<th scope="col" style="text-align: left">{word}</th>' for word in ("Row", "Verdict", "Why"))
        caption = html.escape(f"Rows for the task {self.task.name!r} on {self.features}")
        return (
            f'<div style="overflow-x: auto" tabindex="0" role="region" aria-label="{caption}">'
            f'<table class="dataframe"><caption style="text-align: left">{caption}</caption>'
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(map(line, self.advice))}</tbody></table></div>"
        )


def recommend(task: Task, features: Literal["scalars", "vectors"] = "scalars") -> Recommendation:
    """Sort the rows of both tables by whether they are a geometric match for a task.

    A row matches if it respects what the task respects and removes nothing but what the task declares irrelevant:
    Definition 3, read off the declared properties, all of which the tests of the table measure. It says which layers
    are allowed, not which one trains best.

    Args:
        task: The task, for example ``geonorm.tasks.FORCES``.
        features: What is normalized: invariant ``"scalars"``, or ``"vectors"`` that turn with the sample.

    Returns:
        The rows with reasons, those that match first.

    Raises:
        ValueError: If the features are neither.
    """
    if features not in _PARTS:
        raise ValueError(f"features are {features!r}, expected 'scalars' or 'vectors': what is to be normalized")
    advice = [advise(row, task, features) for row in rows()]
    matches = sorted(
        (each for each in advice if each.matched), key=lambda each: (each.erases, each.cost, len(each.remarks))
    )
    return Recommendation(task, features, (*matches, *(each for each in advice if not each.matched)))


def rows() -> list[Row]:
    """The rows of both tables, each followed by the other layers that it stands for."""
    return [each for row in (*TABLE1.values(), *AFTER_2022.values()) for each in (row, *row.variants.values())]


def advise(row: Row, task: Task, features: str) -> Advice:
    """What speaks for and against one row."""
    reasons = [*_unfit(row, features), *_broken(row, task, features), *_lost(row, task, features)]
    erases = row.nullity(**SIZES, groups=row.needs.get("num_groups", 1))
    return Advice(row, tuple(reasons), tuple(_remarks(row)), erases, _cost(row))


def _unfit(row: Row, features: str) -> Iterator[str]:
    """Why the row cannot take the features at all."""
    if features == "scalars" and row.features in ("vectors", "tensors"):
        yield f"it is made for {row.features}"
    if features == "vectors" and row.features == "tensors":
        yield "it is made for tensors of rank two"


def _broken(row: Row, task: Task, features: str) -> Iterator[str]:
    """Condition 1."""
    declared = row.properties
    if "node permutation" in task.respects and not declared.permutation:
        yield "it depends on the order of the nodes"
    if features == "vectors" and "rotation" in task.respects and declared.rotation in (None, "batch"):
        yield "it does not turn with each sample" if declared.rotation else "on vector columns it breaks rotations"
    if "sample independence" in task.respects and not declared.independent_train:
        yield "in training the samples of a batch depend on each other"


def _lost(row: Row, task: Task, features: str) -> Iterator[str]:
    """Condition 2."""
    lost = []
    for invariance in row.properties.invariances:
        counts = invariance.of == "messages" or (invariance.of == "features" and invariance.on in _PARTS[features])
        if counts and not _declared(invariance, task):
            lost.append(invariance.name + ("" if invariance.of == "features" else f" of the {invariance.of}"))
    if lost:
        yield f"it removes {_joined(lost)}"


def _joined(words: list[str]) -> str:
    """Words as in a sentence: a, b and c."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _declared(invariance: Invariance, task: Task) -> bool:
    """Whether a change that the task does not mind covers an invariance: as fine or finer, of the same kind."""
    for change in task.irrelevant:
        finer = set(change.per) | ({"sample"} if "node" in change.per else set())
        finer |= {"field", "type", "group"} if "channel" in change.per else set()
        if change.kind == invariance.kind and set(invariance.per) <= finer:
            return True
    return False


def _cost(row: Row) -> int:
    """How much must be read before the first number can be written."""
    letters = "".join(axes for axes in (row.mean, row.scale) if axes is not None)
    return 3 if "b" in letters else 2 if "x" in letters else 1 if letters else 0


def feels_distant_parts(row: Row) -> bool:
    """Whether the features of one molecule change when another one, far away, is counted to the same sample.

    A quantity that adds up over independent parts, as an energy does, is then not described part by part.
    """
    letters = "".join(axes for axes in (row.mean, row.scale) if axes is not None)
    return row.layer is GraphSizeNorm or ("x" in letters and "b" not in letters)


def _remarks(row: Row) -> Iterator[str]:
    """What is no question of symmetry or invariance."""
    if feels_distant_parts(row):
        yield "distant parts of one sample depend on each other"
    parameters = inspect.signature(getattr(row.layer, "forward", row.layer)).parameters
    if "num_neighbors" in parameters:
        yield "a whole number of neighbours jumps at the cutoff"
    if "types" in parameters and parameters["types"].default is inspect.Parameter.empty:
        yield "needs the type of every node"
