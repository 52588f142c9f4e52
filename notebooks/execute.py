"""Make the executed notebooks from their texts: convert, execute in a fixed environment, clean, judge, write.

    python notebooks/execute.py            every chapter, and every page of the book that computes
    python notebooks/execute.py 07 errata  some of them
    python notebooks/execute.py --check    execute nothing; say where a notebook differs from its text
    python notebooks/execute.py --prose 07 execute nothing; take over new prose around code cells that are as they were
    python notebooks/execute.py --format   execute nothing; put the code cells of the texts into the house style

A chapter's text is notebooks/text/NN_name.md; its notebook, with outputs, is notebooks/NN_name.ipynb. A page's text is
book/text/name.md and its notebook book/name.ipynb.
"""

import argparse
import asyncio
import multiprocessing
import os
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from costs import Cost, keep
from hygiene import (
    clean,
    convert,
    differences,
    notebook_path,
    problems,
    put_in_style,
    serialized,
    with_outputs_of_before,
)
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parent.parent
# Shown on the status page of the book.
COSTS = ROOT / "book" / "results" / "notebooks.json"
# Each folder holds executed notebooks, and in its folder text/ what they are made from.
FOLDERS = (ROOT / "notebooks", ROOT / "book")

MAX_MEMORY_MB = 1500
# One thread keeps the order of every sum, and with it the printed digits. Figures that move show the face for pages.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "PYTHONHASHSEED": "0", "GEONORM_LIVE": "0"}
# What a reader's shell may hold and a chapter must not depend on.
REMOVED = ("GEONORM_DATA", "PYTHONWARNINGS", "MPLBACKEND", "PYTHONSTARTUP")
# On Linux ru_maxrss of the kernel also counts the process that started it; VmHWM does not.
OWN_PEAK = "next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))"
USAGE = "__import__('resource').getrusage(__import__('resource').RUSAGE_{})"


class Refused(Exception):
    """A notebook that must not be written, with the reasons."""


