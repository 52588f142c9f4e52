"""What the Jacobian tells about a function: how it couples samples and what it does not see, exactly or by probes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from geonorm.match.discover import discover
from geonorm.match.jacobian import derivative
from geonorm.match.measurement import Measurement
from geonorm.match.probed import discover_by_probes
from geonorm.match.probes import coupling, reach
from geonorm.match.products import Products
from geonorm.match.removed import Removed

#: With more inputs (nodes times columns) probes are used. Where nothing falls into blocks, one function took, with the
#: whole Jacobian and with probes: 0.3 s and 1.0 s at 600 inputs, 0.8 s and 1.4 s at 1000, 2.4 s and 2.2 s at 1500.
LARGE = 1500
#: Up to so many inputs the whole Jacobian is taken where it falls into blocks of at most so many; its blocks are
#: decomposed one by one.
LARGE_IN_BLOCKS, BLOCK = 2000, 300


def first_order(
    at: Measurement, x: Tensor, batch: Tensor, *, probes: bool | None, seed: int, **names: Any
) -> tuple[float, Removed] | None:
    """The coupling of samples and what is lost; ``None`` where the Jacobian is not finite.

    Args:
        at: The function at its input.
        x: The input.
        batch: The sample of each node.
        probes: Use random probes, or the whole Jacobian; ``None``: as the number of inputs is large or small.
        seed: The seed of probes and finite changes.
        **names: What names may speak of and what the task says; see :func:`geonorm.match.discover.discover`.
    """
    names |= {"readout": at.per_sample, "seed": seed}
    products = Products(at, x) if (x.numel() > LARGE if probes is None else probes) else None
    if products is not None and probes is None and x.numel() <= LARGE_IN_BLOCKS and reach(products, seed) <= BLOCK:
        products = None
    if products is not None:
        rows = torch.arange(at.number) if at.per_sample else batch
        influence = coupling(products, batch, rows, seed)
        once = products.backward(torch.ones(1, products.y.numel(), dtype=torch.float64))
        if not (torch.isfinite(torch.tensor(influence)) and torch.isfinite(once).all()):
            return None
        return influence, discover_by_probes(at, x, products, batch, **names)
    matrix = derivative(at, x).reshape(-1, x.numel())
    if not torch.isfinite(matrix).all():
        return None
    return at.influence(matrix), discover(at, x, matrix, batch, **names)
