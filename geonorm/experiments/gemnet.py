"""Figure 2 of the survey, right: GemNet on energies and forces, with what normalizes it on, off, and exchanged."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from geonorm.data import Configurations, load_configurations
from geonorm.data.frames import SYMBOLS
from geonorm.experiments.batches import Batches, Samples
from geonorm.experiments.element_energies import fit_element_energies, without_element_energies
from geonorm.experiments.gemnet_errors import QUANTITIES, StepClock, errors
from geonorm.experiments.measurements import join_measurements, measured
from geonorm.experiments.records import write_text
from geonorm.experiments.runs import Runs, as_list, command, quiet_training
from geonorm.layers.modern.scale_factor import load_scale_factors
from geonorm.models.allegro import default_device
from geonorm.models.gemnet import GemNet, named_normalization, named_sizes

#: The published factors, factors of one, no constant of the design but the initialization, and BatchNorm.
DEFAULT = ("fitted", "ones", "plain", "batch")
#: Sizes of the experiment by name: minutes on two cores, and the published network, for a GPU.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 4, "seeds": 1, "size": "small", "train": 500, "test": 100},
    "full": {"epochs": 15, "seeds": 3, "size": "default", "train": 5000, "test": 1000},
}
#: Batches of the training set to which the factors are fitted, and how many configurations each has, as published. They
#: do not follow the batch of a step: several processes with smaller ones are to find the same factors.
FITTED_ON = (25, 32)
#: Of how many training configurations activations, gradients and symmetries are measured.
MEASURED = 8
#: Where the three kinds of errors of a record come from, by the start of their names.
STAGES = {"train": "training", "test": "test", "test_live": "test, live"}


def figure2_gemnet(
    data: str | Path | Configurations = "collisions",
    epochs: int = 20,
    seeds: int | Sequence[int] = 3,
    normalizations: Sequence[str] = DEFAULT,
    train: int = 1000,
    test: int = 500,
    size: str = "small",
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    energy_weight: float = 0.001,
    element_energies: bool = True,
    model: Mapping[str, Any] | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    devices: int | str | list[int] = 1,
    strategy: str = "auto",
) -> list[dict]:
    r"""Train GemNet-T with each of its normalizations and return one record per run and epoch.

    The loss is that of the cited code: with the weight w of the energy 0.001,

    $$ \mathcal L=\frac wM\sum_m\lvert\hat E_m-E_m\rvert+\frac{1-w}N\sum_a\lVert\hat F_a-F_a\rVert_2 $$

    over the M molecules and N atoms of a batch. Adam with a constant learning rate takes the place of its AdamW,
    warm-up, clipping and weight averages. Factors are fitted before training, to 25 batches of 32 of the training set.

    The test set is judged twice: in evaluation mode, and live, which is in training mode without gradients, on batches
    of 50 molecules. The two are equal unless a layer such as BatchNorm, in the place of the factors, takes its
    statistics from the batch.

    Every seed decides the initial weights and the order of the batches; the split, by trajectory where those are known,
    is the same for all.

    Args:
        data: Configurations, or what :func:`geonorm.data.load_configurations` understands: ``"collisions"``,
            ``"coll:train"``, ``"h2combustion:train"``, a file.
        epochs: Passes over the training set; epoch 0 is recorded before training.
        seeds: How many (0, 1, …), or which.
        normalizations: Names of :data:`geonorm.models.gemnet.NORMALIZATIONS`.
        train: Number of training configurations.
        test: Number of test configurations.
        size: ``"small"``, or ``"default"`` as published.
        batch_size: Configurations per step and process.
        learning_rate: Of Adam.
        energy_weight: Of the energy in the loss, from 0 to 1.
        element_energies: Subtract from the energies one constant per element, fitted to the training set by least
            squares. Differences between predictions and labels stay those of the total energy.
        model: Further arguments of :class:`geonorm.models.gemnet.GemNet`, such as ``num_blocks``.
        device: ``"cpu"``, ``"cuda"``, …; None takes the variable GEONORM_DEVICE, else the CPU.
        out: Folder for one file per finished run, fitted factors, logs, checkpoints and the result,
            ``figure2-gemnet.csv`` with ``figure2-gemnet.json``; further ``figure2-gemnet-depth.csv``, activations and
            gradients by layer before and after training, and ``figure2-gemnet-symmetry.csv``, the errors of the
            symmetries after it (:func:`layer_sizes` and :func:`~geonorm.experiments.symmetry.symmetry_errors` of 8
            training configurations). A second call with equal settings continues where the first stopped. None writes
            nothing.
        progress: Show Lightning's progress bar.
        devices: How many devices, or which; Lightning's argument.
        strategy: How they share the work; Lightning's argument.

    Returns:
        Records with ``normalization``, ``seed``, ``epoch``, ``gradient_norm``, ``step_seconds`` (mean over the training
        steps of an epoch, without the first), ``units`` of the data, and for ``train_`` (means over the epoch while the
        network changes; in epoch 0 in evaluation mode), ``test_`` and ``test_live_``: ``loss``, ``energy_mae`` and
        ``energy_mse`` of total energies, ``force_mae`` (mean Euclidean norm) and ``force_mse`` (per component).

    Raises:
        ValueError: If a name is unknown, the set is too small, or ``out`` holds runs with other settings.
        DataFileError: If the data cannot be read.

    Source: Gasteiger, Becker and Günnemann 2021 (arXiv 2106.08903); TUM-DAML/gemnet_pytorch at a0164f7 for the loss.
    """
    seeds, normalizations, model = as_list(seeds), list(normalizations), dict(model or {})
    if not seeds or not normalizations or epochs < 0:
        raise ValueError(
            f"got {len(seeds)} seeds, {len(normalizations)} normalizations and {epochs} epochs; need some."
        )
    if not 0 <= energy_weight <= 1:
        raise ValueError(f"energy_weight is {energy_weight}, expected a number from 0 to 1: the forces get the rest.")
    for name in normalizations:
        named_normalization(name)
    named_sizes(size)
    # Before anything is written: an argument may be none of the network's.
    GemNet(size, normalizations[0], device="cpu", **model)
    configurations = load_configurations(data)
    train_set, test_set = configurations.split(train, test)
    constants = fit_element_energies(train_set) if element_energies else {}
    train_set, test_set = (without_element_energies(part, constants) for part in (train_set, test_set))
    settings = {
        "data": configurations.name,
        "units": f"{configurations.energy_unit}, {configurations.length_unit}",
        "epochs": epochs,
        "train": train,
        "test": test,
        "size": size,
        "model": model,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "energy_weight": energy_weight,
        "element_energies": {SYMBOLS.get(z, str(z)): float(f"{value:.6g}") for z, value in constants.items()},
    }
    variants = [{"normalization": name} for name in normalizations]
    runs = Runs("figure2-gemnet", variants, seeds, settings, None if out is None else Path(out))
    where = default_device(device)
    looked_at = train_set.batch(range(min(MEASURED, train)), where)
    weighted = partial(errors, energy_weight=energy_weight)
    with quiet_training() as training:

        def train_one(variant: dict[str, str], seed: int, folder: Path | None) -> list[dict]:
            network = GemNet(size, variant["normalization"], seed=seed, device=where, **model)
            _fit(network, train_set, where, folder)
            with measured(network, looked_at, weighted, epochs, folder, {**variant, "seed": seed}):
                history = training.train(
                    network,
                    Samples(train, train_set.batch),
                    Samples(test, test_set.batch),
                    StepClock(errors, energy_weight),
                    Batches(train, batch_size, seed),
                    epochs=epochs,
                    learning_rate=learning_rate,
                    folder=folder,
                    progress=progress,
                    devices=devices,
                    strategy=strategy,
                )
            return [_record(record, energy_weight) | {"units": settings["units"]} for record in history]

        records = runs.train(train_one)
    typed = {key: settings[key] for key in ("epochs", "train", "test", "size", "batch_size", "learning_rate")}
    typed |= {"energy_weight": energy_weight, "seeds": seeds, "normalization": normalizations}
    typed["model"] = [f"{key}={value}" for key, value in model.items()]
    source = configurations.name if isinstance(data, Configurations) else data
    line = command("figure2-gemnet", source, typed) + " --raw-energies" * (not element_energies)
    facts = {"normalizations": normalizations, **settings, "scale_factors": _kept_factors(runs.folder)}
    facts["made_of"] = configurations.provenance
    runs.write(records, line, str(where), **facts)
    join_measurements(runs.folder, "figure2-gemnet")
    return records


def by_stage(records: Sequence[dict], quantity: str = "force_mae") -> list[dict]:
    """Return the records of one error with its three kinds in rows below each other, for a figure with a panel of each.

    Args:
        records: From :func:`figure2_gemnet`.
        quantity: ``loss``, ``energy_mae``, ``energy_mse``, ``force_mae`` or ``force_mse``.

    Returns:
        Records with ``normalization``, ``seed``, ``epoch``, ``stage`` (a value of :data:`STAGES`) and the error.
    """
    shared = ("normalization", "seed", "epoch")
    return [
        {key: record[key] for key in shared} | {"stage": title, quantity: record[f"{stage}_{quantity}"]}
        for stage, title in STAGES.items()
        for record in records
    ]


def _fit(network: GemNet, train_set: Configurations, where: torch.device, folder: Path | None) -> None:
    """Fit the factors, where there are any, or take those that a run had before it was interrupted."""
    if network.normalization.factors != "fitted":
        return
    kept = None if folder is None else folder / "scale_factors.json"
    if kept is not None and kept.exists():
        load_scale_factors(network, kept)
        return
    # The order of the set is random, and the same for all seeds.
    number, size = FITTED_ON
    used = range(min(len(train_set), number * size))
    parts = [used[first : first + size] for first in used[::size]]
    factors = network.fit([(*train_set.batch(part, where)[:3], len(part)) for part in parts])
    if kept is not None:
        write_text(kept, json.dumps(factors, indent=2) + "\n")


def _kept_factors(folder: Path | None) -> dict[str, dict[str, float]]:
    """The factors of every run that has some."""
    kept = [] if folder is None else sorted((folder / "runs").glob("*/scale_factors.json"))
    return {path.parent.name: json.loads(path.read_text()) for path in kept}


def _record(record: dict[str, Any], energy_weight: float) -> dict[str, Any]:
    row = {"epoch": record["epoch"]}
    for stage in STAGES:
        of_stage = {name: record[f"{stage}_{name}"] for name in QUANTITIES}
        # From the means over all molecules and atoms: the mean over batches would weigh atoms by their batch.
        loss = energy_weight * of_stage["energy_mae"] + (1 - energy_weight) * of_stage["force_mae"]
        row |= {f"{stage}_{name}": value for name, value in ({"loss": loss} | of_stage).items()}
    return row | {
        "gradient_norm": record["gradient_norm"],
        "step_seconds": record.get("train_step_seconds", math.nan),
    }
