"""Which rows of the tables suit a task, what they cost and what they erase, and why the others do not."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import cache

from geonorm.advice import AGAINST, COSTS, Advice, Recommendation
from geonorm.layers.fields import Features, Fields, Vectors
from geonorm.layers.graph import GraphSizeNorm
from geonorm.layers.vector import EvNorm
from geonorm.match.tasks import Task
from geonorm.table import AFTER_2022, TABLE1
from geonorm.table.properties import Invariance, sizes_of
from geonorm.table.row import Row

__all__ = ["AGAINST", "COSTS", "Advice", "Recommendation", "recommend"]

#: The batch on which what is erased is counted: 8 channels of each type.
SIZES = {"samples": 2, "nodes": 9, "kinds": 2}
COUNTED: dict[str, Features] = {
    "scalars": 8,
    "vectors": Vectors(8),
    "scalars and vectors": "8x0e+8x1o",
    "irreps": "8x0e+8x1o+8x2e",
}
#: For which features a row can be made that does not take these.
UNFIT = {
    "scalars": ("vectors", "tensors"),
    "vectors": ("tensors",),
    "scalars and vectors": ("vectors", "tensors"),
    "irreps": ("vectors", "tensors", "scalars and vectors"),
}


def recommend(task: Task, features: Features = "scalars") -> Recommendation:
    """Sort the rows of both tables by whether they are a geometric match for a task.

    A row matches if it respects what the task respects and removes nothing but what the task declares irrelevant:
    Definition 3, read off the declared properties, all of which the tests of the table measure. It says which layers
    are allowed, not which one trains best. No layer at all always matches.

    Args:
        task: The task, for example ``geonorm.tasks.FORCES``.
        features: What is normalized: invariant ``"scalars"``, ``"vectors"`` that turn with the sample, ``"scalars and
            vectors"``, or ``"irreps"`` of any degree; or your own features, such as ``"64x0e+32x1o"``.

    Returns:
        The rows with reasons, those that match first.

    Raises:
        ValueError: If the features cannot be read.
    """
    kind = _kind(features)
    advice = [advise(row, task, kind) for row in rows()]
    matches = sorted((each for each in advice if each.matched), key=_order)
    return Recommendation(task, kind, (*matches, *(each for each in advice if not each.matched)))


def rows() -> list[Row]:
    """The rows of both tables, each followed by the other layers that it stands for."""
    return [each for row in (*TABLE1.values(), *AFTER_2022.values()) for each in (row, *row.variants.values())]


def advise(row: Row, task: Task, features: str) -> Advice:
    """What speaks for and against one row."""
    unfit = row.features in UNFIT[features]
    against = {"features": f"it is made for {'tensors of rank two' if row.features == 'tensors' else row.features}"}
    against = against if unfit else {}
    against |= dict(_broken(row, task, features))
    removed = [each for each in row.properties.invariances if _acts(each, features)]
    lost = [_said(each) for each in removed if not _declared(each, task)]
    if lost:
        against["loss"] = f"it removes {_joined(lost)}"
    return Advice(
        row=row,
        against=against,
        removes=tuple(map(_said, removed)),
        erases=sum(_count(row, each, features) for each in removed),
        cost=_cost(row),
        remarks=tuple(_remarks(row)),
    )


def _order(advice: Advice) -> tuple[int, int, int]:
    return advice.erases, advice.cost, len(advice.remarks)


def _kind(features: Features) -> str:
    """Which of the features of the guide these are."""
    if features in tuple(COUNTED):
        return features
    try:
        fields = Fields(features)
    except ValueError as error:
        words = ", ".join(map(repr, COUNTED))
        raise ValueError(f"features are {features!r}, expected {words}, or irreps such as '64x0e+32x1o'") from error
    degrees = {(irrep.l, irrep.p) if irrep.l == 0 else irrep.l for irrep in fields.types}
    if degrees <= {(0, 1)}:
        return "scalars"
    if degrees == {1}:
        return "vectors"
    return "scalars and vectors" if degrees == {(0, 1), 1} else "irreps"


def _broken(row: Row, task: Task, features: str) -> Iterator[tuple[str, str]]:
    """Condition 1."""
    declared = row.properties
    turns = features != "scalars"
    if "node permutation" in task.respects and not declared.permutation:
        yield "order", AGAINST["order"]
    if turns and "rotation" in task.respects and declared.rotation in (None, "batch"):
        yield (
            "rotation",
            "it does not turn with each sample"
            if declared.rotation
            else f"on {_columns(features)} it breaks rotations",
        )
    elif turns and "inversion" in task.respects and not declared.inversion:
        yield "inversion", f"on {_columns(features)} it breaks the inversion"
    if "sample independence" in task.respects and not declared.independent_train:
        yield "samples", "in training the samples of a batch depend on each other"


def _columns(features: str) -> str:
    return "vector columns" if features == "vectors" else "columns that turn"


def _acts(invariance: Invariance, features: str) -> bool:
    """Whether such features, or sums of them over neighbours, have what an invariance changes."""
    return invariance.of != "weights" and bool(_sizes(features, invariance.on)["channels"])


@cache
def _sizes(features: str, on: str) -> dict[str, int]:
    return sizes_of(COUNTED[features], on)


def _said(invariance: Invariance) -> str:
    return invariance.name + ("" if invariance.of == "features" else f" of the {invariance.of}")


def _count(row: Row, invariance: Invariance, features: str) -> int:
    """How many directions an invariance has in the batch on which this is counted."""
    groups = row.needs.get("num_groups", 1)
    return invariance.count(**SIZES, groups=groups, **_sizes(features, invariance.on))


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


def _pooled(row: Row) -> str:
    """The letters of both statistics."""
    return "".join(axes for axes in (row.mean, row.scale) if axes is not None)


def _asks(row: Row) -> dict[str, inspect.Parameter]:
    """What the layer is called with."""
    return dict(inspect.signature(getattr(row.layer, "forward", row.layer)).parameters)


def _cost(row: Row) -> int:
    """How much must be read before the first number can be written."""
    if row.acts_on == "weights":
        return COSTS.index("the weights")
    pooled = _pooled(row)
    found = next((letter for letter in "bxvm" if letter in pooled), None)
    if found is None and (row.layer is GraphSizeNorm or {"num_neighbors", "distances"} & _asks(row).keys()):
        return COSTS.index("a count of nodes or neighbours")
    return {"b": 6, "x": 5, "v": 4, "m": 2, None: 0}[found]


def feels_distant_parts(row: Row) -> bool:
    """Whether the features of one molecule change when another one, far away, is counted to the same sample.

    A quantity that adds up over independent parts, as an energy does, is then not described part by part.
    """
    pooled = _pooled(row)
    return row.layer is GraphSizeNorm or ("x" in pooled and "b" not in pooled)


def _remarks(row: Row) -> Iterator[str]:
    """What is no question of symmetry or invariance."""
    asked = _asks(row)
    if row.acts_on == "weights":
        yield "bounds weights, not features"
    if feels_distant_parts(row):
        yield "distant parts of one sample depend on each other"
    if "num_neighbors" in asked:
        yield "a whole number of neighbours jumps at the cutoff"
        yield "a mean over neighbours forgets how many they are"
    if "types" in asked and asked["types"].default is inspect.Parameter.empty:
        yield "needs the type of every node"
    if row.statistic == "squash":
        yield "large features saturate"
    if row.layer is EvNorm:
        yield "returns lengths and directions apart"
