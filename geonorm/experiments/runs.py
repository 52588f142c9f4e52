"""Train every variant with every seed, keep what is finished, and say where it comes from."""

from __future__ import annotations

import json
import os
import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geonorm.experiments.records import provenance, read_records, write_provenance, write_records, write_text
from geonorm.models.global_state import preserved_global_state

#: Trains one variant with one seed; the folder is where it may keep what it needs to continue.
TrainOne = Callable[[dict[str, str], int, Path | None], list[dict]]


@dataclass(frozen=True)
class Runs:
    """The runs of one experiment.

    Args:
        name: What the files of the result are called, and the command that makes them.
        variants: What differs between runs: for each the values by column.
        seeds: All variants of one seed run before the next seed starts.
        settings: What all runs share; a folder holds runs of equal settings only.
        folder: Where runs and result are kept; None keeps nothing.
    """

    name: str
    variants: Sequence[dict[str, str]]
    seeds: Sequence[int]
    settings: dict[str, Any]
    folder: Path | None = None

    def train(self, train_one: TrainOne) -> list[dict]:
        """Train what is not finished yet.

        Args:
            train_one: Called for every unfinished run.

        Returns:
            The records of all runs, each with the columns of its variant and its seed.

        Raises:
            ValueError: If the folder holds runs with other settings.
        """
        if self.folder is not None:
            self._check_settings(self.folder / "settings.json")
        records: list[dict] = []
        for seed in self.seeds:
            for variant in self.variants:
                run = None if self.folder is None else self.folder / "runs" / _file_name(variant, seed)
                finished = None if run is None else run.with_name(f"{run.name}.csv")
                if finished is not None and finished.exists():
                    records += read_records(finished)
                    continue
                rows = [{**variant, "seed": seed, **record} for record in train_one(variant, seed, run)]
                if finished is not None:
                    write_records(finished, rows)
                records += rows
        return records

    def write(self, records: Sequence[dict], command: str, device: str, **facts: Any) -> None:
        """Write the result of all runs and where it comes from; nothing without a folder.

        Args:
            records: Of all runs.
            command: What to type to repeat them.
            device: Where they ran.
            **facts: Further facts for the reader.
        """
        if self.folder is None:
            return
        write_records(self.folder / f"{self.name}.csv", records)
        facts = {"seeds": list(self.seeds), **facts}
        write_provenance(self.folder / f"{self.name}.json", provenance(command, device, **facts))

    def _check_settings(self, path: Path) -> None:
        if not path.exists():
            write_text(path, json.dumps(self.settings, indent=2) + "\n")
            return
        found = json.loads(path.read_text())
        different = [
            f"{key} {found.get(key)!r} (now {value!r})"
            for key, value in self.settings.items()
            if found.get(key) != value
        ]
        if different:
            raise ValueError(
                f"{path.parent} holds runs with other settings: {'; '.join(different)}. Name another folder, or repeat "
                "the call with those settings to continue them."
            )


def as_list(seeds: int | Sequence[int]) -> list[int]:
    """The seeds: how many (0, 1, …), or which."""
    return list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]


def command(name: str, data: str | Path, options: dict[str, Any]) -> str:
    """Return what to type to repeat an experiment.

    Args:
        name: Of the experiment.
        data: As it was given, or the name of the set.
        options: Further options by name; a list repeats its option, None leaves it out. ``seeds`` are the seeds
            themselves.

    Returns:
        A line for the shell.
    """
    folder = os.environ.get("GEONORM_DATA")
    data = str(data)
    if folder and Path(data).is_absolute() and Path(data).is_relative_to(folder):
        # The command stays true on a machine that keeps its data elsewhere; GEONORM_DATA is searched.
        data = str(Path(data).relative_to(folder))
    words = ["geonorm", "reproduce", name, "--data", data]
    for key, value in options.items():
        if key == "seeds":
            counted = list(value) == list(range(len(value)))
            key, value = ("seeds", len(value)) if counted else ("seed", value)
        for single in value if isinstance(value, (list, tuple)) else [value] * (value is not None):
            words += [f"--{key.replace('_', '-')}", str(single)]
    return shlex.join(words)


@contextmanager
def quiet_training() -> Iterator[Any]:
    """Hand out the module that trains; process-wide settings are as before when it is left.

    Yields:
        :mod:`geonorm.experiments.training`, whose import and use touch such settings.
    """
    with preserved_global_state():
        from geonorm.experiments import training

        yield training


def _file_name(variant: dict[str, str], seed: int) -> str:
    words = [re.sub(r"[^\w.-]+", "_", value) for value in variant.values()]
    return "_".join([*words, f"seed{seed}"])
