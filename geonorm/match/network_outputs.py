"""The outputs of a network: what their rows belong to, and what a symmetry should make of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match.blame import Rows, rows_per_sample
from geonorm.match.errors import relative_error
from geonorm.match.graphs import Graphs
from geonorm.match.network_run import Runner
from geonorm.match.rotations import rotate

#: Names of outputs that are vectors.
VECTORS = ("forces", "force", "velocities")
#: What the rows of an output can belong to.
ROWS = ("nodes", "edges", "samples")


@dataclass(frozen=True)
class Outputs:
    """How the outputs of a network are read.

    Args:
        graphs: The batch.
        rows: For each output one of :data:`ROWS`, or ``None`` where it has rows of another number.
        irreps: The irreps of the outputs that rotate.
    """

    graphs: Graphs
    rows: Mapping[str, str | None]
    irreps: Mapping[str, str]

    def rotated(self, values: Mapping[str, Tensor], g: Float[Tensor, "samples 3 3"]) -> dict[str, Tensor]:
        """What they should become when samples rotate: vectors and irreps turn, all else stays."""
        found = dict(values)
        for name, irreps in self.irreps.items():
            if values[name].ndim > 1:
                found[name] = rotate(values[name], g[self.graphs.rows(self.rows[name] or "samples")], irreps)
        return found

    def permuted(self, values: Mapping[str, Tensor], order: Int[Tensor, " nodes"]) -> dict[str, Tensor]:
        """What they should become when nodes are reordered."""
        return {name: value[order] if self.rows[name] == "nodes" else value for name, value in values.items()}

    def of_sample(self, values: Mapping[str, Tensor], sample: int, rows: Rows) -> dict[str, Tensor]:
        """The rows of one sample, in a batch with these rows."""
        return {name: rows.of_sample(values[name], kind, sample) for name, kind in self.rows.items() if name in values}


def read_outputs(values: Mapping[str, Tensor], run: Runner, graphs: Graphs, said: Mapping[str, str]) -> Outputs:
    """Find out what the rows of outputs belong to: from what was said, or from their number.

    Where numbers coincide, the network is run on a batch of other samples in which they do not.

    Args:
        values: The outputs of the batch.
        run: The network.
        graphs: The batch.
        said: For outputs by name one of :data:`ROWS`, irreps, or both: ``"edges 1o"``.

    Returns:
        The reading.

    Raises:
        ValueError: If a name is unknown, rows are not as many as was said, or what they are cannot be told.
    """
    unknown = [name for name in said if name not in values]
    if unknown:
        raise ValueError(f"outputs name {unknown}, but the network returned {list(values)}")
    rows, irreps = {}, {name: "1o" for name in values if name.lower() in VECTORS}
    known = rows_per_sample(graphs)
    for name, value in values.items():
        word, _, rest = said.get(name, "").partition(" ")
        if word in ROWS:
            rows[name] = _checked(name, word, value, known)
        else:
            rows[name], rest = _told(name, value, run, graphs, known), said.get(name, "")
        if rest:
            irreps[name] = rest
    return Outputs(graphs, rows, irreps)


def _checked(name: str, kind: str, value: Tensor, known: Rows) -> str:
    number = len(known.of[kind]) if kind in known.of else "no"
    if kind not in known.kinds(value):
        raise ValueError(
            f"outputs say that {name!r} has a row for each of the {kind}, but its shape is {list(value.shape)} and "
            f"there are {number} {kind}"
        )
    return kind


def _told(name: str, value: Tensor, run: Runner, graphs: Graphs, known: Rows) -> str | None:
    """What the rows are, by their number here or in a batch of other samples."""
    possible = known.kinds(value)
    if len(possible) < 2:
        return possible[0] if possible else None
    if set(possible) == {"nodes", "samples"} and torch.equal(known.of["nodes"], known.of["samples"]):
        return "nodes"  # samples of one node: it makes no difference
    for order in _other_batches(range(graphs.samples)):
        fewer = graphs.of_samples(order)
        of = rows_per_sample(fewer)
        if len({len(of.of[kind]) for kind in possible}) < len(possible):
            continue
        trace = run.attempt(fewer)
        found = () if isinstance(trace, str) or name not in trace.outputs else of.kinds(trace.outputs[name])
        if len(found) == 1 and found[0] in possible:
            return found[0]
    raise ValueError(
        f"{name!r} has {len(value)} rows, and there are as many {' as '.join(possible)}: say what they belong to with "
        f"outputs={{{name!r}: {possible[-1]!r}}}, or give a batch where the numbers differ"
    )


def _other_batches(samples: range) -> list[list[int]]:
    """Batches of other samples: each sample left out, then each twice."""
    fewer = [[other for other in samples if other != one] for one in samples]
    return fewer + [[*samples, one] for one in samples]


def largest_error(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """The largest relative error over outputs; outputs that vanish on both sides agree, and ``nan`` wins."""
    errors = [0.0]
    for name, value in expected.items():
        if name not in found or found[name].shape != value.shape:
            return float("nan")
        if value.any() or found[name].any():
            errors.append(relative_error(found[name], value))
    return torch.tensor(errors, dtype=torch.float64).max().item()
