"""EvNorm: an invariant content and an equivariant direction, side by side."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.layers.fields import Features, Fields
from geonorm.layers.magnitudes import blocks, smooth_length
from geonorm.layers.vector.inputs import short_name, vector_features
from geonorm.layers.vision import BatchNorm, LayerNorm
from geonorm.numerics import accumulation_dtype


class EvNorm(nn.Module):
    r"""Equivariant normalization: the standardized length of every feature, and its direction, as a pair.

    $$ \mathrm{EvNorm}(\mathbf h)=(\bar h,\hat{\mathbf h}),\qquad
       \bar h_{ic}=\frac{\|\mathbf h_{ic}\|-\mu}{\sqrt{\sigma^2+10^{-5}}},\qquad
       \hat{\mathbf h}_{ic}=\frac{\mathbf h_{ic}}{\|\mathbf h_{ic}\|+1/\beta_c+\varepsilon} $$

    with $\mu,\sigma$ per channel over $\{b,x\}$ (batch statistics) or per node over $\{v\}$. Both parts come from the
    same features: the survey's labels "positional" and "invariant" are crossed, and its axes $\{x,v\}$ are neither of
    these. The direction keeps a length in $[0,1)$ that saturates: $1/\beta$ says how much of the magnitude survives. A
    network multiplies a function of $\bar h$ back on $\hat{\mathbf h}$.

    Lengths are the smooth $\sqrt{\|\mathbf h\|^2+\epsilon^2}-\epsilon$ of the reference code. Of features of type 0e,
    which are invariant as they are, the content is the value itself, standardized with the lengths, and the direction
    is 1.

    Args:
        channels: The number of vectors of a node, or irreps such as ``"32x0e+16x1o"``.
        statistics: ``"batch"``: a BatchNorm of the lengths without gain and bias; ``"node"``: such a LayerNorm.
        parametrization: ``"raw"``: learn $1/\beta=|\kappa|$ (parameter ``kappa``, initially uniform in [0.5, 1.5]);
            ``"inverse"``: learn $\beta$ (parameter ``beta``, initially uniform in [0, 10]), $1/\beta$ being
            $1/(|\beta|+\varepsilon)$.
        eps: Added to the divisor of the direction.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        track_running_stats: Keep running statistics of the lengths, with batch statistics, and use them in eval mode.
        smoothing: The ϵ of the smooth length; 0 takes the length itself, whose derivative jumps at zero.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Raises:
        ValueError: If an option is unknown or negative.

    Source: Qiao et al. 2022 (arXiv 2105.14655, UNiTE); ``RepNorm1d`` of the first author's torch-gauge.
    """

    def __init__(
        self,
        channels: Features,
        statistics: Literal["batch", "node"] = "batch",
        parametrization: Literal["raw", "inverse"] = "raw",
        eps: float = 1e-2,
        momentum: float | None = 0.1,
        track_running_stats: bool = True,
        smoothing: float = 1e-4,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if statistics not in ("batch", "node"):
            raise ValueError(f"statistics are {statistics!r}, expected 'batch' (per channel) or 'node' (per node)")
        if parametrization not in ("raw", "inverse"):
            raise ValueError(f"parametrization is {parametrization!r}, expected 'raw' (1/β) or 'inverse' (β)")
        if eps < 0 or smoothing < 0:
            raise ValueError(f"eps is {eps} and smoothing {smoothing}, expected numbers >= 0: lengths are not negative")
        self.fields = Fields(vector_features(channels))
        self.statistics, self.parametrization, self.eps, self.smoothing = statistics, parametrization, eps, smoothing
        #: Channels, and whether they are of type 0e, of consecutive columns of one type.
        self.invariant = [irrep.l == 0 and irrep.p == 1 for _, irrep in self.fields.irreps]
        factory = {"device": device, "dtype": dtype}
        number = self.fields.num_fields
        if statistics == "batch":
            self.norm = BatchNorm(
                number, 1e-5, momentum, affine=False, track_running_stats=track_running_stats, **factory
            )
        else:
            self.norm = LayerNorm(number, "node", affine=False, **factory)
        lengths = nn.Parameter(torch.empty(number - len(self.fields.trivial_fields), **factory))
        self.kappa = lengths if parametrization == "raw" else None
        self.beta = lengths if parametrization == "inverse" else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """A new κ or β at random, running statistics forgotten."""
        if self.kappa is not None:
            nn.init.uniform_(self.kappa, 0.5, 1.5)
        else:
            nn.init.uniform_(self.beta, 0, 10)
        self.norm.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> tuple[Float[Tensor, "*nodes fields"], Float[Tensor, "*shape"]]:
        """Split features into content and direction.

        Args:
            x: Features, ``[nodes, channels, 3]`` or ``[nodes, columns]``, or a dense batch of these.
            batch: Not used: the statistics are those of the whole batch or of a node.
            batch_size: Not used.

        Returns:
            The invariant content, ``[nodes, fields]``, and the direction, of the shape of ``x``.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        h = given.x.to(accumulation_dtype(x.dtype))
        contents, directions = [], []
        number = [channels for (channels, _), known in zip(self.fields.runs, self.invariant, strict=True) if not known]
        least = iter(self._least_lengths(h.dtype).split(number))
        for block, known in zip(blocks(h, self.fields.runs), self.invariant, strict=True):
            length = block.squeeze(2) if known else smooth_length(block, self.smoothing)
            contents.append(length)
            direction = torch.ones_like(block) if known else block / (length + next(least) + self.eps)[..., None]
            directions.append(direction.flatten(1))
        content = self.norm(torch.cat([h[:, :0], *contents], 1))
        direction = torch.cat([h[:, :0], *directions], 1)
        return given.restore_rows(content.to(x.dtype)), given.restore(direction.to(x.dtype))

    def _least_lengths(self, dtype: torch.dtype) -> Float[Tensor, " fields"]:
        """1/β of every channel that has a direction."""
        if self.kappa is not None:
            return self.kappa.to(dtype).abs()
        return (self.beta.to(dtype).abs() + self.eps).reciprocal()

    def extra_repr(self) -> str:
        """The features and the choices."""
        features = short_name(self.fields)
        return f"{features}, statistics={self.statistics!r}, parametrization={self.parametrization!r}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
