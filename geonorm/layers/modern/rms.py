"""RMSNorm: LayerNorm without its mean, of scalars and of whatever rotates."""

from __future__ import annotations

import torch

from geonorm.layers.fields import Features
from geonorm.layers.standardize import Standardize


class RMSNorm(Standardize):
    r"""RMS normalization: divide the features of a node by their root mean square, subtract nothing.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}}{\sqrt{\varepsilon+\frac1d\sum_{k=1}^d x_{ik}^2}} $$

    The $d$ columns of a node share one divisor, the length of the row over $\sqrt d$. Of irreps it pools all types,
    channels and components, and the gain belongs to a field: every node may be rotated by itself. Only the common scale
    of a node is lost. A gain for every column, as ``torch.nn.RMSNorm(irreps.dim)`` has it, turns vectors.

    Args:
        features: A number of scalar channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        eps: Added to the second moment, inside the root (by default the machine epsilon in torch).
        affine: Learn a gain per field.
        device: The device of the parameter.
        dtype: Its dtype.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467); equal to ``torch.nn.RMSNorm``.
    """

    def __init__(
        self,
        features: Features,
        eps: float = 1e-6,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            features,
            mean=None,
            scale="vtm",
            statistic="rms",
            eps=eps,
            gain=affine,
            bias=False,
            level="node",
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)
