"""Figure 2 of the survey, left: SchNet on scalar couplings, with its normalization on, off, and exchanged."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from geonorm.data import Couplings, load_couplings
from geonorm.data.couplings import COUPLING_TYPES, CouplingBatch
from geonorm.experiments.batches import Batches, SameSize, Samples
from geonorm.experiments.measurements import join_measurements, measured
from geonorm.experiments.runs import Runs, as_list, command, quiet_training
from geonorm.models.allegro import default_device
from geonorm.models.schnet import CouplingSchNet
from geonorm.models.schnet.interaction import ACTIVATIONS

#: What the cited code does, what it does in effect, what the survey's table calls SchNet, and nothing.
DEFAULT = ("batch", "batch frozen", "none", "neighbour mean")
#: Sizes of the experiment by name: minutes on two cores, and the cited network, for a GPU.
PRESETS: dict[str, dict[str, Any]] = {
    "quick": {"epochs": 20, "seeds": 1, "width": 64, "molecules": 100},
    "full": {"epochs": 60, "seeds": 3, "width": 512, "molecules": None},
}
#: Of how many training molecules activations, gradients and symmetries are measured.
MEASURED = 16


def figure2_schnet(
    data: str | Path | Couplings = "couplings",
    epochs: int = 20,
    seeds: int | Sequence[int] = 3,
    normalizations: Sequence[str] = DEFAULT,
    activations: Sequence[str] = tuple(ACTIVATIONS),
    width: int = 128,
    batch_size: int = 8,
    same_size: bool = False,
    learning_rate: float = 1e-3,
    decay: float = 0.99,
    molecules: int | None = None,
    test: float = 0.1,
    freeze_after: int = 50,
    norm_options: Mapping[str, Mapping[str, Any]] | None = None,
    device: str | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    devices: int | str | list[int] = 1,
    strategy: str = "auto",
) -> list[dict]:
    r"""Train the cited SchNet with and without its normalization and return one record per run and epoch.

    The loss is the mean absolute error over pairs and contributions. The score of the contest is the mean over types of
    the logarithm of the mean absolute error of their coupling constants,

    $$ \frac1T\sum_t\ln\Big(\frac1{n_t}\sum_{p\in t}\lvert\hat J_p-J_p\rvert\Big),\qquad
       J=J^{\rm FC}+J^{\rm SD}+J^{\rm PSO}+J^{\rm DSO} $$

    Every seed decides the initial weights and the order of the batches; the split into training and test molecules is
    the same for all.

    Args:
        data: Couplings, ``"couplings"`` for the shipped set, a folder with the files of CHAMPS, or a ``.npz`` file.
        epochs: Passes over the training molecules; epoch 0 is recorded before training.
        seeds: How many (0, 1, …), or which.
        normalizations: Names that :class:`geonorm.models.schnet.CouplingSchNet` knows.
        activations: Of the filters; every normalization is run with each.
        width: Channels of the network, 512 in the cited code.
        batch_size: Molecules per step and process.
        same_size: Make batches of molecules of one size, as the cited code does; it needs many molecules.
        learning_rate: Of Adam at the start.
        decay: What it is multiplied by after every epoch.
        molecules: How many of the set to use; None uses all.
        test: The part of the molecules that is kept for testing.
        freeze_after: Batches after which ``"batch frozen"`` freezes.
        norm_options: Further options by normalization, such as ``{"GroupNorm": {"num_groups": 4}}``.
        device: ``"cpu"``, ``"cuda"``, …; None takes the variable GEONORM_DEVICE, else the CPU.
        out: Folder for one file per finished run, logs, checkpoints and the result, ``figure2-schnet.csv`` with
            ``figure2-schnet.json``; further ``figure2-schnet-depth.csv``, activations and gradients by layer before and
            after training, and ``figure2-schnet-symmetry.csv``, the errors of the symmetries after it
            (:func:`layer_sizes` and :func:`~geonorm.experiments.symmetry.symmetry_errors` of 16 training molecules). A
            second call with equal settings continues where the first stopped. None writes nothing.
        progress: Show Lightning's progress bar.
        devices: How many devices, or which; Lightning's argument.
        strategy: How they share the work; Lightning's argument.

    Returns:
        Records with ``normalization``, ``activation``, ``seed``, ``epoch``, ``gradient_norm``, ``units`` and, for
        ``train_`` (running means in training mode; in epoch 0 in evaluation mode) and ``test_`` (evaluation mode):
        ``loss``, ``mse`` (mean squared error of the contributions), ``mae`` (of the coupling constants), ``log_mae``
        (the score) and ``mae_<type>`` of every type of the set.

    Raises:
        ValueError: If a name is unknown, the set is too small, or ``out`` holds runs with other settings.
        DataFileError: If the data cannot be read.
    """
    seeds, normalizations, activations = as_list(seeds), list(normalizations), list(activations)
    options = {"batch frozen": {"freeze_after": freeze_after}} | {k: dict(v) for k, v in (norm_options or {}).items()}
    if not seeds or not normalizations or not activations or epochs < 0:
        raise ValueError(
            f"got {len(seeds)} seeds, {len(normalizations)} normalizations, {len(activations)} activations and "
            f"{epochs} epochs; need some."
        )
    variants = [{"normalization": name, "activation": sigma} for sigma in activations for name in normalizations]
    for variant in variants:
        _network(variant, options, width)
    couplings = load_couplings(data)
    used = _with_couplings(couplings, molecules)
    held = max(1, round(test * len(used)))
    train_set, test_set = used.split(len(used) - held, held)
    settings = {
        "data": couplings.name,
        "units": "Hz",
        "epochs": epochs,
        "train": len(train_set),
        "test": len(test_set),
        "width": width,
        "batch_size": batch_size,
        "same_size": same_size,
        "learning_rate": learning_rate,
        "decay": decay,
        "norm_options": options,
    }
    runs = Runs("figure2-schnet", variants, seeds, settings, None if out is None else Path(out))
    where = default_device(device)
    looked_at = train_set.batch(range(min(MEASURED, len(train_set))), where)
    types = [kind for number, kind in enumerate(COUPLING_TYPES) if (used.types == number).any()]
    sizes = train_set.sizes.tolist()
    # Before anything is trained or written: sizes may be too rare for batches of one size.
    order = {seed: (SameSize(sizes, batch_size, seed) if same_size else None) for seed in seeds}
    with quiet_training() as training:

        def train_one(variant: dict[str, str], seed: int, folder: Path | None) -> list[dict]:
            network = _network(variant, options, width, seed=seed, device=where)
            with measured(network, looked_at, errors, epochs, folder, {**variant, "seed": seed}):
                history = training.train(
                    network,
                    Samples(len(train_set), train_set.batch),
                    Samples(len(test_set), test_set.batch),
                    errors,
                    order[seed] or Batches(len(train_set), batch_size, seed),
                    epochs=epochs,
                    learning_rate=learning_rate,
                    decay=decay,
                    folder=folder,
                    progress=progress,
                    devices=devices,
                    strategy=strategy,
                )
            return [_record(record, types) for record in history]

        records = runs.train(train_one)
    # The preset that uses all molecules unless it is told otherwise; all its other sizes are told.
    typed = {
        "preset": "full",
        "epochs": epochs,
        "seeds": seeds,
        "normalization": normalizations,
        "activation": activations,
    }
    typed |= {"width": width, "batch_size": batch_size, "molecules": molecules}
    source = couplings.name if isinstance(data, Couplings) else data
    line = command("figure2-schnet", source, typed) + " --same-size" * same_size
    facts = {"normalizations": normalizations, "activations": activations, **settings, "made_of": couplings.provenance}
    join_measurements(runs.folder, runs.name)
    runs.write(records, line, str(where), **facts)
    return records


def errors(network: CouplingSchNet, batch: CouplingBatch) -> dict[str, tuple[torch.Tensor, int]]:
    r"""Return the loss and the reported errors of a batch.

    $$ \mathcal L=\frac1{4P}\sum_{p,k}\lvert\hat J_{pk}-J_{pk}\rvert $$

    Args:
        network: The network.
        batch: From :meth:`geonorm.data.Couplings.batch`.

    Returns:
        ``loss``, ``mse``, ``mae`` and ``mae_<type>``, each with the number of couplings; zero of a type that is absent.
    """
    difference = network(*batch[:5]) - batch.targets
    constant = difference.sum(1).abs()
    number = len(constant)
    counts = torch.bincount(batch.types, minlength=len(COUPLING_TYPES))
    by_type = constant.new_zeros(len(COUPLING_TYPES)).index_add(0, batch.types, constant) / counts.clamp(min=1)
    found = {
        "loss": (difference.abs().mean(), number),
        "mse": (difference.square().mean(), number),
        "mae": (constant.mean(), number),
    }
    each = zip(COUPLING_TYPES, by_type, counts.tolist(), strict=True)
    return found | {f"mae_{kind}": (value, count) for kind, value, count in each}


def _network(variant: dict[str, str], options: Mapping, width: int, **more: Any) -> CouplingSchNet:
    name = variant["normalization"]
    return CouplingSchNet(name, options.get(name), variant["activation"], width, **more)


def _with_couplings(couplings: Couplings, molecules: int | None) -> Couplings:
    """The first molecules that have couplings: without one, there is nothing to learn or to judge."""
    present = sorted(set(couplings.molecule.tolist()))[:molecules]
    if len(present) < max(molecules or 0, 2):
        raise ValueError(f"{couplings.name} has {len(present)} molecules with couplings, {molecules or 2} are needed.")
    return couplings[present]


def _record(record: dict[str, Any], types: Sequence[str]) -> dict[str, Any]:
    row = {"epoch": record["epoch"]}
    for stage in ("train", "test"):
        row |= {f"{stage}_{name}": record[f"{stage}_{name}"] for name in ("loss", "mse", "mae")}
        by_type = {f"{stage}_mae_{kind}": record[f"{stage}_mae_{kind}"] for kind in types}
        # A small test set may lack a type.
        known = [value for value in by_type.values() if not math.isnan(value)]
        row |= {f"{stage}_log_mae": sum(map(math.log, known)) / len(known), **by_type}
    return row | {"gradient_norm": record["gradient_norm"], "units": "Hz"}
