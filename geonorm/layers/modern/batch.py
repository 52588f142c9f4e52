"""Statistics over nodes, for features that rotate: per batch, per graph, and with a learned share of the mean."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import nn

from geonorm.layers.fields import Features
from geonorm.layers.standardize import Standardize


class EquivariantBatchNorm(Standardize):
    r"""Batch normalization of irreps: BatchNorm of the invariants, one RMS over the batch for every other field.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_c}{\sqrt{\varepsilon+\frac1N\sum_j(x_{jc}-\mu_c)^2}}+\beta_c
       \quad(0e),\qquad
       y^{(l)}_{icm}=\gamma^{(l)}_c\,\frac{x^{(l)}_{icm}}{\sqrt{\varepsilon+\frac1N\sum_j\frac1{2l+1}
       \sum_{m'}(x^{(l)}_{jcm'})^2}} $$

    A batch mean of vectors would carry a direction from one sample to another, so nothing but 0e is centred; 0o, which
    changes its sign, is not. In training a sample's output depends on the others of its batch.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        affine: Learn a gain per field and a bias per field of type 0e.
        normalization: ``"component"`` as above, or ``"norm"``: without the factor 1/(2l+1).
        track_running_stats: Keep running statistics and use them in eval mode. ``running_var`` holds the plain second
            moment, as in e3nn; given a number of channels the unbiased variance, as :class:`~geonorm.BatchNorm`.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Source: Weiler et al. 2018 (arXiv 1807.02547); equal to ``e3nn.nn.BatchNorm`` (Geiger and Smidt 2022, arXiv
    2207.09453), whose state dict this layer loads.
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        normalization: Literal["component", "norm"] = "component",
        track_running_stats: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            irreps,
            mean="bx",
            # Of scalars the axis m has one entry: without it the statistic is the variance that torch keeps unbiased.
            scale="bx" if isinstance(irreps, int) else "bxm",
            eps=eps,
            gain=affine,
            bias=affine,
            normalization=normalization,
            momentum=momentum,
            track_running_stats=track_running_stats,
            level="node",
            device=device,
            dtype=dtype,
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        """Load the state of e3nn's layer too: it counts no batches, and has empty tensors where there is no 0e."""
        absent = (name for name in ("running_mean", "bias") if getattr(self, name, None) is None)
        empty = {f"{prefix}{name}" for name in absent if state_dict.get(f"{prefix}{name}", torch.ones(1)).numel() == 0}
        state = {name: value for name, value in state_dict.items() if name not in empty}
        if self.track_running_stats and f"{prefix}running_var" in state:
            state.setdefault(f"{prefix}num_batches_tracked", self.num_batches_tracked)
        super()._load_from_state_dict(state, prefix, *arguments)

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)


class EquivariantInstanceNorm(Standardize):
    r"""Instance normalization of irreps: statistics of every graph by itself, the mean of 0e only.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_{sc}}{\sqrt{\varepsilon+\sigma_{sc}^2}}+\beta_c\quad(0e),\qquad
       y^{(l)}_{icm}=\gamma^{(l)}_c\,\frac{x^{(l)}_{icm}}{\sqrt{\varepsilon+\frac1{n_s}\sum_{j\in s}\frac1{2l+1}
       \sum_{m'}(x^{(l)}_{jcm'})^2}} $$

    A graph with one node keeps no invariant but the bias. ``e3nn.nn.BatchNorm(instance=True)`` on a node matrix takes
    every node for an instance; here the batch vector says which nodes belong together.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        affine: Learn a gain per field and a bias per field of type 0e.
        normalization: ``"component"`` as above, or ``"norm"``: without the factor 1/(2l+1).
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Brandstetter et al. 2022 (SEGNN, arXiv 2110.02905); Equiformer's ``nets/instance_norm.py``, which tests the
    parity that the first version forgot.
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        affine: bool = True,
        normalization: Literal["component", "norm"] = "component",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            irreps,
            mean="x",
            scale="xm",
            eps=eps,
            gain=affine,
            bias=affine,
            normalization=normalization,
            level="node",
            device=device,
            dtype=dtype,
        )

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)


class EquivariantGraphNorm(Standardize):
    r"""Graph normalization of irreps: subtract a learned share of the graph's mean, from vectors too.

    $$ y_{icm}=\gamma_c\,\frac{u_{icm}}{\sqrt{\varepsilon+\frac1{n_s}\sum_{j\in s}\frac1{2l+1}\sum_{m'}u_{jcm'}^2}}
       +\beta_c\,[0e],\qquad u_i=x_i-\alpha_c\,\frac1{n_s}\sum_{j\in s}x_j $$

    The mean vector of a graph rotates with the graph, so that it may be subtracted; not where every node is rotated by
    itself. The share α of a field is initially 1 for 0e and 0 for what rotates.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        affine: Learn a gain per field and a bias per field of type 0e.
        normalization: ``"component"`` as above, or ``"norm"``: without the factor 1/(2l+1).
        device: The device of the parameters ``mean_scale`` (α), ``weight`` and ``bias``.
        dtype: Their dtype.

    Source: Liao and Smidt 2023 (Equiformer, arXiv 2206.11990), ``nets/graph_norm.py``; after Cai et al. 2021 (arXiv
    2009.03294).
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        affine: bool = True,
        normalization: Literal["component", "norm"] = "component",
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            irreps,
            mean="x",
            mean_on="all",
            learn_alpha=True,
            scale="xm",
            eps=eps,
            gain=affine,
            bias=affine,
            normalization=normalization,
            device=device,
            dtype=dtype,
        )

    def reset_parameters(self) -> None:
        """Gain 1, bias 0, α 1 for 0e and 0 for what rotates."""
        super().reset_parameters()
        nn.init.zeros_(self.mean_scale)
        with torch.no_grad():
            self.mean_scale[self.fields.trivial_fields] = 1

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)
