"""Small molecules with atoms that keep their distance."""

import torch
from torch import Tensor

#: Widths so small that finite differences of a whole network take a moment.
TINY = {
    "num_blocks": 1,
    "atom_channels": 8,
    "edge_channels": 8,
    "triplet_channels": 6,
    "bilinear_channels": 5,
    "rbf_channels": 4,
    "cbf_channels": 4,
    "num_spherical": 4,
    "num_radial": 3,
    "num_after_skip": 0,
    "num_concat": 0,
}


def molecules(sizes: tuple[int, ...] = (5, 4, 6), seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Nuclear charges, positions and sample of each atom: corners of a lattice of 1.2 Å, displaced."""
    generator = torch.Generator().manual_seed(seed)
    corners = 1.2 * torch.cartesian_prod(*(torch.arange(2.0),) * 3).double()
    z = torch.tensor([1, 6, 7, 8, 9])[torch.randint(5, (sum(sizes),), generator=generator)]
    places = [corners[torch.randperm(8, generator=generator)[:size]] for size in sizes]
    pos = torch.cat(places) + 0.15 * torch.randn(sum(sizes), 3, dtype=torch.float64, generator=generator)
    return z, pos, torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
