"""Rows of Table 1 that divide a sum over neighbours: by the node's own count, or by the average of a data set."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import check_floating_point
from geonorm.layers.fields import Features, Fields
from geonorm.numerics import accumulation_dtype


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


def _fits(x: Float[Tensor, "nodes *columns"], fields: Fields) -> bool:
    """Whether x has one row for each node, the components as columns or, of vectors, as an axis."""
    return x.ndim > 1 and x.shape[1:] in ((fields.dim,), fields.block)


class NeighborNorm(nn.Module):
    r"""SchNet's neighbour normalization: divide a neighbour sum by the node's own number of neighbours.

    $$ y_i=\frac{1}{\max(|\mathcal N(i)|,1)}\sum_{j\in\mathcal N(i)}m_{ij} $$

    It makes the sum a mean. The survey writes $\mathcal N_{\{v\}}$; the count is that of one node, the same for all
    channels. The coordination number is erased, and the result jumps when an atom crosses the cutoff, however smooth
    the messages are. Irreps are treated as their columns.

    Args:
        channels: The number of channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        device: Accepted for uniformity; the layer has no parameters.
        dtype: Likewise.

    Source: Schütt et al. 2018 (doi 10.1063/1.5019779); SchNetPack 0.x/1.x ``normalize_filter``, off by default and
    gone since 2.0.
    """

    def __init__(
        self, channels: Features, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.fields = Fields(channels)

    def reset_parameters(self) -> None:
        """The layer has no parameters."""

    def forward(self, x: Float[Tensor, "nodes *columns"], num_neighbors: Tensor) -> Float[Tensor, "nodes *columns"]:
        """Divide each node's neighbour sum by its count.

        Args:
            x: The sum over neighbours, ``[nodes, channels]``; vectors also as ``[nodes, channels, 3]``.
            num_neighbors: The number of neighbours of each node, ``[nodes]`` (see :func:`count_neighbors`).

        Returns:
            The mean over neighbours; zero stays zero where there are none.

        Raises:
            ValueError: If the shapes do not fit, or x holds no floating-point numbers.
        """
        if not _fits(x, self.fields) or num_neighbors.shape != x.shape[:1]:
            raise ValueError(
                f"x has shape {list(x.shape)} and num_neighbors {list(num_neighbors.shape)}, expected "
                f"{self.fields.shapes}, and [nodes]: count_neighbors(receivers, num_nodes) gives the counts"
            )
        check_floating_point(x)
        dtype = accumulation_dtype(x.dtype)
        number = num_neighbors.clamp(min=1).to(dtype)
        return (x.to(dtype) / number.view(-1, *[1] * (x.ndim - 1))).to(x.dtype)

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class AverageNeighborNorm(nn.Module):
    r"""Allegro's and MACE's neighbour normalization: divide a neighbour sum by a constant of the data set.

    $$ y_i=\bar N^{-p}\sum_{j\in\mathcal N(i)}m_{ij} $$

    $\bar N$ is the mean number of neighbours over the atoms of the training set, fixed before training. $p=\frac12$
    (Allegro, NequIP) keeps the variance of a sum of independent messages, $p=1$ (MACE) keeps their mean. The survey
    prints $p=1$ for both. A constant breaks no symmetry and adds no invariance.

    Args:
        channels: The number of channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
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
        channels: Features,
        avg_num_neighbors: float | int | Sequence[float | int] | Float[Tensor, "..."],
        power: float = 0.5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        given = avg_num_neighbors.tolist() if hasattr(avg_num_neighbors, "tolist") else avg_num_neighbors
        self.per_type = isinstance(given, Sequence)
        values = list(given) if self.per_type else [given]
        if not values or not all(math.isfinite(value) and value > 0 for value in values):
            raise ValueError(
                f"avg_num_neighbors is {avg_num_neighbors}, expected positive numbers: "
                "AverageNeighborNorm.from_dataset counts them"
            )
        self.fields, self.power = Fields(channels), power
        dtype = torch.get_default_dtype() if dtype is None else dtype
        value = torch.tensor(values if self.per_type else given, device=device, dtype=dtype)
        self.register_buffer("avg_num_neighbors", value)

    @classmethod
    def from_dataset(
        cls,
        channels: Features,
        samples: Iterable[tuple[Tensor, int] | tuple[Tensor, int, Tensor]],
        power: float = 0.5,
        *,
        num_types: int | None = None,
        **kwargs,
    ) -> AverageNeighborNorm:
        """Count the average number of neighbours of a data set.

        Args:
            channels: The number of channels, irreps, or ``Vectors(channels, dim)``.
            samples: For each sample the receivers of its edges, ``[edges]``, its number of nodes and, for averages per
                type, the type of each node, ``[nodes]``. Nodes without neighbours count.
            power: The exponent p.
            num_types: The number of atom types; needed for averages per type.
            **kwargs: Device and dtype.

        Returns:
            The layer.

        Raises:
            ValueError: If the data set has no nodes or no edges, a type never occurs with a neighbour, or a sample has
                receivers or types that do not fit it.
        """
        number = 1 if num_types is None else num_types
        edges, nodes = torch.zeros(number, dtype=torch.long), torch.zeros(number, dtype=torch.long)
        for place, sample in enumerate(samples):
            counts, types = _counts_and_types(place, sample, num_types)
            edges.index_add_(0, types, counts)
            nodes.index_add_(0, types, torch.ones_like(counts))
        missing = [kind for kind in range(number) if edges[kind] == 0]
        if missing:
            where = "" if num_types is None else f" for the types {missing}"
            raise ValueError(f"the data set has no neighbours{where}: check the cutoff, or the numbering of the types")
        average = (edges.double() / nodes).tolist()
        return cls(channels, average if num_types is not None else average[0], power, **kwargs)

    def reset_parameters(self) -> None:
        """The layer has no parameters."""

    def forward(
        self, x: Float[Tensor, "nodes *columns"], types: Int[Tensor, " nodes"] | None = None
    ) -> Float[Tensor, "nodes *columns"]:
        """Divide the neighbour sums by the constant.

        Args:
            x: The sum over neighbours, ``[nodes, channels]``; vectors also as ``[nodes, channels, 3]``.
            types: The atom type of each node, ``[nodes]``; needed if there is one average per type.

        Returns:
            The scaled sums.

        Raises:
            ValueError: If the shapes do not fit, x holds no floating-point numbers, or types are missing or not wanted.
        """
        if not _fits(x, self.fields):
            raise ValueError(
                f"x has shape {list(x.shape)}, expected {self.fields.shapes}: one row for each neighbour sum"
            )
        check_floating_point(x)
        if (types is None) == self.per_type:
            raise ValueError(
                "there is one average per atom type: pass types, an integer tensor of shape [nodes]"
                if self.per_type
                else "there is one average for all atom types: leave types out, or give avg_num_neighbors per type"
            )
        if types is not None and types.shape != x.shape[:1]:
            raise ValueError(
                f"types have shape {list(types.shape)}, expected [{x.shape[0]}]: the type of each row of x"
            )
        dtype = accumulation_dtype(x.dtype)
        factor = self.avg_num_neighbors.to(dtype).pow(-self.power)
        if types is not None:
            factor = factor.index_select(0, types).view(-1, *[1] * (x.ndim - 1))
        return (x.to(dtype) * factor).to(x.dtype)

    def extra_repr(self) -> str:
        """The number of channels, the average and the power."""
        average = "unknown"
        if not self.avg_num_neighbors.is_meta:
            values = self.avg_num_neighbors.tolist()
            average = [round(value, 4) for value in values] if self.per_type else round(values, 4)
        return f"{self.fields!r}, avg_num_neighbors={average}, power={self.power}"


