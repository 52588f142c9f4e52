"""How far a trained network of molecules is from the symmetries of its task, and how much batch mates matter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from geonorm.match.blame import rows_per_sample
from geonorm.match.errors import relative_error
from geonorm.match.graphs import Graphs
from geonorm.match.network_outputs import Outputs
from geonorm.match.network_run import Runner, default_precision, in_precision
from geonorm.match.rotations import random_rotations
from geonorm.models.backbone.constants import entries_of

#: What a network of molecules is given; ``pair_index`` where it has a read-out of pairs.
INPUTS = ("z", "pos", "batch", "pair_index")
#: What the rows of its outputs belong to.
OUTPUTS = {"energies": "samples", "forces": "nodes", "values": "edges"}
#: What is measured.
ERRORS = ("rotation", "inversion", "permutation", "coupling")


def symmetry_errors(
    network: nn.Module, batch: Any, dtype: torch.dtype = torch.float64, seed: int = 0
) -> list[dict[str, float | str]]:
    r"""Return the relative errors of the symmetries of a network in training and in evaluation mode.

    Each is the distance between two predictions y and y′ that ought to be equal, for all molecules together:

    $$ \frac{\lVert y-y'\rVert}{\lVert y\rVert+\lVert y'\rVert} $$

    * ``rotation``: every molecule is turned by a rotation of its own, and the prediction is turned alike;
    * ``inversion``: the same with a reflection for every second molecule;
    * ``permutation``: the atoms of every molecule, and the molecules, come in another order;
    * ``coupling``: the molecules of the first half of the batch are predicted beside each other, and then each beside
      molecules of the second half.

    The network itself is left as it is: a copy is measured, on the CPU, and from the same running statistics at every
    call. :func:`geonorm.check_network` measures any network, and looks for the module to blame.

    Args:
        network: A network of molecules of this library.
        batch: What ``batch`` of :class:`geonorm.data.Configurations` or :class:`geonorm.data.Couplings` returns, of
            four molecules or more.
        dtype: The type of numbers to measure in.
        seed: Of the rotations and orders.

    Returns:
        For each mode and output (``"energies"`` and ``"forces"``, or ``"values"`` of pairs) a record with ``mode``,
        ``output`` and the four errors; an error is not a number where a prediction is not finite.

    Raises:
        ValueError: If there are fewer than four molecules.
    """
    entries = {name: value for name, value in entries_of(batch).items() if name in INPUTS and value is not None}
    kinds = {"z": "nodes", "pos": "coordinates", "batch": "batch"}
    kinds |= {"pair_index": "edge index"} if "pair_index" in entries else {}
    given = Graphs({name: value.detach().cpu() for name, value in entries.items()}, kinds)
    if given.samples < 4:
        raise ValueError(f"the batch has {given.samples} molecules, expected four or more: two halves with mates")
    records: list[dict[str, float | str]] = []
    # Forces are found all the same; what is saved are the derivatives of forces.
    with default_precision(dtype), torch.no_grad():
        graphs = given.to(dtype)
        run = Runner(in_precision(network, dtype).cpu(), graphs.entries, _predictions)
        for run.training in (True, False):
            mode = "training" if run.training else "evaluation"
            errors = _errors(run, graphs, seed)
            records += [{"mode": mode, "output": name, **of_output} for name, of_output in errors.items()]
    return records


def _predictions(network: nn.Module, entries: Mapping[str, Any]) -> dict[str, Tensor]:
    found = network(**entries, batch_size=int(entries["batch"].max()) + 1)
    if isinstance(found, tuple):
        return dict(zip(("energies", "forces"), found, strict=True))
    return {"values" if "pair_index" in entries else "energies": found}


def _errors(run: Runner, graphs: Graphs, seed: int) -> dict[str, dict[str, float]]:
    start = run(graphs).outputs
    read = Outputs(graphs, {name: OUTPUTS[name] for name in start}, {"forces": "1o"} if "forces" in start else {})
    errors: dict[str, dict[str, float]] = {name: {} for name in start}

    def judge(symmetry: str, found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
        for name, value in expected.items():
            # A maximum of tensors keeps nan, which is neither below nor above anything.
            both = [errors[name].get(symmetry, 0.0), relative_error(found[name], value)]
            errors[name][symmetry] = torch.tensor(both, dtype=torch.float64).max().item()

    for symmetry, improper in (("rotation", False), ("inversion", True)):
        g = random_rotations(graphs.samples, improper, seed)
        judge(symmetry, run(graphs.rotated(g)).outputs, read.rotated(start, g))
    permuted, order = graphs.permuted(seed)
    judge("permutation", run(permuted).outputs, read.permuted(start, order))
    backwards = list(reversed(range(graphs.samples)))
    judge("permutation", _of_samples(run, graphs, read, backwards, backwards), _taken(start, graphs, read, backwards))
    half = graphs.samples // 2
    first, second = list(range(half)), list(range(half, 2 * half))
    beside = [_of_samples(run, graphs, read, [one, *second[1:]], [one]) for one in first]
    moved = {name: torch.cat([found[name] for found in beside]) for name in start}
    judge("coupling", moved, _of_samples(run, graphs, read, first, first))
    return errors


def _of_samples(run: Runner, graphs: Graphs, read: Outputs, batch: list[int], kept: list[int]) -> dict[str, Tensor]:
    """Predict a batch of some molecules, and keep what belongs to some of those."""
    part = graphs.of_samples(batch)
    return _taken(run(part).outputs, part, read, [batch.index(one) for one in kept])


def _taken(values: Mapping[str, Tensor], graphs: Graphs, read: Outputs, samples: list[int]) -> dict[str, Tensor]:
    """The rows of some samples, one sample after the other."""
    rows = rows_per_sample(graphs)
    parts = [read.of_sample(values, sample, rows) for sample in samples]
    return {name: torch.cat([part[name] for part in parts]) for name in values}
