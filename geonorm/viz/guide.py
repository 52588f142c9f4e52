"""The guide as one picture: for every task and every row whether it matches, and if not, the first reason."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from geonorm.advice import Advice
from geonorm.guide import recommend
from geonorm.match.tasks import TASKS, Task
from geonorm.viz.style import COLORS, WIDTH, figure

MATCH, REMARK, LOSS, UNFIT = "match", "match with a remark", "loss", "features"
#: What stands in a box where a symmetry is broken.
LETTERS = {"order": "O", "rotation": "R", "inversion": "I", "samples": "S"}
#: What the marks mean, as the legend and the text say it.
MEANING = {
    MATCH: "matches",
    REMARK: "matches, with a remark",
    "samples": "lets samples depend on each other",
    "rotation": "breaks rotations",
    "inversion": "breaks the inversion",
    "order": "depends on the order of the nodes",
    LOSS: "removes what the task may need",
    UNFIT: "does not take such features",
}
#: Inches: a line of names, what a line of the matrix has besides, the names, the space between scalars and vectors.
TEXT, PAD, LABELS, GAP = 0.172, 0.12, 2.75, 0.55
#: Inches above the first line and below the last one, without the title.
HEAD, FOOT = 1.75, 1.22
CHARACTERS = 33


class Line(NamedTuple):
    """Rows that have the same verdict everywhere.

    Args:
        names: Their names, in the order in which ``recommend`` would list them.
        marks: For every task and kind of features ``"match"``, ``"match with a remark"``, or what is wrong first.
    """

    names: tuple[str, ...]
    marks: tuple[str, ...]


def columns(tasks: Iterable[Task] | None = None) -> list[tuple[Task, str]]:
    """Tasks with the features that each is asked for: scalars, and vectors where rotations are respected.

    Args:
        tasks: The tasks; all of the library if they are missing.

    Returns:
        Pairs of a task and ``"scalars"`` or ``"vectors"``, scalars first.
    """
    chosen = list(TASKS.values() if tasks is None else tasks)
    vectors = [(task, "vectors") for task in chosen if "rotation" in task.respects]
    return [(task, "scalars") for task in chosen] + vectors


def verdicts(tasks: Iterable[Task] | None = None) -> list[Line]:
    """Every row of both tables under every task, rows of equal verdicts together.

    The lines stand in the order of ``recommend``: those that match more often come first, among them those that erase
    less, then those that cost less.

    Args:
        tasks: The tasks; all of the library if they are missing.

    Returns:
        The lines.

    Raises:
        ValueError: If there is no task.
    """
    asked = columns(tasks)
    if not asked:
        raise ValueError("got no task, expected at least one: guide(title, [geonorm.tasks.ENERGY])")
    found = [recommend(task, features) for task, features in asked]
    marks = {each.row.name: tuple(_mark(one[each.row.name]) for one in found) for each in found[0].advice}

    def place(name: str) -> tuple[int, ...]:
        own = found[0] if marks[name][0] != UNFIT else found[-1]
        advice = own[name]
        matches = sum(mark in (MATCH, REMARK) for mark in marks[name])
        nowhere = all(mark == UNFIT for mark in marks[name])
        return -matches, nowhere, advice.erases, advice.cost, len(advice.remarks)

    lines: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(marks, key=place):
        lines.setdefault(marks[name], []).append(name)
    return [Line(tuple(names), cells) for cells, names in lines.items()]


def _mark(advice: Advice) -> str:
    """The verdict in one word: a match, or what is wrong first."""
    if advice.matched:
        return REMARK if advice.remarks else MATCH
    return next(iter(advice.against))


def guide(title: str, tasks: Sequence[Task] | None = None) -> Figure:
    """Draw which rows match which tasks: a filled box is a match, a letter a broken symmetry, a disc a loss.

    Args:
        title: The message of the figure.
        tasks: The tasks; all of the library if they are missing.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no task.
    """
    lines, asked = verdicts(tasks), columns(tasks)
    labels = [textwrap.wrap(", ".join(line.names), CHARACTERS, break_long_words=False) for line in lines]
    heights = [TEXT * len(label) + PAD for label in labels]
    fig, ax = figure(title, height=0.62 + HEAD + sum(heights) + FOOT)
    places, groups = _places(asked)
    step = (WIDTH - LABELS - 0.3) / (max(places) + 0.6)
    for (task, _), x in zip(asked, places, strict=True):
        ax.text(x + 0.08, -0.12, task.name, rotation=90, ha="center", va="bottom", fontsize=10.5)
    for features, (first, last) in groups.items():
        ax.text((first + last) / 2, 0.12 - HEAD, f"on {features}", ha="center", va="center", **BOLD)
        ax.plot([first - 0.4, last + 0.4], [-0.05, -0.05], color=COLORS["grey"], linewidth=1)
    top = 0.0
    for number, (line, label, height) in enumerate(zip(lines, labels, heights, strict=True)):
        if number % 2 == 0:
            ax.axhspan(top, top + height, color="#F4F4F4", linewidth=0, zorder=0)
        middle = top + height / 2
        words = "\n".join(label)
        ax.text(-0.22, middle, words, ha="right", va="center", fontsize=10.3, linespacing=1.13)
        for mark, x in zip(line.marks, places, strict=True):
            _draw(ax, x, middle, mark, step)
        top += height
    _legend(ax, top, step, {mark for line in lines for mark in line.marks})
    ax.set_xlim(-LABELS / step, max(places) + 0.6)
    ax.set_ylim(top + FOOT, -HEAD)
    ax.axis("off")
    return fig


BOLD = {"fontsize": 10.5, "fontweight": "bold"}


def _places(asked: list[tuple[Task, str]]) -> tuple[list[float], dict[str, tuple[float, float]]]:
    """Where the columns stand, and where each kind of features begins and ends."""
    places: list[float] = []
    groups: dict[str, tuple[float, float]] = {}
    for number, (_, features) in enumerate(asked):
        place = number + GAP * (len(groups) - (features in groups))
        places.append(place + 0.4)
        groups[features] = (groups.get(features, (place + 0.4,))[0], place + 0.4)
    return places, groups


def _draw(ax: Axes, x: float, y: float, mark: str, step: float) -> None:
    """One mark; x counts columns, y inches."""
    half = 0.09
    if mark in (MATCH, REMARK, *LETTERS):
        filled = mark == MATCH
        color = COLORS["blue"] if mark in (MATCH, REMARK) else COLORS["vermillion"]
        box = FancyBboxPatch(
            (x - half / step, y - half),
            2 * half / step,
            2 * half,
            boxstyle="square,pad=0",
            facecolor=color if filled else "white",
            edgecolor=color,
            linewidth=1.2,
            zorder=2,
        )
        box.set_gid(mark)
        ax.add_patch(box)
        ax.text(
            x,
            y,
            LETTERS.get(mark, "✓"),
            color="white" if filled else color,
            ha="center",
            va="center_baseline" if mark in LETTERS else "center",
            fontsize=10,
            fontweight="bold",
            zorder=3,
        )
    else:
        gone = mark == LOSS
        (dot,) = ax.plot(x, y, "o", markersize=9.5 if gone else 2, color=COLORS["ink"] if gone else "#B0B0B0", zorder=2)
        dot.set_gid(mark)


def _legend(ax: Axes, top: float, step: float, used: set[str]) -> None:
    left, y = -LABELS / step, top + 0.28
    shown = [mark for mark in MEANING if mark in used]
    for number, mark in enumerate(shown):
        x = left + (0.15 + 3.05 * (number % 2)) / step
        _draw(ax, x, y + 0.26 * (number // 2), mark, step)
        ax.text(x + 0.17 / step, y + 0.26 * (number // 2), MEANING[mark], va="center", fontsize=10.5)


def alt_guide(title: str, tasks: Sequence[Task] | None = None) -> str:
    """Say in words what `guide` draws: for each task which rows match, and which break a symmetry.

    Args:
        title: The message of the figure.
        tasks: As for `guide`.

    Returns:
        The text.

    Raises:
        ValueError: If there is no task.
    """
    lines, asked = verdicts(tasks), columns(tasks)
    number = sum(len(line.names) for line in lines)
    said = [f"Matrix of {number} layers in {len(lines)} lines and {len(asked)} columns. {title}."]
    answers: dict[tuple[str, ...], list[str]] = {}
    for place, (task, features) in enumerate(asked):
        answers.setdefault(tuple(line.marks[place] for line in lines), []).append(f"{task.name} on {features}")
    for marks, words in answers.items():
        parts = []
        for mark in (MATCH, REMARK, *LETTERS):
            names = [name for line, own in zip(lines, marks, strict=True) if own == mark for name in line.names]
            if names:
                parts.append(f"{MEANING[mark]}: {', '.join(names)}")
        said.append(f"For {', '.join(words)}: {'; '.join(parts)}.")
    said.append("The others remove what the task may need, or do not take such features.")
    return " ".join(said)
