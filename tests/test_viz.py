"""The pictures say what the numbers say, in ink and in words."""

import base64
import io
import subprocess
import sys
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest

matplotlib.use("agg")

from PIL import Image
from untyped import untyped

from geonorm import viz
from geonorm.viz.charts import _spread, spoken
from geonorm.viz.style import png

viz.use_style()


@pytest.fixture
def shown(monkeypatch):
    """What a notebook receives from ``viz.show``."""
    messages = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: messages.append((data, options)))
    return messages


def test_import_of_the_library_does_not_load_matplotlib():
    code = "import sys, geonorm; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_show_sends_one_png_with_its_alt_text(shown):
    fig, ax = viz.figure("A message")
    ax.plot([0, 1])
    viz.show(fig, alt="A rising line\nfrom 0 to 1.")
    (data, options), *rest = shown
    assert not rest
    assert data["text/plain"] == "<Figure>"
    assert options["metadata"] == {"image/png": {"alt": "A rising line from 0 to 1."}}
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.format == "PNG"


def test_show_closes_the_figure(shown):
    fig, _ = viz.figure("A message")
    viz.show(fig, alt="Empty axes.")
    assert not matplotlib.pyplot.fignum_exists(fig.number)


@pytest.mark.parametrize("alt", ["", "  ", "\n"])
def test_a_figure_without_words_is_refused(shown, alt):
    fig, _ = viz.figure("A message")
    with pytest.raises(ValueError, match="text alternative"):
        viz.show(fig, alt=alt)
    matplotlib.pyplot.close(fig)


def test_the_same_figure_is_the_same_bytes():
    first, second = (png(viz.axes_cube("x", "xv")) for _ in range(2))
    matplotlib.pyplot.close("all")
    assert first == second


def test_figures_stand_on_an_opaque_white_card_with_round_corners():
    fig, _ = viz.figure("A message")
    picture = Image.open(io.BytesIO(png(fig))).convert("RGBA")
    matplotlib.pyplot.close(fig)
    red, green, blue, opacity = picture.getpixel((30, picture.height - 12))
    assert opacity >= 250
    assert min(red, green, blue) >= 250
    assert picture.getpixel((0, 0))[3] < 30


def test_text_survives_a_phone():
    """A 6 inch figure on a 3.3 inch screen still has letters of at least 6 points."""
    assert matplotlib.rcParams["font.size"] * 3.3 / viz.style.WIDTH >= 6


@pytest.mark.parametrize(
    ("axes", "entries", "per"),
    [
        ("bx", 12, "one per channel"),
        ("xv", 16, "one per sample;"),
        ("x", 4, "one per sample and channel"),
        ("v", 4, "one per node"),
        ("xg", 8, "one per sample and group of channels"),
        (("x", "v/g"), 8, "one per sample and group of channels"),
        ("bxv", 48, "one per batch"),
        ("bv", 12, "one per node index"),
        ("", 1, "one per node and channel"),
    ],
)
def test_the_cube_in_words_counts_the_marked_entries(axes, entries, per):
    alt = viz.alt_axes_cube(axes, axes)
    assert f"{entries} of 48 entries" in alt
    assert per in alt


def test_the_cube_marks_the_entries_it_counts():
    """{x, v} covers the front face: sixteen hatched cells there, four on top, four on the side."""
    fig = viz.axes_cube("xv", "xv")
    marked = [patch for patch in fig.axes[0].patches if patch.get_hatch()]
    matplotlib.pyplot.close(fig)
    assert len(marked) == 16 + 4 + 4


@pytest.mark.parametrize(
    ("axes", "features", "entries", "per"),
    [
        ("bxm", None, "36 of 144", "one per channel;"),
        ("xvm", None, "48 of 144", "one per sample;"),
        ("vm", None, "12 of 144", "one per node;"),
        ("m", None, "3 of 144", "one per node and channel;"),
        ("xgm", None, "24 of 144", "one per sample and group of channels;"),
        ("bx", "vectors", "12 of 144", "one per channel and component;"),
        ("x", "vectors", "4 of 144", "one per sample, channel and component;"),
        ("xv", "vectors", "16 of 144", "one per sample and component;"),
        ("vtm", None, "8 of 96", "one per node;"),
        ("vm", "irreps", "6 of 96", "one per node and type;"),
        ("bxvtm", None, "96 of 96", "one per batch;"),
    ],
)
def test_the_cube_in_words_knows_components_and_types(axes, features, entries, per):
    alt = viz.alt_axes_cube(None, axes, features=features)
    assert f"{entries} entries" in alt
    assert per in alt


def _hatched(fig) -> int:
    marked = sum(bool(patch.get_hatch()) for patch in fig.axes[0].patches)
    matplotlib.pyplot.close(fig)
    return marked


def test_the_cube_of_vectors_marks_all_stripes_of_a_channel_or_one():
    """A channel of three stripes: on the front face, on top, and at the side its last component."""
    assert _hatched(viz.axes_cube(None, "bxm")) == 3 * 4 + 3 * 3 + 3 * 4
    assert _hatched(viz.axes_cube(None, "bx", features="vectors")) == 4 + 3 + 3 * 4


def test_the_cube_of_irreps_crosses_types_only_where_they_are_pooled():
    assert _hatched(viz.axes_cube(None, "vtm")) == 8 + 8 + 1
    assert _hatched(viz.axes_cube(None, "vm", features="irreps")) == 6 + 6 + 1


