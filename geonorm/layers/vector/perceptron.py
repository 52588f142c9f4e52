"""VectorPerceptronNorm and EGANNorm: scalars standardized, vectors divided by the RMS of their lengths."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.layers.fields import Features, Fields, Vectors
from geonorm.layers.standardize import Standardize
from geonorm.layers.vector.inputs import short_name, vector_features
from geonorm.layers.vision import LayerNorm

Pair = tuple[Float[Tensor, "..."], Float[Tensor, "..."]]


class ScalarsAndVectors(nn.Module):
    """A layer that treats scalars and vectors apart, with the statistics of a node or of a graph.

    Args:
        channels: The number of vectors of a node, or the irreps of the whole matrix, of which 0e are the scalars.
        scalar_channels: The number of scalars of a node, where ``channels`` is a number.
        mode: ``"node"`` or ``"graph"``: what the statistics belong to.
        eps: Added to the variance of the scalars.
        vector_eps: Added to the mean squared length of the vectors.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If a number of channels is negative, or the scalars are given twice.
    """

    def __init__(
        self,
        channels: Features,
        scalar_channels: int,
        mode: Literal["node", "graph"],
        eps: float,
        vector_eps: float,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        whole = Fields(vector_features(channels))
        if scalar_channels < 0 or (scalar_channels and (whole.vectors is None)):
            raise ValueError(
                f"scalar_channels is {scalar_channels} and channels {channels!r}: give two numbers >= 0, such as "
                "(16, scalar_channels=32), or irreps alone, such as '32x0e+16x1o'"
            )
        terms = list(whole.irreps)
        if scalar_channels:
            terms = [(scalar_channels, Fields(1).irreps[0][1]), *terms]
        #: The columns of consecutive irreps, and whether they are scalars.
        self.parts = [(number * irrep.dim, irrep.l == 0 and irrep.p == 1) for number, irrep in terms]
        self.scalar_channels = sum(width for width, scalar in self.parts if scalar)
        self.dim = sum(width for width, _ in self.parts)
        vectors = whole.vectors or _without_scalars(terms)
        factory = {"device": device, "dtype": dtype}
        axes = "" if mode == "node" else "x"
        self.scalars = LayerNorm(self.scalar_channels, mode, eps=eps, **factory) if self.scalar_channels else None
        self.vectors = Standardize(
            vectors,
            mean=None,
            scale=axes + "vm",
            statistic="rms",
            normalization="norm",
            eps=vector_eps,
            gain=False,
            bias=False,
            level="node" if mode == "node" else "sample",
            **factory,
        )
        self.description = short_name(whole)
        if whole.vectors and scalar_channels:
            self.description += f", scalar_channels={scalar_channels}"

    def reset_parameters(self) -> None:
        """Gain 1 and bias 0 of the scalars."""
        if self.scalars is not None:
            self.scalars.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "..."] | Pair,
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "..."] | Pair:
        """Normalize scalars and vectors.

        Args:
            x: The pair of scalars ``[nodes, scalar_channels]`` and vectors ``[nodes, channels, 3]``; without scalars
                the vectors alone; or one matrix ``[nodes, columns]`` of irreps, scalars first where ``channels`` is a
                number. Each may be a dense batch with ``[samples, nodes]`` in front.
            batch: The sample of each node, ``[nodes]``; without it all nodes are one sample.
            batch_size: The number of samples.

        Returns:
            What was given, normalized: a pair, vectors, or a matrix.

        Raises:
            ValueError: If a pair is given to a layer without scalars, or shapes do not fit.
        """
        if not isinstance(x, Tensor):
            if self.scalars is None:
                raise ValueError(
                    f"x is a pair but {self} has no scalars: pass the vectors alone, or build the layer with "
                    "scalar_channels"
                )
            return self.scalars(x[0], batch, batch_size), self.vectors(x[1], batch, batch_size)
        if self.scalars is None:
            return self.vectors(x, batch, batch_size)
        given = NodeFeatures.read(x, batch, batch_size, self.dim)
        rows = given.dense or (given.x.shape[0],)
        kinds = list(zip(given.x.split([width for width, _ in self.parts], 1), self.parts, strict=True))
        done = []
        for layer, wanted in ((self.scalars, True), (self.vectors, False)):
            columns = torch.cat([given.x[:, :0], *(part for part, (_, scalar) in kinds if scalar is wanted)], 1)
            y = layer(columns.view(*rows, columns.shape[1]), batch, batch_size).flatten(0, -2)
            done.append(iter(y.split([width for width, scalar in self.parts if scalar is wanted], 1)))
        scalars, vectors = done
        together = torch.cat([given.x[:, :0], *(next(scalars if scalar else vectors) for _, scalar in self.parts)], 1)
        return given.restore(together)

    def extra_repr(self) -> str:
        """The features."""
        return self.description

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


def _without_scalars(terms: list) -> Features:
    """The irreps of the columns that rotate or change sign."""
    from e3nn import o3

    rest = [(number, irrep) for number, irrep in terms if not (irrep.l == 0 and irrep.p == 1)]
    return o3.Irreps(rest) if rest else Vectors(0)


class VectorPerceptronNorm(ScalarsAndVectors):
    r"""Layer normalization of geometric vector perceptrons: scalars and vectors of each node, apart.

    $$ s_i\mapsto\mathrm{LayerNorm}_{\{v\}}(s_i),\qquad
       \mathbf V_{ic}\mapsto\frac{\mathbf V_{ic}}{\sqrt{\frac1{n_v}\sum_{c'}\|\mathbf V_{ic'}\|^2+\varepsilon_v}} $$

    The vectors of a node get an RMS length of one (each component $1/\sqrt3$); their lengths relative to each other and
    their angles stay, the common length of the node is erased. Only the scalars have gain and bias. The survey prints
    axes $\{x,y\}$ with $y$ undefined; nodes are not pooled. The published code clamps every squared length from below
    where this layer adds $\varepsilon_v$ to their mean, which is smooth.

    Args:
        channels: The number of vectors of a node, or the irreps of a whole matrix such as ``"32x0e+16x1o"``, of which
            0e are the scalars and every other type has a divisor of its own.
        scalar_channels: The number of scalars of a node, where ``channels`` is a number.
        eps: Added to the variance of the scalars, inside the root.
        vector_eps: Added to the mean squared length of the vectors, inside the root.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If a number of channels is negative, or the scalars are given twice.

    Source: Jing, Eismann, Suriana, Townshend and Dror 2021 (arXiv 2009.01411); ``LayerNorm`` of the authors'
    gvp-pytorch.
    """

    def __init__(
        self,
        channels: Features,
        scalar_channels: int = 0,
        eps: float = 1e-5,
        vector_eps: float = 1e-8,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scalar_channels, "node", eps, vector_eps, device=device, dtype=dtype)


class EGANNorm(ScalarsAndVectors):
    r"""Layer normalization of the equivariant graph attention network: scalars and vectors of each graph, apart.

    $$ s_{ic}\mapsto\gamma_c\,\frac{s_{ic}-\mu_s}{\sqrt{\sigma_s^2+\varepsilon}}+\beta_c,\qquad
       \mathbf V_{ic}\mapsto
       \frac{\mathbf V_{ic}}{\sqrt{\frac1{n_sn_v}\sum_{j\in s,c'}\|\mathbf V_{jc'}\|^2+\varepsilon}} $$

    with $\mu_s,\sigma_s$ over $\{x,v\}$ of the sample of node $i$. This is the layer as it was meant. The released code
    of the model (EQGAT; the survey says EGAN) divides by the mean squares without the root, and the vectors by the mean
    square of their first coordinate alone, which is not equivariant.

    Args:
        channels: The number of vectors of a node, or the irreps of a whole matrix such as ``"32x0e+16x1o"``, of which
            0e are the scalars and every other type has a divisor of its own.
        scalar_channels: The number of scalars of a node, where ``channels`` is a number.
        eps: Added to the variance of the scalars and to the mean squared length of the vectors, inside the root.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If a number of channels is negative, or the scalars are given twice.

    Source: Le, Noé and Clevert 2022 (arXiv 2202.09891); ``LayerNorm`` of the authors' EQGAT, without its faults.
    """

    def __init__(
        self,
        channels: Features,
        scalar_channels: int = 0,
        eps: float = 1e-5,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(channels, scalar_channels, "graph", eps, eps, device=device, dtype=dtype)
