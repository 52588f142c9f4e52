"""The verdict of a check: what is broken, what is lost, who depends on whom; as text, as HTML, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from geonorm.match.removed import Removed
from geonorm.match.tasks import SYMMETRIES, Task

#: What is lost without a name up to what ε lets through.
NEAR = "unnamed up to ε"


@dataclass(frozen=True)
class StateReport:
    """One of the functions that a layer is.

    Args:
        name: Its name, such as ``"training"``.
        errors: The relative error of every symmetry that was measured.
        floor: The noise floor of the function.
        bound: The error above which a symmetry counts as broken.
        level: The finest level of rotations that is respected: ``"batch"``, ``"sample"``, ``"node"``, or ``None``.
        removed: What it does not see.
        confused: Changes of one sample that give it the output of the unchanged one in the same batch.
        degenerate: What is wrong with the output as such, or ``None``.
    """

    name: str
    errors: dict[str, float] = field(default_factory=dict)
    floor: float = float("nan")
    bound: float = float("nan")
    level: str | None = None
    removed: Removed = field(default_factory=Removed)
    confused: dict[str, float] = field(default_factory=dict)
    degenerate: str | None = None

    def broken(self, task: Task) -> dict[str, float]:
        """The symmetries of the task that this function breaks; an undefined error counts as broken."""
        if self.degenerate:
            return {"degenerate": float("nan")}
        return {s: e for s, e in self.errors.items() if s in task.respects and not e <= self.bound}

    @property
    def added(self) -> dict[str, int]:
        """The invariances that the task does not declare, with their dimensions."""
        added = dict(self.removed.added)
        if self.removed.columns:
            added[f"everything in the columns {ranges(self.removed.columns)}"] = len(self.removed.columns)
        added |= dict.fromkeys(self.removed.flips, 0)
        if self.removed.unnamed:
            added["unnamed"] = self.removed.unnamed
        if self.removed.near:
            added[NEAR] = len(self.removed.near)
        return added


@dataclass(frozen=True, repr=False)
class MatchReport:
    """Whether a layer is a geometric match for a task.

    Args:
        layer: The layer in words.
        task: The task.
        inputs: Irreps of the input.
        outputs: Irreps of the output.
        states: One report for each function that the layer is.
    """

    layer: str
    task: Task
    inputs: str
    outputs: str
    states: tuple[StateReport, ...]

    @property
    def broken(self) -> dict[str, float]:
        """Condition 1: the symmetries of the task that are broken, with the largest relative error."""
        found: dict[str, float] = {}
        for state in self.states:
            for symmetry, error in state.broken(self.task).items():
                before = found.get(symmetry, 0.0)
                found[symmetry] = error if error != error or before != before or error > before else before
        return {symmetry: found[symmetry] for symmetry in ("degenerate", *SYMMETRIES) if symmetry in found}

    @property
    def added(self) -> dict[str, int]:
        """Condition 2: invariances that the task does not declare irrelevant; a reversal of sign has dimension 0."""
        found: dict[str, int] = {}
        for state in self.states:
            for name, dimension in state.added.items():
                found[name] = max(dimension, found.get(name, 0))
        return found

    @property
    def matched(self) -> bool:
        """Definition 3: no symmetry of the task is broken, and no invariance is added that it does not respect."""
        return not self.broken and not self.added

    @property
    def couples(self) -> bool:
        """Whether the output of a sample depends on another sample of its batch (Case 1), in any mode."""
        return any(not s.errors.get("sample independence", 0.0) <= s.bound for s in self.states if not s.degenerate)

    @property
    def confuses(self) -> bool:
        """Whether two different samples of one batch can get the same output (the trilemma), in any mode."""
        return any(state.confused for state in self.states)

    @property
    def level(self) -> str | None:
        """The finest level of rotations that all modes respect: one per ``"batch"``, ``"sample"`` or ``"node"``."""
        order = [None, "batch", "sample", "node"]
        return order[min(order.index(state.level) for state in self.states)]

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "layer": self.layer,
            "task": self.task.name,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "matched": self.matched,
            "broken": self.broken,
            "added": self.added,
            "couples": self.couples,
            "confuses": self.confuses,
            "level": self.level,
            "states": [
                {
                    "name": state.name,
                    "degenerate": state.degenerate,
                    "errors": state.errors,
                    "noise_floor": state.floor,
                    "level": state.level,
                    "added": state.added,
                    "irrelevant": state.removed.irrelevant,
                    "approximate": state.removed.approximate,
                    "unnamed": state.removed.unnamed,
                    "near": list(state.removed.near),
                    "probes": state.removed.probes,
                    "about": state.removed.about,
                    "confused": state.confused,
                }
                for state in self.states
            ],
        }

    def lines(self) -> list[tuple[str, str]]:
        """The verdict as pairs of a heading and a sentence."""
        verdict = "a geometric match" if self.matched else "not a geometric match"
        said = [("verdict", f"{self.layer} on {self.inputs} is {verdict} for the task {self.task.name!r}")]
        for state in self.states:
            if state.degenerate:
                said.append(("degenerate", f"{state.degenerate} ({state.name})"))
        for symmetry, error in self.broken.items():
            if symmetry != "degenerate":
                where = ", ".join(s.name for s in self.states if symmetry in s.broken(self.task))
                floor = max(s.floor for s in self.states if symmetry in s.broken(self.task))
                said.append(("breaks", f"{symmetry}: relative error {error:.2g}, noise {_order(floor)} ({where})"))
        for name, dimension in self.added.items():
            where = ", ".join(s.name for s in self.states if name in s.added)
            number = f": {dimension} direction{'s' * (dimension != 1)}" if dimension else ""
            said.append(("adds", f"invariance to {name}{number}{self._bounds(name)} ({where})"))
        if any("rotation" in state.errors for state in self.states):
            said.append(("rotations", f"one per {self.level}" if self.level else "not respected at any level"))
        said.append(("couples samples", "yes" if self.couples else "no"))
        first = next((next(iter(state.confused)) for state in self.states if state.confused), None)
        said.append(("confuses samples", "no" if first is None else f"yes, under a {first}"))
        probes = max((state.removed.probes for state in self.states), default=0)
        if probes:
            ended = (
                "" if all(state.removed.settled for state in self.states) else ", and the search for one did not end"
            )
            said.append(
                (
                    "measured",
                    f"with {probes} random probes instead of the whole Jacobian: every loss above is certain; that "
                    f"there is no further one is not proved{ended}",
                )
            )
        return said

    def _bounds(self, name: str) -> str:
        """What is known of the number and the size of losses without a name."""
        words = ""
        about = [
            state.removed.about for state in self.states if state.removed.about is not None and name in state.added
        ]
        if about and name in ("unnamed", NEAR):
            words += f" or more, about {max(about):.0f}"
        if name == NEAR:
            words += f", singular values up to {max(max(s.removed.near, default=0.0) for s in self.states):.0e}"
        return words

    def __str__(self) -> str:
        (_, verdict), *rest = self.lines()
        width = max(len(heading) for heading, _ in rest)
        return "\n".join([verdict, *(f"  {heading.ljust(width)}  {text}" for heading, text in rest)])

    def __repr__(self) -> str:
        return str(self)  # at a prompt one asks for the verdict, not for every number behind it

    def _repr_html_(self) -> str:
        import html

        (_, verdict), *rest = self.lines()
        lines = "".join(
            f'<tr><th scope="row" style="text-align: left">{heading}</th>'
            f'<td style="text-align: left">{html.escape(text, quote=False)}</td></tr>'
            for heading, text in rest
        )
        caption = html.escape(verdict, quote=False)
        return (
            f'<div style="overflow-x: auto" tabindex="0" role="region" aria-label="{html.escape(verdict)}">'
            f'<table class="dataframe"><caption style="text-align: left">{caption}</caption>'
            f"<tbody>{lines}</tbody></table></div>"
        )


def _order(floor: float) -> str:
    """The order of a noise floor, whose digits differ from machine to machine."""
    return next((f"below {bound:.0e}" for bound in (1e-10, 1e-5, 1e-2) if floor < bound), f"{floor:.0e}")


def ranges(columns: tuple[int, ...]) -> str:
    """Consecutive numbers as ranges, for example ``"0-3, 7"``."""
    runs: list[list[int]] = []
    for column in columns:
        if runs and column == runs[-1][-1] + 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)
