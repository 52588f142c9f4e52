"""The sources of the book: notebooks agree with their texts, chapters are whole, citations and addresses hold."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlparse

import hygiene
import nbformat
import pytest
import yaml
from pybtex.database import parse_file

ROOT = Path(__file__).resolve().parents[1]
CHAPTERS = sorted((ROOT / "notebooks" / "text").glob("*.md"))
TEXTS = [*CHAPTERS, *sorted((ROOT / "book" / "text").glob("*.md"))]
NOTEBOOKS = [*sorted((ROOT / "notebooks").glob("*.ipynb")), *sorted((ROOT / "book").glob("*.ipynb"))]
SLIDES = sorted((ROOT / "book" / "slides").glob("*.md"))
PAGES = sorted(page for page in (ROOT / "book").rglob("*.md") if page not in [*TEXTS, *SLIDES])
CONFIG = yaml.safe_load((ROOT / "_config.yml").read_text())
TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())

# What every chapter has, and how a reader recognizes it.
PARTS = {
    "objectives": r"^\*\*You will learn\*\*",
    "prerequisites": r"^\*\*You need\*\*",
    "time": r"^\*\*Time\*\*.*\d+ minutes",
    "the survey's statement": r"^## What the survey says",
    "findings": r"What we found",
    "exercises": r"^## Exercises",
    "self-test": r"^## Test yourself",
    "summary": r"^## Summary",
    "what next": r"^\*\*Next\*\*",
}

chapters = pytest.mark.parametrize("text", CHAPTERS, ids=lambda path: path.stem)
texts = pytest.mark.parametrize("text", TEXTS, ids=lambda path: path.stem)
notebooks = pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)


def _files(entry) -> list[str]:
    """Every file that a part of the table of contents names."""
    if isinstance(entry, list):
        return [file for item in entry for file in _files(item)]
    if isinstance(entry, dict):
        own = [value for key, value in entry.items() if key in ("file", "root")]
        return own + [file for value in entry.values() if isinstance(value, (list, dict)) for file in _files(value)]
    return []


def _markdown(notebook: Path) -> str:
    cells = nbformat.read(notebook, as_version=4).cells
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def test_there_are_chapters():
    assert CHAPTERS
    assert NOTEBOOKS


@texts
def test_notebook_agrees_with_its_text(text):
    assert hygiene.differences(text) == []


def test_every_notebook_has_a_text():
    assert set(NOTEBOOKS) == {hygiene.notebook_path(text) for text in TEXTS}


@notebooks
def test_notebook_may_be_committed(notebook):
    assert hygiene.problems(nbformat.read(notebook, as_version=4)) == []


@notebooks
def test_figures_that_move_say_every_state_and_stay_small(notebook):
    for cell in nbformat.read(notebook, as_version=4).cells:
        for output in cell.get("outputs", []):
            page = output.get("data", {}).get("text/html", "")
            if 'class="gn-frames"' in page:
                words = re.findall(r"<li>(.*?)</li>", page)
                assert len(page.encode()) <= 40_000
                assert f"All {len(words)} states in words" in page
                # Words that are always the same do not say what the slider changes.
                assert len(set(words)) > 1
                assert min(map(len, words)) > 10


@notebooks
def test_notebook_holds_nothing_of_the_machine_that_ran_it(notebook):
    assert nbformat.read(notebook, as_version=4).metadata.get("language_info", {}).get("version") is None
    assert re.findall(r"/(?:home|root|Users|tmp|work)/\w+", notebook.read_text()) == []


@chapters
@pytest.mark.parametrize("part", PARTS)
def test_chapter_has_its_parts(text, part):
    found = re.search(PARTS[part], text.read_text(), re.MULTILINE) is not None
    assert found, f"no {part} in {text.name}: nothing matches {PARTS[part]!r}"


@notebooks
def test_title_comes_once_and_a_chapter_carries_its_number(notebook):
    titles = re.findall(r"^# (.*)$", re.sub(r"```.*?```", "", _markdown(notebook), flags=re.DOTALL), re.MULTILINE)
    assert len(titles) == 1
    if notebook.parent.name == "notebooks":
        assert titles[0].split()[0] == str(int(notebook.name[:2]))


@chapters
def test_exercises_have_executed_solutions(text):
    source = text.read_text()
    exercises = re.findall(r"\{exercise(?:-start)?\}[^\n]*\n(?::[^\n]*\n)*?:label: (\S+)", source)
    solutions = re.findall(r"\{solution(?:-start)?\} (\S+)\n:class: dropdown", source)
    assert len(exercises) >= 3
    assert sorted(solutions) == sorted(exercises)
    assert source.count("{exercise-start}") == source.count("{exercise-end}")
    assert source.count("{solution-start}") == source.count("{solution-end}")


def test_each_chapter_leads_to_the_next_and_the_first_to_all():
    order = [Path(file).stem for file in _files(TOC) if file.startswith("notebooks/")]
    for name, following in pairwise(order):
        text = (ROOT / "notebooks" / "text" / f"{name}.md").read_text()
        assert f"{{doc}}`{following}`" in text.rpartition("**Next**")[2], f"{name} does not lead to {following}"
    first = (ROOT / "notebooks" / "text" / f"{order[0]}.md").read_text()
    assert [name for name in order[1:] if f"{{doc}}`{name}` |" not in first] == []


@chapters
def test_self_test_explains_every_answer(text):
    section = text.read_text().split("\n## Test yourself\n")[1].split("\n## ")[0]
    questions = re.split(r"^\*\*Question (\d)\.\*\* ", section, flags=re.MULTILINE)[1:]
    assert questions[::2] == list("12345")
    right_ones = set()
    for number, question in zip(questions[::2], questions[1::2], strict=True):
        asked, _, answer = question.partition(f":::{{dropdown}} Answer to question {number}\n")
        offered = re.findall(r"^\* \*\*([A-D])\.\*\* \S", asked, re.MULTILINE)
        assert offered == list("ABCD"[: len(offered)])
        assert len(offered) >= 3
        (right,) = re.findall(r"^\*\*([A-D]) is right\.\*\* \S", answer, re.MULTILINE)
        wrong = re.findall(r"^\* \*\*([A-D]):\*\* \S", answer, re.MULTILINE)
        assert sorted([right, *wrong]) == offered, f"question {number}: every answer is explained, right or wrong"
        right_ones.add(right)
    assert len(right_ones) >= 3, "the letter gives nothing away"


def test_table_of_contents_is_complete():
    listed = _files(TOC)
    assert len(listed) == len(set(listed))
    # Without the suffix Sphinx finds the notebook twice, once as text.
    missing = [file for file in listed if not (ROOT / file).is_file() and not (ROOT / f"{file}.md").is_file()]
    assert missing == []
    pages = {path.relative_to(ROOT).with_suffix("").as_posix() for path in PAGES}
    assert {path.relative_to(ROOT).as_posix() for path in NOTEBOOKS} | pages == set(listed)


def test_every_word_of_the_glossary_is_explained_and_leads_to_a_page():
    source = (ROOT / "book" / "glossary.md").read_text()
    entries = source.split(":sorted:\n\n")[1].split("\n```")[0].split("\n\n")
    words = [entry.split("\n  ")[0] for entry in entries]
    assert len(set(words)) == len(words) >= 50
    assert words == sorted(words, key=str.lower)
    for entry in entries:
        assert re.fullmatch(r"\S.*\n  [A-Z].*[.)] \[(?:Chapter \d+|Notation)\]\(\S+\)", entry.strip()), entry
        number = re.search(r"\[Chapter (\d+)\]\(\.\./notebooks/(\d\d)_", entry)
        assert number is None or int(number[1]) == int(number[2]), entry
    used = {re.sub(r".*<(.*)>", r"\1", term) for page in [*PAGES, *TEXTS] for term in _terms(page)}
    assert used <= set(words)
    assert len(used) >= 4


def _terms(page: Path) -> list[str]:
    return re.findall(r"\{term\}`([^`]+)`", page.read_text())


def test_the_landing_page_leads_to_every_page():
    links = re.findall(r"\]\(([^)#]+)", (ROOT / "book" / "intro.md").read_text())
    reached = {(ROOT / "book" / link).resolve().relative_to(ROOT).as_posix().removesuffix(".md") for link in links}
    assert {file for file in _files(TOC) if file != TOC["root"]} - reached == set()


def test_redirects_lead_somewhere():
    for old, new in CONFIG["sphinx"]["config"]["rediraffe_redirects"].items():
        assert not (ROOT / old).exists()
        assert (ROOT / new).is_file()


def test_citations_are_defined():
    defined = set(parse_file(ROOT / "book" / "references.bib").entries)
    for page in [*PAGES, *TEXTS]:
        roles = re.findall(r"\{cite(?::\w+)?\}`([^`]+)`", page.read_text())
        used = {key.strip() for role in roles for key in re.sub(r"\{.*?\}", "", role).split(",")}
        assert used <= defined, f"{page.name}: {sorted(used - defined)} not in book/references.bib"


def test_references_are_complete():
    for key, entry in parse_file(ROOT / "book" / "references.bib").entries.items():
        assert entry.persons.get("author") or entry.persons.get("editor") or entry.fields.get("organization"), key
        assert {"title", "year"} <= set(entry.fields), key
        assert re.fullmatch(r"(19|20)\d\d", entry.fields["year"]), key


def test_the_address_of_the_repository_is_the_same_everywhere():
    address = urlparse(CONFIG["repository"]["url"])
    owner, name = address.path.strip("/").split("/")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    if not tracked:
        pytest.skip("not a git checkout: the list of files is unknown")
    host_of_pages = f"https://{owner}.github.io/{name}/"
    assert CONFIG["html"]["baseurl"] == CONFIG["sphinx"]["config"]["ogp_site_url"] == host_of_pages
    assert CONFIG["sphinx"]["config"]["notfound_urls_prefix"] == f"/{name}/"
    patterns = {
        rf"github\.com/([\w.-]+/{name})\b(?![\w-])": f"{owner}/{name}",
        rf"(?:mybinder\.org/v2/gh|colab\.research\.google\.com/github)/([\w.-]+/{name})\b": f"{owner}/{name}",
        rf"(https?://[\w.-]+\.github\.io/{name}/)": host_of_pages,
    }
    for file in tracked:
        path = ROOT / file
        if path.suffix in {".npz", ".png", ".svg"} or not path.is_file():
            continue
        source = path.read_text(encoding="utf-8")
        for pattern, expected in patterns.items():
            assert set(re.findall(pattern, source)) <= {expected}, file


def test_no_large_file_is_tracked():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    sizes = {file: (ROOT / file).stat().st_size for file in listing.split("\0") if file and (ROOT / file).is_file()}
    shipped = {file: size for file, size in sizes.items() if file.startswith("geonorm/data/") and file.endswith(".npz")}
    assert {file: size for file, size in sizes.items() if size > 1_000_000 and file not in shipped} == {}
    assert sum(shipped.values()) < 8_000_000
