"""The picture behind every row of Table 1: which entries of the b × x × v cube share one statistic."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from geonorm.viz import pooled
from geonorm.viz.pooled import CHANNELS, NODES, SAMPLES, Kind
from geonorm.viz.style import COLORS, figure

DEPTH = np.array([0.48, 0.34])
V_LABEL = {
    "scalars": "v: channels",
    "vectors": "v: channels, m: x y z",
    "irreps": "v: scalars | vectors, m: x y z",
}


def _corner(sample: int | float, node: int | float, channel: int | float) -> np.ndarray:
    return np.array([channel, -node]) + sample * DEPTH


def _cell(ax: Panel, corners: list[np.ndarray], member: bool, shade: float, width: float = 1.0) -> None:
    face = np.array([213, 94, 0]) / 255 if member else np.array([0.955, 0.955, 0.955])
    ax.add_patch(
        Polygon(
            corners,
            facecolor=face * shade,
            edgecolor=COLORS["ink"] if member else "#A0A0A0",
            linewidth=(1.1 if member else 0.7) * width,
            hatch="///" if member else None,
            zorder=3 if member else 2,
        )
    )


def _draw_channels(ax: Panel, places: list[pooled.Column]) -> None:
    """Outline the channels, whose components are stripes."""
    first, last = {}, {}
    for place in places:
        first.setdefault((place.type, place.channel), place.left)
        last[place.type, place.channel] = place.right
    for edge in sorted({*first.values(), *last.values()}):
        foot, top, back = _corner(0, NODES, edge), _corner(0, 0, edge), _corner(SAMPLES, 0, edge)
        ax.plot(*zip(foot, top, back, strict=True), color=COLORS["ink"], linewidth=1.4, zorder=4)


def _draw_cube(ax: Panel, letters: frozenset[str] | None, title: str, caption: str, kind: Kind) -> None:
    places = pooled.columns(kind)
    member = pooled.member_of(letters, places[-1]) if letters is not None else lambda *_: False
    width = 1.0 if kind == "scalars" else 0.6
    for node in range(NODES):
        for place in places:
            sides = ((0, place.left), (0, place.right), (1, place.right), (1, place.left))
            _cell(ax, [_corner(0, node + dy, x) for dy, x in sides], member(0, node, place), 1.0, width)
    for sample in range(SAMPLES):
        for place in places:
            sides = ((0, place.left), (0, place.right), (1, place.right), (1, place.left))
            _cell(ax, [_corner(sample + db, 0, x) for db, x in sides], member(sample, 0, place), 0.93, width)
        for node in range(NODES):
            _cell(
                ax,
                [_corner(sample + db, node + dy, CHANNELS) for db, dy in ((0, 0), (0, 1), (1, 1), (1, 0))],
                member(sample, node, places[-1]),
                0.84,
            )
    if kind != "scalars":
        _draw_channels(ax, places)
    middle = (places[-1].left + places[-1].right) / 2
    radius = min(0.2, 0.4 * (places[-1].right - places[-1].left))
    ax.add_patch(Circle(_corner(0, 0.5, middle), radius, facecolor="black", edgecolor="white", zorder=5))

    middle_depth = _corner(SAMPLES / 2, NODES, CHANNELS)
    ax.text(*(_corner(0, NODES, CHANNELS / 2) + [0, -0.22]), V_LABEL[kind], ha="center", va="top", fontsize=12)
    ax.text(*(_corner(0, NODES / 2, 0) + [-0.2, 0]), "x: nodes", ha="right", va="center", fontsize=12, rotation=90)
    ax.text(*(middle_depth + [0.25, -0.2]), "b: samples", ha="left", va="top", fontsize=12)
    ax.set_title(title, fontsize=13 if len(title) < 30 else 11.5, fontweight="bold", pad=6)
    ax.text(0.5, -0.02, caption, transform=ax.transAxes, ha="center", va="top", fontsize=12)
    ax.set_xlim(-0.9, CHANNELS + SAMPLES * DEPTH[0] + 1.2)
    ax.set_ylim(-NODES - 0.8, SAMPLES * DEPTH[1] + 0.1)
    ax.set_aspect("equal")
    ax.axis("off")


def _panels(mean: frozenset[str] | None, scale: frozenset[str] | None, names: tuple[str, str]) -> list[tuple]:
    if mean is not None and mean == scale:
        return [(mean, f"{names[0]} and {names[1]} over {pooled.set_name(mean)}")]
    panels = []
    if mean is not None:
        panels.append((mean, f"{names[0]} over {pooled.set_name(mean)}"))
    if scale is not None:
        panels.append((scale, f"{names[1]} over {pooled.set_name(scale)}"))
    return panels


def axes_cube(
    mean_axes: str | Iterable[str] | None,
    scale_axes: str | Iterable[str] | None,
    *,
    mean_name: str = "mean",
    scale_name: str = "scale",
    features: Kind | None = None,
) -> Figure:
    """Draw the b × x × v cube with the entries that share one statistic with the marked entry.

    Args:
        mean_axes: Letters of the axes that the mean pools, of 'b', 'x', 'v', 'g' (the channels of one group), 'm' (the
            components of a vector) and 't' (types); None where the layer subtracts no mean.
        scale_axes: The same for the divisor.
        mean_name: What the first statistic is called in the title.
        scale_name: What the second statistic is called in the title.
        features: What the channels are: ``"scalars"``, ``"vectors"`` (each channel has a stripe per component), or
            ``"irreps"`` (two scalars and two vectors). Without it, the simplest that has the axes.

    Returns:
        The figure: one cube where both statistics pool the same axes, two otherwise.

    Raises:
        ValueError: If a letter is unknown or not an axis of the features, or the layer has no statistic at all.
    """
    mean, scale = pooled.read_letters(mean_axes), pooled.read_letters(scale_axes)
    kind = pooled.read_kind(features, mean, scale)
    panels = _panels(mean, scale, (mean_name, scale_name))
    if not panels:
        raise ValueError("nothing to draw: both mean_axes and scale_axes are None; pass at least one set of axes")
    width, height = (6.0, 2.7) if len(panels) == 2 else (4.2, 3.1)
    fig, axes = figure("", height=height, width=width, columns=len(panels))
    for ax, (letters, title) in zip(axes if len(panels) == 2 else [axes], panels, strict=True):
        _draw_cube(ax, letters, title, f"one per {pooled.statistics_per(letters, kind)}", kind)
    return fig


def alt_axes_cube(
    mean_axes: str | Iterable[str] | None,
    scale_axes: str | Iterable[str] | None,
    *,
    mean_name: str = "mean",
    scale_name: str = "scale",
    features: Kind | None = None,
) -> str:
    """Say in words which entries `axes_cube` marks.

    Args:
        mean_axes: As for `axes_cube`.
        scale_axes: As for `axes_cube`.
        mean_name: As for `axes_cube`.
        scale_name: As for `axes_cube`.
        features: As for `axes_cube`.

    Returns:
        One or two sentences.
    """
    mean, scale = pooled.read_letters(mean_axes), pooled.read_letters(scale_axes)
    kind = pooled.read_kind(features, mean, scale)
    sentences = [pooled.CUBE[kind]]
    for letters, title in _panels(mean, scale, (mean_name, scale_name)):
        shared, all_entries = pooled.size(letters, kind)
        sentences.append(
            f"{title[0].upper()}{title[1:]}: pooled over {pooled.pooled_words(letters)}, "
            f"one per {pooled.statistics_per(letters, kind)}; "
            f"{shared} of {all_entries} entries share it with the marked one."
        )
    if mean is None:
        sentences.append(f"No {mean_name} is subtracted.")
    if scale is None:
        sentences.append(f"There is no {scale_name}.")
    return " ".join(sentences)


def weight_grid(pool: str) -> Figure:
    """Draw a weight matrix with the entries that share one norm.

    Args:
        pool: "row" where every output unit has its own statistic, "matrix" where there is one for all entries.

    Returns:
        The figure.

    Raises:
        ValueError: If the pool has another name.
    """
    if pool not in ("row", "matrix"):
        raise ValueError(f"pool={pool!r}: a weight matrix is pooled by 'row' or as one 'matrix'")
    fig, ax = figure("", height=2.9, width=4.2)
    rows, columns = 4, 6
    for row in range(rows):
        for column in range(columns):
            corners = [np.array([column + dx, -row - dy]) for dx, dy in ((0, 0), (1, 0), (1, 1), (0, 1))]
            _cell(ax, corners, pool == "matrix" or row == 0, 1.0)
    ax.add_patch(Circle((columns - 0.5, -0.5), 0.2, facecolor="black", edgecolor="white", zorder=5))
    ax.text(columns / 2, -rows - 0.15, "fan-in: input channels", ha="center", va="top", fontsize=12)
    ax.text(-0.2, -rows / 2, "output\nchannels", ha="right", va="center", fontsize=12)
    ax.set_title("the weight W, not the data", fontsize=13, fontweight="bold", pad=6)
    caption = "one per output channel" if pool == "row" else "one for the whole matrix"
    ax.text(columns / 2, -rows - 0.8, caption, ha="center", va="top", fontsize=12)
    ax.set_xlim(-2.3, columns + 0.3)
    ax.set_ylim(-rows - 1.4, 0.1)
    ax.set_aspect("equal")
    ax.axis("off")
    return fig


def alt_weight_grid(pool: str) -> str:
    """Say in words which entries `weight_grid` marks.

    Args:
        pool: As for `weight_grid`.

    Returns:
        One sentence.
    """
    shared = "all entries of one row, the fan-in of one output channel," if pool == "row" else "all entries"
    return f"Weight matrix with output channels as rows and input channels as columns; {shared} share one statistic."
