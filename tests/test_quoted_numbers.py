"""What the chapters on the survey's experiments quote in their prose is what their cells printed or asked for."""

import re
from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
#: The chapters that read finished runs from book/results.
CHAPTERS = [path for number in (12, 13, 14, 15) for path in NOTEBOOKS.glob(f"{number}_*.ipynb")]
#: A decimal: whole numbers count things, tell years, or are facts about the data of others.
NUMBER = r"(?<![\w.,-])\d+\.\d+(?![\w,]*\d)"


def prose(source: str) -> str:
    """Markdown without formulas, roles, code, links and sections of the survey."""
    return re.sub(
        r"\$\$.*?\$\$|\$[^$]*\$|\{[\w:]+\}`[^`]*`|`[^`]*`|\]\([^)]*\)|Sections? \d\.\d", "", source, flags=re.DOTALL
    )


def said_by_cells(notebook) -> str:
    """The code of cells that compute, what all printed, and the words beside their figures."""
    words = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            # Cells that only draw know sizes of figures; the words beside the figure are metadata.
            words += [str(cell.metadata), "" if "hide-input" in cell.metadata.get("tags", ()) else cell.source]
            # Not the pictures themselves: letters and digits of all kinds are in them.
            words += [
                f"{output.get('text', '')}{output.get('data', {}).get('text/plain', '')}" for output in cell.outputs
            ]
    return "\n".join(words)


def quoted(notebook) -> list[str]:
    """The numbers of the prose."""
    return [
        found
        for cell in notebook.cells
        if cell.cell_type == "markdown"
        for found in re.findall(NUMBER, prose(cell.source))
    ]


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_numbers_in_the_prose_are_those_of_the_cells(path):
    notebook = nbformat.read(path, as_version=4)
    known = {float(number) for number in re.findall(r"\d+(?:\.\d+)?(?:[eE][+-]?\d+)?", said_by_cells(notebook))}
    assert quoted(notebook), "no number at all: the pattern is wrong"
    assert [number for number in quoted(notebook) if float(number) not in known] == []


def test_a_number_that_no_cell_knows_is_found():
    markdown = nbformat.v4.new_markdown_cell(
        "The error falls from $0.1$ to 4.75 in 12 steps, `0.3` of {ref}`a2.5`; 8.0 %."
    )
    code = nbformat.v4.new_code_cell("print(8)", outputs=[nbformat.v4.new_output("stream", text="8.00\n")])
    notebook = nbformat.v4.new_notebook(cells=[markdown, code])
    assert quoted(notebook) == ["4.75", "8.0"]
    assert "4.75" not in said_by_cells(notebook)
