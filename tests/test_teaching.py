"""What an instructor gets: tables read from the chapters, and slides that need no network."""

import importlib.util
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
TEXTS = ROOT / "notebooks" / "text"
DECK = ROOT / "book" / "slides" / "talk.md"


def _extension():
    spec = importlib.util.spec_from_file_location("teaching", ROOT / "book" / "_ext" / "teaching.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["teaching"] = module
    spec.loader.exec_module(module)
    return module


teaching = _extension()
LISTED = (ROOT / "_toc.yml").read_text()
CHAPTERS = [chapter for chapter in teaching.chapters(TEXTS) if f"notebooks/{chapter.name}.ipynb" in LISTED]


def test_every_exercise_serves_an_objective_of_its_chapter():
    goals = yaml.safe_load((ROOT / "book" / "goals.yml").read_text())
    assert teaching.unmapped(goals, CHAPTERS) == []


def test_a_wrong_map_of_exercises_is_found():
    first = CHAPTERS[0]
    one, two, *others = first.exercises
    goals = {one: [1, 99], **dict.fromkeys(others, 1), "ex-nowhere": 1}
    assert teaching.unmapped(goals, [first]) == [
        f"{one}: {first.name} has no objective 99, only 1 to {len(first.goals)}",
        f"{two}, an exercise of {first.name}, has no objective",
        "ex-nowhere is no exercise of any chapter",
    ]


def test_frames_of_chapters_are_read():
    first = CHAPTERS[0]
    assert (first.number, first.minutes, len(first.goals)) == (1, 45, 4)
    assert first.goals[0] == "what BatchNorm computes, in one line"
    assert [chapter.number for chapter in CHAPTERS] == [
        int(number) for number in re.findall(r"notebooks/(\d\d)_", LISTED)
    ]


def test_a_chapter_without_a_time_is_refused(tmp_path):
    text = tmp_path / "01_broken.md"
    text.write_text((TEXTS / f"{CHAPTERS[0].name}.md").read_text().replace("minutes to read", "to read"))
    with pytest.raises(ValueError, match=r"01_broken\.md: no time"):
        teaching.chapter(text)


class Deck(HTMLParser):
    """Slides, pictures, and everything that a browser would load."""

    def __init__(self, page: Path):
        super().__init__()
        self.slides, self.pictures, self.loaded = 0, [], []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.slides += tag == "section"
        if tag == "img":
            self.pictures.append(attributes)
        if tag in ("script", "img", "iframe", "source") and attributes.get("src"):
            self.loaded.append(attributes["src"])
        if tag == "link" and attributes.get("href"):
            self.loaded.append(attributes["href"])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-b",
        "revealjs",
        "-d",
        str(folder / "trees"),
    ]
    made = subprocess.run(
        [*command, str(DECK.parent), str(folder / "out")], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    return folder / "out"


def test_the_slides_show_the_figures_that_they_name(built):
    pictures = Deck(built / "talk.html").pictures
    source = DECK.read_text()
    wanted = re.findall(r"^:says: (.+)$", source, re.MULTILINE)
    assert len(wanted) >= 15
    for words in wanted:
        assert sum(words in picture["alt"] for picture in pictures) == 1, words
    assert len(pictures) == source.count("{figure-of}") + source.count("![")


def test_the_slides_load_nothing_from_a_network(built):
    loaded = Deck(built / "talk.html").loaded
    assert any("reveal.js" in address for address in loaded)
    files = [built / address.partition("?")[0] for address in loaded]
    assert [str(file) for file in files if not file.is_file()] == []
    for file in (file for file in files if file.suffix == ".css"):
        for address in re.findall(r"url\(['\"]?([^)'\"]+)", file.read_text()):
            if address.startswith("data:"):
                continue
            named = file.parent / re.split(r"[?#]", address)[0]
            assert named.is_file(), f"{file.name} loads {address}"
            files.append(named)  # an imported style sheet is read in its turn
