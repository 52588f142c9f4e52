"""Which samples of a set make a batch, in an order that can be repeated and shared between processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch.utils.data import DataLoader, Dataset, Sampler

from geonorm.processes import several_processes


class Batches(Sampler[list[int]]):
    """Batches in a new order in every epoch that depends on nothing but the seed and the epoch.

    Several processes see parts of the same batches, so that they do together what one process does with a batch of all
    their sizes.

    Args:
        number: The number of samples.
        batch_size: Samples per step and process.
        seed: Of the order.
    """

    def __init__(self, number: int, batch_size: int, seed: int = 0) -> None:
        self.number, self.batch_size, self.seed, self.epoch = number, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of this epoch; Lightning calls it."""
        self.epoch = epoch

    def drawn(self, batch_size: int, generator: torch.Generator) -> list[list[int]]:
        """The batches of all processes together.

        Args:
            batch_size: Samples per step of all processes.
            generator: Where the order comes from.

        Returns:
            The indices of the samples of each batch.
        """
        order = torch.randperm(self.number, generator=generator).tolist()
        return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def __len__(self) -> int:
        return len(self._own())

    def __iter__(self) -> Iterator[list[int]]:
        # Drawn at the first step and not before: a run that is taken up again learns its epoch in between.
        yield from self._own()

    def _own(self) -> list[list[int]]:
        rank, world = 0, 1
        if several_processes():
            rank, world = torch.distributed.get_rank(), torch.distributed.get_world_size()
        generator = torch.Generator().manual_seed(1_000_003 * self.seed + self.epoch)
        drawn = self.drawn(self.batch_size * world, generator)
        # A last batch that is too small for all processes is left out: each must take part in every step.
        return [batch[rank::world] for batch in drawn if len(batch) >= world]


class SameSize(Batches):
    """Batches of samples of one size each; what is left of a size is dropped until the next epoch deals anew.

    Args:
        sizes: The size of each sample.
        batch_size: Samples per step and process.
        seed: Of the order.

    Raises:
        ValueError: If no size has samples enough for one batch.

    Source: the sampler of the code that Figure 2 cites, for batches without padding.
    """

    def __init__(self, sizes: Sequence[int], batch_size: int, seed: int = 0) -> None:
        super().__init__(len(sizes), batch_size, seed)
        self.sizes = list(sizes)
        most = max((self.sizes.count(size) for size in set(self.sizes)), default=0)
        if most < batch_size:
            raise ValueError(
                f"no size has {batch_size} samples, the commonest has {most}: choose a smaller batch_size, or batches "
                "of mixed sizes"
            )

    def drawn(self, batch_size: int, generator: torch.Generator) -> list[list[int]]:
        """The batches of all processes together."""
        order = torch.randperm(self.number, generator=generator).tolist()
        batches = []
        for size in sorted(set(self.sizes)):
            group = [index for index in order if self.sizes[index] == size]
            full = len(group) - len(group) % batch_size
            batches += [group[start : start + batch_size] for start in range(0, full, batch_size)]
        return [batches[place] for place in torch.randperm(len(batches), generator=generator).tolist()]


@dataclass(frozen=True)
class Samples:
    """A set of samples, any of which can be joined into a batch.

    Args:
        number: The number of samples.
        join: Makes a batch of the samples with these indices.
    """

    number: int
    join: Callable[[list[int]], Any]

    def loader(self, batches: Batches | int) -> DataLoader:
        """Serve the set in batches.

        Args:
            batches: Which; a number gives batches of that many in the order of the set.

        Returns:
            The loader, without workers: the samples are in memory.
        """
        if isinstance(batches, int):
            order = list(range(self.number))
            batches = [order[start : start + batches] for start in range(0, self.number, batches)]
        # Each index of this loader is that of a whole batch.
        return DataLoader(_Joined(self), sampler=batches, batch_size=None)


class _Joined(Dataset):
    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return self.samples.number

    def __getitem__(self, indices: list[int]) -> Any:
        return self.samples.join(indices)
