"""What the guide says about rows: for and against each of them, as text, as HTML, as data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from geonorm.match.tasks import Task
from geonorm.table import AFTER_2022, TABLE1
from geonorm.table.row import Row

#: What can speak against a row, in the order in which it is asked.
AGAINST = {
    "features": "it is made for other features",
    "order": "it depends on the order of the nodes",
    "rotation": "it breaks rotations",
    "inversion": "it breaks the inversion",
    "samples": "it lets the samples of a batch depend on each other",
    "loss": "it removes what the task may need",
}
#: What has to be read before the first number can be written: the measure of cost.
COSTS = (
    "nothing: a constant",
    "the weights",
    "one field",
    "a count of nodes or neighbours",
    "one node",
    "one sample",
    "the whole batch, of all processes",
)
LEFT = 'style="text-align: left"'
#: For sentences: a narrow column would make of each a tall tower of words.
WIDE = 'style="text-align: left; min-width: 11em"'


@dataclass(frozen=True)
class Advice:
    """What speaks for and against one row.

    Args:
        row: The row of the table.
        against: Why it does not match, by what is wrong (``geonorm.advice.AGAINST``); empty for a match.
        removes: What it removes from the features, in words, whether the task minds or not.
        erases: The number of directions of that in a batch of 2 samples, 9 nodes and 8 channels of each type.
        cost: A place in ``geonorm.guide.COSTS``.
        remarks: What to know before using it, whatever the task.
    """

    row: Row
    against: Mapping[str, str]
    removes: tuple[str, ...]
    erases: int
    cost: int
    remarks: tuple[str, ...]

    @property
    def matched(self) -> bool:
        """Whether the row is a geometric match."""
        return not self.against

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it does not match, the gravest first; empty for a match."""
        return tuple(self.against.values())

    @property
    def call(self) -> str:
        """How the layer is built, with dots for what the data or you must say."""
        of = "linear" if self.row.acts_on == "weights" else "features"
        given = dict.fromkeys(self.row.needs, "...") | {name: repr(value) for name, value in self.row.options.items()}
        return f"gn.{self.row.layer.__name__}({', '.join([of, *(f'{name}={value}' for name, value in given.items())])})"

    @property
    def forgets(self) -> str:
        """What it removes, in words."""
        return f"removes {', '.join(self.removes)}" if self.removes else "erases nothing"

    def to_dict(self) -> dict[str, Any]:
        """The advice as plain data."""
        return {
            "row": self.row.name,
            "call": self.call,
            "matched": self.matched,
            "reasons": list(self.reasons),
            "removes": list(self.removes),
            "erases": self.erases,
            "reads": COSTS[self.cost],
            "remarks": list(self.remarks),
        }

    def __str__(self) -> str:
        if self.against:
            return f"{self.row.name}: {'; '.join(self.reasons)}"
        return f"{self.row.name}: {'; '.join([self.forgets, f'reads {COSTS[self.cost]}', *self.remarks])}"


@dataclass(frozen=True, repr=False)
class Recommendation:
    """The rows of both tables and their variants, those that match a task first.

    Args:
        task: The task.
        features: ``"scalars"``, ``"vectors"``, ``"scalars and vectors"`` or ``"irreps"``.
        advice: One entry for each row: matches by what they erase and then by cost, then the others in the tables'
            order.
    """

    task: Task
    features: str
    advice: tuple[Advice, ...]

    @property
    def matched(self) -> tuple[Advice, ...]:
        """The rows that match, the least erasing and cheapest first."""
        return tuple(each for each in self.advice if each.matched)

    @property
    def others(self) -> tuple[Advice, ...]:
        """The rows that do not match, with the reasons."""
        return tuple(each for each in self.advice if not each.matched)

    @property
    def summary(self) -> str:
        """The verdict in one sentence: how many rows match, and how many of them take a statistic of the features."""
        taking = [each for each in self.matched if each.cost >= COSTS.index("one node")]
        said = f"{len(self.matched)} of {len(self.advice)} layers match"
        if not taking:
            return f"{said}; none of them takes a statistic of the features"
        names = f"{', '.join(each.row.name for each in taking[:3])}{', …' if len(taking) > 3 else ''}"
        return f"{said}; {len(taking)} of them take{'s' * (len(taking) == 1)} a statistic of the features ({names})"

    def __iter__(self) -> Iterator[Advice]:
        return iter(self.matched)

    def __getitem__(self, name: str) -> Advice:
        found = next((each for each in self.advice if each.row.name == name), None)
        if found is None:  # another spelling
            row = TABLE1[name] if name in TABLE1 else AFTER_2022[name]
            found = next(each for each in self.advice if each.row.name == row.name)
        return found

    def to_dict(self) -> dict[str, Any]:
        """The recommendation as plain data."""
        return {
            "task": self.task.name,
            "features": self.features,
            "summary": self.summary,
            "matched": [each.to_dict() for each in self.matched],
            "others": [each.to_dict() for each in self.others],
        }

    def __str__(self) -> str:
        lines = [f"Matches for the task {self.task.name!r} on {self.features}:"]
        lines += [f"  {place}. {each}" for place, each in enumerate(self.matched, 1)] or ["  none"]
        return "\n".join([*lines, "No matches:", *(f"  {each}" for each in self.others)])

    __repr__ = __str__  # at a prompt one asks for the advice, not for every field of every row

    def _repr_html_(self) -> str:
        matches = [
            (
                str(place),
                each.row.name,
                each.call,
                ", ".join(each.removes) or "nothing",
                COSTS[each.cost],
                "; ".join(each.remarks) or "–",
            )
            for place, each in enumerate(self.matched, 1)
        ]
        others = [(each.row.name, "; ".join(each.reasons)) for each in self.others]
        caption = f"Matches for the task {self.task.name!r} on {self.features}: {self.summary}"
        columns = ("", "row", "layer", "erases", "reads", "remarks")
        return (
            _table(caption, columns, matches)
            + f"<details><summary>The other {len(others)} rows, and why they do not match</summary>"
            + _table(f"No match for the task {self.task.name!r} on {self.features}", ("row", "reason"), others)
            + "</details>"
        )


def _table(caption: str, columns: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    import html  # which `import geonorm` must not wait for

    head = "".join(f'<th scope="col" {LEFT}>{word}</th>' if word else "<td></td>" for word in columns)
    style = WIDE if len(columns) > 2 else LEFT
    body = "".join(
        f"<tr>{''.join(f'<td {LEFT}>{_cell(c)}</td>' for c in row)}<td {style}>{_cell(last)}</td></tr>"
        for *row, last in rows
    )
    said = html.escape(caption)
    return (
        f'<div style="overflow-x: auto" tabindex="0" role="region" aria-label="{said}"><table class="dataframe">'
        f"<caption {LEFT}>{said}</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _cell(words: str) -> str:
    import html

    said = html.escape(words, quote=False)
    if not words.startswith("gn."):
        return said
    call = said.replace("(", "(<wbr>")  # which may go on in the next line
    return f'<code style="word-break: normal; overflow-wrap: normal">{call}</code>'
