"""Every layer of the library, with what a test must know to call it."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from layers.peers import features, ragged_batch, randomize
from torch import Tensor, nn

import geonorm as gn

CHANNELS = 4


def nothing(nodes: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """No input but the features."""
    return ()


def messages(nodes: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """An aggregated message for each node."""
    return (features(nodes, channels, dtype),)


def neighbors(nodes: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The number of neighbours of each node; some have none."""
    return (torch.randint(0, 5, (nodes,)),)


def types(nodes: int, channels: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The type of each node."""
    return (torch.randint(0, 2, (nodes,)),)


@dataclass(frozen=True)
class Case:
    """A layer and how it is called.

    Args:
        build: Makes the layer: ``build(channels, **factory_keywords)``.
        representation: What ``repr`` says about the layer with four channels.
        extra: Makes the inputs after the features, one row for each node.
        per_sample: Whether statistics belong to a sample: the layer reads the batch vector.
        takes_batch: Whether the layer is called with ``(x, batch, batch_size)``.
        weights: Whether the layer normalizes the weight of a linear map.
    """

    build: Callable[..., nn.Module]
    representation: str
    extra: Callable[[int, int, torch.dtype], tuple[Tensor, ...]] = nothing
    per_sample: bool = False
    takes_batch: bool = True
    weights: bool = False

    @property
    def name(self) -> str:
        """The representation, as the name of a test."""
        return self.representation.replace(f"({CHANNELS}, ", "(").replace(f"({CHANNELS})", "")

    def make(self, channels: int = CHANNELS, dtype: torch.dtype = torch.float64, *, trained: bool = True) -> nn.Module:
        """The layer with random parameters and, unless told otherwise, running statistics of two batches."""
        layer = randomize(self.build(channels, dtype=dtype))
        if trained:
            for nodes in (7, 9):
                self(layer, *self.inputs(nodes, channels, dtype), batch=ragged_batch((nodes - 3, 3)), batch_size=2)
        return layer

    def inputs(self, nodes: int, channels: int = CHANNELS, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Random inputs: the features and what belongs to them."""
        return features(nodes, channels, dtype), *self.extra(nodes, channels, dtype)

    def __call__(
        self, layer: nn.Module, *inputs: Tensor, batch: Tensor | None = None, batch_size: int | None = None
    ) -> Tensor:
        """Apply the layer."""
        return layer(*inputs, batch, batch_size) if self.takes_batch else layer(*inputs)


def linear(channels: int, **factory) -> nn.Linear:
    """The module whose weight is normalized."""
    return nn.Linear(channels, channels, **factory)


def by_sample(build: Callable[..., nn.Module], representation: str) -> Case:
    """A layer with a statistic for each sample."""
    return Case(build, representation, per_sample=True)


def other(
    build: Callable[..., nn.Module], representation: str, extra: Callable[..., tuple[Tensor, ...]] = nothing, **facts
) -> Case:
    """A layer that knows no batch."""
    return Case(build, representation, extra, takes_batch=False, **facts)


def weight_case(normalize: Callable[..., nn.Module], name: str, **options) -> Case:
    """A linear map with a normalized weight."""
    return other(lambda c, **k: normalize(linear(c, **k), **options), name, weights=True)


CASES = [
    Case(gn.BatchNorm, "BatchNorm(4)"),
    Case(lambda c, **k: gn.BatchNorm(c, affine=False, track_running_stats=False, **k), "BatchNorm(4)"),
    by_sample(gn.LayerNorm, "LayerNorm(4, mode='graph')"),
    Case(lambda c, **k: gn.LayerNorm(c, mode="node", **k), "LayerNorm(4, mode='node')"),
    by_sample(gn.InstanceNorm, "InstanceNorm(4)"),
    by_sample(lambda c, **k: gn.InstanceNorm(c, affine=True, track_running_stats=True, **k), "InstanceNorm(4)"),
    by_sample(lambda c, **k: gn.GroupNorm(c, 2, **k), "GroupNorm(4, num_groups=2)"),
    by_sample(gn.FilterResponseNorm, "FilterResponseNorm(4)"),
    Case(gn.VarianceNorm, "VarianceNorm(4, statistic='std')"),
    Case(lambda c, **k: gn.VarianceNorm(c, statistic="rms", **k), "VarianceNorm(4, statistic='rms')"),
    by_sample(gn.GraphNorm, "GraphNorm(4)"),
    by_sample(lambda c, **k: gn.PairNorm(c, 2.0, **k), "PairNorm(4, scale=2.0)"),
    by_sample(
        lambda c, **k: gn.PairNorm(c, scale_individually=True, **k), "PairNorm(4, scale=1.0, scale_individually=True)"
    ),
    by_sample(gn.MeanSubtractionNorm, "MeanSubtractionNorm(4)"),
    Case(lambda c, **k: gn.DiffGroupNorm(c, 3, lamda=0.5, **k), "DiffGroupNorm(4, groups=3)"),
    by_sample(gn.SetNorm, "SetNorm(4)"),
    by_sample(gn.GraphSizeNorm, "GraphSizeNorm(4)"),
    other(lambda c, **k: gn.MessageNorm(c, learn_scale=True, **k), "MessageNorm(4, learn_scale=True)", messages),
    other(gn.NeighborNorm, "NeighborNorm(4)", neighbors),
    other(
        lambda c, **k: gn.AverageNeighborNorm(c, 12.34567, **k),
        "AverageNeighborNorm(4, avg_num_neighbors=12.3457, power=0.5)",
    ),
    other(
        lambda c, **k: gn.AverageNeighborNorm(c, [3.0, 4.5], 1.0, **k),
        "AverageNeighborNorm(4, avg_num_neighbors=[3.0, 4.5], power=1.0)",
        types,
    ),
    weight_case(gn.weight_norm, "weight_norm"),
    weight_case(gn.spectral_norm, "spectral_norm"),
    weight_case(gn.scaled_weight_standardization, "scaled_weight_standardization"),
]

IDS = [f"{number}-{case.name}" for number, case in enumerate(CASES)]
every_layer = pytest.mark.parametrize("case", CASES, ids=IDS)


def some_layers(which: Callable[[Case], bool]) -> pytest.MarkDecorator:
    """The layers for which ``which`` holds."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=name) for case, name in zip(CASES, IDS, strict=True) if which(case)]
    )


def tracks(case: Case) -> bool:
    """Whether the layer has running statistics: then evaluation is another function than training."""
    return any(name.startswith("running") for name, _ in case.build(CHANNELS).named_buffers())


every_batch_layer = some_layers(lambda case: case.takes_batch)
every_sample_layer = some_layers(lambda case: case.per_sample)
every_feature_layer = some_layers(lambda case: not case.weights)


def derivatives(
    case: Case,
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    batch: Tensor | None = None,
    batch_size: int | None = None,
    order: int = 2,
) -> dict[str, Tensor]:
    """The output, its gradients and the gradients of a functional of the gradients, by name."""
    inputs = tuple(i.detach().requires_grad_() if i.is_floating_point() else i for i in inputs)
    leaves = [i for i in inputs if i.requires_grad] + [p for p in layer.parameters() if p.requires_grad]
    y = case(layer, *inputs, batch=batch, batch_size=batch_size)
    found = {"output": y.detach()}
    values = [y]
    for turn in range(1, order + 1):
        functional = sum(
            (value * torch.cos(torch.arange(value.numel())).view_as(value).to(value)).sum() for value in values
        )
        if not functional.requires_grad:
            break
        values = torch.autograd.grad(functional, leaves, create_graph=turn < order, allow_unused=True)
        values = [
            torch.zeros_like(leaf) if value is None else value for value, leaf in zip(values, leaves, strict=True)
        ]
        found |= {f"derivative {turn} by {place}": value.detach() for place, value in enumerate(values)}
    return found
