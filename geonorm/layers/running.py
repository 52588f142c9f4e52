"""Running statistics with torch's conventions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geonorm.kernels.analytic import Plan


class RunningStatistics(nn.Module):
    """A module with the buffers ``running_mean``, ``running_var``, ``num_batches_tracked`` and their update.

    ``momentum`` is the weight of the new value; ``None`` averages over all batches seen. ``running_var`` holds the
    unbiased variance when the statistic is centred, and the plain second moment otherwise.
    """

    def _register_running(self, means: int | None, scales: int | None, momentum: float | None, **kwargs) -> None:
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
        present = (plan.scale if plan.mean is None else plan.mean).rows_held > 0
        any_present = present.any()
        self.num_batches_tracked.add_(any_present.long())
        weight = self.momentum if self.momentum is not None else 1.0 / self.num_batches_tracked.clamp(min=1)
        if square is not None and centred:
            size = torch.tensor(plan.scale.columns.group_size, dtype=square.dtype, device=square.device)
            number = plan.scale.count * size
            square = square * number / (number - 1).clamp(min=1)
        for buffer, value in ((self.running_mean, mean), (self.running_var, square)):
            if buffer is not None:
                average = torch.where(present, value, 0).sum(0) / present.sum().clamp(min=1)
                moved = buffer + weight * (average.to(buffer.dtype) - buffer)
                buffer.copy_(torch.where(any_present, moved, buffer))
