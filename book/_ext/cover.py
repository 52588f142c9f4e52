"""Sphinx extension: a page shows a figure that a notebook computed, with the notebook's own words for it.

    ```{figure-of} ../notebooks/10_the_whole_table.ipynb
    :tag: cover
    ```

The picture is read from the output of the cell with this tag when the book is built. A copy in the repository would
go stale; this one cannot.
"""

from __future__ import annotations

import base64
import os
from pathlib import Path

import nbformat
from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


def tagged_figure(notebook: Path, tag: str) -> tuple[bytes, str]:
    """Read the figure of the one cell with a tag.

    Args:
        notebook: An executed notebook.
        tag: The tag of the cell.

    Returns:
        The PNG and its text alternative.

    Raises:
        ValueError: If there is not exactly one such cell with a picture and a text.
    """
    cells = [c for c in nbformat.read(notebook, as_version=4).cells if tag in c.metadata.get("tags", [])]
    found = []
    for cell in cells:
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        pictures = [o.data["image/png"] for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
        found += [(base64.b64decode(picture), alt) for picture in pictures if alt]
    if len(found) != 1:
        raise ValueError(
            f"{notebook.name} has {len(found)} figures with alt text in cells tagged {tag!r}, expected one: tag the "
            "cell and execute the notebook"
        )
    return found[0]


class FigureOf(SphinxDirective):
    """The figure of a tagged cell, which links to the notebook."""

    required_arguments = 1
    option_spec = {"tag": directives.unchanged_required}  # noqa: RUF012 (the form docutils wants)

    def run(self) -> list[nodes.Node]:
        """Write the picture beside the other files of the build and refer to it."""
        page = Path(self.env.doc2path(self.env.docname))
        notebook = (page.parent / self.arguments[0]).resolve()
        self.env.note_dependency(str(notebook))
        try:
            picture, alt = tagged_figure(notebook, self.options.get("tag", "cover"))
        except (OSError, ValueError) as error:
            raise self.error(str(error)) from error
        file = Path(self.env.doctreedir) / f"{notebook.stem}-{self.options.get('tag', 'cover')}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(picture)
        image = nodes.image(uri=Path(os.path.relpath(file, page.parent)).as_posix(), alt=alt, align="center")
        return [image]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.add_directive("figure-of", FigureOf)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
