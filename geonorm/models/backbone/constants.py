"""The constants that some rows take from a training set, found in a few batches of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from geonorm.layers.modern.per_type import PerTypeScaleShift
from geonorm.layers.modern.scale_factor import fit_scale_factors
from geonorm.layers.neighbors import AverageNeighborNorm
from geonorm.models.backbone.blocks import Graph

if TYPE_CHECKING:
    from geonorm.models.backbone.network import Backbone

#: The entries of a batch that is a tuple, as ``batch`` of :class:`geonorm.data.Configurations` gives it.
ENTRIES = ("z", "pos", "batch", "energy", "forces")


def fit_constants(model: Backbone, batches: Iterable[Any]) -> dict[str, Any]:
    """Find the constants of the row of a network, as :meth:`Backbone.fit` says.

    Args:
        model: The network.
        batches: A few batches of the training set.

    Returns:
        What was found, by name.

    Raises:
        ValueError: If there are no batches, or they do not determine the constants.
    """
    scale_factors = model.row is not None and model.row.name == "ScaleFactor"
    if not (scale_factors or model.to_fit):
        return {}
    given = [entries_of(batch) for batch in batches]
    inputs = [[entries.get(key) for key in ("z", "pos", "batch", "batch_size")] for entries in given]
    if scale_factors:
        return fit_scale_factors(model, inputs, call=lambda model, batch: model.features(*batch))
    with torch.no_grad():
        graphs = [model.graph(*each) for each in inputs]
    found = _scale_and_shifts(model, given, graphs) if model.per_type is not None else _neighbors(model, graphs)
    model.has_constants.fill_(True)
    return found


def entries_of(batch: Any) -> dict[str, Any]:
    """The entries of a batch by name.

    Args:
        batch: A mapping or a named tuple, or a tuple of charges, positions, molecules, energies and forces.

    Returns:
        The entries.
    """
    if isinstance(batch, Mapping):
        return dict(batch)
    return batch._asdict() if hasattr(batch, "_asdict") else dict(zip(ENTRIES, batch, strict=False))


def _neighbors(model: Backbone, graphs: list[Graph]) -> dict[str, float]:
    """The mean number of neighbours over all atoms."""
    counted = AverageNeighborNorm.from_dataset(1, [(graph.target, len(graph.known["batch"])) for graph in graphs])
    layers = [module for module in model.modules() if isinstance(module, AverageNeighborNorm)]
    for layer in layers:
        layer.avg_num_neighbors.copy_(counted.avg_num_neighbors)
    return {"avg_num_neighbors": counted.avg_num_neighbors.item()}


def _scale_and_shifts(model: Backbone, given: list[dict[str, Any]], graphs: list[Graph]) -> dict[str, Any]:
    """One scale, and a shift for every type that occurs: a pair is a sample of two atoms."""
    key = "energy" if model.readout == "energy" else "targets"
    if not given or any(entries.get(key) is None for entries in given):
        raise ValueError(f"PerTypeScaleShift is fitted to targets, expected batches with the entry {key!r}")
    samples: list[Tensor] = []
    for entries, graph in zip(given, graphs, strict=True):
        types, batch = graph.known["types"], graph.known["batch"]
        if model.readout == "pairs":
            samples += types[entries["pair_index"]].T.unbind(0)
        else:
            samples += [types[batch == number] for number in range(graph.known["batch_size"])]
    present, numbered = torch.unique(torch.cat(samples), return_inverse=True)
    targets = torch.cat([entries[key].reshape(len(entries[key]), -1).sum(1) for entries in given])
    forces = [entries["forces"] for entries in given if entries.get("forces") is not None]
    found = PerTypeScaleShift.from_dataset(
        numbered.split([len(sample) for sample in samples]), targets, forces or None, num_types=len(present)
    )
    layer = model.per_type.layer
    with torch.no_grad():
        layer.scales.copy_(found.scales)
        layer.shifts.zero_().index_copy_(0, present, found.shifts.to(layer.shifts))
    return {"scales": layer.scales.item(), "shifts": layer.shifts.tolist()}
