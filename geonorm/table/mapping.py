"""A table of rows that is found by any reasonable spelling and shows itself in a notebook."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

from geonorm.table.row import Row


class UnknownRowError(KeyError):
    """A name that no row has; the message gives the nearest ones."""

    __str__ = Exception.__str__


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


class Table(Mapping[str, Row]):
    """Rows of a table of normalization layers, in order.

    Iteration gives the rows' names, in the survey's spelling. Look-up also accepts class names and lower_snake names
    (``"GraphNorm"``, ``"graph_norm"``, ``"average_neighbor_norm"``), other names (``"BN"``, ``"Scaled Weight"``), and
    the variants of a row, which give rows of their own: ``"EGAN"``, ``"MACE"``, ``"LayerNorm per node"``.

    Args:
        rows: The rows in the order of the table.
        caption: What the table is.

    Raises:
        ValueError: If two rows can be found under the same name.
    """

    def __init__(self, rows: Iterable[Row], caption: str = "") -> None:
        self._rows = {row.name: row for row in rows}
        self.caption = caption
        self._names: dict[str, Row] = {}
        for row in self._rows.values():
            self._register(row, row.layer.__name__)
            for variant in row.variants.values():
                self._register(variant, *([] if variant.layer is row.layer else [variant.layer.__name__]))

    def _register(self, row: Row, *class_names: str) -> None:
        for name in {_plain(name) for name in (row.name, *class_names, *row.aliases)}:
            if name in self._names:
                raise ValueError(f"rows {self._names[name].name!r} and {row.name!r} share the name {name!r}")
            self._names[name] = row

    def __getitem__(self, name: object) -> Row:
        if isinstance(name, str) and _plain(name) in self._names:
            return self._names[_plain(name)]
        near = [self._names[match].name for match in get_close_matches(_plain(str(name)), self._names, n=3, cutoff=0.4)]
        hint = " or ".join(repr(match) for match in dict.fromkeys(near)) or f"one of {', '.join(self._rows)}"
        raise UnknownRowError(f"no normalization layer is called {name!r}: try {hint}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def make(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Build the layer of a row: ``make("graph_norm", 64)``.

        Args:
            name: Name of a row or of a variant, class name or lower_snake name.
            *args: Arguments of the layer, the number of channels first (for weights: the module to change).
            **kwargs: Keyword arguments of the layer.

        Returns:
            The layer; for a row that acts on weights the module that was given.

        Raises:
            UnknownRowError: If no row has the name.
        """
        return self[name].make(*args, **kwargs)

    def __repr__(self) -> str:
        width = max((len(name) for name in self._rows), default=0)
        # Where there is nothing to judge the year says more.
        words = [str(row.year) if row.verdict == "unlisted" else row.verdict for row in self.values()]
        lines = [
            f"{row.name.ljust(width)}  {word.ljust(10)}  {row.layer.__name__}"
            for row, word in zip(self.values(), words, strict=True)
        ]
        return "\n".join(([self.caption] if self.caption else []) + lines)

    def _repr_html_(self) -> str:
        from geonorm.table.render import table_html

        return table_html(self)

    def _repr_markdown_(self) -> str:
        from geonorm.table.render import table_markdown

        return table_markdown(self)
