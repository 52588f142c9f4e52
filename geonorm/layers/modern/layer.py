"""Layer normalizations of irreps, node by node: one divisor per type, one for all that rotate, or one for all."""

from __future__ import annotations

import torch

from geonorm.layers.fields import Features
from geonorm.layers.standardize import Standardize


class EquivariantLayerNorm(Standardize):
    r"""Layer normalization of irreps: every type of a node by its own RMS over channels and components.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_i}{\sqrt{\varepsilon+\sigma_i^2}}+\beta_c\quad(0e),\qquad
       y^{(l)}_{icm}=\gamma^{(l)}_c\,\frac{x^{(l)}_{icm}}{\sqrt{\varepsilon+\frac1C\sum_{c'}\frac1{2l+1}\sum_{m'}
       (x^{(l)}_{ic'm'})^2}} $$

    Every node may be rotated by itself. The relative size of types is lost. A type is pooled wherever its channels
    stand (Equiformer takes each block of the irreps by itself). Of scalars it is LayerNorm of a node.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        affine: Learn a gain per field and a bias per field of type 0e.
        center_vectors: Subtract the mean over channels from every type, also from those that rotate: then a vector that
            is added to all channels of a node is lost, such as a translation of raw coordinates.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Liao and Smidt 2023 (Equiformer, arXiv 2206.11990), ``EquivariantLayerNormV2``, and with ``center_vectors``
    ``EquivariantLayerNormV3`` of ``nets/layer_norm.py``.
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        affine: bool = True,
        center_vectors: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            irreps,
            mean="v",
            mean_on="all" if center_vectors else "0e",
            scale="vm",
            eps=eps,
            gain=affine,
            bias=affine,
            level="node",
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The features, and whether all types are centred."""
        return f"{self.fields!r}{', center_vectors=True' if self.mean_on == 'all' else ''}"


class SeparableLayerNorm(Standardize):
    r"""Separable layer normalization: LayerNorm of the invariants, one divisor for all that rotates.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_i}{\sqrt{\varepsilon+\sigma_i^2}}+\beta_c\quad(0e),\qquad
       y^{(l)}_{icm}=\gamma^{(l)}_c\,\frac{x^{(l)}_{icm}}{\sqrt{\varepsilon+\frac1L\sum_{l'}\frac1{C_{l'}}
       \sum_{c'}\frac1{2l'+1}\sum_{m'}(x^{(l')}_{ic'm'})^2}} $$

    The $L$ types that rotate or change sign count equally, however many components they have: the divisor is degree
    balanced. Their relative size is kept, where :class:`~geonorm.EquivariantLayerNorm` loses it.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        affine: Learn a gain per field and a bias per field of type 0e.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Liao, Wood, Das and Smidt 2024 (EquiformerV2, arXiv 2306.12059), ``layer_norm_sh``.
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            irreps,
            mean="v",
            scale="vtm",
            normalization="degree",
            scalars_apart=True,
            eps=eps,
            gain=affine,
            bias=affine,
            level="node",
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)


class EquivariantRMSNorm(Standardize):
    r"""RMS normalization of irreps with balanced degrees: one divisor for all types of a node.

    $$ y^{(l)}_{icm}=\gamma^{(l)}_c\,\frac{u^{(l)}_{icm}}{\sqrt{\varepsilon+\frac1T\sum_{l'}\frac1{C_{l'}}
       \sum_{c'}\frac1{2l'+1}\sum_{m'}(u^{(l')}_{ic'm'})^2}}+\beta_c\,[0e] $$

    where $u$ is $x$ but for the invariants, which are centred over their channels. The $T$ types count equally, however
    many components they have. Only a common scale of the node and a shift of its invariants are lost.
    :class:`~geonorm.RMSNorm` does not centre, and weighs every column equally.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        affine: Learn a gain per field and a bias per field of type 0e.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Liao, Wood, Das and Smidt 2024 (EquiformerV2, arXiv 2306.12059), ``rms_norm_sh``; the default of UMA
    (fairchem).
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            irreps,
            mean="v",
            scale="vtm",
            normalization="degree",
            eps=eps,
            gain=affine,
            bias=affine,
            level="node",
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)
