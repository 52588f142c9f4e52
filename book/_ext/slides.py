"""Sphinx extension: the site of the book has the slides, too, under slides/talk.html.

The slides are a Sphinx project of their own (book/slides), because a deck has other pages and another look than a book.
They are built after the book, with the same strictness, by a process of their own: two projects in one process would
share what they register.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.errors import SphinxError


def build_slides(app: Sphinx, failure: Exception | None) -> None:
    """Build the slides into the folder of the site, if the book was built.

    Raises:
        SphinxError: If the slides cannot be built, with the reason.
    """
    if failure is not None or app.builder.name != "html":
        return
    folder = Path(app.srcdir) / "book" / "slides"
    trees, out = Path(app.doctreedir).parent / ".slides-doctrees", Path(app.outdir) / "slides"
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-b", "revealjs", "-d", str(trees)]
    made = subprocess.run([*command, str(folder), str(out)], capture_output=True, text=True, check=False)
    if made.returncode:
        raise SphinxError(f"the slides in {folder} cannot be built:\n{made.stderr}")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx."""
    app.connect("build-finished", build_slides)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
