"""Rows and tables as HTML and Markdown, with formulas that MathJax typesets in notebooks and on the site."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from geonorm.table.properties import Invariance
from geonorm.table.row import FEATURES, Row

_LETTERS = {"b": "samples", "x": "nodes", "v": "channels", "m": "components", "t": "types"}
_STATISTIC = {
    "residual": "root mean square of what the mean left",
    "rms": "root mean square",
    "own": "standard deviation about its own mean",
    "range": "from the smallest to the largest",
    "squash": "none: a fixed function of every length",
}
_NOT_PRINTED = "not in Table 1"


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
    if row.statistic == "squash":
        return "none: every field by itself"
    if row.mean is None and row.scale is None:
        return "none: divides by a number that the graph or the data set gives"

    def words(axes: str) -> str:
        *first, last = (_LETTERS[letter] for letter in axes)
        joined = f"{', '.join(first)} and {last}" if first else last
        return joined.replace("channels", "the channels of a group" if row.grouped else "channels")

    mean, scale = ("minimum", "range") if row.statistic == "range" else ("mean", "divisor")
    what = " of the lengths" if row.of_lengths else ""
    centred = " of the scalars" if row.centred == "scalars" else what
    of_types = " of one type of node" if any("kind" in each.per for each in row.properties.invariances) else ""
    if row.mean is not None and row.mean == row.scale and centred == what:
        return f"{mean} and {scale}{what} over {words(row.mean)}{of_types}"
    said = f"no {mean}" if row.mean is None else f"{mean}{centred} over {words(row.mean)}"
    return f"{said}, " + (f"no {scale}" if row.scale is None else f"{scale}{what} over {words(row.scale)}")


def _invariance(row: Row, invariance: Invariance) -> str:
    suffix = "" if invariance.of == "features" or not invariance.per else f" of the {invariance.of}"
    said = f"{invariance.name}{suffix} ({invariance.formula})"
    for word, plain in (("kinds of nodes", "types of node"), ("kind", "type of node")):
        said = said.replace(word, plain)
    # What has three components is a field among irreps; where there are vectors only, it is a channel of them.
    return said.replace("field", "vector channel") if row.features == "vectors" else said


def _variant(variant: Row) -> str:
    """A variant, with what makes it one."""
    pooled = variant.mean is not None or variant.scale is not None
    return f"{variant.name} ({axes_in_words(variant)}, {_STATISTIC[variant.statistic]})" if pooled else variant.name


_LEVELS = {None: "not {}", "batch": "one for the batch", "sample": "one per sample", "node": "one per node"}


def facts(row: Row) -> dict[str, str]:
    """The facts of a row in words, formulas between dollar signs: what the renderings show, in their order."""
    properties = row.properties
    columns = " of naive columns" if row.features == "scalars" else ""
    independence = {
        (True, True): "in training and evaluation",
        (False, True): "in evaluation only",
        (False, False): "never",
    }[properties.independent_train, properties.independent_eval]
    return {
        "Printed": _NOT_PRINTED if row.printed is None else f"${row.printed}$",
        "Published": f"${row.published}$",
        "Verdict": row.verdict,
        "Reason": row.note,
        "Checked": row.verified,
        "Axes": axes_in_words(row),
        **({"Also stands for": "; ".join(map(_variant, row.variants.values()))} if row.variants else {}),
        "Statistic": _STATISTIC.get(row.statistic, "none"),
        "Learnable": "; ".join(f"{name} [{shape}]" for name, shape in row.learnable.items()) or "nothing",
        "Collected in training": ", ".join(row.running) or "nothing",
        "On request": ", ".join(row.on_request) or "nothing",
        "Features": FEATURES[row.features],
        "Permutations of nodes": "respected" if properties.permutation else "not respected",
        f"Rotations{columns}": _LEVELS[properties.rotation].format("respected"),
        f"Inversion{columns}": "respected" if properties.inversion else "not respected",
        "Removes translations": _LEVELS[properties.translation].format("removed"),
        "Samples independent": independence,
        "Removes (number)": "; ".join(_invariance(row, each) for each in properties.invariances) or "nothing",
        "Layer": ", ".join(dict.fromkeys(each.layer.__name__ for each in (row, *row.variants.values()))),
        "First published": f"{row.year}, {row.community}",
        "Citation keys": ", ".join(
            dict.fromkeys(key for each in (row, *row.variants.values()) for key in each.citations)
        ),
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


def row_text(row: Row) -> str:
    """One row as plain text, a line for each fact."""
    said = facts(row)
    width = max(map(len, said))
    return "\n".join((row.name, *(f"  {label.ljust(width)}  {text}" for label, text in said.items())))


def _columns(table: Mapping[str, Row]) -> tuple[str, ...]:
    """What a table shows of its rows: where nothing is printed there is no verdict either."""
    if any(row.printed for row in table.values()):
        return ("Verdict", "Printed", "Published", "Reason", "Axes")
    return ("First published", "Published", "Reason", "Axes")


_WIDTH = {"Reason": "; min-width: 22em", "Axes": "; min-width: 12em"}


def table_html(table: Mapping[str, Row]) -> str:
    """A table as HTML, one line per row."""
    columns = _columns(table)
    head = "".join(f'<th scope="col" style="text-align: left">{label}</th>' for label in ("Row", *columns))
    lines = []
    for row in table.values():
        said = facts(row)
        cells = "".join(
            f'<td style="text-align: left{_WIDTH.get(label, "")}">{sentence(said[label])}</td>' for label in columns
        )
        lines.append(f'<tr><th scope="row" style="text-align: left">{html.escape(row.name)}</th>{cells}</tr>')
    content = f"<thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody>"
    return _table(content, getattr(table, "caption", ""))


def table_markdown(table: Mapping[str, Row]) -> str:
    """A table as Markdown, one line per row."""
    columns = _columns(table)
    lines = [f"| {' | '.join(('Row', *columns))} |", "|" + ":--|" * (1 + len(columns))]
    for row in table.values():
        said = facts(row)
        lines.append(f"| {' | '.join((row.name, *(said[label] for label in columns)))} |")
    return "\n".join(lines) + "\n"
