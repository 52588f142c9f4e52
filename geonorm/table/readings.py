"""Every layer of the table in each of its settings, as a function of one batch that all of them are given."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geonorm.layers.fields import Features, Vectors
from geonorm.table.row import Row

CHANNELS, COMPONENTS = 4, 3
#: So small that it does not matter where a layer puts it.
EPS = 1e-14

#: The features that are drawn, and their shape behind the axis of the nodes.
SHAPES = {"scalars": (CHANNELS,), "vectors": (CHANNELS, COMPONENTS), "irreps": (CHANNELS * (1 + 3 + 5),)}
IRREPS = f"{CHANNELS}x0e+{CHANNELS}x1o+{CHANNELS}x2e"

#: What a layer made for scalars can take the components of vectors for.
ITSELF, AS_CHANNELS, AS_NODES = "", "components as channels", "components as nodes"


@dataclass(frozen=True)
class Draw:
    """A batch of random features, with everything that any layer asks for beside them.

    Args:
        x: Scalars ``[nodes, channels]``, vectors ``[nodes, channels, 3]``, or irreps ``[nodes, dim]``.
        beside: The further arguments, by the names that the layers give them.
    """

    x: Float[Tensor, "nodes *features"]
    beside: Mapping[str, Any]

    @classmethod
    def random(cls, on: str, seed: int) -> Draw:
        """Samples of different sizes, every sample and channel with an offset and a scale of its own."""
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.tensor([4, 5, 7, 3]).roll(seed)
        batch, nodes = torch.repeat_interleave(torch.arange(4), sizes), int(sizes.sum())

        def normal(*shape: int) -> Tensor:
            return torch.randn(*shape, dtype=torch.float64, generator=generator)

        shape = SHAPES[on]
        offset, scale = normal(4, *shape)[batch], normal(4, *shape).exp()[batch]
        edges = torch.randint(nodes, (3 * nodes,), generator=generator)
        beside = {
            "batch": batch,
            "batch_size": 4,
            "message": normal(nodes, *shape),
            "num_neighbors": torch.bincount(edges, minlength=nodes),
            "types": torch.randint(2, (nodes,), generator=generator),
            "distances": torch.rand(3 * nodes, dtype=torch.float64, generator=generator) + 0.5,
            "receivers": edges,
        }
        return cls(offset + scale * normal(nodes, *shape), beside)


@dataclass(frozen=True)
class Setting:
    """Options of a layer class and values of its parameters, with a name in words.

    Args:
        words: What is set, in words.
        options: Arguments of the class; a function of the number of channels where they depend on it.
        fill: Parameters that are set to a number.
        on: The only features on which the setting differs from the others, or ``None``.
    """

    words: str = ""
    options: Mapping[str, Any] | Callable[[int], Mapping[str, Any]] = field(default_factory=dict)
    fill: Mapping[str, float] = field(default_factory=dict)
    on: str | None = None


#: The settings in which a layer is another function, by the name of its class. All others have one: as they are built.
SETTINGS = {
    "LayerNorm": (Setting("graph", {"mode": "graph"}), Setting("node", {"mode": "node"})),
    "GroupNorm": (
        Setting("one group", {"num_groups": 1}),
        Setting("two groups", {"num_groups": 2}),
        Setting("a group per channel", lambda channels: {"num_groups": channels}),
    ),
    "FilterResponseNorm": (Setting(), Setting("linear part", {"threshold": False})),
    "VarianceNorm": (Setting("deviation", {"statistic": "std"}), Setting("RMS", {"statistic": "rms"})),
    "GraphNorm": (Setting("α = 1"), Setting("α = 0", fill={"mean_scale": 0.0})),
    "PairNorm": (Setting(), Setting("individually", {"scale_individually": True})),
    "AverageNeighborNorm": (Setting("Allegro", {"power": 0.5}), Setting("MACE", {"power": 1.0})),
    "VectorPerceptronNorm": (Setting("Vector Perceptron"),),
    "QuaternionNorm": (Setting("per channel", {"mode": "channel"}), Setting("per sample", {"mode": "sample"})),
    "VectorNeuronNorm": (Setting(), Setting("without reversal", {"reversal": False})),
    "VectorFieldNorm": (
        Setting(),
        Setting("RMS of lengths", {"per_component": False}),
        Setting("deviation of lengths", {"center_magnitude": True}),
    ),
    "EquivariantLayerNorm": (Setting(), Setting("vectors centred", {"center_vectors": True}, on="vectors")),
    "EquivariantGraphNorm": (
        Setting("α = 1", fill={"mean_scale": 1.0}),
        Setting("α = 0", fill={"mean_scale": 0.0}),
        Setting("α as it starts", on="irreps"),
    ),
    "ScaleFactor": (Setting(fill={"scale_factor": 0.7}),),
}


@dataclass(frozen=True)
class Reading:
    """A row of the table in one setting, on one kind of features.

    Args:
        row: The row.
        setting: The setting of its layer, in words; empty where there is only one.
        on: ``"scalars"``, ``"vectors"`` or ``"irreps"``.
        components: What the layer takes the components of vectors for, if it was made for scalars; otherwise empty.
        layer: The layer, in training mode, in float64.
    """

    row: Row
    setting: str
    on: str
    components: str
    layer: nn.Module

    @property
    def words(self) -> str:
        """The setting and what the components are taken for; empty where nothing needs to be said."""
        return ", ".join(filter(None, (self.setting, self.components)))

    @property
    def name(self) -> str:
        """The name of the row, with what is set in brackets; of a row of two layers the one that is meant."""
        parts = self.row.name.split(" / ")
        name, words = (self.setting, self.components) if self.setting in parts else (self.row.name, self.words)
        return name + (f" ({words})" if words else "")

    def __call__(self, draw: Draw) -> Float[Tensor, "..."]:
        """The layer's output, of the shape of the features."""
        x, beside = draw.x, dict(draw.beside)
        if self.components == AS_CHANNELS:
            x = x.flatten(1)
            beside["message"] = beside["message"].flatten(1)
        if self.components == AS_NODES:
            # Node, component, channel: the components of a vector stay in its sample.
            x = x.transpose(1, 2).flatten(0, 1)
            beside["batch"] = beside["batch"].repeat_interleave(COMPONENTS)
        with torch.no_grad():
            y = self.layer(x, **{name: beside[name] for name in _asked_for(self.layer)})
        # Of a pair, content and direction, the second part is the one that can equal another layer on vectors.
        y = y[1] if isinstance(y, tuple) else y
        if self.components == AS_NODES:
            y = y.unflatten(0, (-1, COMPONENTS)).transpose(1, 2)
        return y.reshape(draw.x.shape)


