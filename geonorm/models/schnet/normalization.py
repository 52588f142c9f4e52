"""What normalizes an interaction block of SchNet: a few names, and every row of the tables that takes scalars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.layers.message import MessageNorm
from geonorm.layers.neighbors import AverageNeighborNorm, NeighborNorm
from geonorm.layers.vision import BatchNorm
from geonorm.table import find
from geonorm.table.readings import _asked_for
from geonorm.table.row import Row


class FreezingBatchNorm(BatchNorm):
    r"""Batch normalization that is trained with live statistics for some batches and with frozen ones ever after.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-m_c}{\sqrt{s_c^2+\varepsilon}}+\beta_c $$

    with mean and variance of the batch at first, and with the running ones once ``freeze_after`` batches were seen;
    gain and bias are learned throughout. The code that Figure 2 cites does this: it leaves training mode after the
    first epoch and never returns to it.

    Args:
        channels: The number of channels.
        freeze_after: The number of batches with live statistics.
        eps: Added to the variance, inside the root.
        momentum: The weight of the new value in the running statistics.
        device: The device of parameters and buffers.
        dtype: Their dtype.
    """

    def __init__(
        self,
        channels: int,
        freeze_after: int = 50,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if freeze_after < 1:
            raise ValueError(f"freeze_after is {freeze_after}, expected 1 or more: statistics must come from a batch")
        super().__init__(channels, eps, momentum, device=device, dtype=dtype)
        self.freeze_after = freeze_after

    @property
    def is_frozen(self) -> bool:
        """Whether enough batches were seen."""
        return int(self.num_batches_tracked) >= self.freeze_after

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Normalize by the statistics of the batch, or by the running ones."""
        if not (self.training and self.is_frozen):
            return super().forward(x, batch, batch_size)
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        return given.restore(self._from_buffers(given.x))

    def extra_repr(self) -> str:
        """The number of channels and of live batches."""
        return f"{self.fields!r}, freeze_after={self.freeze_after}"


#: The names besides those of the rows. Batch normalization has the constant of the code that Figure 2 cites.
NORMALIZATIONS: dict[str, Callable[..., nn.Module]] = {
    "none": nn.Identity,
    "neighbour mean": NeighborNorm,
    "batch": lambda channels, eps=2e-5, **options: BatchNorm(channels, eps, **options),
    "batch frozen": lambda channels, eps=2e-5, **options: FreezingBatchNorm(channels, eps=eps, **options),
}


class BlockNorm(nn.Module):
    """A normalization layer in an interaction block, at its place and given what it asks for.

    Layers that divide by a neighbour count or density act on the neighbour sum. MessageNorm compares the residual
    branch with the features that it is added to. All others act on the residual branch, last.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.asked = _asked_for(layer) + ["types"] * getattr(layer, "per_type", False)
        counts = isinstance(layer, (NeighborNorm, AverageNeighborNorm)) or "receivers" in self.asked
        self.place = "neighbour sum" if counts else "branch"

    def forward(
        self, v: Float[Tensor, "nodes channels"], h: Float[Tensor, "nodes channels"], known: Mapping[str, Any]
    ) -> Float[Tensor, "nodes channels"]:
        """Normalize a sum over neighbours or a residual branch.

        Args:
            v: What is normalized.
            h: The features of the block.
            known: What the layers may ask for, by the names of their arguments.

        Returns:
            The normalized values.
        """
        if isinstance(self.layer, MessageNorm):
            return self.layer(h, v)
        return self.layer(v, **{name: known[name] for name in self.asked})


def block_norm(
    name: str,
    channels: int,
    last: nn.Module,
    options: Mapping[str, Any],
    known: Mapping[str, Any],
    dtype: torch.dtype | None = None,
) -> BlockNorm | None:
    """Build what a name stands for; a row of weights changes the last linear layer of the branch instead.

    Args:
        name: A key of :data:`NORMALIZATIONS`, or a row of the tables in any spelling.
        channels: The width of the block.
        last: The last linear layer of the residual branch.
        options: Further arguments of the layer.
        known: Values of arguments that the layer cannot do without, used where the options do not give them.
        dtype: Of the parameters.

    Returns:
        The layer; ``None`` if nothing is left to call.

    Raises:
        ValueError: If no row has the name, the row does not act on scalars, or an argument is missing or not known.
    """
    if name == "none":
        if options:
            raise ValueError(f"normalization is 'none' and has the options {dict(options)}, expected none of them")
        return None
    if name in NORMALIZATIONS:
        return BlockNorm(_built(name, NORMALIZATIONS[name], channels, {**options, "dtype": dtype}))
    row = _row(name)
    if row.acts_on == "weights":
        _built(name, row.make, last, options, row)
        return None
    required = {key: value for key, value in known.items() if key in row.needs}
    # Where channels are not a number of scalars, they are irreps.
    features = channels if row.features == "scalars" else f"{channels}x0e"
    return BlockNorm(_built(name, row.make, features, {**required, **options, "dtype": dtype}, row))


def _row(name: str) -> Row:
    try:
        row = find(name)
    except KeyError as error:
        raise ValueError(f"{error}; or one of {', '.join(map(repr, NORMALIZATIONS))}") from error
    if row.features in ("vectors", "tensors") or row.name == "FieldNorm":
        raise ValueError(
            f"normalization is {name!r}, a layer of features that rotate, but SchNet's are scalars: choose a row that "
            "takes scalars, such as 'GraphNorm'"
        )
    return row


def _built(
    name: str, make: Callable[..., nn.Module], first: Any, options: Mapping[str, Any], row: Row | None = None
) -> nn.Module:
    try:
        return make(first, **options)
    except TypeError as error:
        needs = f"; it needs norm_options such as {dict(row.needs)}" if row is not None and row.needs else ""
        raise ValueError(f"normalization {name!r} cannot be built: {error}{needs}") from error
