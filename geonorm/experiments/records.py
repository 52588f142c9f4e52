"""Keep the records of runs in files: CSV for the numbers, JSON beside it for where they come from."""

from __future__ import annotations

import csv
import datetime
import io
import json
import os
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

#: The packages whose versions a result depends on.
PACKAGES = ("geonorm", "torch", "e3nn", "nequip", "nequip-allegro", "lightning", "numpy", "ase", "tblite")


def write_text(path: str | Path, text: str) -> None:
    """Write a text file in one step: readers see the old file or the whole new one."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    temporary.write_text(text)
    os.replace(temporary, path)


def write_records(path: str | Path, records: Sequence[dict]) -> None:
    """Write records with equal keys as CSV; floats keep seven digits.

    Args:
        path: The file.
        records: At least one.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    for record in records:
        writer.writerow({key: f"{value:.7g}" if isinstance(value, float) else value for key, value in record.items()})
    write_text(path, text.getvalue())


def read_records(path: str | Path) -> list[dict]:
    """Read records from CSV; whole numbers become int, other numbers float, the rest stays text.

    Args:
        path: The file.

    Returns:
        One dictionary for each line.
    """
    with open(path, newline="") as file:
        return [{key: _value(text) for key, text in row.items()} for row in csv.DictReader(file)]


def provenance(command: str, device: str, **facts: object) -> dict:
    """Return what a reader needs to judge and repeat a result.

    Args:
        command: What to type to repeat it.
        device: ``"cpu"`` or the name that torch gives the accelerator.
        facts: Anything else: seeds, settings, data, units.

    Returns:
        A dictionary for JSON with command, device, versions, date and the facts.
    """
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "command": command,
        "device": device,
        "processor": processor(),
        "versions": versions,
        "date": datetime.date.today().isoformat(),
        **facts,
    }


def processor() -> str:
    """Return the model name of the processor in words, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def write_provenance(path: str | Path, facts: dict) -> None:
    """Write provenance as indented JSON."""
    write_text(path, json.dumps(facts, indent=2) + "\n")


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
