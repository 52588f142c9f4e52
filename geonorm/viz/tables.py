"""Tables that say everything in words, for any width of screen and any reader."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from geonorm.table.render import sentence

Cell = str | bool | int | float | None
LEFT = 'style="text-align: left"'


def _said(cell: Cell) -> str:
    if cell is None:
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:.3g}"
    return str(cell)


@dataclass(frozen=True)
class TextTable:
    r"""A small table whose cells are words and numbers: booleans are written yes and no, nothing is colour alone.

    Formulas between dollar signs are typeset.

    Args:
        columns: Names of the columns; the first one heads the row names.
        rows: Row name to its cells, one per further column.
        caption: What the table shows.

    Raises:
        ValueError: If a row does not have one cell per column.
    """

    columns: Sequence[str]
    rows: Mapping[str, Sequence[Cell]]
    caption: str = ""

    def __post_init__(self) -> None:
        for name, cells in self.rows.items():
            if len(cells) != len(self.columns) - 1:
                raise ValueError(
                    f"row {name!r} has {len(cells)} cells, expected {len(self.columns) - 1}: "
                    f"one for each of {list(self.columns[1:])}"
                )

    def _grid(self) -> list[list[str]]:
        return [list(self.columns)] + [[name, *map(_said, cells)] for name, cells in self.rows.items()]

    def __repr__(self) -> str:
        grid = self._grid()
        widths = [max(len(line[column]) for line in grid) for column in range(len(self.columns))]
        lines = [
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip() for line in grid
        ]
        lines.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join(([self.caption] if self.caption else []) + lines)

    def _repr_html_(self) -> str:
        head, *body = self._grid()
        caption = f"<caption>{html.escape(self.caption)}</caption>" if self.caption else ""
        headers = "".join(f'<th scope="col" {LEFT}>{sentence(word)}</th>' for word in head)
        lines = []
        for name, *cells in body:
            said = "".join(f"<td {LEFT}>{sentence(word)}</td>" for word in cells)
            lines.append(f'<tr><th scope="row" {LEFT}>{sentence(name)}</th>{said}</tr>')
        table = f"{caption}<thead><tr>{headers}</tr></thead><tbody>{''.join(lines)}</tbody>"
        label = html.escape(self.caption or "table")
        return (
            f'<div style="overflow-x: auto" tabindex="0" role="region" aria-label="{label}">'
            f'<table class="dataframe">{table}</table></div>'
        )
