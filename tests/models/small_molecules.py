"""Molecules that the networks are tested on."""

import torch
from torch import Tensor

SIZES = (5, 4, 7)


def molecules(sizes: tuple[int, ...] = SIZES, seed: int = 0) -> dict[str, Tensor]:
    """Random molecules of H, C, N, O and F whose atoms keep their distance."""
    generator = torch.Generator().manual_seed(seed)
    grid = 1.3 * torch.cartesian_prod(*[torch.arange(3.0, dtype=torch.float64)] * 3)
    places = torch.cat([grid[torch.randperm(27, generator=generator)[:size]] for size in sizes])
    charges = torch.tensor([1, 1, 1, 6, 6, 7, 8, 9])
    return {
        "z": charges[torch.randint(8, (sum(sizes),), generator=generator)],
        "pos": places + 0.1 * torch.randn(places.shape, generator=generator, dtype=torch.float64),
        "batch": torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
    }
