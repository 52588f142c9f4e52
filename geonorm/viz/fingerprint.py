"""The fingerprint of the table: a line for each layer, a column for each thing that it can keep, break or forget."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from geonorm.match.fingerprint import PER, Fingerprint
from geonorm.viz.style import COLORS, WIDTH, figure

KEPT, BROKEN, FORGOTTEN, NOTHING = "kept", "broken", "forgotten", "nothing"
GLYPHS = {KEPT: "✓", BROKEN: "✗"}
#: Inches: the height of a line, the part left of the columns, the space between groups of columns.
ROW, LABELS, GAP = 0.272, 2.3, 0.55
#: Inches above the first line and below the last one, without the title.
HEAD, FOOT = 1.5, 0.78


class Mark(NamedTuple):
    """What stands in one cell.

    Args:
        state: ``"kept"``, ``"broken"``, ``"forgotten"`` or ``"nothing"``.
        letter: A letter in place of the tick.
    """

    state: str
    letter: str = ""


def marks(found: Fingerprint) -> dict[str, dict[str, Mark]]:
    """Every cell of one line, by group and column.

    Args:
        found: What was measured about a row.

    Returns:
        The marks.
    """

    def kept(value: bool) -> Mark:
        return Mark(KEPT if value else BROKEN)

    def lost(value: bool) -> Mark:
        return Mark(FORGOTTEN if value else NOTHING)

    rotation = Mark(KEPT, found.rotation[0]) if found.rotation else Mark(BROKEN)
    return {
        "keeps": {
            "permutation": kept(found.permutation),
            "rotation": rotation,
            "inversion": kept(found.inversion),
        },
        "samples": {
            "apart (train)": kept(found.independent_train),
            "apart (eval)": kept(found.independent_eval),
            "told apart": kept(found.tells_apart),
        },
        "forgets shift per": {per: lost(found.shifts[per]) for per in PER} | {"place": lost(found.translation)},
        "scale per": {per: lost(found.scales[per]) for per in PER},
    }


def clean(found: Fingerprint) -> bool:
    """Whether a row keeps all that it could break and forgets nothing: no direction, and no finite change either."""
    cells = [mark for group in marks(found).values() for mark in group.values()]
    return not found.own.added and all(mark.state in (KEPT, NOTHING) for mark in cells)


def fingerprint(found: Sequence[Fingerprint], title: str) -> Figure:
    """Draw a line for each layer: a tick in a square is kept, a cross is broken, a disc is forgotten.

    Args:
        found: What was measured, in the order of the lines.
        title: The message of the figure.

    Returns:
        The figure.

    Raises:
        ValueError: If there is no layer.
    """
    _check(found)
    fig, ax = figure(title, height=0.62 + HEAD + ROW * len(found) + FOOT)
    groups = marks(found[0])
    number = sum(map(len, groups.values())) + GAP * (len(groups) - 1)
    step = (WIDTH - LABELS - 0.3) / number
    places, position = {}, 0.0
    for group, columns in groups.items():
        first = position
        for column in columns:
            places[group, column] = position + 0.5
            ax.text(position + 0.58, -0.3, column, rotation=90, ha="center", va="bottom", fontsize=10.5)
            position += 1
        ax.text((first + position) / 2, -(HEAD - 0.2) / ROW, _broken_line(group), ha="center", va="center", **BOLD)
        ax.plot([first + 0.1, position - 0.1], [-0.14, -0.14], color=COLORS["grey"], linewidth=1)
        position += GAP
    for line, each in enumerate(found):
        if line % 2 == 0:
            ax.axhspan(line, line + 1, color="#F4F4F4", linewidth=0, zorder=0)
        weight = "bold" if clean(each) else "normal"
        ax.text(-0.3, line + 0.5, each.row.name, ha="right", va="center", fontsize=11, fontweight=weight)
        for group, columns in marks(each).items():
            for column, mark in columns.items():
                _draw(ax, places[group, column], line + 0.5, mark, ROW / step)
    _legend(ax, len(found), ROW / step, LABELS / step)
    ax.set_xlim(-LABELS / step, number + 0.1)
    ax.set_ylim(len(found) + FOOT / ROW, -HEAD / ROW)
    ax.axis("off")
    return fig


def _check(found: Sequence[Fingerprint]) -> None:
    if not found:
        raise ValueError("got no fingerprint, expected at least one: [take(row) for row in TABLE1.values()]")


BOLD = {"fontsize": 10.5, "fontweight": "bold", "linespacing": 1.0}


def _broken_line(words: str) -> str:
    return words.replace("forgets shift", "forgets\nshift").replace("scale per", "forgets\nscale per")


def _draw(ax: Axes, x: float, y: float, mark: Mark, aspect: float) -> None:
    """One cell: the aspect is the height of a line in widths of a column."""
    size = 0.37
    if mark.state in GLYPHS:
        kept = mark.state == KEPT
        box = FancyBboxPatch(
            (x - size * aspect, y - size),
            2 * size * aspect,
            2 * size,
            boxstyle="square,pad=0",
            facecolor=COLORS["blue"] if kept else "white",
            edgecolor=COLORS["blue"] if kept else COLORS["vermillion"],
            linewidth=1.2,
            zorder=2,
        )
        box.set_gid(f"{mark.state}{mark.letter}")
        ax.add_patch(box)
        ax.text(
            x,
            y,
            mark.letter or GLYPHS[mark.state],
            color="white" if kept else COLORS["vermillion"],
            ha="center",
            va="center_baseline" if mark.letter else "center",
            fontsize=10 if mark.letter else 10.5,
            fontweight="bold",
            zorder=3,
        )
    else:
        gone = mark.state == FORGOTTEN
        (dot,) = ax.plot(x, y, "o", markersize=10 if gone else 2, color=COLORS["ink"] if gone else "#B0B0B0", zorder=2)
        dot.set_gid(mark.state)


def _legend(ax: Axes, lines: int, aspect: float, left: float) -> None:
    y = lines + 0.95
    x = -left + 0.9
    for mark, words, width in (
        (Mark(KEPT), "keeps", 3.9),
        (Mark(BROKEN), "breaks", 4.2),
        (Mark(FORGOTTEN), "forgets", 4.4),
        (Mark(NOTHING), "does not forget", 0),
    ):
        _draw(ax, x, y, mark, aspect)
        ax.text(x + 0.8, y, words, va="center", fontsize=10.5)
        x += width
    words = "n, s: one rotation per node, per sample. Bold: keeps all, forgets nothing."
    ax.text(-left + 0.4, y + 1.15, words, va="center", fontsize=10.5)


def alt_fingerprint(found: Sequence[Fingerprint], title: str) -> str:
    """Say in words what `fingerprint` draws: for each column, which layers break it or forget it.

    Args:
        found: As for `fingerprint`.
        title: The message of the figure.

    Returns:
        The text.

    Raises:
        ValueError: If there is no layer.
    """
    _check(found)
    said = [f"Matrix of {len(found)} layers. {title}."]
    groups = {each.row.name: marks(each) for each in found}
    for group, columns in marks(found[0]).items():
        for column in columns:
            states: dict[str, list[str]] = {}
            for name, cells in groups.items():
                mark = cells[group][column]
                states.setdefault(mark.state, []).append(name)
            words = f"{group}: {column}" if group in ("keeps", "samples") else _phrase(group, column)
            if group in ("keeps", "samples"):
                said.append(f"{words}, broken by {_listed(states.get(BROKEN))}.")
            else:
                said.append(f"{words}: {_listed(states.get(FORGOTTEN))}.")
    for level in ("sample", "batch"):
        names = [each.row.name for each in found if each.rotation == level]
        if names:
            said.append(f"Rotations only per {level}: {_listed(names)}.")
    said.append(f"Keep all and forget nothing: {_listed([each.row.name for each in found if clean(each)])}.")
    return " ".join(said)


def _phrase(group: str, column: str) -> str:
    if column == "place":
        return "forget the place of a sample"
    return f"forget a {'shift' if 'shift' in group else 'scale'} per {column}"


def _listed(names: list[str] | None) -> str:
    return ", ".join(names) if names else "none"