def test_two_statistics_with_different_axes_are_two_cubes():
    figures = [viz.axes_cube("x", "xv"), viz.axes_cube("bx", "bx"), viz.axes_cube(None, "x")]
    assert [len(fig.axes) for fig in figures] == [2, 1, 1]
    matplotlib.pyplot.close("all")
    assert "No mean is subtracted" in viz.alt_axes_cube(None, "x")
    assert "There is no scale" in viz.alt_axes_cube("x", None)


def test_the_cube_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="letters of 'b'"):
        viz.axes_cube("xy", "x")
    with pytest.raises(ValueError, match="nothing to draw"):
        viz.axes_cube(None, None)
    with pytest.raises(ValueError, match="features='irreps'"):
        viz.axes_cube(None, "vtm", features="vectors")
    with untyped(), pytest.raises(ValueError, match="'scalars', 'vectors', 'irreps'"):
        viz.axes_cube("x", "x", features="spinors")


@pytest.mark.parametrize(("pool", "marked"), [("row", 6), ("matrix", 24)])
def test_the_weight_grid_marks_one_row_or_all(pool, marked):
    fig = viz.weight_grid(pool)
    assert sum(bool(patch.get_hatch()) for patch in fig.axes[0].patches) == marked
    matplotlib.pyplot.close(fig)
    assert "share one statistic" in viz.alt_weight_grid(pool)


def test_an_unknown_weight_pool_is_refused():
    with pytest.raises(ValueError, match="'row'"):
        viz.weight_grid("column")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"), (1.0, "1"), (0.5, "0.5"), (12.3456, "12"), (1234.0, "1234"), (2e-7, "2e-7"), (3.1e12, "3e12"),
        (-0.0312, "-0.031"), (float("nan"), "not finite"),
    ],
)  # fmt: skip
def test_numbers_are_spoken_with_two_digits(value, words):
    assert spoken(value) == words


def test_labels_at_the_same_height_move_apart():
    placed = _spread(np.array([0.5, 0.5, 0.52, 0.9]), sizes=np.full(4, 0.1))
    assert (np.diff(np.sort(placed)) >= 0.1 - 1e-6).all()
    assert placed[3] == 0.9


def test_lines_carry_their_names():
    fig, ax = viz.figure("A message")
    series = {"plain": 0.8 ** np.arange(9.0), "BatchNorm": np.ones((3, 9))}
    viz.lines(ax, np.arange(9), series, x_label="layer", y_label="size", log_y=True)
    assert [note.get_text() for note in ax.texts] == ["plain", "BatchNorm"]
    assert ax.get_legend() is None
    matplotlib.pyplot.close(fig)


def test_lines_in_words_give_ends_and_extremes():
    alt = viz.alt_lines("Message", [1, 50], {"plain": [1.0, 1e-9]}, x_label="layer", y_label="size")
    assert alt == "Line chart. Message. Horizontal: layer, 1 to 50. Vertical: size. plain: from 1 to 1e-9."
    hump = viz.alt_lines("Message.", [1, 2, 3], {"hump": [1.0, 9.0, 2.0]}, x_label="layer", y_label="size")
    assert "highest 9" in hump


@pytest.mark.parametrize("draw", ["lines", "bars"])
def test_logarithms_of_zero_are_refused(draw):
    fig, ax = viz.figure("A message")
    with pytest.raises(ValueError, match="positive"):
        if draw == "lines":
            viz.lines(ax, [0, 1], {"zero": [0.0, 1.0]}, x_label="", y_label="", log_y=True)
        else:
            viz.bars(ax, {"zero": 0.0}, x_label="", log_x=True)
    matplotlib.pyplot.close(fig)


def test_bars_in_ink_and_in_words():
    fig, ax = viz.figure("A message")
    viz.bars(ax, {"one": 1.0, "two": 2.0}, x_label="error", highlight=["two"])
    assert [bool(bar.get_hatch()) for bar in ax.patches] == [False, True]
    with pytest.raises(ValueError, match="three"):
        viz.bars(ax, {"one": 1.0}, x_label="error", highlight=["three"])
    matplotlib.pyplot.close(fig)
    assert viz.alt_bars("Message", {"one": 1.0}, x_label="error") == "Bar chart. Message. error: one 1."


class _Cells(HTMLParser):
    def __init__(self):
        super().__init__()
        self.words, self.scopes = [], []

    def handle_starttag(self, tag, attrs):
        if tag == "th":
            self.scopes.append(dict(attrs)["scope"])

    def handle_data(self, data):
        self.words.append(data)


def test_a_table_says_yes_and_no():
    table = viz.TextTable(["row", "rotation", "error"], {"<BN>": [False, 0.12345], "PN": [True, None]}, "What holds")
    parser = _Cells()
    parser.feed(table._repr_html_())
    assert parser.words == ["What holds", "row", "rotation", "error", "<BN>", "no", "0.123", "PN", "yes", "–"]
    assert parser.scopes == ["col", "col", "col", "row", "row"]
    assert "<BN>  no" in repr(table)


def test_a_table_typesets_formulas():
    html = viz.TextTable(["row", "printed"], {"BN": [r"as $\frac{a}{b}$"]})._repr_html_()
    assert r'as <span class="math notranslate nohighlight">\(\frac{a}{b}\)</span>' in html


def test_a_table_with_a_missing_cell_is_refused():
    with pytest.raises(ValueError, match="'PN' has 1 cells, expected 2"):
        viz.TextTable(["row", "a", "b"], {"PN": [True]})
