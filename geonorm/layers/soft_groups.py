"""DiffGroupNorm: a batch normalization for every soft group of nodes, in the memory of the features and the shares."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.kernels.operator import quick
from geonorm.kernels.plan import Parameters
from geonorm.kernels.pools import Columns
from geonorm.layers.running import RunningStatistics
from geonorm.numerics import accumulation_dtype, full_precision
from geonorm.processes import global_sum

#: The largest number of nodes × groups × channels that is written out: below it the number of operations is what costs.
WRITTEN_OUT = 1 << 17


class DiffGroupNorm(RunningStatistics):
    r"""Differentiable group normalization: batch statistics per soft group of nodes, added to the input.

    $$ y_i=x_i+\lambda\sum_{g}\mathrm{BN}_g\big(S_{ig}\,x_i\big),\qquad S=\mathrm{softmax}_g(X\Gamma) $$

    Every group has its own gain, bias and running statistics per channel. The sum over groups is a product of
    matrices: with $A_{gc}=\gamma_{gc}/\sqrt{\sigma^2_{gc}+\varepsilon}$ it is
    $x\odot(SA)-\sum_gA_g\odot\mu_g+\sum_g\beta_g$, and the means and variances are products $S^\top X$ too, so that
    memory is that of $x$ and $S$. Only for a small batch, where the number of operations is what costs, the groups are
    written out beside each other, and the compiled kernels normalize them all at once.

    Args:
        channels: The number of channels.
        groups: The number of groups.
        lamda: The weight λ of the normalized part (0.01 in PyTorch Geometric, 0.005 in the authors' code).
        eps: Added to the variance, inside the root.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        affine: Learn gain and bias per group and channel.
        track_running_stats: Keep running statistics and use them in eval mode.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Raises:
        ValueError: If ``groups`` is smaller than one, or ``channels`` is not a number.

    Source: Zhou et al. 2020 (arXiv 2006.06972); equal to PyTorch Geometric ``DiffGroupNorm``.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        lamda: float = 0.01,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(channels, (str, tuple)):
            raise ValueError(
                f"channels is {channels!r}, expected a number of scalar channels: columns that rotate would change the "
                "groups. EquivariantBatchNorm is a batch normalization for features that rotate"
            )
        if groups < 1:
            raise ValueError(f"groups is {groups}, expected at least one soft group")
        self.channels, self.groups, self.lamda = channels, groups, lamda
        self.eps, self.track_running_stats = eps, track_running_stats
        self._columns = Columns(range(groups * channels), [1] * (groups * channels)).to(device)
        kwargs = {"device": device, "dtype": dtype}
        self.assign = nn.Parameter(torch.empty(groups, channels, **kwargs))
        self.weight = nn.Parameter(torch.empty(groups, channels, **kwargs)) if affine else None
        self.bias = nn.Parameter(torch.empty(groups, channels, **kwargs)) if affine else None
        self.momentum = momentum
        if track_running_stats:
            self._register_running((groups, channels), (groups, channels), momentum, **kwargs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A new assignment of groups, gain 1, bias 0, running statistics forgotten."""
        bound = 1 / math.sqrt(max(self.channels, 1))
        nn.init.uniform_(self.assign, -bound, bound)
        if self.weight is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)
        if self.track_running_stats:
            self.reset_running_stats()

    def forward(
        self,
        x: Float[Tensor, "*nodes columns"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*nodes columns"]:
        """Add the normalized soft groups to the features.

        Args:
            x: Features, ``[nodes, channels]``, or a dense batch ``[samples, nodes, channels]``.
            batch: Not used: the statistics are those of the whole batch.
            batch_size: Not used.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.channels)
        with full_precision(x.device):
            y = self._add_groups(given.x.to(accumulation_dtype(x.dtype)))
        return given.restore(y.to(x.dtype))

    def _add_groups(self, x: Float[Tensor, "nodes channels"]) -> Float[Tensor, "nodes channels"]:
        """The layer in the dtype of the statistics."""
        share = torch.softmax(x @ self.assign.to(x.dtype).T, dim=-1)
        if self.training or not self.track_running_stats:
            if (y := self._written_out(x, share)) is not None:
                return y
            mean, variance = self._statistics(x, share)
        else:
            mean, variance = self.running_mean.to(x.dtype), self.running_var.to(x.dtype)
        factor = (variance + self.eps).rsqrt()
        if self.weight is not None:
            factor = factor * self.weight.to(x.dtype)
        normalized = x * (share @ factor) - (factor * mean).sum(0)
        if self.bias is not None:
            normalized = normalized + self.bias.to(x.dtype).sum(0)
        return x + self.lamda * normalized

    def _written_out(
        self, x: Float[Tensor, "nodes channels"], share: Float[Tensor, "nodes groups"]
    ) -> Float[Tensor, "nodes channels"] | None:
        """The layer by the compiled kernels, for a small batch; else ``None``."""
        if x.shape[0] * self._columns.num_columns > WRITTEN_OUT:
            return None
        parts = (share.unsqueeze(2) * x.unsqueeze(1)).flatten(1)
        work = quick(parts, "batch", self._columns, self._columns, "residual", self.eps)
        if work is None:
            return None
        gain, bias = (None if given is None else given.flatten() for given in (self.weight, self.bias))
        tracks = self.training and self.track_running_stats
        normalized = work(parts, Parameters(None, gain, bias), tracks)
        if tracks:
            self._update_from_batch(x.shape[0], work.mean, work.square, 1, True)
        return torch.add(x, normalized.unflatten(1, (self.groups, self.channels)).sum(1), alpha=self.lamda)

    def _statistics(
        self, x: Float[Tensor, "nodes channels"], share: Float[Tensor, "nodes groups"]
    ) -> tuple[Float[Tensor, "groups channels"], Float[Tensor, "groups channels"]]:
        r"""Mean and variance of $S_{ig}x_{ic}$, each to rounding also where x is far from zero.

        With $x=k+z$ about the batch mean $k$ and $s=\bar s+t$, the centred part is $sz-\overline{sz}+kt$.
        """
        held = global_sum(x.new_full((1,), x.shape[0]))
        number = held.clamp(min=1)

        def average(values: Tensor) -> Tensor:
            return global_sum(values) / number

        centre = average(x.sum(0))
        z = x - centre
        mean_share = average(share.sum(0))
        t = share - mean_share
        mean_sz = average(share.T @ z)
        mean = mean_sz + mean_share[:, None] * centre
        spread_sz = (average(share.square().T @ z.square()) - mean_sz.square()).clamp(min=0)
        cross = average((t * share).T @ z)
        variance = spread_sz + 2 * centre * cross + centre.square() * average(t.square().sum(0))[:, None]
        variance = variance.clamp(min=0)
        if self.training and self.track_running_stats:
            self._update_from_all(mean.detach(), variance.detach(), held)
        return mean, variance

    @torch.no_grad()
    def _update_from_all(self, mean: Tensor, variance: Tensor, held: Tensor) -> None:
        """Move the buffers towards the statistics of the batch of all processes."""
        seen = held > 0
        self.num_batches_tracked.add_(seen[0].long())
        weight = self.momentum
        if weight is None:
            weight = self.num_batches_tracked.clamp(min=1).to(mean.dtype).reciprocal()
        unbiased = variance * held / (held - 1).clamp(min=1)
        for buffer, value in ((self.running_mean, mean), (self.running_var, unbiased)):
            buffer.copy_(torch.where(seen, buffer + weight * (value.to(buffer.dtype) - buffer), buffer))

    def extra_repr(self) -> str:
        """The number of channels and groups."""
        return f"{self.channels}, groups={self.groups}"
