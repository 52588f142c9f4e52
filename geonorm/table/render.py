"""Rows and tables as HTML and Markdown, with formulas that MathJax typesets in notebooks and on the site."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from geonorm.table.properties import Invariance
from geonorm.table.row import Row

_LETTERS = {"b": "samples", "x": "nodes", "v": "channels", "m": "components", "t": "types"}
_STATISTIC = {
    "residual": "root mean square of what the mean left",
    "rms": "root mean square",
    "own": "standard deviation about its own mean",
}


def _formula(latex: str, *, alone: bool = False) -> str:
    # The class "math" is what the site's MathJax looks for; JupyterLab typesets the delimiters anywhere.
    style = r"\displaystyle " if alone else ""
    return f'<span class="math notranslate nohighlight">\\({style}{html.escape(latex, quote=False)}\\)</span>'


def sentence(text: str) -> str:
    """A sentence as HTML, formulas between dollar signs; one that is alone is set large."""
    parts = re.split(r"\$([^$]+)\$", text)
    alone = len(parts) == 3 and not parts[0] and not parts[2]
    return "".join(
        _formula(part, alone=alone) if odd % 2 else html.escape(part, quote=False) for odd, part in enumerate(parts)
    )


def _table(content: str, caption: str) -> str:
    # A region that scrolls by itself and that the keyboard reaches, so that a wide table never widens the page.
    caption = html.escape(caption)
    return (
        f'<div style="overflow-x: auto" tabindex="0" role="region" aria-label="{caption}"><table class="dataframe">'
        f'<caption style="text-align: left">{caption}</caption>{content}</table></div>'
    )


def axes_in_words(row: Row) -> str:
    """Say which axes a row pools, for example ``"mean and divisor over samples and nodes"``."""
    if row.acts_on == "weights":
        return "none: acts on the weight, not on the data"

    def words(axes: str) -> str:
        names = [_LETTERS[letter] for letter in axes]
        return " and ".join(names).replace("channels", "the channels of a group" if row.grouped else "channels")

    if row.mean is None and row.scale is None:
        return "none: divides by a number that the graph or the data set gives"
    if row.mean is not None and row.mean == row.scale:
        return f"mean and divisor over {words(row.mean)}"
    mean = "no mean" if row.mean is None else f"mean over {words(row.mean)}"
    scale = "no divisor" if row.scale is None else f"divisor over {words(row.scale)}"
    return f"{mean}, {scale}"


def _invariance(invariance: Invariance) -> str:
    suffix = "" if invariance.of == "features" else f" of the {invariance.of}"
    return f"{invariance.name}{suffix if invariance.per else ''} ({invariance.formula})"


def facts(row: Row) -> dict[str, str]:
    """The facts of a row in words, formulas between dollar signs: what the renderings show, in their order."""
    properties = row.properties
    rotation = {None: "not respected", "sample": "one per sample", "node": "one per node"}[properties.rotation]
    independence = {
        (True, True): "in training and evaluation",
        (False, True): "in evaluation only",
        (False, False): "never",
    }[properties.independent_train, properties.independent_eval]
    return {
        "Printed": f"${row.printed}$",
        "Published": f"${row.published}$",
        "Verdict": row.verdict,
        "Reason": row.note,
        "Checked": row.verified,
        "Axes": axes_in_words(row),
        "Statistic": _STATISTIC.get(row.statistic, "none"),
        "Learnable": "; ".join(f"{name} [{shape}]" for name, shape in row.learnable.items()) or "nothing",
        "Collected in training": ", ".join(row.running) or "nothing",
        "On request": ", ".join(row.on_request) or "nothing",
        "Permutations of nodes": "respected" if properties.permutation else "not respected",
        "Rotations of naive columns": rotation,
        "Samples independent": independence,
        "Removes (number)": "; ".join(_invariance(each) for each in properties.invariances) or "nothing",
        "Layer": row.layer.__name__,
        "Citation keys": ", ".join(key for key in (row.paper, row.code, *row.sources) if key),
    }


def row_html(row: Row) -> str:
    """One row as a two-column HTML table."""
    lines = "".join(
        f'<tr><th scope="row" style="text-align: left">{label}</th>'
        f'<td style="text-align: left">{sentence(text)}</td></tr>'
        for label, text in facts(row).items()
    )
    return _table(lines, row.name)


def row_markdown(row: Row) -> str:
    """One row as a two-column Markdown table."""
    lines = [f"| {row.name} | |", "|:--|:--|", *(f"| {label} | {text} |" for label, text in facts(row).items())]
    return "\n".join(lines) + "\n"


_COLUMNS = ("Verdict", "Printed", "Published", "Reason", "Axes")
_WIDTH = {"Reason": "; min-width: 22em", "Axes": "; min-width: 12em"}


def table_html(table: Mapping[str, Row]) -> str:
    """A table as HTML, one line per row."""
    head = "".join(f'<th scope="col" style="text-align: left">{label}</th>' for label in ("Row", *_COLUMNS))
    lines = []
    for row in table.values():
        said = facts(row)
        cells = "".join(
            f'<td style="text-align: left{_WIDTH.get(label, "")}">{sentence(said[label])}</td>' for label in _COLUMNS
        )
        lines.append(f'<tr><th scope="row" style="text-align: left">{html.escape(row.name)}</th>{cells}</tr>')
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return _table(content, getattr(table, "caption", ""))


def table_markdown(table: Mapping[str, Row]) -> str:
    """A table as Markdown, one line per row."""
    lines = [f"| {' | '.join(('Row', *_COLUMNS))} |", "|" + ":--|" * (1 + len(_COLUMNS))]
    for row in table.values():
        said = facts(row)
        lines.append(f"| {' | '.join((row.name, *(said[label] for label in _COLUMNS)))} |")
    return "\n".join(lines) + "\n"
