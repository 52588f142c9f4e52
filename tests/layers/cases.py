"""Every layer of the library, in the variants that are different functions."""

from collections.abc import Callable
from functools import partial

import pytest
from e3nn import o3
from layers.case import Case, edges, messages, neighbors, types
from layers.forms import (
    CONTENT_AND_IRREPS,
    CONTENT_AND_VECTORS,
    IRREPS,
    MAP,
    NAMED_VECTORS,
    PAIR,
    PLANE,
    SCALARS,
    TENSORS,
    VECTORS,
    Form,
)
from torch import Tensor, nn

import geonorm as gn


def build(layer: Callable[..., nn.Module], *arguments: object, **options: object) -> Callable[..., nn.Module]:
    """The layer with everything but its features."""
    return lambda features, **factory: layer(features, *arguments, **options, **factory)


def linear(normalize: Callable[..., nn.Module], features: int | str, **factory: object) -> nn.Module:
    """A linear map, of scalars or of irreps, with its weight normalized."""
    if isinstance(features, int):
        return normalize(nn.Linear(features, features, **factory))
    return normalize(o3.Linear(features, features, biases=True).to(**factory))


def weight_case(normalize: Callable[..., nn.Module], form: Form = SCALARS) -> Case:
    """A linear map with a normalized weight."""
    name = normalize.__name__
    return Case(partial(linear, normalize), name, form, takes_batch=False, weights=True)


def pair(x: Tensor) -> tuple[Tensor, Tensor]:
    """Three scalars and two vectors, apart."""
    return x[..., :3], x[..., 3:].unflatten(-1, (2, 3))


#: Facts about a layer: statistics belong to a sample; no batch is taken; a sample may be rotated only as a whole.
SAMPLE, ALONE, GRAPH = {"per_sample": True}, {"takes_batch": False}, {"per_sample": True, "level": "sample"}

VISION = [
    Case(gn.BatchNorm, "BatchNorm(…)"),
    Case(build(gn.BatchNorm, affine=False, track_running_stats=False), "BatchNorm(…)"),
    Case(gn.LayerNorm, "LayerNorm(…, mode='graph')", **SAMPLE),
    Case(build(gn.LayerNorm, mode="node"), "LayerNorm(…, mode='node')"),
    Case(gn.InstanceNorm, "InstanceNorm(…)", **SAMPLE),
    Case(build(gn.InstanceNorm, affine=True, track_running_stats=True), "InstanceNorm(…)", **SAMPLE),
    Case(build(gn.GroupNorm, 2), "GroupNorm(…, num_groups=2)", **SAMPLE),
    Case(gn.FilterResponseNorm, "FilterResponseNorm(…)", **SAMPLE),
    Case(gn.VarianceNorm, "VarianceNorm(…, statistic='std')"),
    Case(build(gn.VarianceNorm, statistic="rms"), "VarianceNorm(…, statistic='rms')"),
    weight_case(gn.weight_norm),
    weight_case(gn.spectral_norm),
    weight_case(gn.scaled_weight_standardization),
    weight_case(gn.weight_norm, MAP),
    weight_case(gn.spectral_norm, MAP),
    weight_case(gn.scaled_weight_standardization, MAP),
]

AVERAGE = "AverageNeighborNorm(…, avg_num_neighbors="
GRAPHS = [
    Case(gn.GraphNorm, "GraphNorm(…)", **SAMPLE),
    Case(build(gn.PairNorm, 2.0), "PairNorm(…, scale=2.0)", **SAMPLE),
    Case(build(gn.PairNorm, 2.0), "PairNorm(…, scale=2.0)", IRREPS, **GRAPH),
    Case(build(gn.PairNorm, scale_individually=True), "PairNorm(…, scale=1.0, scale_individually=True)", **SAMPLE),
    Case(gn.MeanSubtractionNorm, "MeanSubtractionNorm(…)", **SAMPLE),
    Case(gn.MeanSubtractionNorm, "MeanSubtractionNorm(…)", NAMED_VECTORS, **GRAPH),
    Case(build(gn.DiffGroupNorm, 3, lamda=0.5), "DiffGroupNorm(…, groups=3)"),
    Case(gn.SetNorm, "SetNorm(…)", **SAMPLE),
    Case(gn.GraphSizeNorm, "GraphSizeNorm(…)", **SAMPLE),
    Case(gn.GraphSizeNorm, "GraphSizeNorm(…)", IRREPS, **SAMPLE),
    Case(build(gn.MessageNorm, learn_scale=True), "MessageNorm(…, learn_scale=True)", SCALARS, messages, **ALONE),
    Case(gn.MessageNorm, "MessageNorm(…, learn_scale=False)", NAMED_VECTORS, messages, **ALONE),
    Case(gn.NeighborNorm, "NeighborNorm(…)", SCALARS, neighbors, **ALONE),
    Case(gn.NeighborNorm, "NeighborNorm(…)", NAMED_VECTORS, neighbors, **ALONE),
    Case(build(gn.AverageNeighborNorm, 12.34567), AVERAGE + "12.3457, power=0.5)", **ALONE),
    Case(build(gn.AverageNeighborNorm, [3.0, 4.5], 1.0), AVERAGE + "[3.0, 4.5], power=1.0)", SCALARS, types, **ALONE),
    Case(build(gn.AverageNeighborNorm, [3.0, 4.5], 1.0), AVERAGE + "[3.0, 4.5], power=1.0)", IRREPS, types, **ALONE),
]

