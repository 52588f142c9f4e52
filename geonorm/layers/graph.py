"""Rows of Table 1 that come from graphs and sets and standardize: each a choice of axes."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.kernels.plan import Parameters
from geonorm.layers.fields import Features, Fields
from geonorm.layers.standardize import Standardize
from geonorm.numerics import accumulation_dtype


class GraphNorm(Standardize):
    r"""Graph normalization: InstanceNorm that learns how much of the mean to subtract.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\alpha_c\mu_{sc}}{\sqrt{\hat\sigma_{sc}^2+\varepsilon}}+\beta_c,\qquad
       \hat\sigma_{sc}^2=\frac1{n_s}\sum_{i\in s}(x_{ic}-\alpha_c\mu_{sc})^2=\sigma_{sc}^2+(1-\alpha_c)^2\mu_{sc}^2 $$

    The divisor is the RMS about $\alpha\mu$, not the standard deviation that the survey prints; they agree at
    $\alpha=1$.

    Args:
        channels: The number of channels.
        eps: Added to the second moment, inside the root (1e-6 in the authors' code).
        device: The device of the parameters ``weight``, ``bias`` and ``mean_scale`` (α, initially 1).
        dtype: Their dtype.

    Source: Cai et al. 2021 (arXiv 2009.03294); PyTorch Geometric ``GraphNorm``, whose state dict this layer loads.
    """

    instead = "EquivariantGraphNorm is this layer for features that rotate"

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, mean="x", scale="x", learn_alpha=True, eps=eps, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class PairNorm(Standardize):
    r"""Pair normalization: remove the mean row of each graph, then give the rows a root mean square norm ``scale``.

    $$ y_i=s\,\frac{\tilde x_i}{\sqrt{\varepsilon+\frac1{n_s}\sum_{j\in s}\|\tilde x_j\|^2}},\qquad
       \tilde x_i=x_i-\frac1{n_s}\sum_{j\in s}x_j $$

    Mean over $\{x\}$, scale over $\{x,v\}$. The survey prints one scalar mean over $\{x,v\}$ and a divisor that is
    smaller by $\sqrt v$. Orthogonal maps of the row commute with the layer, the same for all nodes of a graph: irreps
    are treated as their columns.

    Args:
        channels: The number of channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        scale: The root mean square row norm s of the result, a hyper-parameter.
        scale_individually: Give every row the norm s instead (PairNorm-SI).
        eps: Added to the squared norm, inside the root, as in the authors' code (PyTorch Geometric adds it to the norm
            of a single row).
        device: Accepted for uniformity; the layer has no parameters.
        dtype: Likewise.

    Source: Zhao and Akoglu 2020 (arXiv 1909.12223); the authors' code for eps.
    """

    def __init__(
        self,
        channels: Features,
        scale: float = 1.0,
        scale_individually: bool = False,
        eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        row = "v" if isinstance(channels, int) else "vtm"
        super().__init__(
            channels,
            mean="x",
            mean_on="all",
            scale=row if scale_individually else f"x{row}",
            normalization="row",
            eps=eps,
            gain=False,
            bias=False,
            device=device,
            dtype=dtype,
        )
        self.scale = float(scale)
        self.scale_individually = scale_individually

    def _operator_parameters(self, x: Tensor) -> Parameters:
        """The scale s is the gain of every column."""
        scale = x.new_full((self.fields.dim,), self.scale, dtype=accumulation_dtype(x.dtype))
        return Parameters(gamma=None if self.scale == 1 else scale)

    def extra_repr(self) -> str:
        """The number of channels, the scale and the variant."""
        individually = ", scale_individually=True" if self.scale_individually else ""
        return f"{self.fields!r}, scale={self.scale}{individually}"


class MeanSubtractionNorm(Standardize):
    r"""Mean subtraction: remove the mean row of each graph, scale nothing.

    $$ y_{ic}=x_{ic}-\frac1{n_s}\sum_{j\in s}x_{jc} $$

    A projection, per sample and channel. The survey prints $\mu_{\{b,v\}}$, one number per node index, which is
    undefined for graphs of different sizes and breaks permutation equivariance. The mean vector of a graph rotates with
    the graph: irreps are treated as their columns.

    Args:
        channels: The number of channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        device: Accepted for uniformity; the layer has no parameters.
        dtype: Likewise.

    Source: Yang et al. 2020 (arXiv 2003.13663); PyTorch Geometric ``MeanSubtractionNorm``.
    """

    def __init__(
        self, channels: Features, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(
            channels, mean="x", mean_on="all", scale=None, gain=False, bias=False, device=device, dtype=dtype
        )

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class SetNorm(Standardize):
    r"""Set normalization: one mean and one variance per set, over elements and features.

    $$ y_{ic}=\gamma_c\,\frac{x_{ic}-\mu_s}{\sqrt{\sigma_s^2+\varepsilon}}+\beta_c,\qquad
       \mu_s,\sigma_s \text{ over } \{x,v\} $$

    It is LayerNorm over a graph under another name. The survey prints the axes $\{b,v\}$, which break the permutation
    equivariance that the layer's authors require.

    Args:
        channels: The number of features.
        eps: Added to the variance, inside the root.
        affine: Learn gain and bias per feature.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: Zhang, Tozzo, Higgins and Ranganath 2022 (arXiv 2206.11925).
    """

    instead = "Standardize(features, mean='xv', scale='xvm') is this layer for features that rotate"

    def __init__(
        self,
        channels: int,
        eps: float = 1e-5,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, mean="xv", scale="xv", eps=eps, gain=affine, bias=affine, device=device, dtype=dtype)

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)


class GraphSizeNorm(nn.Module):
    r"""Graph size normalization: divide by the root of the number of nodes of the graph.

    $$ y_{ic}=\frac{x_{ic}}{\sqrt{n_s}} $$

    The survey prints $|X|$ without the root. No invariance is added, but a molecule and two distant copies of it get
    different node features.

    Args:
        channels: The number of channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        device: Accepted for uniformity; the layer has no parameters.
        dtype: Likewise.

    Source: Dwivedi et al. 2020 (arXiv 2003.00982); PyTorch Geometric ``GraphSizeNorm``.
    """

    def __init__(
        self, channels: Features, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.fields = Fields(channels)

    def reset_parameters(self) -> None:
        """The layer has no parameters."""

    def forward(
        self,
        x: Float[Tensor, "*nodes columns"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*nodes columns"]:
        """Divide every node by the root of the size of its graph.

        Args:
            x: Features, ``[nodes, channels]``, or a dense batch ``[samples, nodes, channels]``; vectors also as
                ``[nodes, channels, 3]``.
            batch: The graph of each node, ``[nodes]``; without it all nodes are one graph.
            batch_size: The number of graphs.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        segments = given.segments()
        root = segments.counts(given.x).clamp(min=1).rsqrt()
        return given.restore((given.x * segments.expand(root[:, None])).to(x.dtype))

    def extra_repr(self) -> str:
        """The number of channels."""
        return repr(self.fields)
