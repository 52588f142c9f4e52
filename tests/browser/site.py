"""The built book as a browser meets it: served at its real address, with every other address cut off."""

from __future__ import annotations

import functools
import http.server
import os
import re
import shutil
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlparse

import yaml

ROOT = Path(__file__).resolve().parents[2]
#: GEONORM_SITE names another folder with a built book, such as the artefact of a run elsewhere.
SITE = Path(os.environ.get("GEONORM_SITE", ROOT / "_build" / "html"))
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
PREFIX = CONFIG["sphinx"]["config"]["notfound_urls_prefix"]
#: Pages that a reader can reach; what only sends readers on is left out.
MOVED = {old.replace(".md", ".html") for old in CONFIG["sphinx"]["config"]["rediraffe_redirects"]} | {"index.html"}
PAGES = sorted(
    page.relative_to(SITE).as_posix()
    for folder in (".", "book", "notebooks")
    for page in (SITE / folder).glob("*.html")
    if page.relative_to(SITE).as_posix() not in MOVED
)
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


def chromium() -> str | None:
    """Return the path of a Chromium of this machine."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def translate_path(self, path: str) -> str:
        if not path.startswith(PREFIX):
            return str(SITE / "nowhere")
        return super().translate_path("/" + path.removeprefix(PREFIX))

    def log_message(self, *_: object) -> None:
        pass


def serve() -> tuple[http.server.ThreadingHTTPServer, str]:
    """Start a server and return it with the address of the book."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(SITE)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server, f"http://127.0.0.1:{server.server_port}{PREFIX}"


class Visit(NamedTuple):
    """What was seen on one page.

    Args:
        errors: Messages of the console, and exceptions.
        outside: Addresses that the page asked for beyond the site.
        facts: What the page says about itself.
        wide: Pixels by which it is wider than the window, by width of the window.
        violations: What axe-core finds: rule, impact, number of places and the first of them.
    """

    errors: list[str]
    outside: list[str]
    facts: dict
    wide: dict[int, int]
    violations: list[str]


FACTS = """() => ({
  titles: [...document.querySelectorAll('h1')].filter(e => e.checkVisibility()).map(e => e.textContent),
  formulas: document.querySelectorAll('.math').length,
  typeset: document.querySelectorAll('.math mjx-container').length,
  failed: document.querySelectorAll('mjx-merror').length,
  raw: [...document.querySelectorAll('article .math')].filter(e => /\\\\[([]/.test(e.textContent)).length,
  silent: [...document.images].filter(e => !e.alt.trim()).map(e => e.src),
  empty: [...document.images].filter(e => e.checkVisibility() && !e.naturalWidth).map(e => e.src),
  links: [...new Set([...document.links].map(e => e.href))],
  figures: document.querySelectorAll('.gn-frames').length,
})"""


def settle(page, where: str) -> None:
    """Go to a page and wait until its formulas are typeset."""
    page.goto(where)
    page.evaluate("window.MathJax && MathJax.startup && MathJax.startup.promise.then(() => true)")


def broken(links: list[str], address: str) -> list[str]:
    """Return the links that lead nowhere in the book."""
    found = []
    for link in links:
        if link.startswith(address):
            target, _, anchor = link.removeprefix(address).partition("#")
            path = SITE / unquote(urlparse(target).path)
            path = path / "index.html" if path.is_dir() else path
            if not path.is_file() or (anchor and path.suffix == ".html" and unquote(anchor) not in _anchors(path)):
                found.append(link.removeprefix(address))
    return found


@functools.cache
def _anchors(path: Path) -> frozenset[str]:
    text = path.read_text(encoding="utf-8")
    return frozenset(re.findall(r'\b(?:id|name)="([^"]+)"', text))
