"""The inputs of a network: which entries are coordinates, which are edges, and what a symmetry does to each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match.actions import permute_nodes
from geonorm.match.rotations import rotate

#: What an entry can be besides irreps of node features.
KINDS = {
    "coordinates": "positions of the nodes [nodes, 3]: rotated and moved",
    "nodes": "one row for each node that does not rotate",
    "edge index": "[2, edges], numbers of nodes",
    "edges": "one row for each edge that does not rotate",
    "edge vectors": "[edges, 3]: rotated",
    "cell": "lattice vectors [samples, 3, 3] or [3, 3], one per row: rotated",
    "batch": "the sample of each node",
    "samples": "one row for each sample that does not rotate",
    "constant": "left as it is",
}
_NAMES = {
    "coordinates": ("pos", "positions", "position", "coordinates", "coords", "xyz", "r"),
    "edge index": ("edge_index",),
    "edge vectors": ("edge_vec", "edge_vectors", "edge_vector"),
    "cell": ("cell", "lattice"),
    "batch": ("batch",),
}


@dataclass(frozen=True)
class Graphs:
    """A batch of graphs or molecules as named tensors, each with its kind.

    Args:
        entries: The tensors (and whatever else the network takes) by name.
        kinds: For each name one of :data:`KINDS`, or irreps such as ``"1o"`` for node features that rotate.
    """

    entries: Mapping[str, Any]
    kinds: Mapping[str, str]

    @classmethod
    def read(cls, data: Any, kinds: Mapping[str, str] | None = None) -> Graphs:
        """Read a mapping of tensors, or an object with ``to_dict`` such as PyTorch Geometric's ``Data`` and ``Batch``.

        Args:
            data: The batch.
            kinds: What the entries are, where name and shape do not tell.

        Raises:
            TypeError: If the data is neither.
            ValueError: If a kind is unknown, or there are no nodes.
        """
        entries = data.to_dict() if hasattr(data, "to_dict") else data
        if not isinstance(entries, Mapping):
            raise TypeError(
                f"data is a {type(data).__name__}, expected a mapping of tensors by name or a torch_geometric Data: "
                "for a network of positional inputs give {'z': z, 'pos': pos, 'batch': batch}"
            )
        given = dict(kinds or {})
        unknown = [name for name in given if name not in entries]
        if unknown:
            raise ValueError(f"kinds name {unknown}, but data holds {list(entries)}")
        tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
        found = {name: given.get(name) or _kind_by_name(name, value) for name, value in tensors.items()}
        nodes = _number_of_nodes(tensors, found)
        edges = next((tensors[name].shape[1] for name, kind in found.items() if kind == "edge index"), -1)
        samples = next((int(tensors[n].max()) + 1 for n, k in found.items() if k == "batch" and len(tensors[n])), 1)
        for name, value in tensors.items():
            if found[name] is None:
                rows = value.shape[0] if value.ndim else -1
                by_rows = {samples: "samples", edges: "edges", nodes: "nodes"}
                found[name] = by_rows.get(rows, "constant")
        return cls(dict(entries), found)

    def of(self, kind: str) -> dict[str, Tensor]:
        """The entries of a kind."""
        return {name: self.entries[name] for name, known in self.kinds.items() if known == kind}

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return _number_of_nodes(self.entries, self.kinds)

    @property
    def batch(self) -> Int[Tensor, " nodes"]:
        """The sample of each node."""
        given = next(iter(self.of("batch").values()), None)
        return torch.zeros(self.nodes, dtype=torch.long) if given is None else given

    @property
    def samples(self) -> int:
        """The number of samples."""
        return int(self.batch.max()) + 1

    @property
    def edges(self) -> Int[Tensor, "2 edges"] | None:
        """The edges, if they are given."""
        return next(iter(self.of("edge index").values()), None)

    def with_entries(self, **changed: Any) -> Graphs:
        """The same batch with some entries changed."""
        return replace(self, entries={**self.entries, **changed})

    def double(self) -> Graphs:
        """All floating-point entries in float64."""
        return self.with_entries(
            **{
                name: value.detach().double()
                for name, value in self.entries.items()
                if isinstance(value, Tensor) and value.is_floating_point()
            }
        )

    def rotated(self, g: Float[Tensor, "samples 3 3"]) -> Graphs:
        """Rotate every sample by an orthogonal matrix of its own."""
        changed = {}
        for name, kind in self.kinds.items():
            value = self.entries[name]
            if kind == "coordinates":
                changed[name] = rotate(value, g[self.batch], "1o")
            elif kind == "edge vectors":
                changed[name] = rotate(value, g[self.batch[self.edges[0]]], "1o")
            elif kind == "cell":
                changed[name] = (value.reshape(-1, 3, 3) @ g.to(value.dtype).mT).reshape(value.shape)
            elif kind not in KINDS:
                changed[name] = rotate(value, g[self.batch], kind)
        return self.with_entries(**changed)

    def moved(self, t: Float[Tensor, "samples 3"]) -> Graphs:
        """Move the coordinates of every sample."""
        return self.with_entries(**{name: value + t[self.batch] for name, value in self.of("coordinates").items()})

    def stretched(self, factors: Float[Tensor, " samples"]) -> Graphs:
        """Multiply the coordinates of every sample by a factor of its own."""
        by_node = factors[self.batch][:, None]
        return self.with_entries(**{name: value * by_node for name, value in self.of("coordinates").items()})

    def permuted(self, seed: int = 0) -> tuple[Graphs, Int[Tensor, " nodes"]]:
        """Reorder the nodes of every sample; also the order, in which old nodes stand in the new batch."""
        order = permute_nodes(self.batch, seed)
        new_place = torch.empty_like(order)
        new_place[order] = torch.arange(len(order))
        changed = {}
        for name, kind in self.kinds.items():
            if kind in ("coordinates", "nodes") or kind not in KINDS:
                changed[name] = self.entries[name][order]
            elif kind == "edge index":
                changed[name] = new_place[self.entries[name]]
        return self.with_entries(**changed), order

    def with_others_changed(self, sample: int, seed: int = 0, size: float = 0.1) -> Graphs:
        """Keep one sample, and move the nodes and change the features of all others."""
        generator = torch.Generator().manual_seed(seed)
        others = self.batch != sample
        changed = {}
        for name, kind in self.kinds.items():
            value = self.entries[name]
            if (kind in ("coordinates", "nodes") or kind not in KINDS) and value.is_floating_point():
                noise = torch.randn(value.shape, dtype=torch.float64, generator=generator).to(value.dtype)
                spread = value.std(correction=0).clamp(min=1e-3)
                changed[name] = torch.where(
                    others.reshape(-1, *(1,) * (value.ndim - 1)), value + size * spread * noise, value
                )
        return self.with_entries(**changed)


def _kind_by_name(name: str, value: Tensor) -> str | None:
    plain = name.lower()
    for kind, names in _NAMES.items():
        if plain in names and (kind != "coordinates" or value.shape[-1:] == (3,)):
            return kind
    return "constant" if plain == "ptr" else None


def _number_of_nodes(tensors: Mapping[str, Any], kinds: Mapping[str, str | None]) -> int:
    for kind in ("batch", "coordinates", "nodes"):
        for name, known in kinds.items():
            if known == kind:
                return len(tensors[name])
    for name in ("x", "z", "atomic_numbers", "node_attrs"):
        if name in tensors:
            return len(tensors[name])
    raise ValueError(
        f"data holds {list(tensors)}, none of which says how many nodes there are: name one with "
        "kinds={'...': 'coordinates'} or give a batch vector"
    )
