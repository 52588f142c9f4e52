"""Sphinx extension: tables of what ran where, read from the files of results when the book is built.

    ```{notebook-costs}
    ```

lists every executed notebook with its time, memory and size, and

    ```{long-runs}
    ```

every result in book/results/ that was too long for a page, with its device, date, seeds and command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

RESULTS, COSTS = "book/results", "notebooks.json"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; columns after the first are aligned to the right where they hold numbers."""
    numbers = [all(row[i].replace(".", "").replace(" ", "").isdigit() for row in rows) for i in range(len(head))]
    lines = [head, ["--:" if number else ":--" for number in numbers], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def notebook_costs(root: Path) -> str:
    """Say in Markdown what each notebook of the book costs, and their sum."""
    kept = json.loads((root / RESULTS / COSTS).read_text())
    rows, dates, total = [], set(), 0
    for folder in ("notebooks", "book"):
        for notebook in sorted((root / folder).glob("*.ipynb")):
            cost = kept.get(notebook.stem)
            if cost is None:
                raise ValueError(f"{notebook.name} is not in {RESULTS}/{COSTS}: execute it")
            total += cost["cpu_seconds"]
            numbers = [str(cost["cpu_seconds"]), f"{cost['memory_mb']:.0f}", str(cost["kilobytes"])]
            rows.append([f"{{doc}}`{_short_title(notebook)} </{folder}/{notebook.stem}>`", *numbers])
            dates.add(cost["date"])
    cost = next(iter(kept.values()))
    versions = ", ".join(f"{name} {number}" for name, number in cost["versions"].items())
    when = " to ".join(sorted({min(dates), max(dates)}))
    said = (
        f"All together need {total / 60:.0f} minutes of one core. Executed {when}; Python {cost['python']}, {versions}."
    )
    return table(["notebook", "seconds of one core", "memory, MB", "size, kB"], rows) + f"\n\n{said}"


def _short_title(notebook: Path) -> str:
    """The title of a notebook up to its colon: a column of a phone is narrow."""
    first = nbformat.read(notebook, as_version=4).cells[0].source
    return first.splitlines()[0].removeprefix("# ").split(":")[0]


def long_runs(root: Path) -> str:
    """Say in Markdown which results were computed beforehand, and how."""
    parts = []
    for file in sorted((root / RESULTS).glob("*.json")):
        if file.name == COSTS:
            continue
        facts = json.loads(file.read_text())
        # One file may hold an experiment on several targets, each with a command of its own.
        named = {f"{file.stem}, {name}": of for name, of in facts.get("targets", {}).items()} or {file.stem: facts}
        parts += [_run(name, of) for name, of in named.items()]
    return "\n\n".join(parts)


def _run(name: str, facts: Mapping[str, Any]) -> str:
    device = facts["device"] if facts["device"] != "cpu" else f"CPU ({facts['processor']})"
    versions = ", ".join(f"{package} {number}" for package, number in facts["versions"].items())
    seeds = ", ".join(map(str, facts["seeds"]))
    command = facts["command"].replace(" --", " \\\n  --")  # a phone would break a line between two dashes
    return f"**{name}**: {device}, {facts['date']}, seeds {seeds}; {versions}.\n\n```bash\n{command}\n```"


class NotebookCosts(SphinxDirective):
    """The table of all notebooks."""

    text = staticmethod(notebook_costs)

    def run(self) -> list[nodes.Node]:
        """Parse the Markdown that the files give."""
        root = Path(self.env.srcdir)
        for file in (root / RESULTS).glob("*.json"):
            self.env.note_dependency(str(file))
        try:
            return self.parse_text_to_nodes(self.text(root))
        except (OSError, KeyError, ValueError) as error:
            raise self.error(str(error)) from error


class LongRuns(NotebookCosts):
    """The list of all long runs."""

    text = staticmethod(long_runs)


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_directive("notebook-costs", NotebookCosts)
    app.add_directive("long-runs", LongRuns)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
