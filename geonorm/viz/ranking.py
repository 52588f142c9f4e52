"""Final errors of many variants in order: every seed, the geometric mean with its interval, and the same in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from geonorm.viz.charts import MARKERS, spoken
from geonorm.viz.style import COLORS

#: The colours of groups, each with a marker of its own.
GROUP_COLORS = ("blue", "vermillion", "green", "purple", "grey")


def in_order(errors: Mapping[str, Any]) -> list[str]:
    """The names from the smallest mean to the largest, then those without a finite run."""
    return sorted(errors, key=lambda name: errors[name].mean if errors[name].values else math.inf)


def ranking(
    ax: Axes,
    errors: Mapping[str, Any],
    *,
    x_label: str,
    groups: Mapping[str, str] | None = None,
    reference: str | None = None,
) -> None:
    """Draw one line for each variant, the best on top, on a logarithmic axis.

    Small points are the seeds, the large one is their geometric mean, the bar its 95 % interval, cut off at the edge of
    the figure where few seeds leave it wide open. A variant that is not finite with some seeds says so.

    Args:
        ax: Where to draw.
        errors: From :func:`geonorm.experiments.summary.final_errors`.
        x_label: The error with its unit.
        groups: What kind of variant each is; kinds have colours and markers of their own, explained in a legend.
        reference: A variant at whose mean a vertical line stands.

    Raises:
        ValueError: If no variant has a finite run, or groups are missing for some.
    """
    names, kinds = in_order(errors), dict.fromkeys((groups or {}).values())
    if not errors or not errors[names[0]].values:
        raise ValueError("no variant has a finite run: there is nothing to draw")
    missing = [name for name in names if groups is not None and name not in groups]
    if missing:
        raise ValueError(f"groups name no kind for {missing}")
    looks = dict(zip(kinds, zip(GROUP_COLORS, MARKERS, strict=False), strict=False))
    seen = np.array([value for error in errors.values() for value in error.values.values()])
    left, right = seen.min() / 1.15, seen.max() * 1.15
    for row, name in enumerate(names):
        error = errors[name]
        color, marker = looks.get(groups[name]) if groups else ("blue", "o")
        if error.values:
            low, high = error.interval()
            if not math.isnan(low):
                ends = [max(low, left), min(high, right)]
                ax.plot(ends, [row, row], color=COLORS[color], linewidth=1.6, alpha=0.6)
                if high > right:  # the interval goes on
                    ax.plot([right], [row], ">", color=COLORS[color], markersize=5, clip_on=False)
            seeds = list(error.values.values())
            ax.plot(seeds, [row] * len(seeds), ".", color=COLORS[color], markersize=4, alpha=0.7)
            ax.plot([error.mean], [row], marker, color=COLORS[color], markersize=7)
        if error.not_finite:
            words = f"{len(error.not_finite)} of {len(error.values) + len(error.not_finite)} seeds not finite"
            ax.annotate(words, (1, row), xycoords=("axes fraction", "data"), ha="right", va="center", fontsize=10)
    if reference is not None:
        ax.axvline(errors[reference].mean, color=COLORS["ink"], linewidth=1, linestyle=":")
    ax.set_xscale("log")
    # Errors of variants rarely span a power of ten, at which alone the axis would have numbers.
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlim(left, right)
    ax.set_yticks(range(len(names)), names, fontsize=10)
    ax.invert_yaxis()
    ax.set_xlabel(x_label)
    if groups:
        entries = [
            Line2D([], [], color=COLORS[color], marker=marker, linestyle="", label=kind)
            for kind, (color, marker) in looks.items()
        ]
        ax.legend(handles=entries, fontsize=10, frameon=False, loc="best")


def alt_ranking(title: str, errors: Mapping[str, Any], *, x_label: str, groups: Mapping[str, str] | None = None) -> str:
    """Say in words what `ranking` draws: every variant with its mean, from the best.

    Args:
        title: The message of the figure.
        errors: As for `ranking`.
        x_label: The error with its unit.
        groups: What kind of variant each is.

    Returns:
        A few sentences.
    """
    parts = []
    for name in in_order(errors):
        error = errors[name]
        kind = f" ({groups[name]})" if groups else ""
        number = len(error.not_finite)
        lost = f", {number} seed{'s' * (number > 1)} not finite" if number else ""
        parts.append(f"{name}{kind} {spoken(error.mean)}{lost}")
    return f"Points with intervals, from the best. {title.rstrip('.')}. {x_label}: {'; '.join(parts)}."
