"""Inputs at which a layer is measured: generic, of a spread that is never small, and the same for everyone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.layers.fields import Fields


def batch_of(sizes: Sequence[int]) -> Int[Tensor, " nodes"]:
    """The batch vector of samples of the given sizes."""
    return torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))


def generic_features(fields: Fields, sizes: Sequence[int], seed: int = 0) -> Float[Tensor, "nodes columns"]:
    """Draw features at which nothing is special, in float64.

    Every column of every sample holds the quantiles of a Gaussian in a random order, moved and stretched at random:
    no pool of a statistic has a small spread by accident, so that what is found does not depend on the seed. Columns of
    one field are stretched differently, since an isotropic cloud hides a broken rotation.

    Args:
        fields: What the columns are.
        sizes: The number of nodes of each sample.
        seed: The seed of the draw; torch's global generator is not touched.

    Returns:
        The features.
    """
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(*shape, dtype=torch.float64, generator=generator)

    samples = []
    for size in sizes:
        levels = (torch.arange(size, dtype=torch.float64) + 0.5) / max(size, 1)
        order = torch.rand(size, fields.dim, dtype=torch.float64, generator=generator).argsort(0)
        spread = torch.special.ndtri(levels)[order] if size else levels[order]
        rough = 1 + uniform(-0.1, 0.1, size, fields.dim)
        samples.append(spread * rough * uniform(0.7, 1.4, 1, fields.dim) + uniform(-0.8, 0.8, 1, fields.dim))
    x = torch.cat(samples)
    component = torch.tensor([column.component for column in fields.columns])
    return x * (1 + 0.5 * component)
