"""The batches that are timed: sizes of molecules, of proteins, and of one large graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """A batch of graphs.

    Args:
        name: The name in the results.
        sizes: The range of the number of nodes of a graph.
        graphs: How many graphs.
        channels: How many channels.
    """

    name: str
    sizes: tuple[int, int]
    graphs: int
    channels: int

    def draw(self) -> tuple[Tensor, Tensor]:
        """Features of mean one half and spread one, and the sorted ``batch`` vector; the same at every call."""
        generator = torch.Generator().manual_seed(0)
        low, high = self.sizes
        counts = torch.randint(low, high + 1, (self.graphs,), generator=generator)
        batch = torch.repeat_interleave(torch.arange(self.graphs), counts)
        return torch.randn(len(batch), self.channels, generator=generator) + 0.5, batch


CASES = {
    case.name: case
    for case in (
        Case("tiny", (20, 20), 8, 64),
        Case("mol500", (5, 30), 500, 64),
        Case("mol2000", (5, 30), 2000, 128),
        Case("prot20", (100, 2000), 20, 128),
        Case("one20k", (20_000, 20_000), 1, 128),
    )
}
