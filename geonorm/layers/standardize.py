"""The one statistic layer: every row of Table 1 that standardizes is a choice of its axes."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import Axes, NodeFeatures
from geonorm.kernels.operator import quick, standardize
from geonorm.kernels.plan import Parameters, Plan
from geonorm.kernels.pools import Pool
from geonorm.layers.fields import NORMALIZATIONS, Features, Fields
from geonorm.layers.legality import LEVELS, violations
from geonorm.layers.running import RunningStatistics
from geonorm.numerics import accumulation_dtype

Statistic = Literal["rms", "residual", "own"]


class Standardize(RunningStatistics):
    r"""Centre over these axes, divide by that statistic over those axes: the family of normalization layers.

    $$ y = \gamma\,\frac{x-\alpha\,\mu_{A_M}(x)}{\big(\varepsilon + s^2_{A_S}(x)\big)^{\tau/2}}+\beta, \qquad
       s^2 = \begin{cases}\mathrm{mean}_{A_S}(x^2) & \text{rms}\\
       \mathrm{mean}_{A_S}\big((x-\alpha\mu_{A_M})^2\big) & \text{residual}\\
       \mathrm{mean}_{A_S}\big((x-\mu_{A_S})^2\big) & \text{own}\end{cases} $$

    ``Standardize(64, mean="bx", scale="bx")`` is BatchNorm, ``mean="xv", scale="xv"`` is LayerNorm over a graph. On
    irreps the gain belongs to a field (shared by its components), the bias to 0e only, and an illegal choice of axes
    is refused.

    Args:
        features: A number of scalar channels, irreps such as ``"32x0e+16x1o"`` in e3nn's ``mul_ir`` layout, or
            ``Vectors(channels, dim)``.
        mean: The axes of the mean, letters of b, x, v, t, m; ``None`` subtracts no mean.
        scale: The axes of the scale; ``None`` divides by nothing.
        statistic: ``"rms"`` second moment, ``"residual"`` second moment of what is left after the mean, ``"own"``
            variance about the mean over the scale's own axes.
        alpha: The weight α of the mean; the initial one if it is learned.
        learn_alpha: Learn α per field (parameter ``mean_scale``).
        exponent: The exponent τ of the scale; 1 normalizes, smaller keeps part of the scale.
        learn_exponent: Learn τ per irrep type, or per group of types that share a scale, as sigmoid(θ) (parameter
            ``exponent_logit``); needs 0 < τ < 1.
        eps: Added to s², inside the root.
        gain: Learn a gain γ per field (parameter ``weight``, initially 1).
        bias: Learn a bias β per field of type 0e (parameter ``bias``, initially 0).
        mean_on: ``"0e"`` subtracts the mean from invariants only, ``"all"`` from every type.
        channel_groups: Split the channels into that many groups where the axes pool v.
        scalars_apart: Where the scale pools types (t), 0e keeps a scale of its own.
        normalization: How s² weighs the entries of a pool: ``"component"`` mean over all; ``"norm"`` sum over the
            components of a field, mean over fields; ``"row"`` sum over columns; ``"degree"`` mean over types.
        track_running_stats: Keep running statistics, used in eval mode.
        momentum: The weight of the new value in the running statistics; ``None`` averages over all batches.
        level: The rotations that must be respected: ``"batch"`` one for all, ``"sample"`` one per sample, ``"node"``.
        allow_illegal: Build the layer even if it breaks equivariance (for counter-examples).
        device: The device of parameters and buffers.
        dtype: Their dtype.

    Raises:
        ValueError: If an argument is out of range, or the axes are illegal on the irreps (Theorem A); the message
            says why.

    Source: the statistic rows of Table 1 of the survey (Aalto, Lubana, Tanaka 2022) as one formula.
    """

    #: The way out where the axes are illegal: a layer that fixes its axes names the one for features that rotate.
    instead: ClassVar[str] = "allow_illegal=True builds the layer all the same"

    def __init__(
        self,
        features: Features,
        *,
        mean: str | None = "bx",
        scale: str | None = "bx",
        statistic: Statistic = "residual",
        alpha: float = 1.0,
        learn_alpha: bool = False,
        exponent: float = 1.0,
        learn_exponent: bool = False,
        eps: float = 1e-5,
        gain: bool = True,
        bias: bool = True,
        mean_on: Literal["0e", "all"] = "0e",
        channel_groups: int | None = None,
        scalars_apart: bool = False,
        normalization: str = "component",
        track_running_stats: bool = False,
        momentum: float | None = 0.1,
        level: str = "sample",
        allow_illegal: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fields = Fields(features)
        self.mean_axes = None if mean is None else Axes(mean)
        self.scale_axes = None if scale is None else Axes(scale)
        self.statistic, self.alpha, self.exponent, self.eps = statistic, alpha, exponent, eps
        self.level, self.mean_on = level, mean_on
        self._check(channel_groups, normalization, learn_exponent, track_running_stats, momentum)
        reasons = violations(self.fields, self.mean_axes, self.scale_axes, statistic, mean_on=mean_on, level=level)
        if reasons and not allow_illegal:
            raise ValueError(
                f"these axes are not equivariant on {self.fields!r} at the level of one rotation per {level}:\n  "
                + "\n  ".join(reasons)
                + f"\n({self.instead})"
            )
        self._build_columns(channel_groups, scalars_apart, normalization, device)
        kwargs = {"device": device, "dtype": dtype}
        trivial = self.fields.trivial_fields
        self.weight = nn.Parameter(torch.empty(self.fields.num_fields, **kwargs)) if gain else None
        self.bias = nn.Parameter(torch.empty(len(trivial), **kwargs)) if bias and trivial else None
        self.mean_scale = None
        if learn_alpha and mean is not None:
            self.mean_scale = nn.Parameter(torch.empty(self.fields.num_fields, **kwargs))
        self.exponent_logit = nn.Parameter(torch.empty(self._num_exponents, **kwargs)) if learn_exponent else None
        self.track_running_stats = track_running_stats
        if track_running_stats:
            means = None if self.mean_columns is None else self.mean_columns.num_groups
            scales = None if self.scale_columns is None else self.scale_columns.num_groups
            self._register_running(means, scales, momentum, **kwargs)
        self.reset_parameters()

    def _check(
        self, channel_groups: int | None, normalization: str, learn_exponent: bool, track: bool, momentum: float | None
    ) -> None:
        choices = {
            "statistic": (self.statistic, ("rms", "residual", "own")),
            "normalization": (normalization, NORMALIZATIONS),
            "level": (self.level, LEVELS),
            "mean_on": (self.mean_on, ("0e", "all")),
        }
        for name, (value, allowed) in choices.items():
            if value not in allowed:
                raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")
        if self.eps < 0:
            raise ValueError(f"eps is {self.eps}, expected a number >= 0: it is added to a mean of squares")
        if momentum is not None and not 0 <= momentum <= 1:
            raise ValueError(f"momentum is {momentum}, expected the weight of the new value in [0, 1], or None")
        if learn_exponent and not 0 < self.exponent < 1:
            raise ValueError(f"exponent is {self.exponent}: to be learned it must start strictly between 0 and 1")
        if self.statistic == "own" and normalization != "component":
            raise ValueError(f"statistic 'own' is a variance: normalization {normalization!r} has no meaning for it")
        if channel_groups is not None:
            odd = [
                str(irrep) for irrep, count in self.fields.count.items() if channel_groups < 1 or count % channel_groups
            ]
            if odd:
                raise ValueError(
                    f"{self.fields!r} cannot be split into {channel_groups} groups of channels of equal size: "
                    "choose a divisor of the number of channels"
                )
        if track:
            axes = [axes for axes in (self.mean_axes, self.scale_axes) if axes is not None]
            if any(a.rows == "node" for a in axes) or not axes:
                raise ValueError("running statistics need a statistic over nodes: add x (or bx) to its axes")
            if self.mean_axes is not None and self.mean_on == "all" and self.fields.nontrivial_types:
                raise ValueError(
                    "(A′) a running mean of features that rotate points in a fixed direction: "
                    "subtract the mean from 0e only (mean_on='0e'), or do not track running statistics"
                )

    def _build_columns(
        self,
        channel_groups: int | None,
        scalars_apart: bool,
        normalization: str,
        device: torch.device | str | None,
    ) -> None:
        fields = self.fields
        self._dim = fields.dim
        self.mean_columns = self.scale_columns = None
        only_trivial = self.mean_on == "0e"
        if self.mean_axes is not None and (fields.trivial_fields or not only_trivial):
            self.mean_columns = fields.group(self.mean_axes, channel_groups=channel_groups, only_trivial=only_trivial)
        if self.scale_axes is not None:
            self.scale_columns = fields.group(
                self.scale_axes,
                channel_groups=channel_groups,
                normalization=normalization,
                scalars_apart=scalars_apart,
            )
        kinds = ((self.mean_axes, self.mean_columns), (self.scale_axes, self.scale_columns))
        rows = {axes.rows for axes, columns in kinds if columns is not None}
        self._rows = rows.pop() if len(rows) == 1 else None  # the rows that share a statistic, where there is one kind
        per_field = torch.tensor(fields.field_of_column, dtype=torch.long)
        scalar_only = fields.dim == fields.num_fields
        self._scalar_only = scalar_only
        self.register_buffer("_field_of_column", None if scalar_only else per_field, persistent=False)
        slot = {field: number for number, field in enumerate(fields.trivial_fields)}
        bias_slot = torch.tensor([slot.get(field, len(slot)) for field in fields.field_of_column], dtype=torch.long)
        all_trivial = scalar_only and len(slot) == fields.num_fields
        self._all_trivial = all_trivial
        self.register_buffer("_bias_of_column", None if all_trivial else bias_slot, persistent=False)
        self.register_buffer("_type_of_group", self._types_of_groups(), persistent=False)
        self.to(device=device)

    def _types_of_groups(self) -> Int[Tensor, " groups"] | None:
        """Which of the learned exponents each scale group uses: that of its irrep type, or of the types it pools."""
        self._num_exponents = 0
        if self.scale_columns is None:
            return None
        groups = torch.arange(self.scale_columns.num_groups)[None]
        column_group = self.scale_columns.expand(groups).expand(1, self.fields.dim)[0].tolist()
        types = dict(zip(column_group, (column.type for column in self.fields.columns), strict=True))
        used = sorted(set(types.values()))
        self._num_exponents = len(used)
        return torch.tensor([used.index(types[group]) for group in range(len(types))], dtype=torch.long)

    def reset_parameters(self) -> None:
        """Gain 1, bias 0, α and τ at their initial values, running statistics forgotten."""
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        if self.mean_scale is not None:
            nn.init.constant_(self.mean_scale, self.alpha)
        if self.exponent_logit is not None:
            nn.init.constant_(self.exponent_logit, math.log(self.exponent / (1 - self.exponent)))
        if self.track_running_stats:
            self.reset_running_stats()

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Standardize a batch.

        Args:
            x: Features, ``[nodes, columns]``, or a dense batch ``[samples, nodes, columns]``. Where all columns are of
                one type that rotates, such as ``"16x1o"``, also with the components as an axis,
                ``[nodes, channels, 3]``.
            batch: The sample of each node, ``[nodes]``, sorted or not; without it all nodes are one sample.
            batch_size: The number of samples; with it nothing is read back from the device.

        Returns:
            The standardized features, of the shape and dtype of ``x``.
        """
        if (y := self._quick(x, batch, batch_size)) is not None:
            return y
        given = NodeFeatures.read(x, batch, batch_size, self.fields.dim, self.fields.block)
        if self.track_running_stats and not self.training:
            return given.restore(self._from_buffers(given.x))
        plan = self._plan(given)
        y, mean, square = standardize(given.x, self._operator_parameters(given.x), plan)
        if self.track_running_stats:
            self._update_running(plan, mean, square, self._centred)
        return given.restore(y)

    def _quick(self, x: Tensor, batch: Tensor | None, batch_size: int | None) -> Tensor | None:
        """The result by the compiled kernels, for features as they mostly come; else ``None``.

        A small batch costs as much as the Python around its kernel: here there is as little as possible.
        """
        tracks = self.track_running_stats
        if self._rows is None or x.ndim != 2 or x.shape[1] != self._dim:
            return None
        if tracks and not (self.training and self._rows == "batch"):
            return None
        columns = self._modules
        mean, scale = columns.get("mean_columns"), columns.get("scale_columns")
        work = quick(x, self._rows, mean, scale, self.statistic, self.eps, batch, batch_size)
        if work is None:
            return None
        y = work(x, self._operator_parameters(x), tracks)
        if tracks:
            sizes = () if scale is None else scale.sizes
            group_size = sizes[0][0] if len(sizes) == 1 else scale.group_size if sizes else 1
            self._update_from_batch(x.shape[0], work.mean, work.square, group_size, self._centred)
        return y

    @property
    def _centred(self) -> bool:
        """Whether s² is a variance, whose unbiased value the buffers keep."""
        if self.statistic == "own":
            return True
        same = self.mean_axes == self.scale_axes and self.fields.channels is not None
        return self.statistic == "residual" and same and self.alpha == 1 and self.mean_scale is None

    def _plan(self, given: NodeFeatures) -> Plan:
        """The pools of this batch."""
        kinds = ((self.mean_axes, self.mean_columns), (self.scale_axes, self.scale_columns))
        by_sample = any(columns is not None and axes.rows == "sample" for axes, columns in kinds)
        segments = given.segments() if by_sample else None
        built: dict[str, Pool] = {}
        for axes, columns in kinds:
            if columns is not None and axes.rows not in built:
                built[axes.rows] = Pool.build(axes.rows, columns, given.x, segments)
        pools = [None if columns is None else built[axes.rows].pooling(columns) for axes, columns in kinds]
        return Plan(*pools, self.statistic, self.eps)

    def _per_column(self, per_field: Tensor | None) -> Float[Tensor, " columns"] | None:
        if per_field is None or self._scalar_only:
            return per_field
        return per_field.index_select(0, self._field_of_column)

    def _operator_parameters(self, x: Tensor) -> Parameters:
        """Parameters per column, as the operator wants them."""
        alpha, beta = self._per_column(self.mean_scale), self.bias
        if alpha is None and self.alpha != 1:
            alpha = x.new_full((self.fields.dim,), self.alpha, dtype=accumulation_dtype(x.dtype))
        if beta is not None and not self._all_trivial:
            beta = torch.cat([beta, beta.new_zeros(1)]).index_select(0, self._bias_of_column)
        return Parameters(alpha, self._per_column(self.weight), beta, self._exponents(x))

    def _exponents(self, x: Tensor) -> Float[Tensor, " groups"] | None:
        if self.exponent == 1 or self.scale_columns is None:
            return None
        if self.exponent_logit is not None:
            logit = self.exponent_logit.to(accumulation_dtype(x.dtype))
            return torch.sigmoid(logit).index_select(0, self._type_of_group)
        number = self.scale_columns.num_groups
        return x.new_full((number,), self.exponent, dtype=accumulation_dtype(x.dtype))

    def _from_buffers(self, x: Float[Tensor, "nodes columns"]) -> Float[Tensor, "nodes columns"]:
        """Eval mode: a fixed affine map."""
        dtype = accumulation_dtype(x.dtype)
        parameters = self._operator_parameters(x)
        u = x.to(dtype)
        if self.mean_columns is not None:
            mean = self.mean_columns.expand(self.running_mean[None].to(dtype))
            u = u - (mean if parameters.alpha is None else parameters.alpha.to(dtype) * mean)
        if self.scale_columns is not None:
            tau = 1.0 if parameters.tau is None else parameters.tau.to(dtype)
            power = (self.running_var.to(dtype) + self.eps).pow(-0.5 * tau)
            u = u * self.scale_columns.expand(power[None])
        if parameters.gamma is not None:
            u = u * parameters.gamma.to(dtype)
        if parameters.beta is not None:
            u = u + parameters.beta.to(dtype)
        return u.to(x.dtype)

    def extra_repr(self) -> str:
        """The features and the axes."""
        mean = "none" if self.mean_axes is None else f"{str(self.mean_axes)!r}"
        scale = "none" if self.scale_axes is None else f"{str(self.scale_axes)!r}"
        return f"{self.fields!r}, mean={mean}, scale={scale}, statistic={self.statistic!r}"
