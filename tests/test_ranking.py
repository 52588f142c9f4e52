"""The figure of final errors in order: what it draws, and that its words say the same."""

import math

import pytest

from geonorm.experiments.summary import FinalError
from geonorm.viz.ranking import alt_ranking, in_order, ranking
from geonorm.viz.style import figure

plt = pytest.importorskip("matplotlib.pyplot")

ERRORS = {
    "middle": FinalError(("middle",), {0: 2.0, 1: 2.0, 2: 2.0}),
    "lost": FinalError(("lost",), {}, (0, 1, 2)),
    "best": FinalError(("best",), {0: 1.0, 1: 1.1}, (2,)),
    "worst": FinalError(("worst",), {0: 9.0}),
}
KINDS = {"best": "match", "middle": "match", "worst": "breaks", "lost": "breaks"}


@pytest.fixture
def drawn():
    fig, ax = figure("A title.", height=3)
    ranking(ax, ERRORS, x_label="error (eV)", groups=KINDS, reference="middle")
    yield ax
    plt.close(fig)


def test_the_best_come_first_and_what_is_lost_last():
    assert in_order(ERRORS) == ["best", "middle", "worst", "lost"]


def test_every_variant_has_its_line_and_every_seed_its_point(drawn):
    assert [label.get_text() for label in drawn.get_yticklabels()] == ["best", "middle", "worst", "lost"]
    points = [line for line in drawn.lines if line.get_marker() == "."]
    assert [sorted(line.get_xdata()) for line in points] == [[1.0, 1.1], [2.0, 2.0, 2.0], [9.0]]
    assert [set(line.get_ydata()) for line in points] == [{0}, {1}, {2}]
    means = [line.get_xdata()[0] for line in drawn.lines if line.get_marker() in ("o", "s")]
    assert means == pytest.approx([math.sqrt(1.1), 2.0, 9.0])
    # The top is the best.
    assert drawn.get_ylim()[0] > drawn.get_ylim()[1]
    assert drawn.get_xscale() == "log"


def test_an_interval_ends_inside_the_figure(drawn):
    bars = [line.get_xdata() for line in drawn.lines if line.get_marker() == "None" and len(line.get_ydata()) == 2]
    left, right = drawn.get_xlim()
    # Two seeds leave the mean of the best wide open; one has no interval; three equal ones have none to see.
    assert bars[0][0] == pytest.approx(max(ERRORS["best"].interval()[0], left))
    assert all(left <= end <= right for bar in bars[:2] for end in bar)
    assert list(bars[1]) == pytest.approx([2.0, 2.0])


def test_lost_runs_are_written_beside_their_variant(drawn):
    assert [(text.get_text(), text.xy[1]) for text in drawn.texts] == [
        ("1 of 3 seeds not finite", 0),
        ("3 of 3 seeds not finite", 3),
    ]


def test_kinds_are_explained_once(drawn):
    assert [text.get_text() for text in drawn.get_legend().get_texts()] == ["match", "breaks"]


def test_words_say_every_mean():
    words = alt_ranking("The best wins.", ERRORS, x_label="error (eV)", groups=KINDS)
    assert words == (
        "Points with intervals, from the best. The best wins. error (eV): best (match) 1, 1 seed not finite; "
        "middle (match) 2; worst (breaks) 9; lost (breaks) not finite, 3 seeds not finite."
    )


@pytest.mark.parametrize(
    ("errors", "groups", "message"),
    [
        ({}, None, "no variant has a finite run"),
        ({"lost": ERRORS["lost"]}, None, "no variant has a finite run"),
        (ERRORS, {"best": "match"}, r"no kind for \['middle', 'worst', 'lost'\]"),
    ],
)
def test_what_cannot_be_drawn_is_refused(errors, groups, message):
    fig, ax = figure("")
    with pytest.raises(ValueError, match=message):
        ranking(ax, errors, x_label="error", groups=groups)
    plt.close(fig)
