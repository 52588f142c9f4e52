"""Every row of the tables in the same place of one equivariant network: is match necessary, and is it sufficient?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from geonorm.data import Configurations, Couplings
from geonorm.experiments.batches import Batches
from geonorm.experiments.records import read_records, write_records
from geonorm.experiments.runs import Runs, as_list, command, quiet_training
from geonorm.experiments.sizes import layer_sizes
from geonorm.experiments.swap_targets import TARGETS, Problem, on_device, problem
from geonorm.experiments.symmetry import symmetry_errors
from geonorm.models.allegro import default_device
from geonorm.models.backbone import Backbone
from geonorm.table import AFTER_2022, TABLE1
from geonorm.table.general import GENERAL

#: No normalization, all rows of Table 1, all of its continuation, and the general layer of Chapter 16.
DEFAULT = ("none", *TABLE1, *AFTER_2022, GENERAL.name)
#: A few rows that tell the story, for a quick look.
FEW = ("none", "BatchNorm", "LayerNorm", "EquivariantBatchNorm", "RMSNorm", "Allegro / MACE")
#: Sizes of the experiment by name and target: a minute on two cores, and all rows on a GPU.
PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    "quick": {
        "forces": {"epochs": 4, "seeds": 1, "train": 200, "test": 100, "normalizations": FEW},
        "couplings": {"epochs": 8, "seeds": 1, "train": 90, "test": 30, "normalizations": FEW},
    },
    "full": {
        "forces": {"epochs": 6, "seeds": 3, "train": 300, "test": 100, "normalizations": DEFAULT},
        "couplings": {"epochs": 10, "seeds": 3, "train": 260, "test": 80, "decay": 0.85, "normalizations": DEFAULT},
    },
}
#: The network, unless it is told otherwise.
MODEL = {"width": 16, "blocks": 2, "num_radial": 8}
#: Of how many training molecules constants are found, in batches of how many; the same for any number of processes.
FITTED_ON = (400, 50)
#: Of how many test molecules symmetries are measured, and sizes by depth; and the file of each run for the latter.
TURNED, MEASURED, SIZES_FILE = 8, 50, "layer_sizes.csv"
#: What is measured after training, columns of the last record of a run.
AFTER = ("rotation", "rotation_evaluation", "permutation", "coupling", "coupling_evaluation")


def swap_rows(
    target: str = "forces",
    data: str | Path | Configurations | Couplings | None = None,
    epochs: int = 6,
    seeds: int | Sequence[int] = 3,
    normalizations: Sequence[str] = DEFAULT,
    train: int = 300,
    test: int = 100,
    model: Mapping[str, Any] | None = None,
    batch_size: int = 8,
    learning_rate: float = 3e-3,
    decay: float = 0.8,
    energy_weight: float = 0.1,
    device: str | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    devices: int | str | list[int] = 1,
    strategy: str = "auto",
) -> list[dict]:
    r"""Train one equivariant network with every normalization in the same place; one record per run and epoch.

    The loss of forces is that of GemNet's code, with another weight w of the energy,

    $$ \mathcal L=\frac wM\sum_m\lvert\hat E_m-E_m\rvert+\frac{1-w}N\sum_a\lVert\hat F_a-F_a\rVert_2 $$

    and that of couplings the mean absolute error over pairs of atoms, in units of their spread about the means of their
    types. Adam, with a learning rate that falls from epoch to epoch, is the same for all rows, and so are the initial
    weights, the order of the batches and the split.

    Args:
        target: ``"forces"`` (and energies) or ``"couplings"`` (of pairs of atoms).
        data: A set, or what :func:`geonorm.data.load_configurations` or :func:`geonorm.data.load_couplings`
            understands; None takes the shipped one.
        epochs: Passes over the training set; epoch 0 is recorded before training.
        seeds: How many (0, 1, …), or which.
        normalizations: ``"none"``, or names of rows.
        train: Number of training molecules.
        test: Number of test molecules.
        model: Further arguments of :class:`geonorm.models.backbone.Backbone`, such as ``width``; without them 16
            channels, 2 blocks and 8 radial functions.
        batch_size: Molecules per step and process.
        learning_rate: Of Adam at the start.
        decay: What it is multiplied by after every epoch.
        energy_weight: Of the energy in the loss of forces, from 0 to 1.
        device: ``"cpu"``, ``"cuda"``, …; None takes the variable GEONORM_DEVICE, else the CPU.
        out: Folder for one file per finished run, logs, checkpoints and the result, ``swap.csv`` with ``swap.json`` and
            ``swap-depth.csv``: the sizes of activations and gradients before and after training (:func:`layer_sizes`,
            on 50 test molecules). A second call with equal settings continues where the first stopped, and may name
            further rows and seeds. None writes nothing.
        progress: Show Lightning's progress bar.
        devices: How many devices, or which; Lightning's argument.
        strategy: How they share the work; Lightning's argument.

    Returns:
        Records with ``target``, ``normalization``, ``seed``, ``epoch``, ``train_loss``, ``train_error`` (in training
        mode, while the network changes; in epoch 0 in evaluation mode), ``test_error`` (in evaluation mode),
        ``test_live_error`` (in training mode, on batches of 50), the same two of ``energy_error`` (not a number for
        couplings) and ``gradient_norm``; in the last record of a run also ``rotation``, ``rotation_evaluation``,
        ``permutation``, ``coupling`` and ``coupling_evaluation``, elsewhere not numbers: the relative errors of
        rotations and reflections, of permutations, and how far other batch mates move a prediction
        (:func:`geonorm.experiments.symmetry.symmetry_errors` of forces or values, on 8 test molecules), in training and
        in evaluation mode. Numbers have five digits. A run that diverges goes on and has records that are not finite.

    Raises:
        ValueError: If a name is unknown, the set is too small, or ``out`` holds runs with other settings.
        DataFileError: If the data cannot be read.
    """
    seeds, normalizations, model = as_list(seeds), list(normalizations), {**MODEL, **(model or {})}
    if not seeds or not normalizations or epochs < 0:
        raise ValueError(
            f"got {len(seeds)} seeds, {len(normalizations)} normalizations and {epochs} epochs; need some."
        )
    task = problem(target, data, train, test, energy_weight)
    for name in normalizations:
        # Before anything is written: a name may be no row, an argument none of the network's.
        Backbone(name, readout=task.readout, device="cpu", **model)
    settings = {
        "target": target,
        "data": task.name,
        "units": task.units,
        "epochs": epochs,
        "train": train,
        "test": test,
        "model": model,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "decay": decay,
        "energy_weight": energy_weight,
        **task.settings,
    }
    variants = [{"target": target, "normalization": name} for name in normalizations]
    runs = Runs("swap", variants, seeds, settings, None if out is None else Path(out))
    where = default_device(device)
    turned = task.test_set.join(list(range(min(test, TURNED))))
    measured = on_device(task.test_set.join(list(range(min(test, MEASURED)))), where)
    with quiet_training() as training:

        def train_one(variant: dict[str, str], seed: int, folder: Path | None) -> list[dict]:
            network = Backbone(variant["normalization"], readout=task.readout, seed=seed, device=where, **model)
            network.fit(_parts(task, where))
            depth = _sizes(network, measured, task, 0)
            history = training.train(
                network,
                task.train_set,
                task.test_set,
                task.errors,
                Batches(train, batch_size, seed),
                epochs=epochs,
                learning_rate=learning_rate,
                decay=decay,
                folder=folder,
                progress=progress,
                devices=devices,
                strategy=strategy,
            )
            if folder is not None:
                depth += _sizes(network, measured, task, epochs) if epochs else []
                write_records(folder / SIZES_FILE, [{**variant, "seed": seed, **size} for size in depth])
            records = [_record(record) for record in history]
            records[-1] |= _after(network, turned)
            return records

        records = runs.train(train_one)
    typed = {"target": target, "preset": "full"}
    typed |= {key: settings[key] for key in ("epochs", "train", "test", "batch_size", "learning_rate", "decay")}
    typed |= {"energy_weight": energy_weight, "seeds": seeds, "normalization": normalizations}
    typed["model"] = [f"{key}={value}" for key, value in model.items()]
    source = task.name if data is None or isinstance(data, (Configurations, Couplings)) else data
    source = TARGETS[target] if data is None else source
    line = command("swap", source, typed)
    if runs.folder is not None and (sizes := _kept_sizes(runs.folder)):
        write_records(runs.folder / "swap-depth.csv", sizes)
    runs.write(records, line, str(where), normalizations=normalizations, **settings, made_of=dict(task.provenance))
    return records


def _parts(task: Problem, where: torch.device) -> list[Any]:
    """Batches of the training set in which constants are found; its order is random, and the same for all seeds."""
    number, size = FITTED_ON
    used = list(range(min(task.train_set.number, number)))
    return [on_device(task.train_set.join(used[first : first + size]), where) for first in used[::size]]


def _sizes(network: Backbone, batch: Any, task: Problem, epoch: int) -> list[dict[str, Any]]:
    """How large activations and gradients are by depth, for a part of the test set."""
    return [{"epoch": epoch, **_short(size)} for size in layer_sizes(network, batch, task.errors)]


def _kept_sizes(folder: Path) -> list[dict[str, Any]]:
    """The sizes of every run."""
    return [record for path in sorted((folder / "runs").glob(f"*/{SIZES_FILE}")) for record in read_records(path)]


def _record(record: dict[str, Any]) -> dict[str, Any]:
    names = ("train_loss", "train_error", "test_error", "test_live_error", "test_energy_error")
    names += ("test_live_energy_error", "gradient_norm")
    row = {"epoch": record["epoch"]} | {name: record[name] for name in names}
    return _short(row | dict.fromkeys(AFTER, math.nan))


def _after(network: Backbone, batch: Any) -> dict[str, float]:
    """What is broken after training, for the forces or the values of pairs."""
    found = {r["mode"]: r for r in symmetry_errors(network, batch) if r["output"] != "energies"}
    # A maximum of tensors keeps nan, which is neither below nor above anything.
    of = {mode: torch.tensor([r["rotation"], r["inversion"]]).max().item() for mode, r in found.items()}
    row = {"rotation": of["training"], "rotation_evaluation": of["evaluation"]}
    row["permutation"] = torch.tensor([r["permutation"] for r in found.values()]).max().item()
    row |= {"coupling": found["training"]["coupling"], "coupling_evaluation": found["evaluation"]["coupling"]}
    return _short(row)


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """The numbers with five digits: runs on two machines differ in more."""
    return {key: float(f"{value:.5g}") if isinstance(value, float) else value for key, value in row.items()}
