"""Figures that move: what stands in a page works alone and says itself in words; with a kernel they compute anew."""

import re
from html.parser import HTMLParser
from pathlib import Path

import hygiene
import numpy as np
import pytest
from execute import kernel_environment
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from geonorm import viz
from geonorm.viz import frames_html, frontend
from geonorm.viz.svg import joined, short

PANEL = viz.Panel(x=(0, 10), y=(-1, 1))
VOID = {"input", "path", "use", "br"}


@pytest.fixture(autouse=True)
def _no_choice(monkeypatch):
    for name in (frontend.VARIABLE, "JPY_SESSION_NAME"):
        monkeypatch.delenv(name, raising=False)


def draw(frequency, height=1.0):
    x = np.linspace(0, 10, 20)
    return [PANEL.line(x, height * np.sin(frequency * x)), viz.use("dot")], f"{frequency:g} < {height:g} & more"


def wave(draw=draw, **options):
    options = {"title": "A <wave>", "background": PANEL.axes("t (s)", "y (m)", [0, 5], {0: "no"})} | options
    return viz.Frames(
        draw,
        viz.Control("frequency", [1.0, 2.0, 4.0], "Hz", start=1),
        viz.Control("height", [0.5, 1.0]),
        shared={"dot": PANEL.dots(5, 0)},
        **options,
    )


def named():
    return viz.Frames(
        lambda row: (viz.label(0, 0, row), f"This is {row}."), viz.Control("row", ["one", "two"]), title="T"
    )


