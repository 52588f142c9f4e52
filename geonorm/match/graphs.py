"""The inputs of a network: which entries are coordinates, which are edges, and what a symmetry does to each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match.actions import permute_nodes
from geonorm.match.graph_kinds import KINDS, number_of_nodes, read_kinds
from geonorm.match.rotations import rotate


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
        return cls(dict(entries), read_kinds(entries, kinds or {}))

    def of(self, kind: str) -> dict[str, Tensor]:
        """The entries of a kind."""
        return {name: self.entries[name] for name, known in self.kinds.items() if known == kind}

    @property
    def nodes(self) -> int:
        """The number of nodes."""
        return number_of_nodes(self.entries, self.kinds)

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

    @property
    def unknown(self) -> list[str]:
        """Entries of whole numbers without a kind, such as indices of triplets, that other samples would change."""
        return [
            name
            for name, value in self.of("constant").items()
            if name != "ptr" and value.numel() > 1 and not (value.is_floating_point() or value.dtype == torch.bool)
        ]

    def with_entries(self, **changed: Any) -> Graphs:
        """The same batch with some entries changed."""
        return replace(self, entries={**self.entries, **changed})

    def to(self, dtype: torch.dtype) -> Graphs:
        """All floating-point entries in one type."""
        return self.with_entries(
            **{
                name: value.detach().to(dtype)
                for name, value in self.entries.items()
                if isinstance(value, Tensor) and value.is_floating_point()
            }
        )

    def rows(self, kind: str) -> Int[Tensor, " rows"] | None:
        """The sample of each row of an entry of a kind, or ``None`` if it has no rows, or rows of its own."""
        if kind in ("edge index", "edges", "edge vectors"):
            return None if self.edges is None else self.batch[self.edges[0]]
        if kind == "samples":
            return torch.arange(self.samples)
        return self.batch if kind in ("coordinates", "nodes") or kind not in KINDS else None

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
        return self.with_entries(
            **{name: value + t[self.batch].to(value.dtype) for name, value in self.of("coordinates").items()}
        )

    def stretched(self, factors: Float[Tensor, " samples"]) -> Graphs:
        """Multiply the coordinates of every sample by a factor of its own."""
        by_node = factors[self.batch][:, None]
        return self.with_entries(
            **{name: value * by_node.to(value.dtype) for name, value in self.of("coordinates").items()}
        )

    def shaken(self, size: float, seed: int = 0) -> Graphs:
        """Move nodes by noise, ``size`` times as large as the median distance of a node to its nearest neighbour."""
        generator = torch.Generator().manual_seed(seed)
        changed = {}
        for name, value in self.of("coordinates").items():
            apart = self.batch[:, None] != self.batch[None, :]
            nearest = torch.cdist(value, value).masked_fill(apart | torch.eye(len(value), dtype=torch.bool), torch.inf)
            near = nearest.min(1).values
            near = near[near.isfinite() & (near > 0)]
            length = near.median() if len(near) else value.std(correction=0)
            noise = torch.randn(value.shape, dtype=torch.float64, generator=generator).to(value.dtype)
            changed[name] = value + size * length * noise
        return self.with_entries(**changed)

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
        """Keep one sample, and change all others; a number below zero keeps none.

        Coordinates and features of nodes, edges and samples get noise. What is whole numbers is drawn anew for nodes
        and edges, all entries of a node from one other node that is changed, so that elements and their types agree.
        """
        generator = torch.Generator().manual_seed(seed)
        drawn: dict[str, Tensor] = {}
        changed = {}
        for name, kind in self.kinds.items():
            value, index = self.entries[name], self.rows(kind)
            if index is None or kind == "edge index" or not value.numel():
                continue
            others = index != sample
            if value.is_floating_point():
                noise = torch.randn(value.shape, dtype=torch.float64, generator=generator).to(value.dtype)
                spread = value.std(correction=0).clamp(min=1e-3)
                changed[name] = torch.where(
                    others.reshape(-1, *(1,) * (value.ndim - 1)), value + size * spread * noise, value
                )
            elif kind in ("nodes", "edges"):
                if kind not in drawn:
                    number = int(others.sum())
                    drawn[kind] = torch.randint(max(number, 1), (number,), generator=generator)
                changed[name] = value.clone()
                changed[name][others] = value[others][drawn[kind]]
        return self.with_entries(**changed)

    def of_samples(self, order: Sequence[int]) -> Graphs:
        """A batch of some of the samples in an order: one may be left out, or come twice."""
        nodes = [torch.nonzero(self.batch == sample)[:, 0] for sample in order]
        sizes = torch.tensor([len(part) for part in nodes])
        starts = sizes.cumsum(0) - sizes
        taken = {"nodes": torch.cat(nodes), "samples": torch.tensor(order)}
        changed: dict[str, Tensor] = {}
        for name, index in self.of("edge index").items():
            of_edge, parts, places = self.batch[index[0]], [], []
            for sample, part, start in zip(order, nodes, starts, strict=True):
                new_number = torch.zeros_like(self.batch)
                new_number[part] = (start + torch.arange(len(part))).to(self.batch.dtype)
                places.append(torch.nonzero(of_edge == sample)[:, 0])
                parts.append(new_number[index[:, places[-1]]])
            changed[name] = torch.cat(parts, 1).to(index.dtype)
            taken.setdefault("edges", torch.cat(places))
        for name, kind in self.kinds.items():
            value = self.entries[name]
            if kind in ("edges", "edge vectors", "samples"):
                changed[name] = value[taken["edges" if kind.startswith("edge") else kind]]
            elif kind == "batch":
                changed[name] = torch.arange(len(order)).repeat_interleave(sizes).to(value.dtype)
            elif kind == "cell" and value.numel() == 9 * self.samples:
                changed[name] = value.reshape(-1, 3, 3)[taken["samples"]].reshape(-1, *value.shape[1:])
            elif name == "ptr":
                changed[name] = torch.cat([starts, sizes.sum()[None]]).to(value.dtype)
            elif self.rows(kind) is not None and kind != "edge index":
                changed[name] = value[taken["nodes"]]
        return self.with_entries(**changed)
