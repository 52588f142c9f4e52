"""What a committed notebook is: made from its text, free of what changes between runs, fit to be compared and read."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import jupytext
import nbformat
import yaml
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell

MAX_BYTES = 400_000
FIGURES = ("image/png", "image/jpeg", "image/svg+xml")
#: A widget is the memory of a kernel that is gone: no page can show it.
WIDGET = "application/vnd.jupyter.widget-view+json"

REPOSITORY = yaml.safe_load((Path(__file__).resolve().parents[1] / "_config.yml").read_text())["repository"]["url"]
#: Who opens a notebook alone, on Colab or as a download, has neither the library nor the results of long runs.
#: The site leaves this cell out.
FETCH = f"""
from importlib.util import find_spec

if find_spec("geonorm") is None:  # this notebook was opened alone, as on Colab
    !git clone -q --depth 1 {REPOSITORY} geonorm-book
    %pip install -q "./geonorm-book[models,data]"
    %cd -q geonorm-book/notebooks
""".strip()


def notebook_path(text: Path) -> Path:
    """Return where the notebook of a text lives: in the folder above that of the text."""
    return text.parent.parent / f"{text.stem}.ipynb"


def convert(text: Path) -> NotebookNode:
    """Return the notebook, without outputs, that a MyST text describes; a cell that fetches the library comes first."""
    notebook = jupytext.read(text, fmt="md:myst")
    notebook.cells = [cell for cell in notebook.cells if cell.source != FETCH]
    notebook.cells.insert(1, new_code_cell(FETCH, metadata={"tags": ["remove-cell"]}))
    # Only what Binder, Colab and the book's highlighter read; versions would change with every machine.
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"file_extension": ".py", "name": "python", "pygments_lexer": "ipython3"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for number, cell in enumerate(notebook.cells):
        cell["id"] = str(number)
    return notebook


def clean(notebook: NotebookNode) -> None:
    """Drop what changes from run to run or needs a kernel; move each figure's alt text to where the book reads it."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if "text/html" in output.get("data", {}):
                output["data"].pop(WIDGET, None)
            metadata = output.get("metadata", {})
            for kind in FIGURES:
                alt = metadata.get(kind, {}).pop("alt", None)
                if alt is not None:
                    cell.metadata.setdefault("mystnb", {}).setdefault("image", {})["alt"] = alt
                if not metadata.get(kind, True):
                    del metadata[kind]
    notebook.metadata.pop("widgets", None)


def alt_text(cell: NotebookNode) -> str:
    """Return the alt text in a cell's metadata, or the empty string."""
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()


def figures(cell: NotebookNode) -> int:
    """Return how many of a cell's outputs are pictures."""
    return sum(any(kind in output.get("data", {}) for kind in FIGURES) for output in cell.get("outputs", []))


