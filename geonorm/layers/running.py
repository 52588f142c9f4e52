"""Running statistics with torch's conventions."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geonorm.kernels.plan import Plan
from geonorm.kernels.pools import Pool
from geonorm.processes import global_sum


class RunningStatistics(nn.Module):
    """A module with the buffers ``running_mean``, ``running_var``, ``num_batches_tracked`` and their update.

    ``momentum`` is the weight of the new value; ``None`` averages over all batches seen. ``running_var`` holds the
    unbiased variance when the statistic is centred, and the plain second moment otherwise.
    """

    def _register_running(
        self,
        means: int | tuple[int, ...] | None,
        scales: int | tuple[int, ...] | None,
        momentum: float | None,
        **kwargs,
    ) -> None:
        self.momentum = momentum
        self.register_buffer("running_mean", None if means is None else torch.zeros(means, **kwargs))
        self.register_buffer("running_var", None if scales is None else torch.ones(scales, **kwargs))
        self.register_buffer("num_batches_tracked", torch.tensor(0, dtype=torch.long, device=kwargs.get("device")))

    def reset_running_stats(self) -> None:
        """Forget the running statistics: mean 0, variance 1, no batch seen."""
        if self.running_mean is not None:
            self.running_mean.zero_()
        if self.running_var is not None:
            self.running_var.fill_(1)
        self.num_batches_tracked.zero_()

    @torch.no_grad()
    def _update_running(self, plan: Plan, mean: Tensor | None, square: Tensor | None, centred: bool) -> None:
        """Move the buffers towards the statistics of this batch; samples without nodes do not count."""
        if square is not None and centred:
            number = plan.scale.count * plan.scale.columns.group_size
            square = square * number / (number - 1).clamp(min=1)
        kinds = ((plan.mean, self.running_mean, mean), (plan.scale, self.running_var, square))
        for place, (pool, buffer, value) in enumerate(kind for kind in kinds if kind[0] is not None):
            present = pool.rows_held > 0
            number = self._over_samples(pool, present.to(value.dtype))
            seen = number > 0
            if place == 0:
                self.num_batches_tracked.add_(seen[0].long())
            average = (self._over_samples(pool, torch.where(present, value, 0)) / number.clamp(min=1)).to(buffer.dtype)
            weight = self.momentum
            if weight is None:
                weight = self.num_batches_tracked.clamp(min=1).to(buffer.dtype).reciprocal()
            buffer.copy_(torch.where(seen, buffer + weight * (average - buffer), buffer))

    def _update_from_batch(
        self, nodes: int, mean: Tensor | None, square: Tensor | None, group_size: Tensor | int, centred: bool
    ) -> None:
        """The same where the batch is one pool of this process alone, in a few small steps.

        Args:
            nodes: The number of nodes of the batch.
            mean: The mean of each group of columns, ``[1, groups]``, without gradient as all statistics here.
            square: The second moment of each group.
            group_size: The number of columns of each group of the scale, one number if they are equal.
            centred: Whether the second moment is a variance.
        """
        if not nodes:
            return
        self.num_batches_tracked.add_(1)
        weight = self.momentum if self.momentum is not None else 1 / int(self.num_batches_tracked)
        if square is not None and centred:
            if isinstance(group_size, Tensor):
                number = nodes * group_size.to(square.dtype)
                square = square * (number / (number - 1).clamp(min=1))
            else:
                square = square * (nodes * group_size / max(nodes * group_size - 1, 1))
        for buffer, value in ((self.running_mean, mean), (self.running_var, square)):
            if buffer is not None:
                value = value.view_as(buffer)
                buffer.lerp_(value if value.dtype is buffer.dtype else value.to(buffer.dtype), weight)

    @staticmethod
    def _over_samples(pool: Pool, values: Float[Tensor, "pools _"]) -> Float[Tensor, " _"]:
        """Add the values of all pools, of all processes."""
        total = values.sum(0)
        return global_sum(total) if pool.rows == "sample" else total

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"  # on one line: groups of columns are no layers
