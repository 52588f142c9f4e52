"""Sphinx extension: the front door of the site, index.html, sends readers on and says to others what is behind it.

The landing page has an address of its own. A link to the bare address of the book is the one that people share, so the
page there carries the title, the description and the picture of the landing page.
"""

from __future__ import annotations

import re
from pathlib import Path

from jinja2 import Template
from sphinx.application import Sphinx

SAID = re.compile(r'<meta (?:property|name)="(?:og:|twitter:|description)[^>]*>')


def front_door(landing: str, address: str, template: str) -> str:
    """Return a page that leads to the landing page and describes it.

    Args:
        landing: The HTML of the landing page.
        address: Where it is, seen from the front door.
        template: The page for addresses that lead on.
    """
    title = re.search(r'<meta property="og:title" content="([^"]*)"', landing)[1]
    said = "\n    ".join(re.findall(SAID, landing))
    return Template(template).render(rel_url=address, head=said, title=title)


def write(app: Sphinx, failure: Exception | None) -> None:
    """Write the front door, before others write a bare one."""
    if failure is not None or app.builder.name != "html":
        return
    address = f"{app.config.root_doc}.html"
    template = (Path(app.srcdir) / app.config.rediraffe_template).read_text(encoding="utf-8")
    landing = (Path(app.outdir) / address).read_text(encoding="utf-8")
    (Path(app.outdir) / "index.html").write_text(front_door(landing, address, template), encoding="utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, before sphinx-external-toc."""
    app.connect("build-finished", write, priority=400)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
