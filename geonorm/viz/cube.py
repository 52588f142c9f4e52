"""The picture behind every row of Table 1: which entries of the b × x × v cube share one statistic."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from matplotlib.axes import Axes as Panel
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Polygon

from geonorm.viz.style import COLORS, figure

SAMPLES, NODES, CHANNELS, GROUP = 3, 4, 4, 2
DEPTH = np.array([0.48, 0.34])

WORDS = {"b": "samples", "x": "nodes", "v": "channels", "g": "the channels of one group"}
PER = {"b": "sample", "x": "node", "v": "channel", "g": "group of channels"}


def _letters(axes: str | Iterable[str] | None) -> frozenset[str] | None:
    if axes is None:
        return None
    letters = frozenset("g" if letter in ("g", "v/g") else letter for letter in axes)
    if not letters <= set("bxvg"):
        raise ValueError(
            f"axes {sorted(letters)} are not in the cube; use letters of 'b' (sample), 'x' (node), 'v' (channel), "
            "'g' (channels of one group)"
        )
    return letters


def _statistics_per(letters: frozenset[str]) -> str:
    """Name what one statistic belongs to: the axes that are not pooled."""
    if "b" in letters and "x" not in letters:
        return "node index" if "v" in letters else "node index and channel"
    kept = [PER[axis] for axis in "bx" if axis not in letters]
    if "g" in letters:
        kept.append(PER["g"])
    elif "v" not in letters:
        kept.append(PER["v"])
    if kept == ["sample", "node"]:
        return "node"
    kept = [word for word in kept if word != "sample"] if "node" in kept and "sample" in kept else kept
    return " and ".join(kept) if kept else "batch"


def _pooled(letters: frozenset[str]) -> Callable[[int, int, int], bool]:
    """Membership in the pool of the marked entry: first sample, first node, last channel."""

    def member(sample: int, node: int, channel: int) -> bool:
        channels_agree = (
            "v" in letters
            or ("g" in letters and channel // GROUP == (CHANNELS - 1) // GROUP)
            or channel == CHANNELS - 1
        )
        return ("b" in letters or sample == 0) and ("x" in letters or node == 0) and channels_agree

    return member


def _corner(sample: int | float, node: int | float, channel: int | float) -> np.ndarray:
    return np.array([channel, -node]) + sample * DEPTH


def _cell(ax: Panel, corners: list[np.ndarray], member: bool, shade: float) -> None:
    face = np.array([213, 94, 0]) / 255 if member else np.array([0.955, 0.955, 0.955])
    ax.add_patch(
        Polygon(
            corners,
            facecolor=face * shade,
            edgecolor=COLORS["ink"] if member else "#A0A0A0",
            linewidth=1.1 if member else 0.7,
            hatch="///" if member else None,
            zorder=3 if member else 2,
        )
    )


def _draw_cube(ax: Panel, letters: frozenset[str] | None, title: str, caption: str) -> None:
    member = _pooled(letters) if letters is not None else lambda *_: False
    for node in range(NODES):
        for channel in range(CHANNELS):
            _cell(
                ax,
                [_corner(0, node + dy, channel + dx) for dy, dx in ((0, 0), (0, 1), (1, 1), (1, 0))],
                member(0, node, channel),
                1.0,
            )
    for sample in range(SAMPLES):
        for channel in range(CHANNELS):
            _cell(
                ax,
                [_corner(sample + db, 0, channel + dx) for db, dx in ((0, 0), (0, 1), (1, 1), (1, 0))],
                member(sample, 0, channel),
                0.93,
            )
        for node in range(NODES):
            _cell(
                ax,
                [_corner(sample + db, node + dy, CHANNELS) for db, dy in ((0, 0), (0, 1), (1, 1), (1, 0))],
                member(sample, node, CHANNELS - 1),
                0.84,
            )
    ax.add_patch(Circle(_corner(0, 0.5, CHANNELS - 0.5), 0.2, facecolor="black", edgecolor="white", zorder=5))

    middle_depth = _corner(SAMPLES / 2, NODES, CHANNELS)
    ax.text(*(_corner(0, NODES, CHANNELS / 2) + [0, -0.22]), "v: channels", ha="center", va="top", fontsize=12)
    ax.text(*(_corner(0, NODES / 2, 0) + [-0.2, 0]), "x: nodes", ha="right", va="center", fontsize=12, rotation=90)
    ax.text(*(middle_depth + [0.25, -0.2]), "b: samples", ha="left", va="top", fontsize=12)
    ax.set_title(title, fontsize=13, fontweight="bold", pad=6)
    ax.text(0.5, -0.02, caption, transform=ax.transAxes, ha="center", va="top", fontsize=12)
    ax.set_xlim(-0.9, CHANNELS + SAMPLES * DEPTH[0] + 1.2)
    ax.set_ylim(-NODES - 0.8, SAMPLES * DEPTH[1] + 0.1)
    ax.set_aspect("equal")
    ax.axis("off")


def _set_name(letters: frozenset[str]) -> str:
    order = [axis for axis in "bxvg" if axis in letters]
    return "{" + ", ".join("v/g" if axis == "g" else axis for axis in order) + "}"


def _panels(mean: frozenset[str] | None, scale: frozenset[str] | None, names: tuple[str, str]) -> list[tuple]:
    if mean is not None and mean == scale:
        return [(mean, f"{names[0]} and {names[1]} over {_set_name(mean)}")]
    panels = []
    if mean is not None:
        panels.append((mean, f"{names[0]} over {_set_name(mean)}"))
    if scale is not None:
        panels.append((scale, f"{names[1]} over {_set_name(scale)}"))
    return panels


def axes_cube(
    mean_axes: str | Iterable[str] | None,
    scale_axes: str | Iterable[str] | None,
    *,
    mean_name: str = "mean",
    scale_name: str = "scale",
) -> Figure:
    """Draw the b × x × v cube with the entries that share one statistic with the marked entry.

    Args:
        mean_axes: Letters of the axes that the mean pools, of 'b', 'x', 'v' and 'g' (the channels of one group);
            None where the layer subtracts no mean.
        scale_axes: The same for the divisor.
        mean_name: What the first statistic is called in the title.
        scale_name: What the second statistic is called in the title.

    Returns:
        The figure: one cube where both statistics pool the same axes, two otherwise.

    Raises:
        ValueError: If a letter is unknown or the layer has no statistic at all.
    """
    panels = _panels(_letters(mean_axes), _letters(scale_axes), (mean_name, scale_name))
    if not panels:
        raise ValueError("nothing to draw: both mean_axes and scale_axes are None; pass at least one set of axes")
    width, height = (6.0, 2.7) if len(panels) == 2 else (4.2, 3.1)
    fig, axes = figure("", height=height, width=width, columns=len(panels))
    for ax, (letters, title) in zip(axes if len(panels) == 2 else [axes], panels, strict=True):
        _draw_cube(ax, letters, title, f"one per {_statistics_per(letters)}")
    return fig


def alt_axes_cube(
    mean_axes: str | Iterable[str] | None,
    scale_axes: str | Iterable[str] | None,
    *,
    mean_name: str = "mean",
    scale_name: str = "scale",
) -> str:
    """Say in words which entries `axes_cube` marks.

    Args:
        mean_axes: As for `axes_cube`.
        scale_axes: As for `axes_cube`.
        mean_name: As for `axes_cube`.
        scale_name: As for `axes_cube`.

    Returns:
        One or two sentences.
    """
    mean, scale = _letters(mean_axes), _letters(scale_axes)
    sentences = ["Cube of samples b, nodes x and channels v."]
    for letters, title in _panels(mean, scale, (mean_name, scale_name)):
        member = _pooled(letters)
        pool = sum(
            member(sample, node, channel)
            for sample in range(SAMPLES)
            for node in range(NODES)
            for channel in range(CHANNELS)
        )
        pooled = " and ".join(WORDS[axis] for axis in "bxvg" if axis in letters) or "nothing"
        sentences.append(
            f"{title[0].upper()}{title[1:]}: pooled over {pooled}, one per {_statistics_per(letters)}; "
            f"{pool} of {SAMPLES * NODES * CHANNELS} entries share it with the marked one."
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
