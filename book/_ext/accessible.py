"""Sphinx extension: repairs what other extensions write into a page, for its readers and for their tools.

* sphinx-thebe writes its constants twice, which browsers report as an error on every page, and asks for a script of
  another site. The book has no button for it, so its scripts go.
* docutils gives an entry of a bibliography a role that its list may not hold (WAI-ARIA 1.2 has deprecated it). A screen
  reader counts the entries only if they are items of the list.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

OUTDATED = 'role="doc-biblioentry"'
REGION = re.compile(r'(?<=role="region" aria-label=")[^"]*')
CORNER = re.compile(r"<th\b[^>]*></th>")


def _is_thebe(script: Any) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "sphinx-thebe" in str(getattr(script, "filename", script)) or "thebe_selector" in body


def repair(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Change the context from which the page is written."""
    context["script_files"] = [script for script in context.get("script_files", []) if not _is_thebe(script)]
    if "body" in context:
        context["body"] = tables(context["body"].replace(OUTDATED, 'role="listitem"'))


def tables(body: str) -> str:
    """Give landmarks of one name numbers, and take empty headers for what they are."""
    met: Counter[str] = Counter()

    def numbered(match: re.Match[str]) -> str:
        met[match[0]] += 1
        return match[0] if met[match[0]] == 1 else f"{match[0]} ({met[match[0]]})"

    return CORNER.sub("<td></td>", REGION.sub(numbered, body))


def in_one_piece(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Join the text of each paragraph; its HTML is written already."""
    for paragraph in doctree.findall(nodes.paragraph) if doctree is not None else ():
        paragraph[:] = [nodes.Text(paragraph.astext())]


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx: before the description is made, and after the extensions that add scripts to single pages."""
    app.connect("html-page-context", in_one_piece, priority=400)
    app.connect("html-page-context", repair, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
