"""The types of nodes, such as chemical elements, as a layer is given them."""

from __future__ import annotations

import torch
from torch import Tensor


def check_types(types: Tensor, num_nodes: int, num_types: int) -> None:
    """Refuse types that do not fit the nodes; their range is looked at where that does not wait for a device.

    Args:
        types: The type of each node, ``[nodes]``.
        num_nodes: The number of nodes.
        num_types: The number of types.

    Raises:
        ValueError: If the shape, the dtype or the range is wrong.
    """
    if types.shape != (num_nodes,):
        raise ValueError(f"types have shape {list(types.shape)}, expected [{num_nodes}]: the type of each row of x")
    if types.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"types have dtype {types.dtype}, expected torch.int64: convert them with types.long()")
    if not num_nodes or types.device.type != "cpu" or torch.compiler.is_compiling():
        return
    lowest, highest = (int(number) for number in types.aminmax())
    if lowest < 0 or highest >= num_types:
        raise ValueError(
            f"types are {lowest} to {highest}, expected numbers from 0 to {num_types - 1}: atomic numbers need a table "
            "that says which type each of them is"
        )
