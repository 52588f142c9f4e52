"""One row of the table: a formula as printed and as published, and everything it implies, as data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from geonorm.axes import Axes

#: What each verdict on a printed formula means.
VERDICTS = {
    "same": "the printed formula is the published layer, up to gain, bias and ε",
    "notation": "the letters do not say it, but what is meant is clear",
    "incomplete": "a part of the published layer is missing",
    "ambiguous": "the sources disagree with each other, or one name stands for two layers",
    "error": "the printed formula is another function than the published layer",
    "missing": "the survey discusses the layer, but the table leaves it out",
}

_PLURAL = {"sample": "samples", "node": "nodes", "channel": "channels", "group": "groups"}


@dataclass(frozen=True)
class Invariance:
    r"""A family of changes of the input that leaves the output as it is, one parameter for each of a set of things.

    ``Invariance("shift", ("sample", "channel"))`` is $a_{ic}\mapsto a_{ic}+t_{s(i)c}$: as many parameters as there are
    samples times channels. A scale is a factor $\lambda>0$. For a batch of generic features (no pool of equal entries)
    these parameters are independent, so their number is the dimension of what the layer removes.

    Args:
        kind: ``"shift"`` or ``"scale"``.
        per: What each parameter belongs to: ``"sample"``, ``"node"``, ``"channel"``, ``"group"``; a node belongs to one
            sample. Empty: one parameter for the whole batch (or weight).
        of: What is changed: ``"features"``, ``"messages"`` or ``"weights"``.
    """

    kind: str
    per: tuple[str, ...] = ()
    of: str = "features"

    @property
    def name(self) -> str:
        """The invariance in words, for example ``"shift per (sample, channel)"``."""
        if not self.per:
            return f"one {self.kind} of all {self.of}"
        return f"{self.kind} per {self.per[0] if len(self.per) == 1 else '(' + ', '.join(self.per) + ')'}"

    @property
    def formula(self) -> str:
        """The number of parameters in words, for example ``"samples * channels"``."""
        return " * ".join(_PLURAL[thing] for thing in self.per) or "1"

    def count(self, **sizes: int) -> int:
        """The number of parameters in a batch of the given sizes (``samples``, ``nodes``, ``channels``, ``groups``)."""
        return math.prod(sizes[_PLURAL[thing]] for thing in self.per)


@dataclass(frozen=True, kw_only=True)
class Properties:
    """What the axes of a layer imply, for the layer as it is built. Every entry is measured in the tests.

    Args:
        permutation: Permuting the nodes of each sample permutes the output.
        rotation: The finest rotations of naive vector columns (x, y, z as three channels) that rotate the output:
            ``"node"`` one rotation per node, ``"sample"`` one per sample, or ``None``: not even one for the batch.
            For a layer that acts on weights: of a weight that mixes whole vectors.
        independent_train: In training mode the output of a sample does not depend on the other samples.
        independent_eval: The same in evaluation mode.
        invariances: What the layer removes in training mode.
    """

    permutation: bool = True
    rotation: str | None = None
    independent_train: bool = True
    independent_eval: bool = True
    invariances: tuple[Invariance, ...] = ()


@dataclass(frozen=True, kw_only=True, repr=False)
class Row:
    r"""A normalization layer of the survey's Table 1.

    Args:
        name: The name of the row.
        aliases: Other names under which the row is found: the survey's own spelling where it differs, class names.
        side: ``"language and vision"`` or ``"graph and geometric"``, the two columns of the survey's table.
        paper: Key of the original paper in ``book/references.bib``.
        code: Key of the reference implementation, or ``None`` if there is none.
        sources: Keys of further implementations that were read.
        printed: The formula as Table 1 prints it, LaTeX.
        published: The formula of the paper and its code in the survey's letters, LaTeX.
        verdict: One of ``VERDICTS``.
        note: The reason for the verdict, one sentence; formulas between dollar signs.
        verified: What the published formula was checked against.
        mean: The axes over which a mean is subtracted, or ``None``.
        scale: The axes over which the divisor is pooled, or ``None``.
        statistic: How the divisor is formed: ``"residual"`` (of what the subtraction left), ``"rms"``, ``"own"`` (about
            its own mean), or ``None``.
        grouped: The channel axis is pooled within groups of channels.
        learnable: Parameters of the layer and their shapes.
        running: Statistics that training collects for evaluation mode.
        on_request: Parameters and statistics that exist if an option asks for them.
        properties: Declared symmetries and invariances.
        acts_on: ``"features"``, ``"weights"``, or ``"messages"`` (a sum over neighbours).
        layer: The class, or for weights the function that changes a module in place.
        needs: Arguments that the layer cannot do without, with example values.
        as_printed: The printed formula as a function of dense features ``[b, x, v]`` (or of a weight), or ``None``.
        undefined: Why there is no ``as_printed``.
    """

    name: str
    aliases: tuple[str, ...] = ()
    side: str
    paper: str
    code: str | None
    sources: tuple[str, ...] = ()
    printed: str
    published: str
    verdict: str
    note: str
    verified: str
    mean: Axes | None = None
    scale: Axes | None = None
    statistic: str | None = None
    grouped: bool = False
    learnable: Mapping[str, str] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    on_request: tuple[str, ...] = ()
    properties: Properties
    acts_on: str = "features"
    layer: Callable[..., Any]
    needs: Mapping[str, Any] = field(default_factory=dict)
    as_printed: Callable[..., Any] | None
    undefined: str | None = None

    def __post_init__(self) -> None:
        if self.verdict not in VERDICTS:
            raise ValueError(f"verdict of {self.name!r} is {self.verdict!r}, expected one of {', '.join(VERDICTS)}")
        if (self.as_printed is None) == (self.undefined is None):
            raise ValueError(f"row {self.name!r} needs either as_printed or the reason why it is undefined, not both")

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

    def nullity(
        self, *, samples: int, nodes: int, channels: int, groups: int = 1, of: str = "features", training: bool = True
    ) -> int:
        """The dimension of what the layer removes from a generic batch, ε → 0.

        This is the number of input directions that the output does not feel: the dimension of the null space of the
        layer's Jacobian. Every pool is taken to have at least two entries that differ.

        Args:
            samples: Number of samples.
            nodes: Number of nodes of the whole batch.
            channels: Number of channels, of scalar features (naive columns count as channels).
            groups: Number of groups of channels.
            of: Which input is varied: ``"features"``, ``"messages"`` or ``"weights"``.
            training: Training mode; in evaluation mode stored statistics are constants and nothing is removed.

        Returns:
            The dimension.
        """
        if self.running and not training:
            return 0
        sizes = {"samples": samples, "nodes": nodes, "channels": channels, "groups": groups}
        return sum(each.count(**sizes) for each in self.properties.invariances if each.of == of)

    def make(self, *args: Any, **kwargs: Any) -> Any:
        """Build the layer, for example ``TABLE1["GraphNorm"].make(64)``."""
        return self.layer(*args, **kwargs)

    def __repr__(self) -> str:
        return f"Row({self.name!r}, verdict={self.verdict!r}, layer={self.layer.__name__})"

    def _repr_html_(self) -> str:
        from geonorm.table.render import row_html

        return row_html(self)

    def _repr_markdown_(self) -> str:
        from geonorm.table.render import row_markdown

        return row_markdown(self)
