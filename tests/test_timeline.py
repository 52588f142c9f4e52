"""The map of years and communities: stops stand in their lanes at their years, lines join groups and nothing else."""

import itertools

import matplotlib
import pytest

matplotlib.use("agg")

from matplotlib.patches import FancyArrowPatch
from matplotlib.transforms import Bbox

from geonorm import viz
from geonorm.viz import Stop
from geonorm.viz.style import WIDTH
from geonorm.viz.timeline import LANE, ROW

GROUPS = {
    "A": [
        Stop("SetNorm", 2022, "sets"),
        Stop("LayerNorm (graph)", 2016, "language"),
        Stop("GroupNorm", 2018, "vision"),
    ],
    "B": [Stop("BatchNorm", 2015, "vision"), Stop("EquivariantBatchNorm", 2022, "molecules")],
}
STOPS = {stop.name: stop for stops in GROUPS.values() for stop in stops}


@pytest.fixture
def figure():
    viz.use_style()
    fig = viz.timeline(GROUPS, "Invented again")
    fig.canvas.draw()
    yield fig
    matplotlib.pyplot.close(fig)


def places(fig) -> dict[str, tuple[float, float]]:
    return {text.get_text(): text.xy for text in fig.axes[0].texts if text.get_text() in STOPS}


def test_every_stop_stands_at_its_year_in_the_band_of_its_lane(figure):
    ax = figure.axes[0]
    names = {text.get_text(): text.get_position()[1] for text in ax.texts if text.get_text() in {"sets", "language"}}
    found = places(figure)
    assert set(found) == set(STOPS)
    for name, (year, _) in found.items():
        assert year == STOPS[name].year
    for name in ("SetNorm", "LayerNorm (graph)"):
        # A lane with one stop: its name, and the stop right below.
        assert found[name][1] - names[STOPS[name].lane] == pytest.approx(LANE / 2 + ROW / 2)


def test_lanes_with_the_oldest_stop_come_first_and_no_two_stops_share_a_row(figure):
    found = places(figure)
    in_order = sorted(found, key=lambda name: found[name][1])
    assert in_order[:2] == ["BatchNorm", "GroupNorm"]
    assert len({y for _, y in found.values()}) == len(STOPS)


def test_lines_join_the_members_of_each_group_by_year(figure):
    found = places(figure)
    drawn = {frozenset(patch._posA_posB) for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)}
    expected = set()
    for stops in GROUPS.values():
        by_year = sorted(stops, key=lambda stop: stop.year)
        expected |= {frozenset((found[a.name], found[b.name])) for a, b in itertools.pairwise(by_year)}
    assert drawn == expected


def test_names_stay_inside_the_figure_and_apart(figure):
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in figure.axes[0].texts if text.get_text() in STOPS]
    for box in boxes:
        assert box.x0 >= 0
        assert box.x1 <= WIDTH * figure.dpi
    for a, b in itertools.combinations(boxes, 2):
        assert Bbox.intersection(a, b) is None


def test_the_map_in_words_has_every_name_year_and_community():
    alt = viz.alt_timeline(GROUPS, "Invented again.")
    assert alt.startswith("Timeline. Invented again. Lanes: vision, language, sets, molecules.")
    assert "A: LayerNorm (graph) (2016, language) = GroupNorm (2018, vision) = SetNorm (2022, sets)." in alt


def test_a_name_that_fits_on_neither_side_is_refused():
    name = "A name that is much too long for a figure of the width of a page in a book"
    with pytest.raises(ValueError, match="does not fit beside its year 2018: shorten it"):
        viz.timeline({"A": [*GROUPS["A"], Stop(name, 2018, "vision")]}, "A title")
    assert matplotlib.pyplot.get_fignums() == []


@pytest.mark.parametrize("groups", [{}, {"A": []}, {"AB": GROUPS["A"]}], ids=["none", "empty", "long name"])
def test_groups_that_cannot_be_drawn_are_refused(groups):
    for function in (viz.timeline, viz.alt_timeline):
        with pytest.raises(ValueError, match="a single letter"):
            function(groups, "A title")