def problems(notebook: NotebookNode) -> list[str]:
    """Return every reason why this notebook must not be committed; an empty list means it may."""
    found = []
    first = notebook.cells[0] if notebook.cells else None
    if first is None or first.cell_type != "markdown" or not first.source.startswith("# "):
        found.append("the first cell does not start with the title ('# ...')")
    count = 0
    for index, cell in enumerate(notebook.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        count += 1
        where = f"cell {index} ({cell.source.strip().splitlines()[0][:60]!r})"
        if cell.execution_count != count:
            found.append(f"{where}: execution count is {cell.execution_count}, expected {count}")
        if cell.source.rstrip().endswith(";"):
            found.append(f"{where}: ends with ';', which hides the output here but not in the comparison")
        for output in cell.outputs:
            if output.output_type == "error":
                found.append(f"{where}: raised {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                found.append(f"{where}: wrote to stderr: {output.text.strip()[:200]!r}")
            if WIDGET in output.get("data", {}):
                found.append(f"{where}: shows a widget, which no page can show (viz.Frames has a face for pages)")
        if figures(cell) > 1:
            found.append(f"{where}: draws {figures(cell)} figures; one alt text describes one figure")
        if figures(cell) and not alt_text(cell):
            found.append(f"{where}: its figure has no alt text (geonorm.viz.show(fig, alt=...))")
    size = len(serialized(notebook).encode())
    if size > MAX_BYTES:
        found.append(f"{size / 1000:.0f} kB, at most {MAX_BYTES / 1000:.0f} kB")
    return found


def differences(text: Path) -> list[str]:
    """Return where a text and its notebook disagree in their cells; outputs, counts and alt texts are not compared."""
    path = notebook_path(text)
    if not path.exists():
        return [f"{path.name} is missing"]
    expected, actual = convert(text).cells, nbformat.read(path, as_version=4).cells
    found = []
    if len(expected) != len(actual):
        found.append(f"{len(expected)} cells in the text, {len(actual)} in the notebook")
    for index, (wanted, given) in enumerate(zip(expected, actual, strict=False)):
        for part in ("cell_type", "source"):
            if wanted[part] != given[part]:
                found.append(f"cell {index}: {part} differs: {_first_difference(wanted[part], given[part])}")
        if _metadata_without_alt(wanted) != _metadata_without_alt(given):
            found.append(f"cell {index}: metadata differs")
    return found


def with_outputs_of_before(text: Path) -> NotebookNode:
    """Return the notebook of a text in which only prose has changed, with the outputs that its cells had.

    Raises:
        ValueError: If there is no notebook, or its code cells are others: they must be executed.
    """
    path, notebook = notebook_path(text), convert(text)
    if not path.exists():
        raise ValueError(f"{path.name} is missing: execute it")
    new, old = (
        [cell for cell in cells if cell.cell_type == "code"]
        for cells in (notebook.cells, nbformat.read(path, as_version=4).cells)
    )
    if [cell.source for cell in new] != [cell.source for cell in old]:
        raise ValueError(f"the code cells of {text.name} are not those of {path.name}: execute it")
    for cell, before in zip(new, old, strict=True):
        cell.outputs, cell.execution_count = before.outputs, before.execution_count
        if alt := alt_text(before):
            cell.metadata.setdefault("mystnb", {}).setdefault("image", {})["alt"] = alt
    return notebook


def _first_difference(wanted: str, given: str) -> str:
    pairs = zip([*wanted.splitlines(), None], [*given.splitlines(), None], strict=False)
    return next((f"text {a!r}, notebook {b!r}" for a, b in pairs if a != b), "in the line endings")


def _metadata_without_alt(cell: NotebookNode) -> dict:
    metadata = json.loads(json.dumps(cell.metadata))
    image = metadata.get("mystnb", {}).get("image", {})
    image.pop("alt", None)
    if not image:
        metadata.get("mystnb", {}).pop("image", None)
    if not metadata.get("mystnb", True):
        del metadata["mystnb"]
    return metadata


def serialized(notebook: NotebookNode) -> str:
    """Return the notebook as the text of its file."""
    return nbformat.writes(notebook, version=4) + "\n"


def put_in_style(text: Path) -> int:
    """Format the code cells of a text as ruff formats notebooks, and return how many changed."""
    notebook = convert(text)
    with tempfile.TemporaryDirectory(dir=text.parent) as folder:
        copy = Path(folder, "copy.ipynb")
        copy.write_text(serialized(notebook), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "ruff", "format", "--quiet", str(copy)], check=True)
        formatted = nbformat.read(copy, as_version=4)
    content, changed = text.read_text(encoding="utf-8"), 0
    for old, new in zip(notebook.cells, formatted.cells, strict=True):
        if old.source != new.source:
            # Replaced inside its fence, so that the prose around it stays as its author wrapped it.
            content = content.replace(f"{old.source}\n```", f"{new.source}\n```", 1)
            changed += 1
    text.write_text(content, encoding="utf-8")
    return changed
