"""DynamicTanh: no statistics at all, and the form of it that does not turn vectors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.layers.fields import Features, Fields
from geonorm.layers.magnitudes import blocks
from geonorm.numerics import accumulation_dtype, safe_norm

#: The odd numbers of the continued fraction $\tanh(z)/z=1/(1+z^2/(3+z^2/(5+\dots)))$: enough for $z\le1$ in float64,
#: with derivatives.
FRACTION = (19, 17, 15, 13, 11, 9, 7, 5, 3, 1)


def squash(
    x: Float[Tensor, "nodes channels components"], alpha: Float[Tensor, "1"]
) -> Float[Tensor, "nodes channels components"]:
    r"""Give every vector of length n the length tanh(αn), with all derivatives right at and near zero.

    The factor tanh(αn)/n is even in n: near zero it is the continued fraction of Lambert in $z^2=\alpha^2\|x\|^2$,
    which needs no root. Farther away it is the formula itself.
    """
    norm = safe_norm(x, keepdim=True)
    far = (alpha * norm).detach().abs() > 1
    square = (alpha * torch.where(far, 0, x)).square().sum(-1, keepdim=True)
    near = torch.full_like(square, FRACTION[0])
    for odd in FRACTION[1:]:
        near = odd + square / near
    norm = torch.where(far, norm, 1)
    return x * torch.where(far, torch.tanh(alpha * norm) / norm, alpha / near)


class DynamicTanh(nn.Module):
    r"""Dynamic tanh: a squashing function with a learned slope in the place of a normalization.

    $$ y_{ic}=\gamma_c\tanh(\alpha x_{ic})+\beta_c,\qquad
       \mathbf y_{ic}=\gamma_c\,\frac{\tanh(\alpha\|\mathbf x_{ic}\|)}{\|\mathbf x_{ic}\|}\,\mathbf x_{ic} $$

    The left form is the published one, for invariants. Fields that rotate get the right one, which changes lengths
    only; the published one would bend them towards the diagonals of the coordinate axes. One number α serves all
    channels. There is no statistic: no sample sees another, and no information is removed, since tanh is injective.

    Args:
        features: A number of scalar channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        alpha: The initial slope α.
        affine: Learn a gain per field and a bias per field of type 0e.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Zhu, Chen, He, LeCun and Liu 2025 (arXiv 2503.10622); jiachenzhu/DyT ``DynamicTanh``, which is always
    affine.
    """

    def __init__(
        self,
        features: Features,
        alpha: float | int = 0.5,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fields = Fields(features)
        self.initial_alpha = float(alpha)
        kwargs = {"device": device, "dtype": dtype}
        trivial = self.fields.trivial_fields
        self.alpha = nn.Parameter(torch.empty(1, **kwargs))
        self.weight = nn.Parameter(torch.empty(self.fields.num_fields, **kwargs)) if affine else None
        self.bias = nn.Parameter(torch.empty(len(trivial), **kwargs)) if affine and trivial else None
        # Runs of columns: channels, components, and how many biases the run has.
        kinds = [(mul, irrep.dim, irrep.l == 0 and irrep.p == 1) for mul, irrep in self.fields.irreps]
        self.runs = [(mul, dim, mul if is_trivial else 0) for mul, dim, is_trivial in kinds]
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Slope α, gain 1, bias 0."""
        nn.init.constant_(self.alpha, self.initial_alpha)
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Squash the features.

        Args:
            x: Features, ``[nodes, columns]``, or a dense batch ``[samples, nodes, columns]``. Where all columns are of
                one type that rotates also with the components as an axis, ``[nodes, channels, 3]``.
            batch: Not used: every node is treated by itself.
            batch_size: Not used.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        wide = given.x.to(accumulation_dtype(x.dtype))
        alpha = self.alpha.to(wide.dtype)
        gain = None if self.weight is None else self.weight.to(wide.dtype)
        bias = None if self.bias is None else self.bias.to(wide.dtype)
        parts, field, slot = [], 0, 0
        for block, (channels, dim, biases) in zip(blocks(wide, self.fields.runs), self.runs, strict=True):
            # On a single component the vector form and tanh are the same function: tanh is odd.
            part = torch.tanh(alpha * block) if dim == 1 else squash(block, alpha)
            if gain is not None:
                part = part * gain[field : field + channels, None]
            if bias is not None and biases:
                part = part + bias[slot : slot + biases, None]
            parts.append(part.flatten(1))
            field, slot = field + channels, slot + biases
        y = parts[0] if len(parts) == 1 else torch.cat([*parts, wide[:, :0]], 1)
        return given.restore(y.to(x.dtype))

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)
