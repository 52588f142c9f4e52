"""Make the executed notebooks from their texts: convert, execute in a fixed environment, clean, judge, write.

    python notebooks/execute.py            every chapter
    python notebooks/execute.py 07 12      some chapters
    python notebooks/execute.py --check    execute nothing; say where a notebook differs from its text

A chapter's text is notebooks/text/NN_name.md; its notebook, with outputs, is notebooks/NN_name.ipynb.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import jupytext
import nbformat
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

NOTEBOOKS = Path(__file__).resolve().parent
TEXTS = NOTEBOOKS / "text"

MAX_BYTES = 400_000
MAX_MEMORY_MB = 1500
# One thread keeps the order of every sum, and with it the printed digits.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0"}
# What a reader's shell may hold and a chapter must not depend on.
REMOVED = ("GEONORM_DATA", "PYTHONWARNINGS", "MPLBACKEND", "PYTHONSTARTUP")
FIGURES = ("image/png", "image/jpeg", "image/svg+xml")
PEAK = "__import__('resource').getrusage(__import__('resource').RUSAGE_{}).ru_maxrss"


class Refused(Exception):
    """A notebook that must not be written, with the reasons."""


class Record(NamedTuple):
    """What one execution cost."""

    name: str
    seconds: float
    memory_mb: float
    bytes: int


class ThisPython(KernelSpecManager):
    """Starts every kernel with the Python that runs this script, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernel of the current environment under any name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def notebook_path(text: Path) -> Path:
    """Return where the notebook of a text lives."""
    return NOTEBOOKS / f"{text.stem}.ipynb"


def convert(text: Path) -> NotebookNode:
    """Return the notebook, without outputs, that a MyST text describes."""
    notebook = jupytext.read(text, fmt="md:myst")
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


def kernel_environment(profile: str, keep_data: bool = False) -> dict[str, str]:
    """Return the environment variables of a kernel.

    Args:
        profile: an empty folder for IPython's profile: a reader's own start-up files must not change a chapter.
        keep_data: keep GEONORM_DATA.
    """
    removed = REMOVED if not keep_data else tuple(name for name in REMOVED if name != "GEONORM_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return kept | ENVIRONMENT | {"IPYTHONDIR": profile}


async def execute(notebook: NotebookNode, environment: dict[str, str], timeout: int) -> float:
    """Run all cells in place and return the peak memory in MB of the kernel and its children."""
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(NOTEBOOKS)}},
    )
    client.reset_execution_trackers()
    async with client.async_setup_kernel(env=environment, cleanup_kc=True):
        for index, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, index)
        return await _peak_memory(client)


async def _peak_memory(client: NotebookClient) -> float:
    expressions = {who: PEAK.format(who) for who in ("SELF", "CHILDREN")}
    reply = await client.kc.execute_interactive(
        "", silent=True, store_history=False, user_expressions=expressions, output_hook=lambda message: None
    )
    values = [int(value["data"]["text/plain"]) for value in reply["content"]["user_expressions"].values()]
    # Linux counts in kB, macOS in bytes.
    return max(values) / (1024 if sys.platform.startswith("linux") else 1024**2)


def clean(notebook: NotebookNode) -> None:
    """Drop what changes from run to run and move each figure's alt text to where the book reads it."""
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
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


def make(text: Path, keep_data: bool = False, timeout: int = 900) -> Record:
    """Convert, execute, clean and write one chapter.

    Raises:
        Refused: with every reason, when the notebook must not be committed; the file on disk is then as before.
    """
    notebook = convert(text)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as profile:
        try:
            memory = asyncio.run(execute(notebook, kernel_environment(profile, keep_data), timeout))
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise Refused(f"{text.stem}:\n{error}") from None
    seconds = time.perf_counter() - start
    clean(notebook)
    found = problems(notebook)
    if memory > MAX_MEMORY_MB:
        found.append(f"peak memory {memory:.0f} MB, at most {MAX_MEMORY_MB} MB")
    if found:
        raise Refused(f"{text.stem}:\n" + "\n".join(f"  {reason}" for reason in found))
    content = serialized(notebook)
    path = notebook_path(text)
    # A reader of the file sees the old notebook or the new one, never half of one.
    unfinished = path.with_suffix(".ipynb.part")
    unfinished.write_text(content, encoding="utf-8")
    os.replace(unfinished, path)
    return Record(text.stem, seconds, memory, len(content.encode()))


def chosen(names: list[str]) -> list[Path]:
    """Return the texts whose names start with one of `names`; all of them for an empty list."""
    texts = sorted(TEXTS.glob("*.md"))
    unknown = [name for name in names if not any(text.stem.startswith(name) for text in texts)]
    if unknown:
        have = ", ".join(text.stem for text in texts)
        raise SystemExit(f"no chapter starts with {', '.join(unknown)}; there are: {have}")
    return [text for text in texts if not names or any(text.stem.startswith(name) for name in names)]


def check(texts: list[Path]) -> int:
    """Print every disagreement between texts and notebooks and return the exit status."""
    status = 0
    for text in texts:
        for difference in differences(text):
            print(f"{text.stem}: {difference}")
            status = 1
    for notebook in sorted(NOTEBOOKS.glob("*.ipynb")):
        if not (TEXTS / f"{notebook.stem}.md").exists():
            print(f"{notebook.stem}: the notebook has no text in {TEXTS.relative_to(NOTEBOOKS.parent)}")
            status = 1
    print(f"{len(texts)} chapters compared with their texts: {'differences above' if status else 'all in sync'}")
    return status


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Execute the chapters from their texts.")
    parser.add_argument("names", nargs="*", help="chapters, by number or name (default: all)")
    parser.add_argument("--check", action="store_true", help="only compare texts and notebooks")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks executed side by side (default: 2)")
    parser.add_argument("--timeout", type=int, default=900, help="seconds one cell may take (default: 900)")
    parser.add_argument("--with-data", action="store_true", help="keep GEONORM_DATA (the committed outputs go without)")
    arguments = parser.parse_args()
    texts = chosen(arguments.names)
    if arguments.check:
        return check(texts)
    status, start = 0, time.perf_counter()
    print(f"{'chapter':<36}{'seconds':>9}{'peak MB':>9}{'kB':>7}", flush=True)
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(make, text, arguments.with_data, arguments.timeout) for text in texts]
        for run in as_completed(runs):
            try:
                record = run.result()
            except Refused as refusal:
                print(re.sub(r"\x1b\[[0-9;]*m", "", str(refusal)), file=sys.stderr, flush=True)
                status = 1
            else:
                print(
                    f"{record.name:<36}{record.seconds:>9.1f}{record.memory_mb:>9.0f}{record.bytes / 1000:>7.0f}",
                    flush=True,
                )
    print(f"{len(texts)} chapters in {time.perf_counter() - start:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
