"""The guide as a picture: every mark is the verdict of the guide, and every row and task is found in it."""

import matplotlib
import pytest

matplotlib.use("agg")

from layers.peers import refused

from geonorm import viz
from geonorm.guide import recommend, rows
from geonorm.match.tasks import ENERGY, IMAGE_STYLE, TASKS, Task
from geonorm.viz.guide import LETTERS, LOSS, MATCH, MEANING, REMARK, UNFIT, columns, verdicts

TITLE = "A message"


@pytest.fixture(scope="module")
def figure():
    viz.use_style()
    fig = viz.guide(TITLE)
    fig.canvas.draw()
    yield fig
    matplotlib.pyplot.close(fig)


def test_every_row_stands_in_one_line_with_the_verdict_of_the_guide():
    lines, asked = verdicts(), columns()
    assert sorted(name for line in lines for name in line.names) == sorted(row.name for row in rows())
    assert len({line.marks for line in lines}) == len(lines)
    for place, (task, features) in enumerate(asked):
        found = recommend(task, features)
        for line in lines:
            for name in line.names:
                advice, mark = found[name], line.marks[place]
                assert advice.matched == (mark in (MATCH, REMARK))
                assert bool(advice.remarks) == (mark == REMARK) or not advice.matched
                assert advice.matched or mark == next(iter(advice.against))


def test_each_task_is_asked_on_scalars_and_on_vectors_where_rotations_count():
    asked = columns()
    assert [task for task, features in asked if features == "scalars"] == list(TASKS.values())
    assert all("rotation" in task.respects for task, features in asked if features == "vectors")
    assert columns([IMAGE_STYLE]) == [(IMAGE_STYLE, "scalars")]


def test_down_a_column_the_matches_stand_in_the_order_of_the_guide():
    lines = verdicts()
    for place, (task, features) in enumerate(columns()):
        found = recommend(task, features)
        erased = [
            found[line.names[0]].erases
            for line in lines
            if line.marks[place] in (MATCH, REMARK) and line.marks[place] == line.marks[0]
        ]
        assert erased == sorted(erased)
    ticks = [sum(mark in (MATCH, REMARK) for mark in line.marks) for line in lines]
    assert ticks == sorted(ticks, reverse=True)


def test_every_cell_is_drawn_and_the_legend_shows_each_mark_once(figure):
    ax = figure.axes[0]
    drawn = [patch.get_gid() for patch in ax.patches if patch.get_gid()]
    drawn += [line.get_gid() for line in ax.lines if line.get_gid() in (LOSS, UNFIT)]
    cells = [mark for line in verdicts() for mark in line.marks]
    assert sorted(drawn) == sorted([*cells, *set(cells)])
    said = [text.get_text() for text in ax.texts]
    assert all(said.count(MEANING[mark]) == 1 for mark in set(cells))


def test_marks_differ_in_shape_or_letter_not_in_colour_alone(figure):
    ax = figure.axes[0]
    said = [text.get_text() for text in ax.texts]
    cells = [mark for line in verdicts() for mark in line.marks]
    for mark, letter in LETTERS.items():
        assert said.count(letter) == cells.count(mark) + (mark in cells)
    filled = {patch.get_gid(): patch.get_facecolor() for patch in ax.patches if patch.get_gid()}
    assert filled[MATCH] != filled[REMARK]


def test_names_and_tasks_stand_inside_the_figure(figure):
    renderer = figure.canvas.get_renderer()
    said = [text.get_text() for text in figure.axes[0].texts]
    for line in verdicts():
        assert ", ".join(line.names) in [words.replace("\n", " ") for words in said]
    assert all(said.count(name) == sum(task.name == name for task, _ in columns()) for name in TASKS)
    for text in figure.axes[0].texts:
        box = text.get_window_extent(renderer)
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text


def test_the_text_says_for_each_task_what_matches():
    alt = viz.alt_guide(TITLE, [ENERGY])
    assert alt.startswith(f"Matrix of {len(rows())} layers in ")
    assert f"{TITLE}. For energy on scalars: matches: Allegro / MACE, " in alt
    assert "breaks rotations: " in alt.partition("For energy on vectors")[2]
    everything = viz.alt_guide(TITLE)
    assert all(f"{task.name} on scalars" in everything for task in TASKS.values())


def test_a_task_of_ones_own_is_drawn_and_none_is_refused():
    lax = Task("anything", respects=["inversion"])
    assert {mark for line in verdicts([lax]) for mark in line.marks} <= {MATCH, REMARK, LOSS, UNFIT}
    for function in (viz.guide, viz.alt_guide):
        with refused("got no task, expected at least one"):
            function(TITLE, [])
