"""Figure 1 of the survey: Allegro on uracil with its normalizers on, off, and switched one by one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from geonorm.data import Frames, load_frames
from geonorm.experiments.batches import Batches, Samples
from geonorm.experiments.loss import errors
from geonorm.experiments.runs import Runs, as_list, command, quiet_training
from geonorm.models.allegro import Allegro, Statistics, collate, default_device, named_normalization

#: With all, with none, and without each one alone.
DEFAULT = ("all", "none", "no shift", "no scale", "no neighbors")
#: What every epoch records; squared units of the data, per training loss, total energy and force component.
COLUMNS = ("epoch", "train_loss", "test_loss", "test_energy_mse", "test_force_mse", "gradient_norm")
#: What the options of the command stand for without further options: minutes on a laptop; the length of the survey's
#: run, with the numbers of frames and seeds of the committed one.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 20, "seeds": 3, "train": 200, "test": 200},
    "full": {"epochs": 100, "seeds": 3, "train": 200, "test": 200},
}


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
        batch_size: Molecules per step and process.
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
    seeds = as_list(seeds)
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
    variants = [{"normalization": name} for name in normalizations]
    runs = Runs("figure1", variants, seeds, settings, None if out is None else Path(out))
    where = default_device(device)
    with quiet_training() as training:

        def train_one(variant: dict[str, str], seed: int, folder: Path | None) -> list[dict]:
            network = Allegro(frames.z, statistics, variant["normalization"], seed=seed, device=where, **model)
            history = training.train(
                network,
                _samples(network.graphs(train_frames)),
                _samples(network.graphs(test_frames)),
                errors,
                Batches(train, batch_size, seed),
                epochs=epochs,
                learning_rate=learning_rate,
                folder=folder,
                progress=progress,
                devices=devices,
                strategy=strategy,
            )
            return [{key: record[key] for key in COLUMNS} | {"units": settings["units"]} for record in history]

        records = runs.train(train_one)
    options = {key: settings[key] for key in ("epochs", "train", "test")} | {"seeds": seeds}
    if tuple(normalizations) != DEFAULT:
        options["normalization"] = list(normalizations)
    typed = command(
        "figure1", frames.name if isinstance(data, Frames) else data, {**options, "energy_unit": energy_unit}
    )
    facts = {"normalizations": list(normalizations), **settings, "made_of": frames.provenance}
    runs.write(records, typed, str(where), **facts)
    return records


def _samples(graphs: list[dict[str, Tensor]]) -> Samples:
    return Samples(len(graphs), lambda chosen: collate([graphs[index] for index in chosen]))
