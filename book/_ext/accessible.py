"""Sphinx extension: repairs what other extensions write into a page, for its readers and for their tools.

* sphinx-thebe writes its constants twice, which browsers report as an error on every page, and asks for a script of
  another site. The book has no button for it, so its scripts go.
* docutils gives an entry of a bibliography a role that its list may not hold (WAI-ARIA 1.2 has deprecated it). A screen
  reader counts the entries only if they are items of the list.
"""

from __future__ import annotations

from typing import Any

from sphinx.application import Sphinx

OUTDATED = 'role="doc-biblioentry"'


def _is_thebe(script: Any) -> bool:
    body = getattr(script, "attributes", {}).get("body") or ""
    return "sphinx-thebe" in str(getattr(script, "filename", script)) or "thebe_selector" in body


def repair(app: Sphinx, pagename: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Change the context from which the page is written."""
    context["script_files"] = [script for script in context.get("script_files", []) if not _is_thebe(script)]
    if "body" in context:
        context["body"] = context["body"].replace(OUTDATED, 'role="listitem"')


def setup(app: Sphinx) -> dict[str, bool]:
    """Connect to Sphinx, after the extensions that add scripts to single pages."""
    app.connect("html-page-context", repair, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