class Page(HTMLParser):
    """Checks that every element is closed by its own end, and collects what the tests ask for."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.elements, self.words, self.frames = [], [], [], {}, []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"an attribute comes twice in <{tag}>"
        self.elements.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        if self.open[-1:] == ["g"] and tag == "g" and self.open.count("g") == 1:
            self.frames.append(dict(attrs))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open:
            self.words.setdefault(self.open[-1], []).append(data)

    def of(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def test_a_page_is_well_formed_and_refers_to_itself():
    page = Page(wave()._repr_html_())
    assert len(page.ids) == len(set(page.ids))
    assert page.words["figcaption"] == ["A <wave>"]
    assert {use["href"] for use in page.of("use")} == {f"#{name}" for name in page.ids if name.endswith("-dot")}


def test_every_frame_has_its_words_and_one_is_seen():
    figure = wave()
    page = Page(figure._repr_html_())
    expected = [f"{f:g} < {h:g} & more" for f in (1, 2, 4) for h in (0.5, 1)]
    assert ["".join(words) for words in page.words["li"]] == expected == [frame.words for frame in figure.frames]
    assert [place for place, frame in enumerate(page.frames) if "display" not in frame] == [2]
    assert len(page.frames) == 6
    # What the picture is called is the line below it, which holds the words of the frame that is seen.
    (line,) = (p for p in page.of("p") if p["class"] == "gn-words")
    (picture,) = page.of("svg")
    assert (picture["role"], picture["aria-labelledby"]) == ("img", line["id"])
    assert expected[2] in page.words["p"]


def test_without_javascript_there_is_a_note_and_no_dead_slider():
    page = Page(wave()._repr_html_())
    bar = next(div for div in page.of("div") if div["class"] == "gn-bar")
    assert bar["hidden"] == "hidden"  # a notebook that is not trusted loses attributes without a value
    assert any("JavaScript" in words for words in page.words["p"])


def test_where_the_notebook_is_not_trusted_there_is_a_word_instead_of_the_picture():
    # JupyterLab leaves the picture and the style out; the style is what hides the word.
    page = wave()._repr_html_()
    (word,) = re.findall('<p class="gn-bare">(.*?)</p>', page)
    assert "not trusted" in word
    (style,) = re.findall("<style>(.*?)</style>", page)
    assert ".gn-bare{display:none}" in style


def test_sliders_are_labelled_and_names_are_chosen_from_a_list():
    page = Page(wave()._repr_html_())
    assert [words.strip() for words in page.words["label"]] == ["frequency", "height"]
    first = page.of("input")[0]
    assert (first["type"], first["min"], first["max"], first["value"]) == ("range", "0", "2", "1")
    assert first["data-c"] == "1 Hz|2 Hz|4 Hz"
    assert page.words["button"] == ["Play"]
    chosen = Page(named()._repr_html_())
    assert chosen.of("input") == chosen.of("button") == []
    assert chosen.words["option"] == ["one", "two"]


def test_nothing_is_loaded_from_anywhere():
    page = wave()._repr_html_()
    assert re.findall(r"https?:|//|@import|url\(|src=", page) == []


def test_the_same_figure_is_the_same_page():
    assert wave()._repr_html_() == wave()._repr_html_()
    assert repr(wave()) == "Frames('A <wave>': 3 of frequency × 2 of height)"


def test_the_id_hangs_on_the_words_and_not_on_the_picture():
    def name(figure):
        return Page(figure._repr_html_()).of("figure")[0]["id"]

    moved = wave(lambda f, h: ([PANEL.dots(f, h)], draw(f, h)[1]))
    told = wave(lambda f, h: (draw(f, h)[0], f"{f} and {h}"))
    assert name(wave()) == name(moved)
    assert len({name(wave()), name(told), name(wave(title="Another"))}) == 3


def test_notebooks_are_compared_by_words_and_not_by_the_last_digit_of_a_picture():
    rules = Path(__file__).with_name("nbval_sanitize.cfg").read_text()

    def compared(figure):
        text = figure._repr_html_()
        for pattern, replacement in re.findall("^regex: (.*)$\n^replace: (.*)$", rules, re.MULTILINE):
            text = re.sub(pattern, replacement, text)
        return text

    moved = wave(lambda f, h: (PANEL.dots(f, h), draw(f, h)[1]))
    told = wave(lambda f, h: (draw(f, h)[0], f"{f} and {h}"))
    assert compared(wave()) == compared(moved) != compared(told)


def test_a_large_figure_is_refused():
    x = np.linspace(0, 10, 2000)
    large = wave(lambda f, h: (PANEL.line(x, np.sin(f * x)), "a wave"))
    with pytest.raises(ValueError, match=r"has \d+ kB, at most 40 kB: draw fewer"):
        large._repr_html_()


def test_a_frame_without_words_is_refused():
    silent = wave(lambda f, h: (PANEL.dots(f, h), " " if f == 4 else "a dot"))
    with pytest.raises(ValueError, match=r"frame at 4 Hz, 0\.5 has no words"):
        silent._repr_html_()


def test_controls_are_checked():
    with pytest.raises(ValueError, match="0 controls, expected one or two"):
        viz.Frames(draw, title="T")
    with pytest.raises(ValueError, match="at least two"):
        viz.Control("x", [1])
    with pytest.raises(ValueError, match="mixes numbers and names"):
        viz.Control("x", [1, "two"])
    with pytest.raises(ValueError, match="expected 0 to 1"):
        viz.Control("x", [1, 2], start=2)


@pytest.mark.parametrize(
    ("values", "finer"),
    [
        (range(0, 7, 3), [0, 1, 2, 3, 4, 5, 6]),
        ([0.0, 0.5], [0.0, 0.1, 0.2, 0.3, 0.4, 0.5]),
        ([1, 2, 4], [1, 2, 4]),
        ([3, 2, 1], [3, 2, 1]),
        (["one", "two"], ["one", "two"]),
    ],
)
def test_a_kernel_may_be_asked_for_values_in_between(values, finer):
    assert viz.Control("x", values).finer() == finer


def test_values_are_said_with_their_units():
    control = viz.Control("x", [0, 1], "°")
    assert [control.say(-20), viz.Control("x", [0, 1], "Å").say(2.5), control.say("name")] == ["−20°", "2.5 Å", "name"]


def test_the_live_face_computes_anew():
    calls = []

    def counted(number):
        calls.append(number)
        return PANEL.dots(number, 0), f"number {number}"

    box = viz.Frames(counted, viz.Control("number", range(0, 9, 4), start=1), title="T").live()
    (slider, play), picture = box.children[0].children, box.children[1]
    assert calls == [4]
    assert "number 4" in picture.value
    slider.value = 7
    assert calls == [4, 7]
    assert "number 7" in picture.value
    # The button starts where the slider does, which follows it, and goes through the values of the page.
    assert (play.value, play.max, play.step) == (4, 8, 4)
    assert "<input" not in picture.value


def test_the_live_face_offers_names_as_a_list():
    box = named().live()
    (choice,) = box.children[0].children
    choice.value = "two"
    assert "This is two." in box.children[1].value


@pytest.mark.parametrize(("choice", "live"), [("1", True), ("0", False), ("Yes", True), ("", False)])
def test_the_environment_chooses_the_face(monkeypatch, choice, live):
    monkeypatch.setenv(frontend.VARIABLE, choice)
    bundle = wave()._repr_mimebundle_()
    assert (hygiene.WIDGET in bundle) == live
    # Whoever cannot show a widget has the page's face.
    assert bundle["text/html"] == wave()._repr_html_()
    assert bundle["text/plain"] == repr(wave())


def test_a_notebook_server_gives_the_live_face_and_the_environment_overrules_it(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "/notebooks/05.ipynb")
    assert frontend.has_live_widgets()
    monkeypatch.setenv(frontend.VARIABLE, "0")
    assert not frontend.has_live_widgets()


def test_in_jupyterlab_the_face_of_the_page_is_an_output_of_its_own(monkeypatch):
    # Of one output JupyterLab takes the widget, and shows a message in its place once the kernel is gone.
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda bundle, raw: shown.append(bundle))
    show = DisplayFormatter().format
    bundle, _ = show(wave())
    assert bundle["text/html"] == wave()._repr_html_()
    monkeypatch.setenv("JPY_SESSION_NAME", "/notebooks/05.ipynb")
    assert show(wave())[0] == {}
    page, widget = shown
    assert page["text/html"].startswith(wave()._repr_html_())
    assert ".gn-live" in page["text/html"]
    assert hygiene.WIDGET not in page
    assert hygiene.WIDGET in widget
    assert "gn-live" in wave().live()._dom_classes
    monkeypatch.setenv(frontend.VARIABLE, "0")
    assert show(wave())[0] == bundle


def test_a_choice_that_is_neither_yes_nor_no_is_refused(monkeypatch):
    monkeypatch.setenv(frontend.VARIABLE, "maybe")
    with pytest.raises(ValueError, match="GEONORM_LIVE is 'maybe', expected 1"):
        frontend.has_live_widgets()


def test_committed_notebooks_are_made_with_the_face_for_pages(monkeypatch):
    monkeypatch.setenv("JPY_SESSION_NAME", "started from a notebook")
    monkeypatch.setenv(frontend.VARIABLE, "1")
    assert kernel_environment("profile")[frontend.VARIABLE] == "0"


def test_no_widget_is_committed():
    def notebook(data):
        output = new_output("display_data", {hygiene.WIDGET: {}} | data)
        cells = [new_markdown_cell("# 99 A chapter"), new_code_cell("fig", execution_count=1, outputs=[output])]
        return new_notebook(cells=cells)

    both, alone = notebook({"text/html": "<p>a page</p>"}), notebook({"text/plain": "VBox()"})
    for each in (both, alone):
        hygiene.clean(each)
    assert hygiene.problems(both) == []
    assert "shows a widget" in hygiene.problems(alone)[0]


def _luminance(color):
    parts = [int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize(("colors", "paper"), [(frames_html.LIGHT, "#FFFFFF"), (frames_html.DARK, "#14181E")])
def test_colours_stand_out_from_the_page(colors, paper):
    """WCAG: words 4.5 to 1, and graphics 3 to 1; the two pale ones only lie behind others."""
    for name, color in colors.items():
        low, high = sorted((_luminance(color), _luminance(paper)))
        contrast = (high + 0.05) / (low + 0.05)
        if name not in ("sky", "pale", "paper"):
            assert contrast >= (4.5 if name in ("blue", "grey") else 3), name


@pytest.mark.parametrize(
    ("value", "written"), [(1.0, "1"), (0.04, "0"), (-0.04, "0"), (0.25, ".2"), (-0.5, "-.5"), (123.456, "123.5")]
)
def test_numbers_are_short(value, written):
    assert short(value) == written


def test_minus_signs_separate():
    assert joined(1, -2.5, 3) == "1-2.5 3"


def _points(path):
    """The end points of a path of M, m, l and h0."""
    spots, here = [], np.zeros(2)
    for letter, numbers in re.findall(r"([Mmlh])([^Mmlhz]*)", re.search(r' d="([^"]*)"', path)[1]):
        if letter != "h":
            values = [float(number) for number in re.findall(r"-?(?:\d+\.?\d*|\.\d+)", numbers)]
            for step in np.reshape(values, (-1, 2)):
                here = step if letter == "M" else here + step
                spots.append(here)
    return np.array(spots)


@pytest.mark.parametrize("mark", [PANEL.dots, PANEL.line])
def test_marks_stand_where_the_numbers_are(mark):
    x, y = np.linspace(0, 10, 50), np.sin(np.arange(50.0))
    expected = np.stack([62 + 40 * x, 12 + 110 * (1 - y)], 1)
    assert np.abs(_points(mark(x, y)) - expected).max() <= 0.051


def test_darts_lead_from_base_to_tip():
    first, tip, second = _points(PANEL.darts([[5, 0]], [[1, 0.5]], width=6))
    np.testing.assert_allclose((first + second) / 2, [262, 122], atol=0.11)
    np.testing.assert_allclose(tip, [302, 67], atol=0.2)
    assert np.linalg.norm(first - second) == pytest.approx(6, abs=0.3)


def test_a_logarithmic_panel():
    panel = viz.Panel(x=(1, 100), y=(0, 1), left=0, width=200, log_x=True)
    assert panel.at([1, 10, 100, 0.001], 0)[:, 0].tolist() == pytest.approx([0, 100, 200, 0])
    with pytest.raises(ValueError, match="positive ends"):
        viz.Panel(x=(0, 1), y=(0, 1), log_x=True)


def test_an_unknown_colour_is_refused():
    with pytest.raises(ValueError, match="no colour 'red'; the colours are blue"):
        PANEL.dots(0, 0, "red")
