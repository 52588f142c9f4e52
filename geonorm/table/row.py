"""One row of the table: a formula as printed and as published, and everything it implies, as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from geonorm.axes import Axes
from geonorm.layers.fields import Features
from geonorm.table.properties import Properties, measured_on, sizes_of

#: What each verdict on a printed formula means.
VERDICTS = {
    "same": "the printed formula is the published layer, up to gain, bias and ε",
    "notation": "the letters do not say it, but what is meant is clear",
    "incomplete": "a part of the published layer is missing",
    "ambiguous": "the sources disagree with each other, or one name stands for two layers",
    "error": "the printed formula is another function than the published layer",
    "missing": "the survey discusses the layer, but the table leaves it out",
    "unlisted": "the survey does not speak of the layer: there is no printed formula to judge",
}

#: What the declared properties of a row speak of, and how the features are given.
FEATURES = {
    "scalars": "channels [nodes, channels]; vectors as naive columns",
    "vectors": "vector channels [nodes, channels, 3]",
    "tensors": "rank-2 tensors [nodes, channels, 3, 3]",
    "scalars and vectors": "scalar and vector channels",
    "irreps": "irreps [nodes, irreps.dim]",
}


@dataclass(frozen=True, kw_only=True, repr=False)
class Row:
    r"""A normalization layer of the survey's Table 1, or of its continuation.

    Args:
        name: The name of the row.
        aliases: Other names under which the row is found: the survey's own spelling where it differs, class names.
        side: ``"language and vision"`` or ``"graph and geometric"``, the two columns of the survey's table.
        year: The year in which the paper was first public, often as a preprint before the year of the journal.
        community: The field that the layer was made in.
        paper: Key of the original paper in ``book/references.bib``.
        code: Key of the reference implementation, or ``None`` if there is none.
        sources: Keys of further implementations that were read.
        printed: The formula as Table 1 prints it, LaTeX, or ``None`` if it has none.
        published: The formula of the paper and its code in the survey's letters, LaTeX.
        verdict: One of ``VERDICTS``.
        note: The reason for the verdict, one sentence; formulas between dollar signs.
        verified: What the published formula was checked against.
        mean: The axes over which a mean is subtracted, or ``None``.
        scale: The axes over which the divisor is pooled, or ``None``.
        statistic: How the divisor is formed: ``"residual"`` (of what the subtraction left), ``"rms"``, ``"own"`` (about
            its own mean), ``"range"`` (from the smallest to the largest, which is what is subtracted), ``"squash"`` (a
            fixed function of every length), or ``None``.
        grouped: The channel axis is pooled within groups of channels.
        centred: What the mean is subtracted from: ``"all"`` features, or ``"scalars"`` (type 0e) only.
        of_lengths: Mean and divisor are those of the lengths of vectors, not of their components.
        learnable: Parameters of the layer and their shapes.
        running: Statistics that training collects for evaluation mode.
        on_request: Parameters and statistics that exist if an option asks for them.
        features: What the properties are declared and measured on, one of ``FEATURES``.
        properties: Declared symmetries and invariances.
        acts_on: ``"features"``, ``"weights"``, or ``"messages"`` (a sum over neighbours).
        layer: The class, or for weights the function that changes a module in place.
        needs: Arguments that the layer cannot do without, with example values.
        options: Arguments that make the class the layer of this row.
        variants: Other layers that the row stands for, by name: rows of their own, with what differs.
        as_printed: The printed formula as a function of dense features ``[b, x, v]`` (of vectors ``[b, x, v, m]``, or
            of a weight), or ``None``.
        undefined: Why there is no ``as_printed`` for a printed formula.
    """

    name: str
    aliases: tuple[str, ...] = ()
    side: str
    year: int
    community: str
    paper: str
    code: str | None
    sources: tuple[str, ...] = ()
    printed: str | None = None
    published: str
    verdict: str
    note: str
    verified: str
    mean: Axes | None = None
    scale: Axes | None = None
    statistic: str | None = None
    grouped: bool = False
    centred: str = "all"
    of_lengths: bool = False
    learnable: Mapping[str, str] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    on_request: tuple[str, ...] = ()
    features: str = "scalars"
    properties: Properties
    acts_on: str = "features"
    layer: Callable[..., Any]
    needs: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Row] = field(default_factory=dict)
    as_printed: Callable[..., Any] | None = None
    undefined: str | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict of {self.name!r} is {self.verdict!r}, expected one of {', '.join(VERDICTS)}")
        if self.features not in FEATURES:
            raise ValueError(f"features of {self.name!r} are {self.features!r}, expected one of {', '.join(FEATURES)}")
        if (self.printed is None) != (self.verdict in ("missing", "unlisted")):
            raise ValueError(
                f"row {self.name!r} has verdict {self.verdict!r}, which does not fit printed={self.printed!r}"
            )
        if self.printed is None and (self.as_printed is not None or self.undefined is not None):
            raise ValueError(f"row {self.name!r} prints nothing, expected neither as_printed nor undefined")
        if self.printed is not None and (self.as_printed is None) == (self.undefined is None):
            raise ValueError(f"row {self.name!r} needs either as_printed or the reason why it is undefined, not both")

    def also(self, name: str, **changes: Any) -> Row:
        """The row with one more variant: another layer that it stands for.

        Args:
            name: The name under which the variant is found.
            **changes: What the variant has other than the row; aliases are never the row's.

        Returns:
            A new row.
        """
        variant = replace(self, **{"name": name, "aliases": (), "variants": {}, **changes})
        return replace(self, variants={**self.variants, name: variant})

    @property
    def pools(self) -> tuple[str | None, str | None]:
        """The letters of mean and divisor for a picture: b, x, v, and g for the channels of one group."""
        return tuple(
            None if axes is None else (axes.replace("v", "g") if self.grouped else str(axes))
            for axes in (self.mean, self.scale)
        )

    @property
    def invariances(self) -> dict[str, str]:
        """The declared invariances: name and number of parameters, for example ``{"scale per sample": "samples"}``."""
        return {invariance.name: invariance.formula for invariance in self.properties.invariances}

    @property
    def citations(self) -> tuple[str, ...]:
        """The citation keys: paper, reference implementation, further implementations."""
        return tuple(key for key in (self.paper, self.code, *self.sources) if key)

    def nullity(
        self,
        *,
        samples: int,
        nodes: int,
        channels: int,
        features: Features | None = None,
        groups: int = 1,
        kinds: int = 1,
        of: str = "features",
        training: bool = True,
    ) -> int:
        """The dimension of what the layer removes from a generic batch, ε → 0.

        This is the number of input directions that the output does not feel: the dimension of the null space of the
        layer's Jacobian. Every pool is taken to have at least two entries that differ.

        Args:
            samples: Number of samples.
            nodes: Number of nodes of the whole batch.
            channels: Number of channels: scalars or naive columns, vectors, or irreps of each type (0e, 1o and 2e).
            features: Other features than ``channels`` of those that the row is declared on, for example irreps.
            groups: Number of groups of channels.
            kinds: Number of types of nodes.
            of: Which input is varied: ``"features"``, ``"messages"`` or ``"weights"``.
            training: Training mode; in evaluation mode stored statistics are constants and nothing is removed.

        Returns:
            The dimension.
        """
        if self.running and not training:
            return 0
        features = measured_on(self.features, channels) if features is None else features
        given = {"samples": samples, "nodes": nodes, "groups": groups, "kinds": kinds}
        return sum(
            each.count(**given, **sizes_of(features, each.on)) for each in self.properties.invariances if each.of == of
        )

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Build the layer, for example ``TABLE1["GraphNorm"].make(64)``."""
        return self.layer(*args, **{**self.options, **kwargs})

    def __repr__(self) -> str:
        return f"Row({self.name!r}, verdict={self.verdict!r}, layer={self.layer.__name__})"

    def _repr_html_(self) -> str:
        from geonorm.table.render import row_html

        return row_html(self)

    def _repr_markdown_(self) -> str:
        from geonorm.table.render import row_markdown

        return row_markdown(self)
