"""VectorFieldNorm: vectors divided by one number per channel, their directions kept."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.axes import Axes, NodeFeatures
from geonorm.kernels.plan import Plan
from geonorm.kernels.pools import Pool
from geonorm.layers.fields import Features, Fields
from geonorm.layers.magnitudes import magnitudes, rescale
from geonorm.layers.standardize import Standardize
from geonorm.layers.vector.inputs import short_name, vector_features
from geonorm.numerics import accumulation_dtype


class VectorFieldNorm(Standardize):
    r"""Batch normalization of vector fields: magnitudes are scaled, directions never change.

    $$ \mathbf y_{ic}=\gamma_c\,\frac{\mathbf a_{ic}}{\sqrt{s_c^2+\varepsilon}},\qquad
       s_c^2=\begin{cases}\frac1{dN}\sum_i\|\mathbf a_{ic}\|^2&\text{as in the authors' code}\\
       \frac1N\sum_i\|\mathbf a_{ic}\|^2&\text{per\_component=False}\\
       \frac1N\sum_i\big(\|\mathbf a_{ic}\|-\overline{\|\mathbf a_c\|}\big)^2&\text{center\_magnitude=True}
       \end{cases} $$

    Table 1 leaves this layer out; the survey's text asks for magnitudes of unit standard deviation (the last reading)
    and calls it VarianceNorm (true of the first, on vectors). With irreps the first reading is the BatchNorm of e3nn on
    every type but 0e. The last reading divides a field of equal lengths by $\sqrt\varepsilon$ alone.

    Args:
        channels: The number of vectors of a node, or irreps such as ``"16x1o"``.
        dim: The number of components d of a vector, where ``channels`` is a number.
        per_component: Divide by the RMS of the components; otherwise by the RMS of the lengths, which is √d times as
            large.
        center_magnitude: Divide by the standard deviation of the lengths about their mean; then ``per_component`` says
            nothing.
        eps: Added to s², inside the root.
        momentum: The weight of the new value in the running statistic; ``None`` averages over all batches.
        affine: Learn a gain per channel (``weight``); a bias would break equivariance.
        track_running_stats: Keep the running s² (unbiased if it is a variance) and use it in eval mode.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Source: Marcos, Volpi, Komodakis and Tuia 2017 (arXiv 1612.09346); ``vl_nnbnormangle`` of the authors' RotEqNet.
    """

    def __init__(
        self,
        channels: Features,
        dim: int = 3,
        per_component: bool = True,
        center_magnitude: bool = False,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            vector_features(channels, dim),
            mean=None,
            scale="bxm",
            statistic="rms",
            normalization="component" if per_component else "norm",
            eps=eps,
            gain=affine,
            bias=False,
            track_running_stats=track_running_stats,
            momentum=momentum,
            device=device,
            dtype=dtype,
        )
        self.per_component, self.center_magnitude = per_component, center_magnitude
        self.length_columns = None
        if center_magnitude:
            self.length_columns = Fields(self.fields.num_fields).group(Axes("bx")).to(device=device)

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Scale the vectors of each channel.

        Args:
            x: Features, ``[nodes, channels, dim]`` or ``[nodes, columns]``, or a dense batch of these.
            batch: Not used: the statistics are those of the whole batch.
            batch_size: Not used.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        if not self.center_magnitude or (self.track_running_stats and not self.training):
            return super().forward(x, batch, batch_size)
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        a = given.x.to(accumulation_dtype(x.dtype))
        lengths = magnitudes(a, self.fields.runs)
        pool = Pool.build("batch", self.length_columns, lengths, None)
        variance = pool.mean((lengths - pool.mean(lengths)).square())
        if self.track_running_stats:
            self._update_running(Plan(None, pool, "own", self.eps), None, variance.detach(), centred=True)
        factor = (variance + self.eps).rsqrt()
        if self.weight is not None:
            factor = factor * self.weight.to(a.dtype)
        return given.restore(rescale(a, factor, self.fields.runs).to(x.dtype))

    def extra_repr(self) -> str:
        """The features and the reading."""
        parts = [short_name(self.fields)]
        if self.fields.vectors and self.fields.vectors.dim != 3:
            parts = [repr(self.fields.vectors.channels), f"dim={self.fields.vectors.dim}"]
        if self.center_magnitude:
            parts.append("center_magnitude=True")
        elif not self.per_component:
            parts.append("per_component=False")
        return ", ".join(parts)
