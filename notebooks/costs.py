"""What executing each notebook cost: kept in one file, which the status page of the book shows."""

import datetime
import json
import os
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

#: The packages whose versions the outputs depend on.
PACKAGES = ("torch", "e3nn", "nequip", "nequip-allegro", "lightning", "matplotlib", "numpy")


class Cost(NamedTuple):
    """What one execution cost.

    Args:
        name: Of the text, without its suffix.
        seconds: From start to end.
        cpu_seconds: Of the kernel and its children: what it would take alone on one core.
        memory_mb: The peak of the kernel.
        bytes: The size of the notebook.
    """

    name: str
    seconds: float
    cpu_seconds: float
    memory_mb: float
    bytes: int


def keep(path: Path, costs: Iterable[Cost]) -> None:
    """Write the costs of executions into the file; those of other notebooks stay.

    Args:
        path: The file; it is made where it is missing.
        costs: Of the notebooks that were executed.
    """
    kept = json.loads(path.read_text()) if path.exists() else {}
    where = {
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "versions": {name: version(name) for name in PACKAGES},
    }
    for cost in costs:
        # Rounded: two runs on one machine should not differ in the history for nothing.
        numbers = {
            "seconds": round(cost.seconds),
            "cpu_seconds": round(cost.cpu_seconds),
            "memory_mb": round(cost.memory_mb, -1),
            "kilobytes": round(cost.bytes / 1000),
        }
        kept[cost.name] = numbers | where
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".part")
    unfinished.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n")
    os.replace(unfinished, path)
