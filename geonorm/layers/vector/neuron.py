"""VectorNeuronNorm: a BatchNorm of the lengths, put back on the directions."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import softplus

from geonorm.axes import NodeFeatures
from geonorm.layers.fields import Features, Fields
from geonorm.layers.magnitudes import magnitudes, rescale
from geonorm.layers.vector.inputs import short_name, vector_features
from geonorm.layers.vision import BatchNorm
from geonorm.numerics import accumulation_dtype


class VectorNeuronNorm(BatchNorm):
    r"""Vector neuron batch normalization: batch-normalize the lengths of vectors, keep their lines.

    $$ \mathbf y_{ic}=\frac{\mathbf a_{ic}}{n_{ic}}\,\mathrm{BN}_c(n_{ic}),\qquad n_{ic}=\|\mathbf a_{ic}\|_2+10^{-6} $$

    with BatchNorm per channel over $\{b,x\}$, gain, bias and running statistics of the lengths. The output is this
    product, one vector; the survey prints a pair of two inputs. A standardized length has mean zero: with fresh
    parameters about half of all vectors are *reversed* in training, one by one, though the layer stays equivariant.
    ``reversal=False`` takes $\log(1+e^{\mathrm{BN}})>0$ for the factor, so that no direction changes (a ReLU, as in
    :class:`~geonorm.NormSE3`, would erase the shorter half). Near zero the map is steep, of slope $10^6$.

    Args:
        channels: The number of vectors of a node, or irreps such as ``"16x1o"``.
        eps: Added to the variance of the lengths, inside the root.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        affine: Learn gain and bias per channel (``weight``, ``bias``).
        track_running_stats: Keep running statistics of the lengths and use them in eval mode.
        reversal: Allow negative factors, as published.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Source: Deng et al. 2021 (arXiv 2104.12229); ``VNBatchNorm`` of the authors' vnn, whose BatchNorm's state dict this
    layer loads.
    """

    def __init__(
        self,
        channels: Features,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        reversal: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        vectors = Fields(vector_features(channels))
        super().__init__(vectors.num_fields, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.vectors, self.reversal = vectors, reversal

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Normalize the lengths of vectors.

        Args:
            x: Features, ``[nodes, channels, 3]`` or ``[nodes, columns]``, or a dense batch of these.
            batch: Not used: the statistics are those of the whole batch.
            batch_size: Not used.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.vectors.dim, self.vectors.block)
        a = given.x.to(accumulation_dtype(x.dtype))
        length = magnitudes(a, self.vectors.runs) + 1e-6
        factor = super().forward(length)
        if not self.reversal:
            factor = softplus(factor)
        return given.restore(rescale(a, factor / length, self.vectors.runs).to(x.dtype))

    def extra_repr(self) -> str:
        """The features, and whether vectors are never reversed."""
        return short_name(self.vectors) + ("" if self.reversal else ", reversal=False")
