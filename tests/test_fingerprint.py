"""The fingerprint of the table: what is drawn is what was measured, and what was measured is what is true."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import matplotlib
import nbformat
import pytest

matplotlib.use("agg")

from layers.peers import refused

from geonorm import viz
from geonorm.guide import rows
from geonorm.match.check import check
from geonorm.match.fingerprint import OTHER_READING, PER, Fingerprint, take
from geonorm.match.rows import flattened, layer_of
from geonorm.table import AFTER_2022, TABLE1
from geonorm.viz.fingerprint import BROKEN, FORGOTTEN, KEPT, clean, marks

ROOT = Path(__file__).parents[1]
ROWS = rows()
NAMES = ["BatchNorm", "LayerNorm", "PairNorm", "Quaternion", "Allegro / MACE"]


@pytest.fixture(scope="module")
def found() -> dict[str, Fingerprint]:
    return {name: take(TABLE1[name]) for name in NAMES}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_measured_as_declared(row):
    differ = {(row.name, name): reason for name, (_, _, reason) in take(row).differs.items()}
    assert differ == {each: reason for each, reason in OTHER_READING.items() if each[0] == row.name}


def test_the_reading_that_the_table_declares_of_scaled_weight_is_measured_as_declared():
    row = TABLE1["ScaledWeight"]
    assert take(row).differs == {
        "rotation": (row.properties.rotation, "node", OTHER_READING["ScaledWeight", "rotation"]),
        "translation": (False, True, OTHER_READING["ScaledWeight", "translation"]),
    }
    # As it is built: when its parameters move, it no longer mixes whole vectors.
    built = check(flattened(row), "4x1o", coordinates=True).states[0]
    assert built.level is row.properties.rotation is None
    assert built.errors["translation"] > built.bound
    assert {check(flattened(TABLE1[name]), "4x1o").states[0].level for name in ("WeightNorm", "SpectralNorm")} == {
        "node"
    }


@pytest.mark.parametrize("name", ["GroupNorm", "MaxMinNorm", "TensorNorm", "MessageNorm"])
def test_a_fingerprint_does_not_depend_on_the_seed(name):
    row = (TABLE1 if name in TABLE1 else AFTER_2022)[name]
    first = marks(take(row))
    assert all(marks(take(row, seed)) == first for seed in (1, 2, 3))


def test_shifts_and_scales_follow_from_the_pools(found):
    forgotten = {
        name: ["".join(p[0] for p in PER if part[p]) for part in (f.shifts, f.scales)] for name, f in found.items()
    }
    assert forgotten == {
        "BatchNorm": ["bc", "bc"],
        "LayerNorm": ["bs", "bs"],
        "PairNorm": ["bsc", "bs"],
        "Quaternion": ["", "bc"],
        "Allegro / MACE": ["", ""],
    }


def test_no_row_normalizes_keeps_samples_apart_and_tells_them_apart():
    for each in map(take, TABLE1.values()):
        assert not (each.forgets and each.independent_train and each.tells_apart), each.row.name


def test_layers_that_do_not_take_scalars_have_no_report_on_them(found):
    assert found["Quaternion"].scalars is None
    assert found["Quaternion"].own is found["Quaternion"].vectors
    assert layer_of(TABLE1["Vector Neuron"], "scalars") is None
    with refused("on is 'edges', expected 'scalars' or 'vectors'"):
        layer_of(TABLE1["BatchNorm"], "edges")


def test_marks_say_what_was_measured(found):
    cells = marks(found["BatchNorm"])
    assert cells["keeps"]["rotation"].state == BROKEN
    assert cells["samples"] == {"apart (train)": (BROKEN, ""), "apart (eval)": (KEPT, ""), "told apart": (KEPT, "")}
    assert marks(found["PairNorm"])["keeps"]["rotation"] == (KEPT, "s")
    assert marks(found["Quaternion"])["keeps"]["rotation"] == (KEPT, "n")
    assert marks(found["PairNorm"])["forgets shift per"]["place"].state == FORGOTTEN
    assert [name for name in NAMES if clean(found[name])] == ["Allegro / MACE"]
    assert not clean(replace(found["Allegro / MACE"], inversion=False))


@pytest.fixture
def figure(found):
    viz.use_style()
    fig = viz.fingerprint(list(found.values()), "A message")
    fig.canvas.draw()
    yield fig
    matplotlib.pyplot.close(fig)


def test_every_cell_is_drawn_once_and_the_legend_shows_each_state(figure, found):
    ax = figure.axes[0]
    drawn = [patch.get_gid() for patch in ax.patches if patch.get_gid()]
    drawn += [line.get_gid() for line in ax.lines if line.get_gid()]
    expected = ["kept", "broken", "forgotten", "nothing"]  # the legend
    for each in found.values():
        expected += [m.state + m.letter for cells in marks(each).values() for m in cells.values()]
    assert sorted(drawn) == sorted(expected)


def test_marks_differ_in_shape_not_in_colour_alone(figure):
    words = [text.get_text() for text in figure.axes[0].texts]
    states = [mark.get_gid() for mark in figure.axes[0].patches if mark.get_gid()]
    assert words.count("✓") == states.count("kept")
    assert words.count("✗") == states.count("broken")
    sizes = {line.get_gid(): line.get_markersize() for line in figure.axes[0].lines if line.get_gid()}
    assert sizes["forgotten"] > 3 * sizes["nothing"]


def test_names_are_in_the_given_order_inside_the_figure_and_bold_if_clean(figure):
    ax, renderer = figure.axes[0], figure.canvas.get_renderer()
    names = [text for text in ax.texts if text.get_text() in NAMES]
    assert [text.get_text() for text in sorted(names, key=lambda text: text.get_position()[1])] == NAMES
    assert [text.get_text() for text in names if text.get_fontweight() == "bold"] == ["Allegro / MACE"]
    for text in ax.texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text


def test_the_text_names_who_breaks_and_who_forgets(found):
    alt = viz.alt_fingerprint(list(found.values()), "A message")
    assert alt.startswith("Matrix of 5 layers. A message.")
    assert "keeps: rotation, broken by BatchNorm, LayerNorm." in alt
    assert "samples: told apart, broken by LayerNorm, PairNorm." in alt
    assert "forget a shift per node: none." in alt
    assert "forget a scale per channel: BatchNorm, Quaternion." in alt
    assert "Rotations only per sample: PairNorm." in alt
    assert alt.endswith("Keep all and forget nothing: Allegro / MACE.")


def test_no_layer_is_refused():
    for function in (viz.fingerprint, viz.alt_fingerprint):
        with refused("got no fingerprint, expected at least one"):
            function([], "A message")


def _extension():
    spec = importlib.util.spec_from_file_location("cover", ROOT / "book" / "_ext" / "cover.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_landing_page_shows_the_figure_of_the_chapter(tmp_path):
    chapter = ROOT / "notebooks" / "10_the_whole_table.ipynb"
    picture, alt = _extension().figure_of(chapter, "cover")
    assert picture.startswith(b"\x89PNG")
    assert alt.startswith(f"Matrix of {len(TABLE1)} layers.")
    with refused("has 0 figures with tag 'other', expected one"):
        _extension().figure_of(chapter, "other")
    notebook = nbformat.read(chapter, as_version=4)
    for cell in notebook.cells:
        cell["outputs"] = []
    nbformat.write(notebook, tmp_path / "empty.ipynb")
    with refused("execute the notebook"):
        _extension().figure_of(tmp_path / "empty.ipynb", "cover")