def _counts_and_types(
    place: int, sample: Sequence, num_types: int | None
) -> tuple[Int[Tensor, " nodes"], Int[Tensor, " nodes"]]:
    """The number of neighbours and the type of each node of one sample of a data set."""
    receivers, num_nodes, *types = sample
    if len(receivers) and not 0 <= int(receivers.min()) <= int(receivers.max()) < num_nodes:
        raise ValueError(
            f"sample {place} has {num_nodes} nodes but edges that end at nodes {int(receivers.min())} to "
            f"{int(receivers.max())}: give receivers that count from 0 in every sample"
        )
    counts = count_neighbors(receivers, num_nodes).cpu()
    if num_types is None:
        return counts, torch.zeros_like(counts)
    if not types or types[0].shape != counts.shape:
        shape = f"types of shape {list(types[0].shape)}" if types else "no types"
        raise ValueError(
            f"sample {place} has {num_nodes} nodes and {shape}, but averages per type were asked for: "
            "give (receivers, num_nodes, types) for each sample, or leave num_types out"
        )
    if num_nodes and not 0 <= int(types[0].min()) <= int(types[0].max()) < num_types:
        raise ValueError(
            f"sample {place} has types {int(types[0].min())} to {int(types[0].max())}, but num_types is {num_types}: "
            "number the types from 0"
        )
    return counts, types[0].cpu()
