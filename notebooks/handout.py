"""Copies of the chapters for a class: in the place of each solution an empty cell, everything else as it was.

python notebooks/handout.py            every chapter, into _build/handout
python notebooks/handout.py 02 06      some of them
"""

import argparse
import re
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell

ROOT = Path(__file__).resolve().parent.parent
START = re.compile(r"^`{3,}\{solution-start\}[^\n]*\n(?::[^\n]*\n)*`{3,}\n?", re.MULTILINE)
END = re.compile(r"^`{3,}\{solution-end\}\n`{3,}\n?", re.MULTILINE)


def without_solutions(notebook: NotebookNode) -> NotebookNode:
    """Return a notebook with an empty cell in the place of each solution.

    Raises:
        ValueError: If a solution starts and does not end.
    """
    cells, inside = [], False
    for cell in notebook.cells:
        if cell.cell_type != "markdown":
            cells += [] if inside else [cell]
            continue
        kept, rest = "", cell.source + "\n"
        while rest:
            mark = (END if inside else START).search(rest)
            before, after = (rest[: mark.start()], rest[mark.end() :]) if mark else (rest, "")
            kept += "" if inside else before
            if mark and not inside:
                cells += [new_markdown_cell(kept.strip())] if kept.strip() else []
                cells.append(new_code_cell("# your solution"))
                kept = ""
            inside, rest = inside != bool(mark), after
        if kept.strip():
            cells.append(cell if kept == cell.source + "\n" else new_markdown_cell(kept.strip()))
    if inside:
        raise ValueError("a solution starts and does not end: close it with solution-end")
    for number, cell in enumerate(cells):
        cell["id"] = str(number)
    return nbformat.from_dict({**notebook, "cells": cells})


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Copy chapters without their solutions.")
    parser.add_argument("names", nargs="*", help="chapters, by number or name (default: all)")
    parser.add_argument("--out", type=Path, default=ROOT / "_build" / "handout", help="the folder that gets them")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    for path in sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb")):
        if not arguments.names or any(path.stem.startswith(name) for name in arguments.names):
            nbformat.write(without_solutions(nbformat.read(path, as_version=4)), arguments.out / path.name)
            print(arguments.out / path.name)


if __name__ == "__main__":
    main()
