"""Rows of Table 1 that divide a sum over neighbours: by the node's own count, or by the average of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def count_neighbors(receivers: Int[Tensor, " edges"], num_nodes: int) -> Int[Tensor, " nodes"]:
    """The number of edges that end at each node.

    Args:
        receivers: The node that each edge ends at, ``[edges]``: the *target* row of ``edge_index`` in PyTorch Geometric
            (``edge_index[1]``), the *centre* row in nequip (``edge_index[0]``).
        num_nodes: The number of nodes.

    Returns:
        The counts, ``[nodes]``; zero where no edge ends.
    """
    return receivers.new_zeros(num_nodes).index_add(0, receivers, torch.ones_like(receivers))


class NeighborNorm(nn.Module):
    r"""SchNet's neighbour normalization: divide a neighbour sum by the node's own number of neighbours.

    $$ y_i=\frac{1}{\max(|\mathcal N(i)|,1)}\sum_{j\in\mathcal N(i)}m_{ij} $$

    It makes the sum a mean. The survey writes $\mathcal N_{\{v\}}$; the count is that of one node, the same for all
    channels. The coordination number is erased, and the result jumps when an atom crosses the cutoff, however smooth
    the messages are.

    Args:
        channels: The number of channels.
        device: Accepted for uniformity; the layer has no parameters.
        dtype: Likewise.

    Source: Schütt et al. 2018 (doi 10.1063/1.5019779); SchNetPack 0.x/1.x ``normalize_filter``, off by default and
    gone since 2.0.
    """

    def __init__(
        self, channels: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.channels = channels

    def reset_parameters(self) -> None:
        """The layer has no parameters."""

    def forward(self, x: Float[Tensor, "nodes channels"], num_neighbors: Tensor) -> Float[Tensor, "nodes channels"]:
        """Divide each node's neighbour sum by its count.

        Args:
            x: The sum over neighbours, ``[nodes, channels]``.
            num_neighbors: The number of neighbours of each node, ``[nodes]`` (see :func:`count_neighbors`).

        Returns:
            The mean over neighbours; zero stays zero where there are none.

        Raises:
            ValueError: If the shapes do not fit.
        """
        if x.ndim != 2 or x.shape[1] != self.channels or num_neighbors.shape != x.shape[:1]:
            raise ValueError(
                f"x has shape {list(x.shape)} and num_neighbors {list(num_neighbors.shape)}, expected "
                f"[nodes, {self.channels}] and [nodes]: count_neighbors(receivers, num_nodes) gives the counts"
            )
        return x / num_neighbors.clamp(min=1).to(x.dtype)[:, None]

    def extra_repr(self) -> str:
        """The number of channels."""
        return str(self.channels)


class AverageNeighborNorm(nn.Module):
    r"""Allegro's and MACE's neighbour normalization: divide a neighbour sum by a constant of the data set.

    $$ y_i=\bar N^{-p}\sum_{j\in\mathcal N(i)}m_{ij} $$

    $\bar N$ is the mean number of neighbours over the atoms of the training set, fixed before training. $p=\frac12$
    (Allegro, NequIP) keeps the variance of a sum of independent messages, $p=1$ (MACE) keeps their mean. The survey
    prints $p=1$ for both. A constant breaks no symmetry and adds no invariance.

    Args:
        channels: The number of channels.
        avg_num_neighbors: $\bar N$; one number, or one for each atom type.
        power: The exponent p: ½ or 1.
        device: The device of the buffer ``avg_num_neighbors``, which the state dict carries.
        dtype: Its dtype.

    Raises:
        ValueError: If a number is not positive and finite.

    Source: Musaelian et al. 2023 (arXiv 2204.05249) and nequip's ``AvgNumNeighborsNorm``; Batatia et al. 2022 (arXiv
    2206.07697).
    """

    def __init__(
        self,
        channels: int,
        avg_num_neighbors: float | Sequence[float],
        power: float = 0.5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        per_type = isinstance(avg_num_neighbors, Sequence)
        values = list(avg_num_neighbors) if per_type else [avg_num_neighbors]
        if not values or not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError(
                f"avg_num_neighbors is {avg_num_neighbors}, expected positive numbers: "
                "AverageNeighborNorm.from_dataset counts them"
            )
        self.channels, self.power, self.per_type = channels, power, per_type
        value = torch.tensor(values if per_type else values[0], device=device, dtype=dtype)
        self.register_buffer("avg_num_neighbors", value)

    @classmethod
    def from_dataset(
        cls,
        channels: int,
        samples: Iterable[tuple[Int[Tensor, " edges"], int] | tuple[Int[Tensor, " edges"], int, Int[Tensor, " nodes"]]],
        power: float = 0.5,
        *,
        num_types: int | None = None,
        **kwargs,
    ) -> AverageNeighborNorm:
        """Count the average number of neighbours of a data set.

        Args:
            channels: The number of channels.
            samples: For each sample the receivers of its edges, its number of nodes and, for averages per type, the
                type of each node. Nodes without neighbours count.
            power: The exponent p.
            num_types: The number of atom types; needed for averages per type.
            **kwargs: Device and dtype.

        Returns:
            The layer.

        Raises:
            ValueError: If the data set has no nodes or no edges, or a type never occurs with a neighbour.
        """
        number = 1 if num_types is None else num_types
        edges, nodes = torch.zeros(number, dtype=torch.long), torch.zeros(number, dtype=torch.long)
        for receivers, num_nodes, *types in samples:
            counts = count_neighbors(receivers, num_nodes).cpu()
            types = types[0].cpu() if num_types is not None else torch.zeros(num_nodes, dtype=torch.long)
            edges.index_add_(0, types, counts)
            nodes.index_add_(0, types, torch.ones_like(counts))
        missing = [kind for kind in range(number) if edges[kind] == 0]
        if missing:
            where = "" if num_types is None else f" for the types {missing}"
            raise ValueError(f"the data set has no neighbours{where}: check the cutoff, or the numbering of the types")
        average = (edges / nodes).tolist()
        return cls(channels, average if num_types is not None else average[0], power, **kwargs)

    def reset_parameters(self) -> None:
        """The layer has no parameters."""

    def forward(
        self, x: Float[Tensor, "nodes channels"], types: Mapping | Int[Tensor, " nodes"] | None = None
    ) -> Float[Tensor, "nodes channels"]:
        """Divide the neighbour sums by the constant.

        Args:
            x: The sum over neighbours, ``[nodes, channels]``; any irreps.
            types: The atom type of each node, ``[nodes]``; needed if there is one average per type.

        Returns:
            The scaled sums.

        Raises:
            ValueError: If the number of channels is wrong, or types are missing or not wanted.
        """
        if x.shape[-1] != self.channels:
            raise ValueError(f"x has shape {list(x.shape)}, expected [nodes, {self.channels}]")
        if (types is None) == self.per_type:
            raise ValueError(
                "there is one average per atom type: pass types, an integer tensor of shape [nodes]"
                if self.per_type
                else "there is one average for all atom types: leave types out, or give avg_num_neighbors per type"
            )
        factor = self.avg_num_neighbors.pow(-self.power).to(x.dtype)
        return x * (factor if types is None else factor.index_select(0, types)[:, None])

    def extra_repr(self) -> str:
        """The number of channels, the average and the power."""
        values = self.avg_num_neighbors.tolist()
        average = [round(value, 4) for value in values] if self.per_type else round(values, 4)
        return f"{self.channels}, avg_num_neighbors={average}, power={self.power}"
