"""Rows of Table 1 that come from language and vision: each a choice of axes."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.layers.standardize import Standardize


class BatchNorm(Standardize):
    r"""Batch normalization: statistics per channel over all nodes of all samples.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_c}{\sqrt{\sigma_c^2+\varepsilon}}+\beta_c,\qquad
       \mu_c=\frac1N\sum_i x_{ic},\quad \sigma^2_c=\frac1N\sum_i(x_{ic}-\mu_c)^2 $$

    In training a sample's output depends on the other samples of its batch; with running statistics the eval mode is a
    fixed affine map. A graph of $n_s$ nodes has weight $n_s/N$. One row alone is mapped to the bias where torch raises
    an error.

    With ``torch.distributed`` the batch is that of all processes, which must take as many steps as each other. The
    ``timeout`` of ``init_process_group`` says how long a process waits for one that is stuck before it raises an error.

    Args:
        channels: The number of channels.
        eps: Added to the variance, inside the root.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        affine: Learn gain and bias.
        track_running_stats: Keep running statistics and use them in eval mode.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Source: Ioffe and Szegedy 2015 (arXiv 1502.03167); equal to ``torch.nn.BatchNorm1d`` on ``[nodes, channels]``.
    """

    instead = "EquivariantBatchNorm is this layer for features that rotate"

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels,
            mean="bx",
            scale="bx",
            eps=eps,
            gain=affine,
            bias=affine,
            momentum=momentum,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class LayerNorm(Standardize):
    r"""Layer normalization: one mean and one variance per graph (``mode="graph"``) or per node (``mode="node"``).

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu}{\sqrt{\sigma^2+\varepsilon}}+\beta_c $$

    with $\mu,\sigma$ over $\{x,v\}$ of the sample of node $i$, as the survey prints, or over $\{v\}$ of node $i$
    alone, as in Transformers. The graph mode is :class:`~geonorm.SetNorm`.

    Args:
        channels: The number of channels.
        mode: ``"graph"`` (the default of PyTorch Geometric) or ``"node"`` (``torch.nn.LayerNorm``).
        eps: Added to the variance, inside the root. PyTorch Geometric adds it outside when ``batch`` is missing.
        affine: Learn gain and bias per channel.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If the mode is unknown.

    Source: Ba, Kiros and Hinton 2016 (arXiv 1607.06450; the survey prints the number of InstanceNorm).
    """

    instead = (
        "EquivariantLayerNorm is this layer per node for features that rotate, "
        "Standardize(features, mean='xv', scale='xvm') per graph"
    )

    def __init__(
        self,
        channels: int,
        mode: Literal["graph", "node"] = "graph",
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if mode not in ("graph", "node"):
            raise ValueError(f"mode is {mode!r}, expected 'graph' (one statistic per graph) or 'node' (one per node)")
        axes = "xv" if mode == "graph" else "v"
        super().__init__(channels, mean=axes, scale=axes, eps=eps, gain=affine, bias=affine, device=device, dtype=dtype)
        self.mode = mode

    def extra_repr(self) -> str:
        """The number of channels and the mode."""
        return f"{self.fields!r}, mode={self.mode!r}"


class InstanceNorm(Standardize):
    r"""Instance normalization: statistics per sample and channel, over the nodes of the sample.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_{sc}}{\sqrt{\sigma_{sc}^2+\varepsilon}}+\beta_c,\qquad
       s \text{ the sample of } i $$

    Invariant to a shift and a scale of every channel of every sample. A sample of one node is mapped to the bias.

    Args:
        channels: The number of channels.
        eps: Added to the variance, inside the root.
        momentum: The weight of the new value in the running statistics.
        affine: Learn gain and bias (off in the published layer's usual implementations).
        track_running_stats: Keep the mean over samples of the statistics, and use it in eval mode: another layer.
            Samples without nodes do not count, other than in PyTorch Geometric.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Source: Ulyanov, Vedaldi and Lempitsky 2016 (arXiv 1607.08022); PyTorch Geometric ``InstanceNorm``.
    """

    instead = "EquivariantInstanceNorm is this layer for features that rotate"

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = False,
        track_running_stats: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels,
            mean="x",
            scale="x",
            eps=eps,
            gain=affine,
            bias=affine,
            momentum=momentum,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class GroupNorm(Standardize):
    r"""Group normalization on graphs: statistics per sample and group of channels, over nodes and channels.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_{sg}}{\sqrt{\sigma_{sg}^2+\varepsilon}}+\beta_c,\qquad
       g \text{ the group of } c $$

    One group is LayerNorm over the graph, as many groups as channels InstanceNorm. The survey writes $v/g$ for the
    channels of one group. ``torch.nn.GroupNorm`` on a node matrix ``[nodes, channels]`` normalizes every row by itself.

    Args:
        channels: The number of channels.
        num_groups: The number of groups of consecutive channels, a divisor of ``channels``.
        eps: Added to the variance, inside the root.
        affine: Learn gain and bias per channel.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If ``num_groups`` does not divide ``channels``.

    Source: Wu and He 2018 (arXiv 1803.08494); equal to ``torch.nn.GroupNorm`` on dense ``[samples, channels, nodes]``.
    """

    instead = "Standardize(features, mean='xv', scale='xvm', channel_groups=...) is this layer for features that rotate"

    def __init__(
        self,
        channels: int,
        num_groups: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            channels,
            mean="xv",
            scale="xv",
            channel_groups=num_groups,
            eps=eps,
            gain=affine,
            bias=affine,
            device=device,
            dtype=dtype,
        )
        self.num_groups = num_groups

    def extra_repr(self) -> str:
        """The number of channels and groups."""
        return f"{self.fields!r}, num_groups={self.num_groups}"


class FilterResponseNorm(Standardize):
    r"""Filter response normalization: no mean, the RMS per sample and channel, then a thresholded linear unit.

    $$ y_{ic}=\max\Big(\gamma_c\,\frac{x_{ic}}{\sqrt{\nu_{sc}^2+\varepsilon}}+\beta_c,\ \tau_c\Big),\qquad
       \nu_{sc}^2=\frac1{n_s}\sum_{i\in s}x_{ic}^2 $$

    The survey prints the quotient alone; gain, bias and threshold belong to the published layer.

    Args:
        channels: The number of channels.
        eps: Added to the second moment, inside the root.
        threshold: Learn the threshold τ per channel (initially 0); without it the layer is linear in γ and β.
        affine: Learn gain and bias per channel.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Singh and Krishnan 2020 (arXiv 1911.09737); the paper learns ε where a sample has a single position.
    """

    instead = (
        "Standardize(features, mean=None, scale='xm', statistic='rms') "
        "is this layer for features that rotate, without a threshold"
    )

    def __init__(
        self,
        channels: int,
        eps: float = 1e-6,
        threshold: bool = True,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.threshold = None
        super().__init__(
            channels,
            mean=None,
            scale="x",
            statistic="rms",
            eps=eps,
            gain=affine,
            bias=affine,
            device=device,
            dtype=dtype,
        )
        if threshold:
            self.threshold = nn.Parameter(torch.zeros(channels, device=device, dtype=dtype))

    def reset_parameters(self) -> None:
        """Gain 1, bias 0, threshold 0."""
        super().reset_parameters()
        if self.threshold is not None:
            nn.init.zeros_(self.threshold)

    def forward(
        self,
        x: Float[Tensor, "*nodes columns"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*nodes columns"]:
        """Normalize by the RMS of each sample and channel, then cut off below the threshold.

        Args:
            x: Features, ``[nodes, channels]``, or a dense batch ``[samples, nodes, channels]``.
            batch: The sample of each node, ``[nodes]``; without it all nodes are one sample.
            batch_size: The number of samples.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        z = super().forward(x, batch, batch_size)
        return z if self.threshold is None else torch.maximum(z, self.threshold.to(z.dtype))

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class VarianceNorm(Standardize):
    r"""Variance normalization: divide by the spread of each channel over the batch, subtract nothing.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}}{\sqrt{s_c^2+\varepsilon}}+\beta_c,\qquad
       s_c^2=\begin{cases}\frac1N\sum_i(x_{ic}-\mu_c)^2&\text{std}\\ \frac1N\sum_ix_{ic}^2&\text{rms}\end{cases} $$

    The survey prints the standard deviation, the reading of an ablation study of BatchNorm; the theory of the cited
    paper uses the second moment. They agree only where the channel means vanish; only the RMS reading leaves an RMS of
    one.

    Args:
        channels: The number of channels.
        statistic: ``"std"`` as printed, or ``"rms"`` as in the theory.
        eps: Added to s², inside the root.
        momentum: The weight of the new value in the running statistic; ``None`` averages over all batches.
        affine: Learn gain and bias.
        track_running_stats: Keep the running statistic and use it in eval mode.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Raises:
        ValueError: If the statistic is unknown.

    Source: Daneshmand, Kohler, Bach, Hofmann and Lucchi 2020 (arXiv 2003.01652); Lubana, Dick and Tanaka 2021 for
    "std".
    """

    instead = (
        "VectorFieldNorm is this layer for vectors, "
        "Standardize(features, mean=None, scale='bxm', statistic='rms') for irreps"
    )

    def __init__(
        self,
        channels: int,
        statistic: Literal["std", "rms"] = "std",
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if statistic not in ("std", "rms"):
            raise ValueError(f"statistic is {statistic!r}, expected 'std' (as printed) or 'rms' (as in the theory)")
        super().__init__(
            channels,
            mean=None,
            scale="bx",
            statistic="own" if statistic == "std" else "rms",
            eps=eps,
            gain=affine,
            bias=affine,
            momentum=momentum,
            track_running_stats=track_running_stats,
            device=device,
            dtype=dtype,
        )
        self.reading = statistic

    def extra_repr(self) -> str:
        """The number of channels and the reading."""
        return f"{self.fields!r}, statistic={self.reading!r}"
