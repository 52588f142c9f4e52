"""Print the built book: all its pages as one PDF, with links that lead from page to page and numbers at the foot.

    python book/pdf.py _build/html _build/geonorm.pdf

The pages are those of the site. Their articles are put behind one another, in the order of the table of contents; every
anchor gets the name of its page in front, so that the summaries of two chapters stay two places. Chromium prints.
"""

from __future__ import annotations

import functools
import http.server
import posixpath
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import yaml
from bs4 import BeautifulSoup, Tag

ROOT = Path(__file__).resolve().parents[1]
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
BASE = CONFIG["html"]["baseurl"]
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: What belongs to a screen: buttons, marks beside titles, the code behind a figure, scripts of the site.
ON_SCREEN = ".headerlink, .copybtn, details.hide, .gn-bar, .gn-frames details, script, .prev-next-area, noscript"
#: What points from one place of a page to another.
POINTERS = ("href", "for", "aria-labelledby", "aria-describedby", "aria-controls")
PAPER = """
@page { size: A4; margin: 18mm 16mm 20mm; }
body { font-size: 10.5pt; background: white; }
.cover p { margin: 0.2rem 0; }
.sheet { break-before: page; max-width: none; padding: 0; }
.sheet pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 8pt; }
.sheet table, .sheet .pst-scrollable-table-container { display: table; overflow: visible; font-size: 8.5pt; }
.sheet div, .sheet div.math { overflow: visible !important; }
.sheet img, .sheet svg { break-inside: avoid; }
.sheet h1, .sheet h2, .sheet h3 { break-after: avoid; }
.sheet .gn-frames { max-width: 12cm; break-inside: avoid; }
"""
FOOT = (
    '<div style="font: 8pt sans-serif; width: 100%; text-align: center; color: #444">'
    '<span class="pageNumber"></span> / <span class="totalPages"></span></div>'
)


def contents(part: dict | list = TOC) -> Iterator[tuple[str, str]]:
    """Yield the caption under which a page stands first, or nothing, and the page's path in the site."""
    if isinstance(part, list):
        for each in part:
            yield from contents(each)
        return
    caption = part.get("caption", "")
    for key in ("root", "file"):
        if key in part:
            yield "", str(Path(part[key]).with_suffix("") if part[key].endswith(".ipynb") else part[key]) + ".html"
    for key in ("parts", "chapters", "sections"):
        for place, (own, page) in enumerate(contents(part.get(key, []))):
            yield (caption if place == 0 and not own else own), page


def assemble(site: Path) -> str:
    """Return all pages as one.

    Args:
        site: The folder of the built book.

    Returns:
        An HTML page that stands, for its links to style sheets and pictures, in the folder ``book`` of the site.

    Raises:
        FileNotFoundError: If a page of the table of contents is not in the folder.
    """
    listed = list(contents())
    places = {page: f"p{number}" for number, (_, page) in enumerate(listed)}
    whole, index, head = [], [], None
    for caption, page in listed:
        file = site / page
        if not file.is_file():
            raise FileNotFoundError(f"{page} is in _toc.yml and not in {site}: build the book first (make book)")
        soup = BeautifulSoup(file.read_text(encoding="utf-8"), "html.parser")
        head = head or _head(soup)
        article = soup.select_one("article.bd-article")
        for each in article.select(ON_SCREEN):
            each.decompose()
        _rename(article, page, places)
        title = article.find("h1").get_text(" ", strip=True)
        if caption:
            index.append(f"<p><strong>{caption}</strong></p>")
        index.append(f'<p><a href="#{places[page]}">{title}</a></p>')
        whole.append(f'<div class="sheet bd-article" id="{places[page]}">{article.decode_contents()}</div>')
    cover = f"<h1>{CONFIG['title']}</h1><p>{BASE}</p>{''.join(index)}"
    return (
        f'<!DOCTYPE html><html lang="en" data-theme="light"><head>{head}<style>{PAPER}</style></head>'
        f'<body><div class="bd-article cover">{cover}</div>{"".join(whole)}</body></html>'
    )


def _head(soup: BeautifulSoup) -> str:
    """The title, the style sheets, and what sets formulas."""
    kept = list(soup.head.find_all("link", rel="stylesheet"))
    kept += [each for each in soup.find_all("script") if "mathjax" in str(each).lower()]
    return f'<meta charset="utf-8"><title>{CONFIG["title"]}</title>' + "".join(map(str, kept))


def _rename(article: Tag, page: str, places: dict[str, str]) -> None:
    """Give every anchor and every pointer the name of its page."""
    for each in article.find_all(True):
        if each.get("id"):
            each["id"] = f"{places[page]}-{each['id']}"
        for name in POINTERS:
            if each.get(name):
                each[name] = _target(each[name], page, places) if name == "href" else f"{places[page]}-{each[name]}"
        if each.get("src"):
            each["src"] = urljoin(f"/{page}", each["src"])
            each["src"] = posixpath.relpath(each["src"], "/book")


def _target(link: str, page: str, places: dict[str, str]) -> str:
    """Where a link of a page leads to in the printed book."""
    split = urlsplit(link)
    if split.scheme or split.netloc:
        return link
    other = unquote(urljoin(f"/{page}", split.path or posixpath.basename(page))).lstrip("/")
    if other not in places:
        return BASE + other
    return f"#{places[other]}-{unquote(split.fragment)}" if split.fragment else f"#{places[other]}"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def print_book(site: Path, target: Path) -> None:
    """Write the PDF.

    Args:
        site: The folder of the built book.
        target: The file to write.

    Raises:
        SystemExit: If there is no Chromium.
    """
    from playwright.sync_api import sync_playwright

    browser = next((path for path in map(shutil.which, NAMES) if path), None)
    if browser is None:
        raise SystemExit("printing needs Chromium, and there is none: apt-get install chromium")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    where, text = f"http://127.0.0.1:{server.server_port}/book/printed.html", assemble(site)
    with sync_playwright() as running:
        page = running.chromium.launch(executable_path=browser, args=["--no-sandbox"]).new_page()
        page.set_default_timeout(600_000)
        page.route(where, lambda route: route.fulfill(body=text, content_type="text/html; charset=utf-8"))
        page.goto(where)
        page.evaluate("MathJax.startup.promise.then(() => true)")
        page.pdf(
            path=str(target),
            prefer_css_page_size=True,
            print_background=True,
            display_header_footer=True,
            header_template="<span></span>",
            footer_template=FOOT,
            outline=True,
            tagged=True,
        )
    server.shutdown()
    server.server_close()


if __name__ == "__main__":
    print_book(Path(sys.argv[1]), Path(sys.argv[2]))
    print(f"The printed book: {sys.argv[2]} ({Path(sys.argv[2]).stat().st_size / 1e6:.1f} MB)")
