"""The batches that are timed: sizes of molecules, of proteins, and of one large graph."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: The bytes of a graph that stays in a cache of one processor.
CACHE = 1 << 20


@dataclass(frozen=True)
class Case:
    """A batch of graphs.

    Args:
        name: The name in the results.
        sizes: The range of the number of nodes of a graph.
        graphs: How many graphs.
        channels: How many channels.
        shuffled: Whether the nodes of a graph lie anywhere, not one after the other.
    """

    name: str
    sizes: tuple[int, int]
    graphs: int
    channels: int
    shuffled: bool = False

    def draw(self) -> tuple[Tensor, Tensor]:
        """Features of mean one half and spread one, and the ``batch`` vector; the same at every call."""
        generator = torch.Generator().manual_seed(0)
        low, high = self.sizes
        counts = torch.randint(low, high + 1, (self.graphs,), generator=generator)
        batch = torch.repeat_interleave(torch.arange(self.graphs), counts)
        if self.shuffled:
            batch = batch[torch.randperm(len(batch), generator=generator)]
        return torch.randn(len(batch), self.channels, generator=generator) + 0.5, batch

    @property
    def limits(self) -> tuple[float, float, float]:
        """The copies of the tensor that forward, backward and double backward cannot do without.

        A graph that stays in the cache between two looks at it is read once; one that does not is read twice.
        """
        stays = self.sizes[1] * self.channels * 4 <= CACHE
        return (1.0, 1.5, 2.5) if stays else (1.5, 2.5, 4.0)


#: From a batch of eight small molecules to one large graph.
MAIN = (
    Case("tiny", (20, 20), 8, 64),
    Case("mol500", (5, 30), 500, 64),
    Case("mol2000", (5, 30), 2000, 128),
    Case("prot20", (100, 2000), 20, 128),
    Case("one20k", (20_000, 20_000), 1, 128),
)
#: The same number of nodes in graphs of other sizes.
LENGTHS = (
    Case("length 1-3", (1, 3), 8000, 64),
    Case("length 5-30", (5, 30), 915, 64),
    Case("length 16", (16, 16), 1000, 64),
    Case("length 100-300", (100, 300), 80, 64),
    Case("length 16000", (16_000, 16_000), 1, 64),
    Case("length 1-3000", (1, 3000), 11, 64),
    Case("shuffled 5-30", (5, 30), 915, 64, shuffled=True),
)
#: The same kind of graphs, more of them; and other numbers of channels.
SIZES = (
    *(Case(f"graphs {graphs}", (5, 30), graphs, 64) for graphs in (1, 4, 16, 64, 256, 1024, 4096)),
    *(Case(f"channels {channels}", (5, 30), 256, channels) for channels in (8, 32, 100, 256, 512)),
)
CASES = {case.name: case for case in (*MAIN, *LENGTHS, *SIZES)}