class ThisPython(KernelSpecManager):
    """Starts every kernel with the Python that runs this script, whatever kernels the user has installed."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        """Return the kernel of the current environment under any name."""
        argv = [sys.executable, "-m", "ipykernel_launcher", "--log-level=40", "-f", "{connection_file}"]
        return KernelSpec(argv=argv, display_name="Python 3", language="python")


def kernel_environment(profile: str, keep_data: bool = False) -> dict[str, str]:
    """Return the environment variables of a kernel.

    Args:
        profile: an empty folder for IPython's profile: a reader's own start-up files must not change a chapter.
        keep_data: keep GEONORM_DATA.
    """
    removed = REMOVED if not keep_data else tuple(name for name in REMOVED if name != "GEONORM_DATA")
    kept = {name: value for name, value in os.environ.items() if name not in removed}
    return kept | ENVIRONMENT | {"IPYTHONDIR": profile}


async def execute(
    notebook: NotebookNode, folder: Path, environment: dict[str, str], timeout: int
) -> tuple[float, float]:
    """Run all cells in place, in a folder; return peak memory (MB) and processor time (s) of kernel and children."""
    manager = AsyncKernelManager(kernel_name="python3", kernel_spec_manager=ThisPython())
    client = NotebookClient(
        notebook,
        km=manager,
        timeout=timeout,
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.reset_execution_trackers()
    async with client.async_setup_kernel(env=environment, cleanup_kc=True):
        for index, cell in enumerate(notebook.cells):
            await client.async_execute_cell(cell, index)
        return await _cost(client)


async def _cost(client: NotebookClient) -> tuple[float, float]:
    own, children = USAGE.format("SELF"), USAGE.format("CHILDREN")
    linux = sys.platform.startswith("linux")
    expressions = {
        "self": OWN_PEAK if linux else f"{own}.ru_maxrss",
        "children": f"{children}.ru_maxrss",
        "seconds": " + ".join(f"{usage}.{kind}" for usage in (own, children) for kind in ("ru_utime", "ru_stime")),
    }
    reply = await client.kc.execute_interactive(
        "", silent=True, store_history=False, user_expressions=expressions, output_hook=lambda message: None
    )
    values = {name: float(v["data"]["text/plain"]) for name, v in reply["content"]["user_expressions"].items()}
    # Linux counts in kB, macOS in bytes.
    return max(values["self"], values["children"]) / (1024 if linux else 1024**2), values["seconds"]


def make(text: Path, keep_data: bool = False, timeout: int = 900) -> Cost:
    """Convert, execute, clean and write one chapter or page.

    Raises:
        Refused: with every reason, when the notebook must not be committed; the file on disk is then as before.
    """
    notebook, path = convert(text), notebook_path(text)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as profile:
        try:
            memory, busy = asyncio.run(execute(notebook, path.parent, kernel_environment(profile, keep_data), timeout))
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            raise Refused(f"{text.stem}:\n{error}") from None
    seconds = time.perf_counter() - start
    clean(notebook)
    heavy = [f"peak memory {memory:.0f} MB, at most {MAX_MEMORY_MB} MB"] if memory > MAX_MEMORY_MB else []
    return Cost(text.stem, seconds, busy, memory, _write(text, notebook, heavy))


def _write(text: Path, notebook: NotebookNode, found: list[str]) -> int:
    """Write the notebook of a text unless something speaks against it, and return its size in bytes."""
    path, found = notebook_path(text), problems(notebook) + found
    if found:
        raise Refused(f"{text.stem}:\n" + "\n".join(f"  {reason}" for reason in found))
    content = serialized(notebook)
    # A reader of the file sees the old notebook or the new one, never half of one.
    unfinished = path.with_suffix(".ipynb.part")
    unfinished.write_text(content, encoding="utf-8")
    os.replace(unfinished, path)
    return len(content.encode())


def take_over_prose(texts: list[Path]) -> int:
    """Give notebooks the prose of their texts where the code is as it was, and return the exit status."""
    status = 0
    for text in texts:
        try:
            _write(text, with_outputs_of_before(text), [])
        except (ValueError, Refused) as error:
            print(error, file=sys.stderr)
            status = 1
        else:
            print(f"{text.stem}: prose taken over, outputs as they were")
    return status


def chosen(names: list[str]) -> list[Path]:
    """Return the texts whose names start with one of `names`; all of them for an empty list."""
    texts = [text for folder in FOLDERS for text in sorted((folder / "text").glob("*.md"))]
    unknown = [name for name in names if not any(text.stem.startswith(name) for text in texts)]
    if unknown:
        have = ", ".join(text.stem for text in texts)
        raise SystemExit(f"nothing starts with {', '.join(unknown)}; there are: {have}")
    return [text for text in texts if not names or any(text.stem.startswith(name) for name in names)]


def check(texts: list[Path]) -> int:
    """Print every disagreement between texts and notebooks and return the exit status."""
    status = 0
    for text in texts:
        for difference in differences(text):
            print(f"{text.stem}: {difference}")
            status = 1
    for notebook in [notebook for folder in FOLDERS for notebook in sorted(folder.glob("*.ipynb"))]:
        if not (notebook.parent / "text" / f"{notebook.stem}.md").exists():
            print(f"{notebook.stem}: the notebook has no text in {notebook.parent.name}/text")
            status = 1
    print(f"{len(texts)} notebooks compared with their texts: {'differences above' if status else 'all in sync'}")
    return status


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="Execute chapters and pages from their texts.")
    parser.add_argument("names", nargs="*", help="chapters and pages, by number or name (default: all)")
    parser.add_argument("--check", action="store_true", help="only compare texts and notebooks")
    parser.add_argument("--prose", action="store_true", help="only take over prose; refuses where code has changed")
    parser.add_argument("--format", action="store_true", help="only format the code cells of the texts")
    parser.add_argument("--jobs", type=int, default=2, help="notebooks executed side by side (default: 2)")
    parser.add_argument("--timeout", type=int, default=900, help="seconds one cell may take (default: 900)")
    parser.add_argument("--with-data", action="store_true", help="keep GEONORM_DATA (the committed outputs go without)")
    arguments = parser.parse_args()
    texts = chosen(arguments.names)
    if arguments.check:
        return check(texts)
    if arguments.prose:
        return take_over_prose(texts)
    if arguments.format:
        for text in texts:
            print(f"{text.stem}: {put_in_style(text)} cells changed")
        return 0
    status, start = 0, time.perf_counter()
    costs: list[Cost] = []
    print(f"{'notebook':<36}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}{'kB':>7}", flush=True)
    with ProcessPoolExecutor(arguments.jobs, mp_context=multiprocessing.get_context("spawn")) as pool:
        runs = [pool.submit(make, text, arguments.with_data, arguments.timeout) for text in texts]
        for run in as_completed(runs):
            try:
                cost = run.result()
            except Refused as refusal:
                print(re.sub(r"\x1b\[[0-9;]*m", "", str(refusal)), file=sys.stderr, flush=True)
                status = 1
            else:
                costs.append(cost)
                numbers = f"{cost.seconds:>9.1f}{cost.cpu_seconds:>9.1f}{cost.memory_mb:>9.0f}{cost.bytes / 1000:>7.0f}"
                print(f"{cost.name:<36}{numbers}", flush=True)
    if not arguments.with_data:
        keep(COSTS, costs)
    print(f"{len(texts)} notebooks in {time.perf_counter() - start:.0f} s", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
