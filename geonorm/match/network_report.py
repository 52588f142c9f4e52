"""The verdict on a whole network: what is broken, first in which submodule, what is lost; as text and as data."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from geonorm.match.tasks import Task

#: The factor above the noise floor from which an error is a broken symmetry, and the least bound.
FACTOR, LEAST = 100.0, 1e-10


def bound(floor: float) -> float:
    """The error above which a symmetry counts as broken, from the noise floor."""
    return max(FACTOR * floor, LEAST)


@dataclass(frozen=True)
class NetworkReport:
    """Whether a network is a geometric match for a task.

    Args:
        network: The class of the network.
        task: The task.
        errors: For every mode (``"training"``, ``"evaluation"``, ``"training after updates"``, ``"evaluation after
            updates"``: once parameters and running statistics have moved) the relative error of every symmetry, the
            largest over outputs.
        floors: For every mode the noise floor.
        blame: For every broken symmetry of the task the submodule where it breaks: its inputs still obey, its
            outputs do not.
        added: Changes of the input that no output shows.
        degenerate: What is wrong with the output as such, by mode.
        untried: What the network could not be run on.
    """

    network: str
    task: Task
    errors: dict[str, dict[str, float]]
    floors: dict[str, float]
    blame: dict[str, str] = field(default_factory=dict)
    added: tuple[str, ...] = ()
    degenerate: dict[str, str] = field(default_factory=dict)
    untried: tuple[str, ...] = ()

    @property
    def broken(self) -> dict[str, float]:
        """Condition 1: the symmetries of the task that are broken in some mode, with the largest error."""
        found: dict[str, float] = dict.fromkeys(["degenerate"] * bool(self.degenerate), float("nan"))
        for mode, errors in self.errors.items():
            for symmetry in self.task.respects:
                error = errors.get(symmetry, 0.0)
                if not error <= bound(self.floors[mode]) and not error <= found.get(symmetry, 0.0):
                    found[symmetry] = error
        return found

    @property
    def matched(self) -> bool:
        """Definition 3, as far as whole changes of the input show."""
        return not self.broken and not self.added

    @property
    def couples(self) -> bool:
        """Whether samples of one batch depend on each other, in some mode."""
        return any(
            not errors.get("sample independence", 0.0) <= bound(self.floors[mode])
            for mode, errors in self.errors.items()
        )

    def only(self, updates: bool) -> NetworkReport:
        """The same for the network as it was given, or after its parameters and running statistics have moved."""

        def part(values: dict[str, Any]) -> dict[str, Any]:
            return {mode: value for mode, value in values.items() if mode.endswith("after updates") == updates}

        return replace(self, errors=part(self.errors), floors=part(self.floors), degenerate=part(self.degenerate))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data."""
        return {
            "network": self.network,
            "task": self.task.name,
            "matched": self.matched,
            "broken": self.broken,
            "blame": self.blame,
            "added": list(self.added),
            "couples": self.couples,
            "errors": self.errors,
            "noise_floors": self.floors,
            "degenerate": self.degenerate,
            "untried": list(self.untried),
        }

    def __str__(self) -> str:
        verdict = "a geometric match" if self.matched else "not a geometric match"
        lines = [f"{self.network} is {verdict} for the task {self.task.name!r}"]
        lines += [f"  degenerate  {what} ({mode})" for mode, what in self.degenerate.items()]
        for symmetry, error in self.broken.items():
            if symmetry != "degenerate":
                modes = [m for m, e in self.errors.items() if not e.get(symmetry, 0.0) <= bound(self.floors[m])]
                where = f", first in {self.blame[symmetry]}" if symmetry in self.blame else ""
                lines.append(f"  breaks      {symmetry}: relative error {error:.2g} ({', '.join(modes)}){where}")
        lines += [f"  adds        invariance to a {change}" for change in self.added]
        lines += [f"  not tried   {what}" for what in self.untried]
        if self.matched:
            worst = max((e for errors in self.errors.values() for e in errors.values()), default=0.0)
            lines.append(f"  largest     relative error {worst:.1g}")
        return "\n".join(lines)
