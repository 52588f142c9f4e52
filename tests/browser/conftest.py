"""One browser for all tests, which visits every page once; nothing but the site answers it."""

from importlib.resources import files

import pytest
from browser.site import FACTS, PAGES, Visit, chromium, serve, settle

WIDTHS = (390, 1280)
#: The rules of WCAG 2.2, levels A and AA, and what axe-core calls good practice, such as a landmark for every part.
STANDARD = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: Parts that are made alike many times; the first of them, or those of one page, stand for all.
ALIKE = {"": [".highlight", ".sig", "dl.py ~ dl.py"], "book/how_to_use.html": []}
AXE = """async ([rules, exclude]) => {
  // Not preload: axe would fetch style sheets again, from addresses of its own making.
  const options = {runOnly: rules, resultTypes: ['violations'], preload: false};
  const found = await axe.run({exclude}, options);
  return found.violations.map(v =>
    `${v.id} (${v.impact}, ${v.nodes.length} places): ${v.nodes[0].target.join(' ')} ${v.nodes[0].html.slice(0, 160)} `
    + (v.nodes[0].any[0] || v.nodes[0].all[0] || v.nodes[0].none[0] || {message: ''}).message);
}"""


@pytest.fixture(scope="session")
def address():
    """The book's address, served at the depth at which it is published."""
    if not PAGES:
        pytest.skip("the book is not built: make book")
    server, where = serve()
    yield where
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="session")
def browser():
    """The Chromium of this machine."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra: dev)")
    path = chromium()
    if path is None:
        pytest.skip("there is no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as running:
        # The sandbox wants a user that is not root; what is shown here is our own.
        started = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="session")
def open_context(browser, address):
    """Return a function that opens a context of the browser from which only the site can be reached."""
    opened = []

    def make(theme="light", width=1280, **options):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=theme, **options)
        context.add_init_script(f"localStorage.setItem('mode', '{theme}'); localStorage.setItem('theme', '{theme}')")
        context.outside = []

        def answer(route):
            if route.request.url.startswith((address, "data:", "blob:")):
                route.continue_()
            else:
                context.outside.append(route.request.url)
                route.abort()

        context.route("**/*", answer)
        opened.append(context)
        return context

    yield make
    for context in opened:
        context.close()


@pytest.fixture(scope="session")
def visit(open_context, address, audit):
    """Return a function that says what is seen on a page; each page is visited once."""
    context = open_context()
    page = context.new_page()
    errors, visits = [], {}

    def hear(message):
        if message.type == "error":
            errors.append(f"{message.text} {message.location['url']}")

    page.on("console", hear)
    page.on("pageerror", lambda error: errors.append(str(error)))

    def see(name):
        if name not in visits:
            errors.clear()
            context.outside.clear()
            page.set_viewport_size({"width": WIDTHS[-1], "height": 900})
            settle(page, address + name)
            facts = page.evaluate(FACTS)
            violations = audit(page, name)
            wide = {}
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                wide[width] = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
            visits[name] = Visit(list(errors), list(context.outside), facts, wide, violations)
        return visits[name]

    return see


@pytest.fixture(scope="session")
def audit():
    """Return a function that lets axe-core look at an open page."""
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")

    def look(page, name, rules=STANDARD):
        page.evaluate(axe)
        return page.evaluate(AXE, [rules, [[each] for each in ALIKE.get(name, ALIKE[""])]])

    return look
