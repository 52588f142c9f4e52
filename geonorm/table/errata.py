"""The rows of a table as errata: an index with links, counts of the verdicts, and one card for each row."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass

from geonorm.table.render import sentence
from geonorm.table.row import VERDICTS, Row


def anchor(row: Row) -> str:
    """The name of the place on the errata page where a row is discussed: ``"erratum-graphnorm"``."""
    return "erratum-" + re.sub(r"[^a-z0-9]+", "-", row.name.lower()).strip("-")


@dataclass(frozen=True, repr=False)
class Index:
    """The rows of a table in their order, each with its verdict and a link to its place on the page.

    Args:
        table: The rows by name.
    """

    table: Mapping[str, Row]

    def __repr__(self) -> str:
        width = max(len(name) for name in self.table)
        return "\n".join(f"{row.name.ljust(width)}  {row.verdict}" for row in self.table.values())

    def _repr_html_(self) -> str:
        items = "".join(
            f'<li style="break-inside: avoid"><a href="#{anchor(row)}">{html.escape(row.name)}</a>: {row.verdict}</li>'
            for row in self.table.values()
        )
        # As many columns as fit: two on a laptop, one on a phone.
        return f'<ol style="columns: 17em; column-gap: 2em">{items}</ol>'


@dataclass(frozen=True, repr=False)
class Verdicts:
    """How many rows of a table have which verdict, what it means, and which they are.

    Args:
        table: The rows by name.
    """

    table: Mapping[str, Row]

    @property
    def rows(self) -> dict[str, list[str]]:
        """The names of the rows of each verdict, verdicts without a row left out."""
        found = {verdict: [row.name for row in self.table.values() if row.verdict == verdict] for verdict in VERDICTS}
        return {verdict: names for verdict, names in found.items() if names}

    def __repr__(self) -> str:
        width = max(map(len, self.rows))
        return "\n".join(
            f"{verdict.ljust(width)}  {len(names):2d}  {', '.join(names)}" for verdict, names in self.rows.items()
        )

    def _repr_html_(self) -> str:
        items = "".join(
            f"<dt><strong>{verdict}: {len(names)}</strong></dt>"
            f"<dd>{html.escape(VERDICTS[verdict])}<br><small>{html.escape(', '.join(names))}</small></dd>"
            for verdict, names in self.rows.items()
        )
        return f"<dl>{items}</dl>"


@dataclass(frozen=True, repr=False)
class Card:
    """One row as an erratum: printed, published, verdict, reason and what verified it, one below the other.

    Args:
        row: The row.
    """

    row: Row

    def _said(self) -> dict[str, str]:
        printed = "nothing: the table has no such row" if self.row.printed is None else f"${self.row.printed}$"
        said = {"Printed": printed, "Published": f"${self.row.published}$"}
        if self.row.undefined is not None:
            said["As a function"] = f"not defined: {self.row.undefined}"
        return said | {
            "Verdict": f"{self.row.verdict}: {VERDICTS[self.row.verdict]}",
            "Why": self.row.note,
            "Verified": self.row.verified,
        }

    def __repr__(self) -> str:
        return "\n".join([self.row.name, *(f"{label}: {text}" for label, text in self._said().items())])

    def _repr_html_(self) -> str:
        # A list, not a table: on a phone a formula scrolls by itself, and sentences wrap.
        style = "overflow-x: auto; overflow-wrap: anywhere"
        items = "".join(
            f'<dt><strong>{label}</strong></dt><dd style="{style}">{sentence(text)}</dd>'
            for label, text in self._said().items()
        )
        return f'<dl aria-label="{html.escape(self.row.name)}">{items}</dl>'
