"""Curves of training runs by normalization: the median over seeds with their range, and the same in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from geonorm.viz.charts import alt_lines, lines
from geonorm.viz.style import WIDTH, figure

Records = Sequence[dict[str, Any]]


def curves(records: Records, column: str, title: str, y_label: str, panels: str | None = None) -> Figure:
    """Draw how an error falls in the runs of an experiment, one line for each normalization.

    Args:
        records: With ``normalization``, ``seed`` and ``epoch``; runs that are cut short or not finite are left out.
        column: The error, positive numbers.
        title: The message of the figure.
        y_label: The error with its unit.
        panels: A column whose values get a panel each; None draws one panel.

    Returns:
        The figure.

    Raises:
        ValueError: If a panel has no run to draw.
    """
    epochs, groups = _series(records, column, panels)
    fig, axes = figure(title, width=WIDTH * len(groups), height=4.2, columns=len(groups), sharey=len(groups) > 1)
    values = np.vstack([runs for series in groups.values() for runs in series.values()])
    for ax, (group, series) in zip(axes if len(groups) > 1 else [axes], groups.items(), strict=True):
        # Before the names are placed: a panel drawn later would move the ends of the lines apart from them.
        ax.set_ylim(values.min() / 1.1, values.max() * 1.1)
        lines(ax, epochs, series, x_label="epoch", y_label=y_label, log_y=True)
        ax.set_title(group, loc="left")
    return fig


def alt_curves(records: Records, column: str, title: str, y_label: str, panels: str | None = None) -> str:
    """Say in words what `curves` draws.

    Args:
        records: As for `curves`.
        column: The error.
        title: The message of the figure.
        y_label: The error with its unit.
        panels: A column whose values get a panel each.

    Returns:
        A few sentences for each panel.
    """
    epochs, groups = _series(records, column, panels)
    parts = [
        alt_lines(f"{title} {group}".rstrip(), epochs, series, x_label="epoch", y_label=y_label)
        for group, series in groups.items()
    ]
    return " ".join(parts)


def _series(records: Records, column: str, panels: str | None) -> tuple[list[int], dict[str, dict[str, np.ndarray]]]:
    """The epochs, and for each panel the finite runs of each normalization, ``[runs, epochs]``."""
    epochs = sorted({record["epoch"] for record in records})
    runs: dict[tuple[str, str, int], list[float]] = {}
    for record in records:
        group = "" if panels is None else str(record[panels])
        runs.setdefault((group, record["normalization"], record["seed"]), []).append(record[column])
    groups: dict[str, dict[str, np.ndarray]] = {}
    for (group, name, _), values in runs.items():
        series = groups.setdefault(group, {})
        if len(values) == len(epochs) and np.isfinite(values).all():
            series[name] = np.vstack([*series.get(name, np.empty((0, len(epochs)))), values])
    empty = [group for group, series in groups.items() if not series]
    if empty or not groups:
        raise ValueError(f"no run has finite values of {column} in all epochs {empty or ''}: there is nothing to draw")
    return epochs, groups