BATCH_RAW = "EvNorm(…, statistics='batch', parametrization='raw')"
NODE_INVERSE = "EvNorm(…, statistics='node', parametrization='inverse')"
BATCH = {"statistics": "batch", "parametrization": "raw"}
NODE = {"statistics": "node", "parametrization": "inverse"}
GEOMETRY = [
    Case(gn.QuaternionNorm, "QuaternionNorm(…, mode='channel')", VECTORS),
    Case(build(gn.QuaternionNorm, "sample"), "QuaternionNorm(…, mode='sample')", VECTORS, **SAMPLE),
    Case(build(gn.QuaternionNorm, "sample"), "QuaternionNorm(…, mode='sample')", IRREPS, **SAMPLE),
    Case(gn.VectorPerceptronNorm, "VectorPerceptronNorm(…)", VECTORS),
    Case(build(gn.VectorPerceptronNorm, 3), "VectorPerceptronNorm(…, scalar_channels=3)", PAIR, split=pair),
    Case(gn.VectorPerceptronNorm, "VectorPerceptronNorm(…)", IRREPS),
    Case(build(gn.EGANNorm, 3), "EGANNorm(…, scalar_channels=3)", PAIR, split=pair, **SAMPLE),
    Case(gn.EGANNorm, "EGANNorm(…)", IRREPS, **SAMPLE),
    Case(build(gn.EvNorm, **BATCH), BATCH_RAW, VECTORS, result=CONTENT_AND_VECTORS),
    Case(build(gn.EvNorm, **NODE), NODE_INVERSE, VECTORS, result=CONTENT_AND_VECTORS),
    Case(build(gn.EvNorm, **NODE), NODE_INVERSE, IRREPS, result=CONTENT_AND_IRREPS),
    Case(gn.VectorNeuronNorm, "VectorNeuronNorm(…)", VECTORS),
    Case(build(gn.VectorNeuronNorm, reversal=False), "VectorNeuronNorm(…, reversal=False)", IRREPS),
    Case(gn.VectorFieldNorm, "VectorFieldNorm(…)", IRREPS),
    Case(build(gn.VectorFieldNorm, dim=2), "VectorFieldNorm(…, dim=2)", PLANE),
    Case(build(gn.VectorFieldNorm, per_component=False), "VectorFieldNorm(…, per_component=False)", VECTORS),
    Case(build(gn.VectorFieldNorm, center_magnitude=True), "VectorFieldNorm(…, center_magnitude=True)", VECTORS),
]

