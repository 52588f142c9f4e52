"""GeometricNorm: the general form of a normalization layer, whose settings are the rows of the tables."""

from __future__ import annotations

from collections.abc import Iterable
from inspect import signature
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.layers.corners import corner
from geonorm.layers.fields import Features, Fields
from geonorm.layers.parts import Parts
from geonorm.layers.patterns import PER_TYPE, check_settings, parts_of
from geonorm.layers.polar import Polar
from geonorm.numerics import accumulation_dtype

#: A setting for all irrep types, or one for each of ``"0e"``, ``"1o"``, …, ``"rest"``.
PerType = Any


class PoolStatistics(NamedTuple):
    """What a layer removes, for every node: invariants, and a mean that turns with the features.

    Args:
        mean: The mean of the pool of every entry, of the irreps of the features, ``[nodes, columns]``; of lengths, in
            the modes that standardize lengths, ``[nodes, fields]``.
        log_scale: The logarithm of the scale of every field, of type 0e, ``[nodes, fields]``.
    """

    mean: Float[Tensor, "*nodes columns"]
    log_scale: Float[Tensor, "*nodes fields"]


class GeometricNorm(nn.Module):
    r"""The general layer: centre over one pattern, divide by a power of the size over another, each as the task allows.

    $$ y=\gamma\,\frac{x-\alpha\,\mu_{A_M}(x)}{S^{\tau}}+\beta\,[0e],\qquad
       S^2=\varepsilon+s^2_{A_S}(x),\qquad \tau=\mathrm{sigmoid}(\theta) $$

    Every setting may differ between irrep types: ``mean={"0e": "v"}`` centres the invariants alone,
    ``scale={"0e": "v", "rest": "vtm"}`` gives all that rotates one divisor. Types with equal settings share a pool
    where the axes pool t. By default the layer divides the features of a node by a learned power τ < 1 of their common
    size: it turns with every node, a node sees no other, and no direction is lost, since the output still knows the
    size, $S\mapsto S^{1-\tau}$, at a condition number of 1/(1-τ).

    In the modes ``"product"`` and ``"pair"`` the lengths $\ell$ of the fields are standardized instead of their
    components, $f$ being the formula above, and put back on the directions or returned beside them (of type 0e the
    value itself, with direction 1):

    $$ \mathbf y_e=\frac{\mathbf x_e}{\ell_e}f(\ell)_e,\quad \ell_e=\|\mathbf x_e\|+\delta\qquad\text{or}\qquad
       \Big(f(\|\mathbf x\|)_e,\ \frac{\mathbf x_e}{\|\mathbf x_e\|+|\kappa_e|+\delta}\Big). $$

    Args:
        features: A number of scalar channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        mean: The axes of the mean, letters of b, x, v, t, m, or ``None``. Per type.
        alpha: The weight α of the mean, in [0, 1]; where it is learned the initial one. Per type.
        learn_alpha: Learn α per field.
        scale: The axes of the scale, or ``None``. Per type.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``, as in :class:`~geonorm.Standardize`. Per type.
        exponent: The exponent τ, at least 0; 1 normalizes exactly, 0 not at all. Per type.
        learn_exponent: Learn τ; by default where it is strictly between 0 and 1.
        eps: Added to s², inside the root. Per type.
        gain: Learn a gain γ per field. Per type.
        bias: Learn a bias β per field of type 0e (of lengths: per field).
        normalization: How s² weighs the entries of a pool: ``"component"``, ``"norm"``, ``"row"`` or ``"degree"``, as
            in :class:`~geonorm.Standardize`. Per type.
        channel_groups: Split the channels into that many groups where the axes pool v.
        source: Where mean and scale come from: ``"batch"`` always from the features at hand; ``"running"`` in eval mode
            from running statistics; ``"constant"`` from constants, which ``fit`` finds; ``"count"``: S is the number of
            nodes of the sample, or whatever positive number the call gives for each node.
        constant: The scale S of source ``"constant"`` before ``fit``.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        mode: ``"direct"``, ``"product"`` or ``"pair"``.
        length_eps: The δ of lengths, in the modes that standardize these.
        smoothing: The ϵ of a smooth length $\sqrt{\|\mathbf x\|^2+\epsilon^2}-\epsilon$; 0 takes the length itself.
        residual: The weight ρ of $x+\rho\,y$ instead of y, at least 0.
        statistics: Also return the means and scales, with which nothing is lost (:class:`PoolStatistics`).
        level: The rotations that must be respected: ``"batch"``, ``"sample"`` or ``"node"``.
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Raises:
        ValueError: If an argument is out of range, settings contradict each other, or a choice of axes breaks the
            equivariance of the layer; the message names the clause of Theorem A.

    Source: the second open question of the survey (Aalto, Lubana, Tanaka 2022); chapter 16 of the book. It is this
    project's own layer, not a published one.
    """

    def __init__(
        self,
        features: Features,
        *,
        mean: PerType = None,
        alpha: PerType = 1.0,
        learn_alpha: bool = False,
        scale: PerType = "vtm",
        statistic: PerType = "residual",
        exponent: PerType = 0.5,
        learn_exponent: bool | None = None,
        eps: PerType = 1e-5,
        gain: PerType = True,
        bias: bool = True,
        normalization: PerType = "component",
        channel_groups: int | None = None,
        source: Literal["batch", "running", "constant", "count"] = "batch",
        constant: float | int = 1.0,
        momentum: float | None = 0.1,
        mode: Literal["direct", "product", "pair"] = "direct",
        length_eps: float = 1e-6,
        smoothing: float = 0.0,
        residual: float | int | None = None,
        statistics: bool = False,
        level: str = "sample",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fields = Fields(features)
        #: All arguments but device and dtype.
        self.settings = {
            "mean": mean,
            "alpha": alpha,
            "learn_alpha": learn_alpha,
            "scale": scale,
            "statistic": statistic,
            "exponent": exponent,
            "learn_exponent": learn_exponent,
            "eps": eps,
            "gain": gain,
            "bias": bias,
            "normalization": normalization,
            "channel_groups": channel_groups,
            "source": source,
            "constant": constant,
            "momentum": momentum,
            "mode": mode,
            "length_eps": length_eps,
            "smoothing": smoothing,
            "residual": residual,
            "statistics": statistics,
            "level": level,
        }
        self.source, self.mode, self.residual, self.statistics = source, mode, residual, statistics
        self.length_eps, self.smoothing = length_eps, smoothing
        check_settings(self.settings)
        factory = {"device": device, "dtype": dtype}
        # Of lengths there is one type, 0e, whatever they are lengths of.
        number = self.fields.num_fields
        described = (self.fields, features) if mode == "direct" else (Fields(number), number)
        chosen = parts_of(*described, {name: self.settings[name] for name in PER_TYPE})
        options = {
            "bias": bias,
            "channel_groups": channel_groups,
            "level": level,
            "momentum": momentum,
            "track_running_stats": source in ("running", "constant"),
            "learn_alpha": learn_alpha,
        }
        self.parts = Parts(chosen, learn_exponent, counted=source == "count", **options, **factory)
        columns = [column.field for column in described[0].columns]
        first = torch.tensor([columns.index(field) for field in range(number)], dtype=torch.long, device=device)
        self.register_buffer("_first_of_field", None if len(columns) == number else first, persistent=False)
        #: Whether consecutive columns of one type are of type 0e; plain truth values, which the compiler can guard.
        self.invariant = [irrep.l == 0 and irrep.p == 1 for _, irrep in self.fields.irreps]
        lengths = number - len(self.fields.trivial_fields)
        self.softness = nn.Parameter(torch.empty(lengths, **factory)) if mode == "pair" else None
        self.reset_parameters()

    @classmethod
    def like(cls, name: str, features: Features, **changes: Any) -> GeometricNorm:
        """The corner that is a named row of the tables: ``GeometricNorm.like("GraphNorm", 64)``.

        Args:
            name: The name of a row, of a variant or of its class, in any spelling.
            features: The features; a number counts vectors where it does so in the row.
            **changes: Arguments that replace those of the row, or that it needs: ``channel_groups`` of GroupNorm,
                ``constant`` of the rows that divide by a constant of the data.

        Returns:
            The layer: the same function as the row's own.

        Raises:
            ValueError: If the row lies outside of the general form, or there is no such row; the message says why.
        """
        features, settings = corner(name, features)
        return cls(features, **{**settings, **changes})

    @classmethod
    def for_task(
        cls,
        features: Features,
        locality: Literal["node", "sample"] = "node",
        scale_matters: bool = True,
        shift_matters: bool = True,
        **changes: Any,
    ) -> GeometricNorm:
        """The settings that a task allows, with the largest pools that its locality permits.

        An energy: ``("node", True, True)``, the default of the class. An intensive property, whatever the unit of its
        features: ``("sample", False, True)``. A shape of any place and size: ``("sample", False, False)``.

        Args:
            features: The features.
            locality: What an output may depend on: its ``"node"`` alone, as an extensive target asks for (a sum over
                nodes, to which two distant molecules contribute apart), or its whole ``"sample"``.
            scale_matters: The target changes if the features of a pool are multiplied by a number: τ < 1 is learned,
                otherwise τ = 1.
            shift_matters: The target changes if one vector is added to the features of all nodes of a sample: nothing
                is centred, otherwise the mean over the nodes is subtracted from every type.
            **changes: Arguments that replace these.

        Returns:
            The layer.

        Raises:
            ValueError: If the locality is unknown, or a mean over nodes is asked of a layer that sees one node.
        """
        if locality not in ("node", "sample"):
            raise ValueError(f"locality is {locality!r}, expected 'node' or 'sample'")
        if locality == "node" and not shift_matters:
            raise ValueError(
                "a shift that all nodes of a sample share can be removed only where a node sees the others: "
                "take locality='sample', or give the axes of a mean of your own"
            )
        settings = {
            "mean": None if shift_matters else "x",
            "scale": "vtm" if locality == "node" else "xvtm",
            "exponent": 0.5 if scale_matters else 1.0,
        }
        return cls(features, **{**settings, **changes})

    def reset_parameters(self) -> None:
        """Gain 1, bias 0, α, τ and constants at their initial values, κ 1, running statistics forgotten."""
        for part in self.parts:
            part.reset_parameters()
            if self.source == "constant" and part.running_var is not None:
                part.running_var.fill_(self.settings["constant"] ** 2 - part.eps)
        if self.softness is not None:
            nn.init.ones_(self.softness)
        self.train(self.training)

    def train(self, mode: bool = True) -> GeometricNorm:
        """Set the mode; constants are read in both."""
        super().train(mode)
        if self.source == "constant":
            self.parts.eval()
        return self

    @torch.no_grad()
    def fit(self, batches: Iterable[Any]) -> None:
        """Find the constants of source ``"constant"``: the mean of the statistics of some batches.

        Args:
            batches: Features, or tuples of features, ``batch`` and ``batch_size``: a few batches of the training set.

        Raises:
            ValueError: If the source is another one, or there are no batches.
        """
        given = [batch if isinstance(batch, tuple) else (batch,) for batch in batches]
        if self.source != "constant" or not given:
            raise ValueError(
                f"the source is {self.source!r} and there are {len(given)} batches: expected a layer with "
                "source='constant' and a few batches of the training set"
            )
        usual = [part.momentum for part in self.parts]
        for part in self.parts:
            part.reset_running_stats()
            part.momentum = None
            part.train()
        try:
            for batch in given:
                self(*batch)
        finally:
            for part, momentum in zip(self.parts, usual, strict=True):
                part.momentum = momentum
            self.train(self.training)

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
        counts: Shaped[Tensor, " nodes"] | None = None,
    ) -> Float[Tensor, "*shape"] | tuple[Any, ...]:
        """Normalize a batch.

        Args:
            x: Features, ``[nodes, columns]``, or a dense batch ``[samples, nodes, columns]``; where all columns are of
                one type that rotates also ``[nodes, channels, 3]``.
            batch: The sample of each node, ``[nodes]``, sorted or not; without it all nodes are one sample.
            batch_size: The number of samples.
            counts: For source ``"count"``: the S of each node, such as its number of neighbours; less than one counts
                as one. Without it the number of nodes of the sample.

        Returns:
            The features, of the shape and dtype of ``x``; in mode ``"pair"`` the standardized lengths and the
            directions. With ``statistics=True`` a pair of that and the :class:`PoolStatistics`.

        Raises:
            ValueError: If shapes do not fit, or counts are given to another source.
        """
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        if counts is not None and (self.source != "count" or counts.shape != given.x.shape[:1]):
            raise ValueError(
                f"counts have shape {list(counts.shape)} and the source is {self.source!r}: expected one number for "
                f"each node, [{given.x.shape[0]}], and source='count'"
            )
        rows = (given.segments().index, given.dense[0]) if given.dense else (batch, batch_size)
        h = given.x.to(accumulation_dtype(x.dtype)) if self._needs_width else given.x
        if self.mode != "direct":
            return self._of_lengths(given, h, rows)
        y = self.parts.standardized(h if self.source != "count" else h * self._factor(given, counts), *rows)
        if self.residual is not None:
            y = h + self.residual * y
        y = given.restore(y.to(x.dtype))
        return (y, self._statistics(given, h, rows)) if self.statistics else y

    @property
    def _needs_width(self) -> bool:
        """Whether something is computed here beside the parts, which choose their own accuracy."""
        return self.mode != "direct" or self.source == "count" or self.residual is not None

    def _factor(self, given: NodeFeatures, counts: Tensor | None) -> Float[Tensor, "#nodes 1"]:
        """A power of the number of nodes of the sample, or of what was given for each node."""
        if counts is None:
            segments = given.segments()
            counts = segments.expand(segments.counts(given.x)[:, None])[:, 0]
        wide = counts.to(accumulation_dtype(given.x.dtype)).clamp(min=1)
        return wide.pow(-float(self.settings["exponent"]))[:, None]

    def _statistics(self, given: NodeFeatures, h: Tensor, rows: tuple[Any, Any]) -> PoolStatistics:
        """The means and the scales of all pools, given to the nodes."""
        mean, scale = self.parts.statistics(h, *rows)
        scale = scale if self._first_of_field is None else scale.index_select(1, self._first_of_field)
        mean = mean.to(given.x.dtype)
        mean = given.restore(mean) if self.mode == "direct" else given.restore_rows(mean)
        return PoolStatistics(mean, given.restore_rows(scale.to(given.x.dtype)))

    def _of_lengths(self, given: NodeFeatures, h: Tensor, rows: tuple[Any, Any]) -> Any:
        """The formula on lengths, put back on the directions or beside them."""
        added = self.length_eps if self.mode == "product" else 0
        polar = Polar.of(h, self.fields.runs, self.invariant, self.smoothing, added)
        content = self.parts.standardized(polar.lengths, *rows)
        if self.mode == "product":
            y = polar.with_lengths(content)
        else:
            y = polar.directions(self.softness.to(h.dtype).abs() + self.length_eps)
        if self.residual is not None:
            y = h + self.residual * y
        result = y = given.restore(y.to(given.x.dtype))
        if self.mode == "pair":
            result = (given.restore_rows(content.to(given.x.dtype)), y)
        return (result, self._statistics(given, polar.lengths, rows)) if self.statistics else result

    def inverse(self, y: Float[Tensor, "*shape"], statistics: PoolStatistics) -> Float[Tensor, "*shape"]:
        r"""The features from the output and the statistics: $x=\frac{y-\beta}{\gamma}\,S^{\tau}+\alpha\mu$.

        Args:
            y: The output.
            statistics: What the layer returned beside it.

        Returns:
            The features, of the shape and dtype of ``y``, where no gain is zero.

        Raises:
            ValueError: If the layer adds its input, or standardizes lengths: the output then needs no statistics, or
                does not determine the sign of a direction.
        """
        if self.mode != "direct" or self.residual is not None or self.source == "count":
            raise ValueError(
                f"mode is {self.mode!r}, residual {self.residual} and source {self.source!r}: only the formula itself "
                "is inverted, expected mode 'direct', no residual and statistics of the features"
            )
        given = NodeFeatures.read(y, None, None, self.fields.dim, self.fields.block)
        mean, scale = statistics.mean.reshape_as(given.x), statistics.log_scale.flatten(0, -2)
        scale = scale if self._first_of_field is None else scale[:, self.fields.field_of_column]
        return given.restore(self.parts.restored(given.x, mean, scale))

    def extra_repr(self) -> str:
        """The features, and the settings that are not the usual ones."""
        usual = signature(type(self).__init__).parameters
        unusual = [f"{name}={value!r}" for name, value in self.settings.items() if value != usual[name].default]
        return ", ".join([repr(self.fields), *unusual])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"
