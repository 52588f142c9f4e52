"""Layers that normalize the lengths of the fields of a node and keep their directions."""

from __future__ import annotations

from abc import abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.kernels.operator import standardize
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import Columns, Pool
from geonorm.layers.fields import Features, Fields
from geonorm.layers.magnitudes import blocks, rescale
from geonorm.layers.standardize import Standardize
from geonorm.numerics import accumulation_dtype


class FieldNorm(Standardize):
    r"""Field normalization: divide every field of every node by its own root mean square.

    $$ y_{icm}=\gamma_c\,\frac{x_{icm}}{\sqrt{\varepsilon+\frac1{2l+1}\sum_{m'}x_{icm'}^2}},\qquad
       y_{ic}=\beta_c\quad(0e) $$

    The trivial part of a field is removed first, as published: of an invariant nothing but its bias is left. Of a
    vector the direction is kept and the length is lost, the strongest scale invariance there is.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the second moment, inside the root.
        affine: Learn a gain per field and a bias per field of type 0e.
        device: The device of the parameters.
        dtype: Their dtype.

    Source: escnn's ``FieldNorm`` (Cesa, Lang and Weiler 2022, openreview WE4qe9xlnQw).
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
            # The mean over the one component of an invariant is the invariant itself.
            mean="m",
            scale="m",
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


class _Lengths(nn.Module):
    """New lengths from the old ones, in the same directions: fields of one type of a node are seen together."""

    def __init__(self, irreps: Features, eps: float) -> None:
        super().__init__()
        if eps <= 0:
            raise ValueError(f"eps is {eps}, expected a number > 0: it keeps the direction of a zero vector defined")
        self.fields, self.eps = Fields(irreps), eps
        types = {column.field: column.type for column in self.fields.columns}
        self.type_of_field = [types[field] for field in range(self.fields.num_fields)]

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Give the fields of every node their new lengths.

        Args:
            x: Features, ``[nodes, columns]``, or a dense batch ``[samples, nodes, columns]``. Where all columns are of
                one type that rotates, such as ``"16x1o"``, also with the components as an axis,
                ``[nodes, channels, 3]``.
            batch: Not used: every node is normalized by itself.
            batch_size: Not used.

        Returns:
            The features, of the shape and dtype of ``x``.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        wide = given.x.to(accumulation_dtype(x.dtype))
        squares = torch.cat([wide[:, :0], *(b.square().sum(2) for b in blocks(wide, self.fields.runs))], 1)
        lengths = (squares + self.eps).sqrt()
        y = rescale(wide, self._new_lengths(lengths) / lengths, self.fields.runs)
        return given.restore(y.to(x.dtype))

    @abstractmethod
    def _new_lengths(self, lengths: Float[Tensor, "nodes fields"]) -> Float[Tensor, "nodes fields"]:
        """What becomes of the lengths."""

    def extra_repr(self) -> str:
        """The features."""
        return repr(self.fields)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"


class NormSE3(_Lengths):
    r"""The SE(3)-Transformer's normalization: LayerNorm and ReLU of the lengths of a type, directions kept.

    $$ y^{(l)}_{ic}=\frac{x^{(l)}_{ic}}{n_{ic}}\,\mathrm{ReLU}\Big(\gamma_c\,\frac{n_{ic}-\mu_i}
       {\sqrt{\varepsilon+\sigma_i^2}}+\beta_c\Big),\qquad n_{ic}=\sqrt{\epsilon+\|x^{(l)}_{ic}\|^2} $$

    with $\mu_i,\sigma_i$ over the channels of the type. ReLU may shorten a vector to zero and never turns it round,
    where Equiformer's first layer normalization lets negative lengths through. Every node may be rotated by itself.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the variance of the lengths, inside the root.
        vector_eps: Added to the squared length, inside the root, where the released code cuts it off below: a zero
            vector stays zero, smoothly.
        affine: Learn gain and bias per field; both act on lengths, so every type may have them.
        device: The device of the parameters.
        dtype: Their dtype.

    Raises:
        ValueError: If an eps is out of range.

    Source: Fuchs, Worrall, Fischer and Welling 2020 (arXiv 2006.10503); NVIDIA's implementation, ``NormSE3``.
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-5,
        vector_eps: float = 1e-8,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(irreps, vector_eps)
        if eps < 0:
            raise ValueError(f"eps is {eps}, expected a number >= 0: it is added to a variance")
        self.scale_eps = eps
        number = self.fields.num_fields
        counts = [self.type_of_field.count(kind) for kind in self.type_of_field]
        self.pools = Columns(self.type_of_field, counts).to(device=device)
        self.weight = nn.Parameter(torch.empty(number, device=device, dtype=dtype)) if affine else None
        self.bias = nn.Parameter(torch.empty(number, device=device, dtype=dtype)) if affine else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1, bias 0."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def _new_lengths(self, lengths: Float[Tensor, "nodes fields"]) -> Float[Tensor, "nodes fields"]:
        """LayerNorm over the channels of each type, then ReLU."""
        pool = Pool.build("node", self.pools, lengths, None)
        parameters = Parameters(gamma=self.weight, beta=self.bias)
        normalized, _, _ = standardize(lengths, parameters, Plan(pool, pool, "residual", self.scale_eps))
        return normalized.relu()


