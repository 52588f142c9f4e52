"""What the entries of a batch of graphs are: told by the user, by their names, or by their number of rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

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
NAMES = {
    "coordinates": ("pos", "positions", "position", "coordinates", "coords", "xyz", "r"),
    "edge index": ("edge_index",),
    "edge vectors": ("edge_vec", "edge_vectors", "edge_vector"),
    "cell": ("cell", "lattice"),
    "batch": ("batch",),
}


def read_kinds(entries: Mapping[str, Any], given: Mapping[str, str]) -> dict[str, str]:
    """Find out what the tensors of a batch are.

    Where numbers of rows coincide, rows are those of nodes before edges before samples; names that begin with
    ``edge`` are believed.

    Args:
        entries: The batch.
        given: What is known of some.

    Returns:
        For each tensor one of :data:`KINDS`, or irreps.

    Raises:
        ValueError: If a name is unknown, or there are no nodes.
    """
    unknown = [name for name in given if name not in entries]
    if unknown:
        raise ValueError(f"kinds name {unknown}, but data holds {list(entries)}")
    tensors = {name: value for name, value in entries.items() if isinstance(value, Tensor)}
    found = {name: given.get(name) or _kind_by_name(name, value) for name, value in tensors.items()}
    nodes = number_of_nodes(tensors, found)
    edges = next((tensors[name].shape[1] for name, kind in found.items() if kind == "edge index"), -1)
    samples = next((int(tensors[n].max()) + 1 for n, k in found.items() if k == "batch" and len(tensors[n])), 1)
    for name, value in tensors.items():
        if found[name] is None:
            rows = value.shape[0] if value.ndim else -1
            by_rows = {samples: "samples", edges: "edges", nodes: "nodes"}
            if name.startswith("edge"):
                by_rows[edges] = "edges"
            found[name] = by_rows.get(rows, "constant")
    return found


def _kind_by_name(name: str, value: Tensor) -> str | None:
    plain = name.lower()
    for kind, names in NAMES.items():
        if plain in names and (kind != "coordinates" or value.shape[-1:] == (3,)):
            return kind
    return "constant" if plain == "ptr" else None


def number_of_nodes(tensors: Mapping[str, Any], kinds: Mapping[str, str | None]) -> int:
    """The number of nodes, from the entry that tells it.

    Raises:
        ValueError: If none does.
    """
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