def _asked_for(layer: nn.Module) -> list[str]:
    """The names of the arguments after the features: the batch, the types if it has some, and what must be given."""
    parameters = list(inspect.signature(type(layer).forward).parameters.values())[2:]
    wanted = ["batch", "batch_size"] + ["types"] * (getattr(layer, "num_types", None) is not None)
    return [each.name for each in parameters if each.name in wanted or each.default is inspect.Parameter.empty]


def _layer(row: Row, setting: Setting, features: Features, channels: int) -> nn.Module:
    options = setting.options(channels) if callable(setting.options) else setting.options
    known = inspect.signature(row.layer).parameters
    tiny = {name: EPS for name in ("eps", "vector_eps") if name in known}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layer = row.make(features, **{**tiny, **row.needs, **options}, dtype=torch.float64).train()
    with torch.no_grad():
        for name, value in setting.fill.items():
            getattr(layer, name).fill_(value)
    if hasattr(layer, "fitted"):
        layer.fitted = True
    return layer


def _ways(row: Row, on: str) -> Iterator[tuple[str, Features, int]]:
    """What the components are taken for, the features with which the layer is built, and the number of its channels."""
    if row.features == "scalars":
        if on == "scalars":
            yield ITSELF, CHANNELS, CHANNELS
        elif on == "vectors":
            yield AS_CHANNELS, CHANNELS * COMPONENTS, CHANNELS * COMPONENTS
            yield AS_NODES, CHANNELS, CHANNELS
    elif on == "vectors":
        yield ITSELF, Vectors(CHANNELS, COMPONENTS), CHANNELS
    elif row.features != "vectors":
        yield ITSELF, f"{CHANNELS}x0e" if on == "scalars" else IRREPS, CHANNELS


def readings(rows: Iterable[Row], on: str) -> list[Reading]:
    """Build the layers of rows in all their settings.

    Rows that act on weights or on tensors of rank two have no reading on scalars or vectors. Variants of a row with a
    layer class of their own, as EGAN beside the Vector Perceptron, are read like rows.

    Args:
        rows: Rows of the table.
        on: ``"scalars"``, ``"vectors"`` or ``"irreps"`` (types 0e, 1o and 2e together).

    Returns:
        The readings, in the order of the rows.

    Raises:
        ValueError: If the kind of features is unknown.
    """
    if on not in SHAPES:
        raise ValueError(f"on is {on!r}, expected one of {', '.join(map(repr, SHAPES))}")
    result = []
    for row in rows:
        if row.acts_on == "weights" or row.features == "tensors":
            continue
        for setting in SETTINGS.get(row.layer.__name__, (Setting(),)):
            if setting.on in (None, on):
                for components, features, channels in _ways(row, on):
                    layer = _layer(row, setting, features, channels)
                    # A component has no neighbours and no type of its own.
                    if components != AS_NODES or set(_asked_for(layer)) <= {"batch", "batch_size"}:
                        result.append(Reading(row, setting.words, on, components, layer))
        others = [variant for variant in row.variants.values() if variant.layer is not row.layer]
        result += readings(others, on)
    return result
