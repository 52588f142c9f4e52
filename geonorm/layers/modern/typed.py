"""TypedBatchNorm: a batch normalization for every type of node."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import Axes, NodeFeatures, Segments
from geonorm.kernels.operator import standardize
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import Pool
from geonorm.layers.fields import Features, Fields
from geonorm.layers.modern.atom_types import check_types
from geonorm.numerics import accumulation_dtype


class TypedBatchNorm(nn.Module):
    r"""Batch normalization with statistics, gain and bias of its own for every type of node.

    $$ y_{ic}=\gamma_{Z_ic}\,\frac{x_{ic}-\mu_{Z_ic}}{\sqrt{\sigma^2_{Z_ic}+\varepsilon}}+\beta_{Z_ic},\qquad
       \mu_{zc},\sigma^2_{zc}\text{ over the nodes of type }z\text{ of the batch} $$

    In chemistry the type is the element. Gradients flow through the statistics. With one type it is BatchNorm. On
    irreps, mean and bias belong to 0e, and every other field is divided by the root mean square over its components.
    A type that is absent from a batch keeps its running statistics; across processes the statistics are those of the
    global batch.

    Args:
        channels: A number of scalar channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        num_types: The number of types.
        eps: Added to the variance, inside the root.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches in which
            the type occurs.
        affine: Learn gain (per type and field) and bias (per type and field of 0e).
        track_running_stats: Keep running statistics and use them in eval mode.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Raises:
        ValueError: If a number is out of range.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167) for every type; PyTorch Geometric ``HeteroBatchNorm``, which
    treats the statistics as constants in the gradient and takes the larger of variance and eps. Its state dict can be
    loaded.
    """

    def __init__(
        self,
        channels: Features,
        num_types: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_types < 1 or eps < 0 or not (momentum is None or 0 <= momentum <= 1):
            raise ValueError(
                f"num_types is {num_types}, eps {eps} and momentum {momentum}: expected at least 1, at least 0, and "
                "the weight of the new value in [0, 1] or None"
            )
        self.fields = fields = Fields(channels)
        self.num_types, self.eps, self.momentum = num_types, eps, momentum
        self.track_running_stats = track_running_stats
        kwargs = {"device": device, "dtype": dtype}
        number = len(fields.trivial_fields)
        self.mean_columns = fields.group(Axes("bx"), only_trivial=True) if number else None
        self.scale_columns = fields.group(Axes("bxm"))
        # A column without a bias of its own gets the one after the last, which is zero.
        slot = {field: place for place, field in enumerate(fields.trivial_fields)}
        bias_slot = torch.tensor([slot.get(field, number) for field in fields.field_of_column], dtype=torch.long)
        field = torch.tensor(fields.field_of_column, dtype=torch.long)
        self.register_buffer("_field_of_column", None if fields.dim == fields.num_fields else field, persistent=False)
        self.register_buffer("_bias_of_column", None if number == fields.dim else bias_slot, persistent=False)
        self.to(device=device)
        self.weight = nn.Parameter(torch.empty(num_types, fields.num_fields, **kwargs)) if affine else None
        self.bias = nn.Parameter(torch.empty(num_types, number, **kwargs)) if affine and number else None
        mean = torch.zeros(num_types, number, **kwargs) if track_running_stats and number else None
        square = torch.ones(num_types, fields.num_fields, **kwargs) if track_running_stats else None
        batches = torch.zeros(num_types, dtype=torch.long, device=device) if track_running_stats else None
        self.register_buffer("running_mean", mean)
        self.register_buffer("running_var", square)
        self.register_buffer("num_batches_tracked", batches)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1, bias 0, running statistics forgotten."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.track_running_stats:
            self.reset_running_stats()

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        if self.running_mean is not None:
            self.running_mean.zero_()
        self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *arguments: object) -> None:
        key = f"{prefix}num_batches_tracked"
        given = state_dict.get(key)
        if given is not None and given.ndim == 0:  # PyTorch Geometric counts the batches of all types together
            state_dict = {**state_dict, key: given.expand(self.num_types)}
        super()._load_from_state_dict(state_dict, prefix, *arguments)

    def forward(self, x: Float[Tensor, "*shape"], types: Int[Tensor, " nodes"]) -> Float[Tensor, "*shape"]:
        """Standardize the nodes of each type.

        Args:
            x: Features, ``[nodes, columns]``, or ``[nodes, channels, 3]`` for vectors.
            types: The type of each node, ``[nodes]``, from 0 to ``num_types - 1``; of a dense batch, of all nodes of
                the first sample, then of the second, and so on.

        Returns:
            The standardized features, of the shape and dtype of ``x``.

        Raises:
            ValueError: If the shapes do not fit, or a number is of the wrong type or out of range.
        """
        given = NodeFeatures.read(x, None, None, self.fields.dim, self.fields.block)
        check_types(types, given.x.shape[0], self.num_types)
        wide = given.x.to(accumulation_dtype(x.dtype))
        if self.training or not self.track_running_stats:
            y = self._from_batch(wide, types)
        else:
            y = self._from_buffers(wide, types)
        if self.weight is not None:
            y = y * self._per_column(self.weight, self._field_of_column).to(y.dtype).index_select(0, types)
        if self.bias is not None:
            y = y + self._per_column(self.bias, self._bias_of_column).to(y.dtype).index_select(0, types)
        return given.restore(y.to(x.dtype))

    def _from_batch(self, x: Float[Tensor, "nodes columns"], types: Int[Tensor, " nodes"]) -> Tensor:
        """Training mode: the statistics of this batch."""
        pool = Pool.build("type", self.scale_columns, x, Segments(types, self.num_types, x.shape[0]))
        mean_pool = None if self.mean_columns is None else pool.pooling(self.mean_columns)
        y, mean, square = standardize(x, Parameters(), Plan(mean_pool, pool, "residual", self.eps))
        if self.training and self.track_running_stats:
            self._update_running(pool.rows_held, mean, square)
        return y

    def _from_buffers(self, x: Float[Tensor, "nodes columns"], types: Int[Tensor, " nodes"]) -> Tensor:
        """Eval mode: a fixed affine map for every type."""
        if self.mean_columns is not None:
            x = x - self.mean_columns.expand(self.running_mean.to(x.dtype)).index_select(0, types)
        power = (self.running_var.to(x.dtype) + self.eps).rsqrt()
        return x * self.scale_columns.expand(power).index_select(0, types)

    @torch.no_grad()
    def _update_running(self, held: Float[Tensor, "types 1"], mean: Tensor | None, square: Tensor) -> None:
        """Move the buffers of the types that occur, with torch's conventions."""
        seen = held > 0
        self.num_batches_tracked.add_(seen[:, 0].long())
        weight = self.momentum
        if weight is None:
            weight = self.num_batches_tracked.clamp(min=1).to(square.dtype).reciprocal()[:, None]
        if self.fields.channels is not None:
            square = square * held / (held - 1).clamp(min=1)
        for buffer, value in ((self.running_mean, mean), (self.running_var, square)):
            if buffer is not None:
                buffer.copy_(torch.where(seen, buffer + weight * (value.to(buffer.dtype) - buffer), buffer))

    @staticmethod
    def _per_column(values: Float[Tensor, "types _"], column: Int[Tensor, " columns"] | None) -> Tensor:
        """The values of every column, zero after the last."""
        if column is None:
            return values
        return torch.cat([values, values.new_zeros(values.shape[0], 1)], 1).index_select(1, column)

    def extra_repr(self) -> str:
        """The features and the number of types."""
        return f"{self.fields!r}, num_types={self.num_types}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
