"""The results of the swap experiment for all its targets in one place, with what the checker says of every row."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geonorm.experiments.in_place import check_in_place
from geonorm.experiments.records import read_records, write_provenance, write_records
from geonorm.experiments.swap_targets import TARGETS


def gather(folder: str | Path) -> list[dict[str, Any]]:
    """Join the results of the targets that are in a folder, and say of every row what it breaks and erases.

    Args:
        folder: With a subfolder of results for each target, as ``geonorm reproduce swap`` leaves them. Here
            ``swap.csv``, ``swap-depth.csv`` and ``swap.json`` are written; the last has the provenance of every target,
            and of every row what :func:`check_in_place` found.

    Returns:
        The records of all targets.

    Raises:
        FileNotFoundError: If there is no result.
    """
    folder = Path(folder)
    found = [target for target in TARGETS if (folder / target / "swap.csv").exists()]
    if not found:
        raise FileNotFoundError(f"{folder} holds no results: expected {' or '.join(TARGETS)} with a swap.csv in it")
    records = [record for target in found for record in read_records(folder / target / "swap.csv")]
    depth = [
        record
        for target in found
        if (folder / target / "swap-depth.csv").exists()
        for record in read_records(folder / target / "swap-depth.csv")
    ]
    write_records(folder / "swap.csv", records)
    if depth:
        write_records(folder / "swap-depth.csv", depth)
    facts = {target: json.loads((folder / target / "swap.json").read_text()) for target in found}
    known = json.loads((folder / "swap.json").read_text())["rows"] if (folder / "swap.json").exists() else {}
    names = dict.fromkeys(str(record["normalization"]) for record in records)
    write_provenance(folder / "swap.json", {"targets": facts, "rows": row_facts(names, known)})
    return records


def row_facts(names: Iterable[str], known: dict[str, dict[str, Any]] | None = None) -> dict[str, dict[str, Any]]:
    """What the checker finds about rows where they stand in the backbone.

    Args:
        names: Of rows, or ``"none"``.
        known: What was found before.

    Returns:
        For each row ``matched``, ``broken`` (the relative error of each broken symmetry), ``added`` (the dimension of
        each invariance that the task does not have, for 18 nodes with four scalars and four vectors each), ``level``
        (of rotations) and ``couples``.
    """
    facts = {}
    for name in names:
        if name == "none":
            facts[name] = {"matched": True, "broken": {}, "added": {}, "level": "node", "couples": False}
        elif name in (known or {}):
            facts[name] = known[name]
        else:
            report = check_in_place(name).to_dict()
            broken = {symmetry: float(f"{error:.2g}") for symmetry, error in report["broken"].items()}
            kept = {key: report[key] for key in ("matched", "added", "level", "couples")}
            facts[name] = {**kept, "broken": broken}
    return facts
