"""Sphinx extension: tables for teachers, read from the texts of the chapters when the book is built.

    ```{chapter-times}
    ```

    ```{exercise-goals} goals.yml
    ```

The first says of each chapter how long it takes, what it needs and how many exercises it has. The second says which of
the chapter's objectives each exercise serves; the file in the argument maps the label of an exercise to the number of
an objective, or to several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


@dataclass
class Chapter:
    """What the frame of a chapter says.

    Attributes:
        name: The name of its text, such as ``"01_introduction"``.
        number: Its number.
        title: Its title, without the number.
        goals: What the reader will learn, one sentence each.
        needs: What the reader should know before.
        minutes: The time to read it.
        run: How long its cells take.
        exercises: Titles of the exercises by label.
    """

    name: str
    number: int
    title: str
    goals: list[str]
    needs: str
    minutes: int
    run: str
    exercises: dict[str, str]


def chapter(text: Path) -> Chapter:
    """Read the frame of a chapter from its text.

    Raises:
        ValueError: If a part of the frame is missing.
    """
    source = text.read_text(encoding="utf-8")
    parts = {
        "title": r"^# (?:\d+) (.+)$",
        "goals": r"^\*\*You will learn\*\*\n\n((?:.+\n)+)",
        "needs": r"^\*\*You need\*\*: ((?:.+\n)+)",
        "time": r"^\*\*Time\*\*: (\d+) minutes to read; every cell together runs in ([^.]+)\.",
    }
    found = {name: re.search(pattern, source, re.MULTILINE) for name, pattern in parts.items()}
    missing = [name for name, match in found.items() if match is None]
    if missing:
        raise ValueError(f"{text.name}: no {', '.join(missing)}; the frame of the other chapters has the form")
    goals = [" ".join(goal.split()) for goal in re.split(r"^\* ", found["goals"][1], flags=re.MULTILINE)[1:]]
    exercises = re.findall(r"\{exercise-start\} (.+)\n:label: (\S+)", source)
    return Chapter(
        name=text.stem,
        number=int(text.stem[:2]),
        title=found["title"][1],
        goals=[goal.rstrip(";.") for goal in goals],
        needs=" ".join(found["needs"][1].split()),
        minutes=int(found["time"][1]),
        run=" ".join(found["time"][2].split()),
        exercises={label: title for title, label in exercises},
    )


def chapters(folder: Path) -> list[Chapter]:
    """Read the frames of all chapters of a folder, in order."""
    return [chapter(text) for text in sorted(folder.glob("[0-9][0-9]_*.md"))]


def unmapped(goals: dict[str, int | list[int]], read: list[Chapter]) -> list[str]:
    """Return what is wrong with a map of exercises to objectives; an empty list if nothing is."""
    found = []
    for each in read:
        for label in each.exercises:
            numbers = goals.get(label, [])
            numbers = numbers if isinstance(numbers, list) else [numbers]
            if not numbers:
                found.append(f"{label}, an exercise of {each.name}, has no objective")
            found += [
                f"{label}: {each.name} has no objective {number}, only 1 to {len(each.goals)}"
                for number in numbers
                if not 1 <= number <= len(each.goals)
            ]
    known = {label for each in read for label in each.exercises}
    return found + [f"{label} is no exercise of any chapter" for label in goals if label not in known]


def _table(head: list[str], lines: list[list[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)


class _FromChapters(SphinxDirective):
    """A table made of what the chapters say."""

    def read(self) -> list[Chapter]:
        """Read the chapters, and rebuild this page when one of them changes."""
        folder = Path(self.env.srcdir) / "notebooks" / "text"
        for text in folder.glob("*.md"):
            self.env.note_dependency(str(text))
        try:
            read = chapters(folder)
        except ValueError as error:
            raise self.error(str(error)) from error
        # A text that is still being written has no page yet.
        return [each for each in read if f"notebooks/{each.name}" in self.env.found_docs]

    def parsed(self, markdown: str) -> list[nodes.Node]:
        """Parse Markdown in the place of the directive."""
        node = nodes.container()
        self.state.nested_parse(StringList(markdown.splitlines(), self.env.docname), self.content_offset, node)
        return node.children


class ChapterTimes(_FromChapters):
    """Times, needs and exercises of all chapters."""

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        read = self.read()
        named = {each.name: each.number for each in read}
        lines = [
            [
                f"{{doc}}`{each.number} {each.title} </notebooks/{each.name}>`",
                f"{each.minutes} min",
                each.run.removesuffix(" on a laptop"),
                str(len(each.exercises)),
                ", ".join(
                    f"{{doc}}`{named[name]} </notebooks/{name}>`"
                    for name in dict.fromkeys(re.findall(r"\d\d_\w+", each.needs))
                    if name in named
                )
                or "–",
            ]
            for each in read
        ]
        total = sum(each.minutes for each in read)
        lines.append(["All", f"{total / 60:.0f} h", "", str(sum(len(each.exercises) for each in read)), ""])
        return self.parsed(_table(["chapter", "to read", "its cells run in", "exercises", "builds on"], lines))


class ExerciseGoals(_FromChapters):
    """Which objective every exercise serves."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Make the table."""
        file = Path(self.env.doc2path(self.env.docname)).parent / self.arguments[0]
        self.env.note_dependency(str(file))
        goals, read = yaml.safe_load(file.read_text(encoding="utf-8")), self.read()
        if wrong := unmapped(goals, read):
            raise self.error(f"{file.name}: {'; '.join(wrong)}")
        lines = []
        for each in read:
            for label, title in each.exercises.items():
                numbers = goals[label] if isinstance(goals[label], list) else [goals[label]]
                lines.append(
                    [str(each.number), f"{{ref}}`{title} <{label}>`", "; ".join(each.goals[n - 1] for n in numbers)]
                )
        return self.parsed(_table(["chapter", "exercise", "what it trains: the reader learns …"], lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_directive("chapter-times", ChapterTimes)
    app.add_directive("exercise-goals", ExerciseGoals)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