SCALE_SHIFT = build(gn.PerTypeScaleShift, [1.5, 0.5], [2.0, -1.0], trainable=True)
MODERN = [
    Case(gn.RMSNorm, "RMSNorm(…)"),
    Case(gn.RMSNorm, "RMSNorm(…)", IRREPS),
    Case(gn.EquivariantBatchNorm, "EquivariantBatchNorm(…)", IRREPS),
    Case(build(gn.EquivariantBatchNorm, normalization="norm"), "EquivariantBatchNorm(…)", NAMED_VECTORS),
    Case(gn.EquivariantInstanceNorm, "EquivariantInstanceNorm(…)", IRREPS, **SAMPLE),
    Case(gn.EquivariantGraphNorm, "EquivariantGraphNorm(…)", IRREPS, **GRAPH),
    Case(gn.EquivariantLayerNorm, "EquivariantLayerNorm(…)", IRREPS),
    Case(build(gn.EquivariantLayerNorm, center_vectors=True), "EquivariantLayerNorm(…, center_vectors=True)", IRREPS),
    Case(gn.SeparableLayerNorm, "SeparableLayerNorm(…)", IRREPS),
    Case(gn.EquivariantRMSNorm, "EquivariantRMSNorm(…)", IRREPS),
    Case(gn.FieldNorm, "FieldNorm(…)", IRREPS),
    Case(gn.NormSE3, "NormSE3(…)", IRREPS, stretch=1e3),
    Case(gn.MaxMinNorm, "MaxMinNorm(…)", IRREPS, stretch=3e3),
    Case(gn.TensorNorm, "TensorNorm(…)", TENSORS),
    Case(gn.DynamicTanh, "DynamicTanh(…)"),
    Case(gn.DynamicTanh, "DynamicTanh(…)", IRREPS),
    Case(SCALE_SHIFT, "PerTypeScaleShift(…, scales=[1.5, 0.5], shifts=[2.0, -1.0])", IRREPS, types, **ALONE),
    Case(build(gn.PerTypeScaleShift, 2.0), "PerTypeScaleShift(…, scales=2.0, shifts=None)", **ALONE),
    Case(gn.ScaleFactor, "ScaleFactor(…, scale_factor=None)", prepare=lambda layer: layer.set(1.7), **ALONE),
    Case(build(gn.DensityNorm, 3.0), "DensityNorm(…, cutoff=3.0)", IRREPS, edges, **ALONE),
    Case(build(gn.DensityNorm, 3.0, hidden=5), "DensityNorm(…, cutoff=3.0)", NAMED_VECTORS, edges, **ALONE),
    Case(build(gn.TypedBatchNorm, 2), "TypedBatchNorm(…, num_types=2)", SCALARS, types, **ALONE),
    Case(build(gn.TypedBatchNorm, 2), "TypedBatchNorm(…, num_types=2)", IRREPS, types, **ALONE),
]

BY_TYPE = {"mean": {"0e": "v"}, "scale": {"0e": "v", "rest": "vtm"}, "source": "batch"}
BY_GRAPH = {"mean": "x", "alpha": {"0e": 1.0, "rest": 0.5}, "learn_alpha": True, "scale": "xm"}
BY_BATCH = {"mean": {"0e": "bx"}, "scale": "bxm", "exponent": 1.0, "source": "running"}
PRODUCT = {"mean": "v", "scale": "v", "mode": "product", "residual": 0.5}
LENGTHS = {"mean": "bx", "scale": "bx", "exponent": 1.0, "source": "running", "mode": "pair"}
LENGTHS |= {"gain": False, "length_eps": 0.01, "smoothing": 0.1}
CONSTANT = {"scale": "bxvtm", "source": "constant", "constant": 3.0}


def general(form: Form, settings: dict[str, object], **facts: object) -> Case:
    """The general layer with some settings, which it shows in the order of its arguments."""
    order = ("mean", "alpha", "learn_alpha", "scale", "exponent", "gain", "source", "constant", "mode", "length_eps")
    shown = [f"{name}={settings[name]!r}" for name in (*order, "smoothing", "residual") if name in settings]
    shown = [text for text in shown if text != "source='batch'"]
    return Case(build(gn.GeometricNorm, **settings), f"GeometricNorm({', '.join(['…', *shown])})", form, **facts)


GENERAL = [
    general(SCALARS, {}),
    general(IRREPS, {}),
    general(IRREPS, BY_TYPE),
    general(IRREPS, BY_GRAPH, **GRAPH),
    general(IRREPS, BY_BATCH),
    general(NAMED_VECTORS, PRODUCT),
    general(IRREPS, LENGTHS, result=CONTENT_AND_IRREPS),
    general(IRREPS, CONSTANT),
    general(NAMED_VECTORS, {"source": "count"}, **SAMPLE),
]

CASES = [*VISION, *GRAPHS, *GEOMETRY, *MODERN, *GENERAL]
IDS = [f"{number}-{case.name}" for number, case in enumerate(CASES)]
every_layer = pytest.mark.parametrize("case", CASES, ids=IDS)


def some_layers(which: Callable[[Case], bool]) -> pytest.MarkDecorator:
    """The layers for which ``which`` holds."""
    return pytest.mark.parametrize(
        "case", [pytest.param(case, id=name) for case, name in zip(CASES, IDS, strict=True) if which(case)]
    )


def tracks(case: Case) -> bool:
    """Whether the layer has running statistics: then evaluation is another function than training."""
    layer = case.new()
    constant = getattr(layer, "source", None) == "constant"  # buffers that are read in both modes
    return any("running" in name for name, _ in layer.named_buffers()) and not constant


every_batch_layer = some_layers(lambda case: case.takes_batch)
every_sample_layer = some_layers(lambda case: case.per_sample)
every_feature_layer = some_layers(lambda case: not case.weights)