class MaxMinNorm(_Lengths):
    r"""ViSNet's normalization: the lengths of a type of a node, stretched to the interval from zero to one.

    $$ y^{(l)}_{ic}=\gamma_c\,\frac{x^{(l)}_{ic}}{n_{ic}}\,\frac{n_{ic}-\min_{c'}n_{ic'}}
       {\sqrt{\varepsilon+(\max_{c'}n_{ic'}-\min_{c'}n_{ic'})^2}},\qquad n_{ic}=\sqrt{\varepsilon+\|x^{(l)}_{ic}\|^2} $$

    The shortest vector of a node always becomes zero, the longest has length $\gamma$; a single channel becomes zero.
    Every node may be rotated by itself. Where all lengths are equal, as those of unit vectors, all become zero: the
    released layer, without ε, stretches there the rounding error of the lengths to the whole interval, and what comes
    out does not rotate with what goes in.

    Args:
        irreps: Irreps such as ``"32x0e+16x1o"``, ``Vectors(channels, dim)``, or a number of 0e.
        eps: Added to the squared length and to the squared range of lengths, inside the root; differences of lengths
            are stretched by no more than its inverse root.
        affine: Learn a gain per field.
        device: The device of the parameter.
        dtype: Its dtype.

    Raises:
        ValueError: If eps is not positive.

    Source: Wang et al. 2024 (ViSNet, arXiv 2210.16518); PyTorch Geometric ``VecLayerNorm``.
    """

    def __init__(
        self,
        irreps: Features,
        eps: float = 1e-6,
        affine: bool = True,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(irreps, eps)
        number = self.fields.num_fields
        self.weight = nn.Parameter(torch.empty(number, device=device, dtype=dtype)) if affine else None
        kinds = torch.tensor(self.type_of_field, dtype=torch.long)
        self.num_types = len(self.fields.types)
        self.register_buffer("_type_of_field", kinds.to(device), persistent=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Gain 1."""
        if self.weight is not None:
            nn.init.ones_(self.weight)

    def _new_lengths(self, lengths: Float[Tensor, "nodes fields"]) -> Float[Tensor, "nodes fields"]:
        """The place of each length between the shortest and the longest of its type."""
        kind = self._type_of_field.expand_as(lengths)
        empty = lengths.new_zeros(lengths.shape[0], self.num_types)
        longest = empty.scatter_reduce(1, kind, lengths, "amax", include_self=False).gather(1, kind)
        shortest = empty.scatter_reduce(1, kind, lengths, "amin", include_self=False).gather(1, kind)
        place = (lengths - shortest) * ((longest - shortest).square() + self.eps).rsqrt()
        return place if self.weight is None else place * self.weight.to(lengths.dtype)
