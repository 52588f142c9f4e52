"""A map of what was made when and where: a lane per community, a line between things that are the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.textpath import TextPath

from geonorm.viz.style import COLORS, figure

LINE_COLORS = ("vermillion", "blue", "green", "purple", "ink")
LINE_STYLES = ("-", "--")
#: Inches for a row of text and for the name of a lane; years left and right of the stops.
ROW, LANE, MARGIN = 0.27, 0.34, 0.5
#: Points: the size of a name, and its distance from the middle of its marker.
SIZE, GAP = 11, 10


@dataclass(frozen=True)
class Stop:
    """One thing on the map.

    Args:
        name: What it is called.
        year: When it was first public.
        lane: The community that made it.
    """

    name: str
    year: int
    lane: str


def _check(groups: Mapping[str, Sequence[Stop]]) -> None:
    wrong = [letter for letter in groups if len(letter) != 1]
    if wrong or not groups or any(not stops for stops in groups.values()):
        raise ValueError(
            f"groups are named {list(groups)}: expected at least one, each with a single letter for its name and with "
            "at least one stop"
        )


def _lanes(groups: Mapping[str, Sequence[Stop]]) -> dict[str, list[tuple[str, Stop]]]:
    """The stops of every lane with the letters of their groups by year, the lane with the oldest stop first."""
    lanes: dict[str, list[tuple[str, Stop]]] = {}
    stops = [(letter, stop) for letter, members in groups.items() for stop in members]
    for letter, stop in sorted(stops, key=lambda pair: (pair[1].year, pair[0])):
        lanes.setdefault(stop.lane, []).append((letter, stop))
    return lanes


def timeline(groups: Mapping[str, Sequence[Stop]], title: str) -> Figure:
    """Draw what was made in which year by which community, with a line through the members of each group.

    Args:
        groups: A letter for each group, and its members. A thing that is in two groups is two stops.
        title: The message of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no group, a group is empty, its name is longer than a letter, or the name of a stop is
            too long to stand beside it.
    """
    _check(groups)
    lanes = _lanes(groups)
    height = 1.3 + LANE * len(lanes) + ROW * sum(map(len, lanes.values()))
    fig, ax = figure(title, height=height)
    years = [stop.year for stops in groups.values() for stop in stops]
    first, last = min(years), max(years)
    years_per_inch = (last - first + 2 * MARGIN) / (fig.get_size_inches()[0] - 0.3)
    colors = _colors(groups)
    places: dict[str, list[tuple[float, float]]] = {letter: [] for letter in groups}
    depth = 0.0
    for number, (lane, stops) in enumerate(lanes.items()):
        bottom = depth + LANE + ROW * len(stops)
        band = COLORS["pale"] if number % 2 == 0 else "white"
        ax.axhspan(depth, bottom, color=band, zorder=0, linewidth=0)
        words = {"fontsize": 12, "color": "#555555", "style": "italic", "va": "center", "zorder": 3}
        # Lines pass behind the words, here and below.
        behind = {"boxstyle": "square,pad=0.05", "facecolor": band, "edgecolor": "none", "alpha": 0.75}
        ax.text(first - 0.8 * MARGIN, depth + LANE / 2, lane, bbox=behind, **words)
        for index, (letter, stop) in enumerate(stops):
            place = (float(stop.year), depth + LANE + ROW * (index + 0.5))
            places[letter].append(place)
            length = (TextPath((0, 0), stop.name, size=SIZE).get_extents().width + GAP + 3) / 72 * years_per_inch
            fits = stop.year + length < last + MARGIN
            if not fits and stop.year - length < first - MARGIN:
                plt.close(fig)
                raise ValueError(f"{stop.name!r} does not fit beside its year {stop.year}: shorten it")
            _draw_stop(ax, letter, stop, place, colors[letter], before=not fits)
        depth = bottom
    for number, (letter, color) in enumerate(colors.items()):
        chain = sorted(places[letter])
        for start, end in pairwise(chain):
            ax.add_patch(
                FancyArrowPatch(
                    start,
                    end,
                    arrowstyle="-",
                    connectionstyle="arc3,rad=0.18",
                    color=color,
                    linestyle=LINE_STYLES[number // len(LINE_COLORS) % 2],
                    linewidth=1.8,
                    zorder=2,
                )
            )
    ax.set_ylim(depth, 0)
    ax.set_xlim(first - MARGIN, last + MARGIN)
    ax.set_xticks(
        range(first, last + 1), [f"{year}" if (year - first) % 2 == 0 else "" for year in range(first, last + 1)]
    )
    ax.set_yticks([])
    ax.set_xlabel("first public")
    ax.grid(axis="y", visible=False)
    ax.spines["left"].set_visible(False)
    return fig


def _colors(groups: Mapping[str, Sequence[Stop]]) -> dict[str, str]:
    return {letter: COLORS[LINE_COLORS[number % len(LINE_COLORS)]] for number, letter in enumerate(groups)}


def _draw_stop(ax: Axes, letter: str, stop: Stop, place: tuple[float, float], color: str, before: bool) -> None:
    # A letter in the marker says the group to those who do not see its colour.
    ax.annotate(
        letter,
        place,
        ha="center",
        va="center",
        fontsize=9,
        fontweight="bold",
        color="white",
        zorder=4,
        bbox={"boxstyle": "circle,pad=0.22", "facecolor": COLORS["ink"], "edgecolor": color, "linewidth": 2},
    )
    label = ax.annotate(
        stop.name,
        place,
        xytext=(-GAP if before else GAP, 0),
        textcoords="offset points",
        ha="right" if before else "left",
        va="center",
        fontsize=SIZE,
        zorder=3,
        bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "edgecolor": "none", "alpha": 0.75},
    )
    # The side is chosen so that it fits; the layout must not make room for it once more.
    label.set_in_layout(False)


def alt_timeline(groups: Mapping[str, Sequence[Stop]], title: str) -> str:
    """Say in words what `timeline` draws: every group with its members, their years and communities.

    Args:
        groups: As for `timeline`.
        title: The message of the figure.

    Returns:
        A sentence for the map and one for every group.

    Raises:
        ValueError: As for `timeline`.
    """
    _check(groups)
    lanes = _lanes(groups)
    parts = [f"Timeline. {title.rstrip('.')}.", f"Lanes: {', '.join(lanes)}."]
    for letter, stops in groups.items():
        listed = [f"{stop.name} ({stop.year}, {stop.lane})" for stop in sorted(stops, key=lambda stop: stop.year)]
        parts.append(f"{letter}: {' = '.join(listed)}.")
    return " ".join(parts)
