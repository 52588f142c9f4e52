"""The two targets of the swap experiment: energies with forces, and values of atom pairs, ready for training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from geonorm.data import Configurations, Couplings, load_configurations, load_couplings
from geonorm.data.couplings import COUPLING_TYPES, CouplingBatch
from geonorm.data.frames import SYMBOLS
from geonorm.experiments.batches import Samples
from geonorm.experiments.element_energies import fit_element_energies, without_element_energies
from geonorm.experiments.gemnet_errors import Batch, Errors, force_errors, in_training_mode

#: The targets by name: where their data come from unless another set is named.
TARGETS = {"forces": "collisions", "couplings": "couplings"}


@dataclass(frozen=True)
class Problem:
    """What a network of one target learns from, and how it is judged.

    Args:
        name: Of the data.
        readout: Of the backbone.
        train_set: What it learns from.
        test_set: What it is judged by.
        errors: Called as ``errors(network, batch)``: ``loss``, ``error`` and ``energy_error``, in evaluation mode also
            ``live_…`` of each.
        units: Of the errors.
        settings: What the data were made into, for the reader.
        provenance: Where the data come from.
    """

    name: str
    readout: str
    train_set: Samples
    test_set: Samples
    errors: Callable[[nn.Module, Any], Errors]
    units: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


def problem(
    target: str, data: str | Path | Configurations | Couplings | None, train: int, test: int, energy_weight: float
) -> Problem:
    r"""Prepare the data of a target.

    Of total energies one constant per element is subtracted; of coupling constants the mean of their type, and what is
    left is divided by its standard deviation. All constants come from the training set, and the errors are those of the
    total energies in their unit and of the constants in Hz.

    Args:
        target: ``"forces"`` or ``"couplings"``.
        data: A set, or what :func:`geonorm.data.load_configurations` or :func:`geonorm.data.load_couplings`
            understands; None takes the shipped one.
        train: Number of training molecules.
        test: Number of test molecules.
        energy_weight: Of the energy in the loss of forces, from 0 to 1.

    Returns:
        The problem.

    Raises:
        ValueError: If the target is unknown, or the set is too small.
        DataFileError: If the data cannot be read.
    """
    if target not in TARGETS:
        raise ValueError(f"target is {target!r}, expected one of {', '.join(TARGETS)}")
    if not 0 <= energy_weight <= 1:
        raise ValueError(f"energy_weight is {energy_weight}, expected a number from 0 to 1: the forces get the rest.")
    make = _forces if target == "forces" else _couplings
    return make(TARGETS[target] if data is None else data, train, test, energy_weight)


def _forces(data: Any, train: int, test: int, energy_weight: float) -> Problem:
    configurations = load_configurations(data)
    train_set, test_set = configurations.split(train, test)
    constants = fit_element_energies(train_set)
    train_set, test_set = (without_element_energies(part, constants) for part in (train_set, test_set))
    return Problem(
        configurations.name,
        "energy",
        Samples(train, train_set.batch),
        Samples(test, test_set.batch),
        partial(in_both_modes, partial(errors_of_forces, energy_weight=energy_weight)),
        f"{configurations.energy_unit}, {configurations.length_unit}",
        {"element_energies": {SYMBOLS.get(z, str(z)): float(f"{value:.6g}") for z, value in constants.items()}},
        configurations.provenance,
    )


def _couplings(data: Any, train: int, test: int, energy_weight: float) -> Problem:
    couplings = load_couplings(data)
    present = sorted(set(couplings.molecule.tolist()))
    train_set, test_set = couplings[present].split(train, test)
    known = {number: train_set.constants[train_set.types == number] for number in range(len(COUPLING_TYPES))}
    means = np.array([values.mean() if len(values) else 0.0 for values in known.values()])
    scale = float((train_set.constants - means[train_set.types]).std())
    shifts = torch.tensor(means)

    def join(part: Couplings, index: list[int]) -> CouplingBatch:
        batch = part.batch(index)
        rest = (batch.targets.double().sum(1) - shifts[batch.types]) / scale
        return batch._replace(targets=rest[:, None].to(batch.targets))

    return Problem(
        couplings.name,
        "pairs",
        Samples(train, partial(join, train_set)),
        Samples(test, partial(join, test_set)),
        partial(in_both_modes, partial(errors_of_pairs, scale=scale)),
        "Hz",
        {
            "type_means": {kind: float(f"{mean:.6g}") for kind, mean in zip(COUPLING_TYPES, means, strict=True)},
            "scale": float(f"{scale:.6g}"),
        },
        couplings.provenance,
    )


def errors_of_forces(network: nn.Module, batch: Batch, energy_weight: float) -> Errors:
    """Return the loss of GemNet's code, the mean error of forces and that of energies.

    Args:
        network: Of energies and forces.
        batch: From :meth:`geonorm.data.Configurations.batch`.
        energy_weight: The weight of the energy in the loss.

    Returns:
        ``loss``, ``error`` (mean Euclidean norm over atoms) and ``energy_error`` (mean over molecules), each with the
        number of molecules or atoms.
    """
    found = force_errors(network, batch, energy_weight)
    return {"loss": found["loss"], "error": found["force_mae"], "energy_error": found["energy_mae"]}


def errors_of_pairs(network: nn.Module, batch: CouplingBatch, scale: float) -> Errors:
    """Return the mean absolute error over pairs, as it is minimized and in the unit of the constants.

    Args:
        network: Of values of pairs.
        batch: Its targets are one column in units of ``scale``.
        scale: What the targets were divided by.

    Returns:
        ``loss`` and ``error``, each with the number of pairs; ``energy_error`` is not a number.
    """
    z, pos, index, pair_index, molecules, targets, _ = batch
    values = network(z, pos, index, molecules, pair_index)
    loss, number = (values - targets[:, 0]).abs().mean(), len(targets)
    return {"loss": (loss, number), "error": (scale * loss, number), "energy_error": (loss.detach() * torch.nan, 1)}


def in_both_modes(errors: Callable[[nn.Module, Any], Errors], network: nn.Module, batch: Any) -> Errors:
    """Return the errors in the mode that a network is in, and in evaluation mode those that are live.

    Live is in training mode, without gradients and without a trace in running statistics. Only where there are some the
    two differ.

    Args:
        errors: Of a network and a batch.
        network: The network.
        batch: The batch.

    Returns:
        The errors; in evaluation mode also ``live_…`` of each.
    """
    found = errors(network, batch)
    if network.training:
        return found
    live = found
    if has_running_statistics(network):
        with torch.no_grad(), in_training_mode(network):
            live = errors(network, batch)
    return found | {f"live_{name}": mean for name, mean in live.items()}


def has_running_statistics(network: nn.Module) -> bool:
    """Whether a network keeps statistics of batches for evaluation, as BatchNorm does."""
    return any("running_" in name for name, _ in network.named_buffers())


def on_device(batch: Any, device: torch.device) -> Any:
    """A batch with its tensors on a device, of the kind that it was."""
    moved = [part.to(device) if isinstance(part, Tensor) else part for part in batch]
    return type(batch)(*moved) if hasattr(batch, "_fields") else tuple(moved)
