"""Figure 1 of the survey: Allegro on uracil with its normalizers on, off, and switched one by one."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from geonorm.data import Frames, load_frames
from geonorm.experiments.records import provenance, read_records, write_provenance, write_records, write_text
from geonorm.models.allegro import Allegro, Statistics, default_device, named_normalization
from geonorm.models.global_state import preserved_global_state

#: With all, with none, and without each one alone.
DEFAULT = ("all", "none", "no shift", "no scale", "no neighbors")


def figure1(
    data: str | Path | Frames = "uracil",
    epochs: int = 20,
    seeds: int | Sequence[int] = 3,
    train: int = 200,
    test: int = 200,
    device: str | None = None,
    normalizations: Sequence[str] = DEFAULT,
    out: str | Path | None = None,
    energy_unit: str | None = None,
    batch_size: int = 5,
    learning_rate: float = 2e-3,
    model: dict | None = None,
    progress: bool = True,
    devices: int | str | list[int] = 1,
    strategy: str = "auto",
) -> list[dict]:
    """Train Allegro with and without its normalizers and return one record per run and epoch.

    Every seed decides the initial weights and the order of the batches; the split into training and test frames is the
    same for all. All normalizations of one seed run before the next seed starts.

    Args:
        data: Frames, a file (looked for in GEONORM_DATA too), ``"uracil"`` for the shipped set, ``"md17:<molecule>"``.
        epochs: Passes over the training frames; epoch 0 is recorded before training.
        seeds: How many (0, 1, …), or which.
        train: Number of training frames.
        test: Number of test frames.
        device: ``"cpu"``, ``"cuda"``, …; None takes the variable GEONORM_DEVICE, else the CPU.
        normalizations: Names of :data:`geonorm.models.allegro.NORMALIZATIONS`.
        out: Folder for one file per finished run, logs, checkpoints and the result, ``figure1.csv`` with
            ``figure1.json``; a second call with equal settings continues where the first stopped. None writes nothing.
        energy_unit: Convert the data to this unit before training; None keeps the unit of the data.
        batch_size: Molecules per step.
        learning_rate: Of Adam, constant.
        model: Further arguments of :class:`geonorm.models.allegro.Allegro`, such as ``num_scalars``.
        progress: Show Lightning's progress bar.
        devices: How many devices, or which; Lightning's argument.
        strategy: How they share the work; Lightning's argument.

    Returns:
        Records with ``normalization``, ``seed``, ``epoch``, ``train_loss``, ``test_loss``, ``test_energy_mse`` (total
        energy), ``test_force_mse`` (component), ``gradient_norm`` and ``units``, in squared units of the data. The loss
        is the mean squared error of the energy per atom plus that of the force component.

    Raises:
        ValueError: If a normalization is unknown, the set is too small, or ``out`` holds runs with other settings.
        DataFileError: If the data cannot be read.
    """
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    for name in normalizations:
        named_normalization(name)
    if not seeds or not normalizations or epochs < 0:
        raise ValueError(
            f"got {len(seeds)} seeds, {len(normalizations)} normalizations and {epochs} epochs; need some."
        )
    frames = load_frames(data)
    frames = frames if energy_unit is None else frames.to(energy_unit=energy_unit)
    train_frames, test_frames = frames.split(train, test)
    model = dict(model or {})
    statistics = Statistics.of(train_frames, model.get("cutoff", 5.0))
    settings = {
        "data": frames.name,
        "units": f"{frames.energy_unit}, {frames.length_unit}",
        "epochs": epochs,
        "train": train,
        "test": test,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "model": model,
        "statistics": {key: float(f"{value:.6g}") for key, value in vars(statistics).items()},
    }
    folder = None if out is None else Path(out)
    if folder is not None:
        _check_settings(folder / "settings.json", settings)
    where = default_device(device)
    records: list[dict] = []
    with _quiet_training() as fit:
        for seed in seeds:
            for name in normalizations:
                run = None if folder is None else folder / "runs" / f"{name.replace(' ', '_')}_seed{seed}"
                finished = None if run is None else run.with_suffix(".csv")
                if finished is not None and finished.exists():
                    records += read_records(finished)
                    continue
                network = Allegro(frames.z, statistics, name, seed=seed, device=where, **model)
                history = fit(
                    network,
                    network.graphs(train_frames),
                    network.graphs(test_frames),
                    epochs=epochs,
                    seed=seed,
                    batch_size=batch_size,
                    learning_rate=learning_rate,
                    folder=run,
                    progress=progress,
                    devices=devices,
                    strategy=strategy,
                )
                rows = [
                    {"normalization": name, "seed": seed, **record, "units": settings["units"]} for record in history
                ]
                if finished is not None:
                    write_records(finished, rows)
                records += rows
    if folder is not None:
        write_records(folder / "figure1.csv", records)
        facts = {
            "seeds": seeds,
            "normalizations": list(normalizations),
            **settings,
            "made_of": frames.provenance,
        }
        command = _command(data, settings, seeds, normalizations, energy_unit)
        write_provenance(folder / "figure1.json", provenance(command, str(where), **facts))
    return records


def _check_settings(path: Path, settings: dict) -> None:
    if not path.exists():
        write_text(path, json.dumps(settings, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    different = [
        f"{key} {found.get(key)!r} (now {settings[key]!r})" for key in settings if found.get(key) != settings[key]
    ]
    if different:
        raise ValueError(
            f"{path.parent} holds runs with other settings: {'; '.join(different)}. Name another folder, or repeat the "
            "call with those settings to continue them."
        )


def _command(
    data: str | Path | Frames, settings: dict, seeds: list[int], names: Sequence[str], energy_unit: str | None
) -> str:
    folder = os.environ.get("GEONORM_DATA")
    data = data.name if isinstance(data, Frames) else str(data)
    if folder and Path(data).is_absolute() and Path(data).is_relative_to(folder):
        # The command stays true on a machine that keeps its data elsewhere; GEONORM_DATA is searched.
        data = str(Path(data).relative_to(folder))
    words = ["geonorm", "reproduce", "figure1", "--data", data]
    for key in ("epochs", "train", "test"):
        words += [f"--{key}", str(settings[key])]
    if seeds == list(range(len(seeds))):
        words += ["--seeds", str(len(seeds))]
    else:
        words += [word for seed in seeds for word in ("--seed", str(seed))]
    if tuple(names) != DEFAULT:
        words += [word for name in names for word in ("--normalization", name)]
    if energy_unit is not None:
        words += ["--energy-unit", energy_unit]
    return shlex.join(words)


@contextmanager
def _quiet_training() -> Iterator:
    # Importing Lightning and training both touch process-wide settings.
    with preserved_global_state():
        from geonorm.experiments.training import train

        yield train
