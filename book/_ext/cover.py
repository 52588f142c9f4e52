"""Sphinx extension: a page shows a figure that a notebook computed, with the notebook's own words for it.

    ```{figure-of} ../notebooks/10_the_whole_table.ipynb
    :tag: cover
    ```

    ```{figure-of} ../../notebooks/05_case3_polar_coordinates.ipynb
    :says: presses all directions into an arc
    ```

The picture is read from the output of a cell when the book, or its slides, are built: of the cell with this tag, or of
the one whose figure has these words in its text alternative. A copy in the repository would go stale; this one cannot.
"""

from __future__ import annotations

import base64
import os
import re
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def figure_of(notebook: Path, tag: str | None = None, says: str | None = None) -> tuple[bytes, str]:
    """Read one figure of a notebook.

    Args:
        notebook: An executed notebook.
        tag: A tag of the cell that draws it.
        says: Words in its text alternative.

    Returns:
        The PNG and its text alternative.

    Raises:
        ValueError: If there is not exactly one such figure with a text.
    """
    found = []
    for cell in nbformat.read(notebook, as_version=4).cells:
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if alt and (tag is None or tag in cell.metadata.get("tags", [])) and (says is None or says in alt):
            pictures = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
            found += [(base64.b64decode(picture), alt) for picture in pictures]
    if len(found) != 1:
        which = " and ".join(f"{key} {value!r}" for key, value in (("tag", tag), ("the words", says)) if value)
        raise ValueError(
            f"{notebook.name} has {len(found)} figures with {which or 'a text'}, expected one: choose other words, or "
            "tag the cell, and execute the notebook"
        )
    return found[0]


class FigureOf(SphinxDirective):
    """One figure of a notebook."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 (the form docutils wants)
        "tag": directives.unchanged_required,
        "says": directives.unchanged_required,
    }

    def run(self) -> list[nodes.Node]:
        """Write the picture beside the other files of the build and refer to it."""
        page = Path(self.env.doc2path(self.env.docname))
        notebook = (page.parent / self.arguments[0]).resolve()
        self.env.note_dependency(str(notebook))
        try:
            picture, alt = figure_of(notebook, self.options.get("tag"), self.options.get("says"))
        except (OSError, ValueError) as error:
            raise self.error(str(error)) from error
        name = re.sub(r"\W+", "-", self.options.get("tag") or self.options.get("says", "figure")).strip("-")
        file = Path(self.env.doctreedir) / f"{notebook.stem}-{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)
        image = nodes.image(uri=Path(os.path.relpath(file, page.parent)).as_posix(), alt=alt, align="center")
        return [image]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_directive("figure-of", FigureOf)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
