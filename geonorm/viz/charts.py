"""Line and bar charts that carry their labels on the data, and the same charts in words."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from geonorm.viz.style import COLORS

MARKERS = ("o", "s", "^", "D", "v", "P")
#: Positions or values along a line: a list, a range, an array; for several runs an array ``[runs, len(x)]``.
Values = Sequence[Any] | np.ndarray
Number = int | float | np.number

#: The part of a figure's height that its axes take, and the height of one line of a label in points.
AXES_SHARE = 0.62
LABEL_POINTS = 14.4

DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1)), (0, (1, 1)))


def spoken(value: Number) -> str:
    """Write a number the way one says it: two significant digits, powers of ten for the far ends."""
    value = float(value)
    if not np.isfinite(value):
        return "not finite"
    if value == 0:
        return "0"
    magnitude = int(np.floor(np.log10(abs(value))))
    if -3 <= magnitude < 4:
        digits = max(0, 1 - magnitude)
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")


def _spread(positions: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Move labels of given sizes apart, as little as needed, so that neighbours do not overlap."""
    order = np.argsort(positions, kind="stable")
    placed, sizes = positions[order].astype(float), sizes[order]
    for _ in range(200):
        moved = False
        for lower in range(len(placed) - 1):
            overlap = (sizes[lower] + sizes[lower + 1]) / 2 - (placed[lower + 1] - placed[lower])
            if overlap > 1e-9:
                placed[lower] -= overlap / 2
                placed[lower + 1] += overlap / 2
                moved = True
        if not moved:
            break
    result = np.empty_like(placed)
    result[order] = placed
    return result


def _middle_and_range(values: Values) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    runs = np.atleast_2d(np.asarray(values, dtype=float))
    return np.median(runs, axis=0), runs.min(axis=0), runs.max(axis=0)


def lines(
    ax: Axes,
    x: Values,
    series: Mapping[str, Values],
    *,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    label_width: int = 14,
) -> None:
    """Draw one line per series and write its name at its right end.

    Args:
        ax: Where to draw.
        x: Common horizontal positions.
        series: Name to values; an array ``[runs, len(x)]`` is drawn as its median with the range of the runs.
        x_label: Horizontal quantity with its unit.
        y_label: Vertical quantity with its unit.
        log_x: Logarithmic horizontal axis.
        log_y: Logarithmic vertical axis.
        label_width: Characters after which a name wraps.

    Raises:
        ValueError: If a logarithmic axis meets values that are not positive.
    """
    x = np.asarray(x, dtype=float)
    if log_y and any((np.asarray(values) <= 0).any() for values in series.values()):
        raise ValueError("a logarithmic axis needs positive values; clip them or pass log_y=False")
    ends, heights, colors = [], [], []
    for index, (name, values) in enumerate(series.items()):
        middle, low, high = _middle_and_range(values)
        (line,) = ax.plot(
            x,
            middle,
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            markevery=max(1, len(x) // 8),
        )
        ax.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
        label = "\n".join(textwrap.wrap(name, label_width))
        ends.append(middle[-1])
        heights.append(label.count("\n") + 1)
        colors.append((label, line.get_color()))
    if log_x:
        ax.set_xscale("log")
    if log_y:
        ax.set_yscale("log")
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    ax.margins(x=0.02)

    to_axes = ax.transData + ax.transAxes.inverted()
    inside = np.array([to_axes.transform((x[-1], end))[1] for end in ends])
    points = 72 * ax.figure.get_size_inches()[1] * AXES_SHARE
    placed = _spread(inside, sizes=LABEL_POINTS * np.array(heights) / points)
    for (label, color), end, move in zip(colors, ends, (placed - inside) * points, strict=True):
        # Tied to the end of its line, so that limits set afterwards move the label along.
        ax.annotate(
            label,
            xy=(1, end),
            xycoords=("axes fraction", "data"),
            xytext=(8, move),
            textcoords="offset points",
            annotation_clip=False,
            color=color,
            va="center",
            ha="left",
            fontweight="bold",
            fontsize=12,
            linespacing=0.95,
        )


def alt_lines(
    title: str,
    x: Values,
    series: Mapping[str, Values],
    *,
    x_label: str,
    y_label: str,
) -> str:
    """Say in words what `lines` draws: the axes, and for every line its first, last and extreme values.

    Args:
        title: The message of the figure.
        x: Common horizontal positions.
        series: Name to values, as for `lines`.
        x_label: Horizontal quantity with its unit.
        y_label: Vertical quantity with its unit.

    Returns:
        A few sentences.
    """
    parts = [f"Line chart. {title.rstrip('.')}.", f"Horizontal: {x_label}, {spoken(x[0])} to {spoken(x[-1])}."]
    parts.append(f"Vertical: {y_label}.")
    for name, values in series.items():
        middle, _, _ = _middle_and_range(values)
        sentence = f"{name}: from {spoken(middle[0])} to {spoken(middle[-1])}"
        span = sorted((middle[0], middle[-1]))
        if middle.max() > 1.5 * span[1]:
            sentence += f", highest {spoken(middle.max())}"
        if middle.min() < span[0] / 1.5 and middle.min() >= 0:
            sentence += f", lowest {spoken(middle.min())}"
        parts.append(sentence + ".")
    return " ".join(parts)


def bars(
    ax: Axes,
    values: Mapping[str, Number],
    *,
    x_label: str,
    log_x: bool = False,
    highlight: Sequence[str] = (),
) -> None:
    """Draw horizontal bars, each with its name on the left and its value on the right.

    Args:
        ax: Where to draw.
        values: Name to value, drawn from top to bottom.
        x_label: Horizontal quantity with its unit.
        log_x: Logarithmic axis; values that are not positive are refused.
        highlight: Names whose bars carry the accent colour and a hatch.

    Raises:
        ValueError: If a logarithmic axis meets values that are not positive, or a highlighted name is unknown.
    """
    if log_x and min(values.values()) <= 0:
        raise ValueError("a logarithmic axis needs positive values; clip them or pass log_x=False")
    unknown = [name for name in highlight if name not in values]
    if unknown:
        raise ValueError(f"highlight names no bar: {unknown}; the bars are {list(values)}")
    for index, (name, value) in enumerate(values.items()):
        accent = name in highlight
        ax.barh(
            index,
            value,
            color=COLORS["vermillion"] if accent else COLORS["blue"],
            hatch="//" if accent else None,
            edgecolor="white",
            height=0.66,
        )
        ax.annotate(
            spoken(value),
            xy=(value, index),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=12,
            fontweight="bold" if accent else "normal",
            color=COLORS["vermillion"] if accent else COLORS["ink"],
        )
    if log_x:
        ax.set_xscale("log")
    ax.set_yticks(range(len(values)), list(values))
    ax.invert_yaxis()
    ax.margins(x=0.14)
    ax.grid(axis="y", visible=False)
    ax.set_xlabel(x_label)


def alt_bars(title: str, values: Mapping[str, Number], *, x_label: str) -> str:
    """Say in words what `bars` draws: every name with its value.

    Args:
        title: The message of the figure.
        values: Name to value.
        x_label: Horizontal quantity with its unit.

    Returns:
        A few sentences.
    """
    listed = ", ".join(f"{name} {spoken(value)}" for name, value in values.items())
    return f"Bar chart. {title.rstrip('.')}. {x_label}: {listed}."
