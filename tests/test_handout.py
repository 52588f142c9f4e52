"""The copies for a class lack the solutions and nothing else."""

import re
from pathlib import Path

import nbformat
import pytest
from handout import without_solutions

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_copy_asks_every_question_and_answers_none(path):
    whole = nbformat.read(path, as_version=4)
    copy = without_solutions(nbformat.read(path, as_version=4))
    nbformat.validate(copy)
    text = "\n".join(cell.source for cell in copy.cells)
    exercises = re.findall(r"\{exercise-start\}", "\n".join(cell.source for cell in whole.cells))
    assert "{solution" not in text
    assert text.count("{exercise-start}") == text.count("# your solution") == len(exercises) >= 3
    assert "## Summary" in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_copy_keeps_every_cell_outside_of_solutions_with_its_output(path):
    whole = nbformat.read(path, as_version=4)
    copy = without_solutions(nbformat.read(path, as_version=4))
    expected, inside = [], False
    for cell in whole.cells:
        for word in re.findall(r"\{solution-(start|end)\}", cell.source if cell.cell_type == "markdown" else ""):
            inside = word == "start"
        if cell.cell_type == "code" and not inside:
            expected.append((cell.source, cell.outputs))
    code = [cell for cell in copy.cells if cell.cell_type == "code" and cell.source != "# your solution"]
    assert [(cell.source, cell.outputs) for cell in code] == expected


def test_a_solution_without_an_end_is_refused():
    cell = nbformat.v4.new_markdown_cell("````{solution-start} ex-a\n:class: dropdown\n````\n\nThe answer.")
    with pytest.raises(ValueError, match="does not end"):
        without_solutions(nbformat.v4.new_notebook(cells=[cell]))
