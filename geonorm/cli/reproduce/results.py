"""What an experiment says when it ends: the last errors, a figure, and the files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

Records = Sequence[dict[str, Any]]


def last_epoch(records: Records) -> int:
    """Return the number of the last epoch.

    Args:
        records: Of all runs.

    Returns:
        The number.
    """
    return max(record["epoch"] for record in records)


def say_last(
    records: Records, columns: Sequence[str], form: str, name: Callable[[dict], str] | None = None, width: int = 14
) -> None:
    """Print the errors of the last epoch, one line for each run.

    Args:
        records: Of all runs.
        columns: The errors.
        form: How an error is printed, such as ``10.2e``.
        name: What a run is called; None takes its normalization.
        width: Room for that name.
    """
    for record in records:
        if record["epoch"] == last_epoch(records):
            called = record["normalization"] if name is None else name(record)
            errors = " ".join(format(record[column], form) for column in columns)
            click.echo(f"{called:>{width}}  seed {record['seed']}  {errors}")


def finish(
    out: Path, name: str, records: Records, column: str, title: str, y_label: str, panels: str | None = None
) -> None:
    """Draw the curves of an experiment beside its numbers and say which files there are.

    Without matplotlib there is no figure, and a line that says so.

    Args:
        out: The folder of the results.
        name: What the files are called.
        records: For :func:`geonorm.viz.curves`, as are the rest.
        column: The error.
        title: The message of the figure.
        y_label: The error with its unit.
        panels: A column whose values get a panel each.
    """
    files = [out / f"{name}.csv", out / f"{name}.json"]
    try:
        from matplotlib import pyplot

        from geonorm.viz import curves, use_style
        from geonorm.viz.style import png
    except ImportError:
        click.echo("no figure: it needs matplotlib, pip install 'geonorm[book]'")
    else:
        with pyplot.rc_context():
            use_style()
            fig = curves(records, column, title, y_label, panels)
            files.append(out / f"{name}.png")
            files[-1].write_bytes(png(fig))
            pyplot.close(fig)
    click.echo(f"wrote {', '.join(str(path) for path in files)}")
