"""Small SVG pictures: a panel with coordinates of its own, and marks written as short as they can be.

The marks are strings. Their colours are classes, so that a page with a dark background can choose other ones;
`geonorm.viz.Frames` brings the rules along. Coordinates are rounded to a tenth of a pixel.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Number = int | float | np.number
Ticks = Sequence[Number] | Mapping[Any, str]

#: Names of colours, as in `geonorm.viz.COLORS`; ``"paper"`` is what lies behind the picture.
INKS = ("blue", "vermillion", "green", "purple", "sky", "ink", "grey", "pale", "paper")

#: The classes of texts that do not start where they are placed.
ANCHORS: Mapping[str, Sequence[str]] = {"start": (), "middle": ("gn-m",), "end": ("gn-e",)}

#: Dash patterns in pixels, by name.
DASHES = {"solid": "", "dashed": "7 4", "dotted": "2 4"}


def short(value: Number) -> str:
    """Write a coordinate with at most one decimal, and nothing that SVG does not need."""
    text = f"{value:.1f}"
    if text.endswith(".0"):
        text = text[:-2]
    if text.startswith(("0.", "-0.")):
        text = text.replace("0.", ".", 1)
    return "0" if text == "-0" else text


def joined(*numbers: Number) -> str:
    """Write coordinates one after the other; a minus sign separates as well as a space does."""
    text = ""
    for word in map(short, numbers):
        text += word if not text or word.startswith("-") else f" {word}"
    return text


def ink(color: str) -> str:
    """Return the class of a colour.

    Raises:
        ValueError: If there is no such colour.
    """
    if color not in INKS:
        raise ValueError(f"no colour {color!r}; the colours are {', '.join(INKS)}")
    return f"gn-{color}"


def use(name: str, transform: str = "") -> str:
    """Refer to a shared drawing of `geonorm.viz.Frames`, moved or turned by an SVG transform.

    Args:
        name: Its key in ``shared``.
        transform: As SVG writes it, for example ``"rotate(40 240 150)"``.
    """
    moved = f' transform="{html.escape(transform)}"' if transform else ""
    return f'<use href="#@{html.escape(name)}"{moved}/>'


def label(x: Number, y: Number, words: str, color: str = "ink", anchor: str = "start", style: str = "") -> str:
    """Write words at a place of the picture, in pixels.

    Args:
        x: From the left.
        y: From the top to the line on which the letters stand.
        words: The text.
        color: A name of `INKS`.
        anchor: ``"start"``, ``"middle"`` or ``"end"``: what of the text stands at ``x``.
        style: ``"bold"``, ``"small"`` or both, separated by a space.
    """
    classes = " ".join(["gn-t", ink(color), *ANCHORS[anchor], *(f"gn-{word}" for word in style.split())])
    return f'<text class="{classes}" x="{short(x)}" y="{short(y)}">{html.escape(words, quote=False)}</text>'


@dataclass(frozen=True)
class Panel:
    """A rectangle of a picture, with coordinates of its own.

    Args:
        x: The numbers at its left and right edges.
        y: The numbers at its lower and upper edges.
        left: Pixels from the left edge of the picture.
        top: Pixels from the upper edge of the picture.
        width: Its width in pixels.
        height: Its height in pixels.
        log_x: Logarithmic horizontal axis.
        log_y: Logarithmic vertical axis.

    Raises:
        ValueError: If a logarithmic axis does not have positive ends.
    """

    x: tuple[Number, Number]
    y: tuple[Number, Number]
    left: Number = 62
    top: Number = 12
    width: Number = 400
    height: Number = 220
    log_x: bool = False
    log_y: bool = False

    def __post_init__(self) -> None:
        if (self.log_x and min(self.x) <= 0) or (self.log_y and min(self.y) <= 0):
            raise ValueError(f"a logarithmic axis needs positive ends, got x={self.x}, y={self.y}")

    def at(self, x: Any, y: Any) -> np.ndarray:
        """Return pixels ``[points, 2]`` for coordinates; positions outside the panel are moved to its edge.

        Args:
            x: Horizontal coordinates, anything that numpy reads.
            y: Vertical coordinates.
        """
        across = self.left + self.width * _part(x, self.x, self.log_x)
        down = self.top + self.height * (1 - _part(y, self.y, self.log_y))
        return np.stack(np.broadcast_arrays(across, down), -1).reshape(-1, 2)

    def axes(
        self,
        x_label: str = "",
        y_label: str = "",
        x_ticks: Ticks = (),
        y_ticks: Ticks = (),
        title: str = "",
    ) -> str:
        """Draw the lower edge, grid lines at the vertical ticks, and the labels.

        Args:
            x_label: Horizontal quantity with its unit.
            y_label: Vertical quantity with its unit; it stands above the axis, where it needs no turning of the head.
            x_ticks: Positions, or positions with what is written at them.
            y_ticks: The same for the vertical axis.
            title: What the panel shows, if the picture has several.
        """
        right, bottom = self.left + self.width, self.top + self.height
        out = []
        for tick, words in _named(y_ticks):
            y = self.at(self.x[0], tick)[0, 1]
            out.append(f'<path class="gn-grid" d="M{joined(self.left, y)}H{short(right)}"/>')
            out.append(label(self.left - 7, y + 5, words, anchor="end", style="small"))
        for tick, words in _named(x_ticks):
            x = self.at(tick, self.y[0])[0, 0]
            out.append(label(x, bottom + 18, words, anchor="middle", style="small"))
        out.append(f'<path class="gn-line gn-grey" d="M{joined(self.left, bottom)}H{short(right)}"/>')
        if x_label:
            out.append(label(self.left + self.width / 2, bottom + 37, x_label, anchor="middle"))
        if y_label:
            out.append(label(self.left - 40, self.top - 12, y_label))
        if title:
            out.append(label(self.left + self.width / 2, self.top - 12, title, anchor="middle", style="bold"))
        return "".join(out)

    def dots(self, x: Any, y: Any, color: str = "blue", size: Number = 7, square: bool = False) -> str:
        """Draw round or square dots.

        Args:
            x: Horizontal coordinates.
            y: Vertical coordinates.
            color: A name of `INKS`.
            size: Diameter in pixels.
            square: Squares instead of discs.
        """
        first, steps = _steps(self.at(x, y))
        moves = f"M{joined(*first)}h0" + "".join(f"m{joined(*step)}h0" for step in steps)
        shape = "gn-dots gn-sq" if square else "gn-dots"
        return f'<path class="{shape} {ink(color)}" stroke-width="{short(size)}" d="{moves}"/>'

    def line(
        self, x: Any, y: Any, color: str = "blue", width: Number = 3, dash: str = "solid", closed: bool = False
    ) -> str:
        """Draw a line through points.

        Args:
            x: Horizontal coordinates.
            y: Vertical coordinates.
            color: A name of `INKS`.
            width: In pixels.
            dash: A name of `DASHES`.
            closed: Join the last point to the first.
        """
        first, steps = _steps(self.at(x, y))
        way = f"M{joined(*first)}" + "".join(f"l{joined(*step)}" for step in steps) + ("z" if closed else "")
        dashed = f' stroke-dasharray="{DASHES[dash]}"' if DASHES[dash] else ""
        return f'<path class="gn-line {ink(color)}" stroke-width="{short(width)}"{dashed} d="{way}"/>'

    def darts(self, start: Any, vectors: Any, color: str = "blue", width: Number = 5) -> str:
        """Draw vectors as darts: slim triangles from a base to a tip.

        Args:
            start: Where they begin, ``[vectors, 2]``.
            vectors: What is added to get to the tip, ``[vectors, 2]``, in the panel's coordinates.
            color: A name of `INKS`.
            width: Of the base, in pixels.
        """
        start, vectors = np.asarray(start, dtype=float), np.asarray(vectors, dtype=float)
        base, tip = self.at(*start.T), self.at(*(start + vectors).T)
        along = tip - base
        across = np.stack([-along[:, 1], along[:, 0]], -1)
        across *= width / 2 / np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
        one, other = base + across, base - across
        way = "".join(f"M{joined(*a)}l{joined(*(b - a), *(c - b))}z" for a, b, c in zip(one, tip, other, strict=True))
        return f'<path class="gn-area {ink(color)}" d="{way}"/>'

    def bars(
        self, names: Sequence[str], values: Sequence[Number], color: str = "blue", words: Sequence[str] = ()
    ) -> str:
        """Draw horizontal bars from the left edge, names on the left, from top to bottom.

        Args:
            names: Written to the left of the bars.
            values: In the panel's horizontal coordinates.
            color: A name of `INKS`.
            words: Written at the ends of the bars.
        """
        step, out = self.height / len(names), []
        for row, (name, value) in enumerate(zip(names, values, strict=True)):
            middle = self.top + (row + 0.5) * step
            end = self.at(value, self.y[0])[0, 0]
            box = f"M{joined(self.left, middle - 0.32 * step)}H{short(end)}v{short(0.64 * step)}H{short(self.left)}z"
            out.append(f'<path class="gn-area {ink(color)}" d="{box}"/>')
            if name:
                out.append(label(self.left - 7, middle + 5, name, anchor="end"))
            if words:
                out.append(label(end + 6, middle + 5, words[row], style="bold"))
        return "".join(out)

    def text(self, x: Number, y: Number, words: str, color: str = "ink", anchor: str = "start", style: str = "") -> str:
        """Write words at a place of the panel; see `label`."""
        across, down = self.at(x, y)[0]
        return label(across, down, words, color, anchor, style)


def _part(values: Any, ends: tuple[Number, Number], log: bool) -> np.ndarray:
    """Where values lie between the ends, as a part of one."""
    numbers = np.atleast_1d(np.asarray(values, dtype=float))
    low, high = ends
    if log:
        numbers, low, high = np.log(np.maximum(numbers, min(ends))), np.log(low), np.log(high)
    return np.clip((numbers - low) / (high - low), 0, 1)


def _steps(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The first point and the steps between the others: fewer digits, and no error that adds up."""
    rounded = np.round(points, 1)
    return rounded[0], np.diff(rounded, axis=0)


def _named(ticks: Ticks) -> list[tuple[Any, str]]:
    if isinstance(ticks, Mapping):
        return list(ticks.items())
    return [(tick, f"{tick:g}".replace("-", "−")) for tick in ticks]
