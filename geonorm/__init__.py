"""Normalization layers for equivariant neural networks, and what they do to symmetry and information."""

from geonorm.allocator import tune_allocator
from geonorm.axes import Axes, Segments
from geonorm.guide import recommend
from geonorm.layers.fields import Vectors
from geonorm.layers.geometric import GeometricNorm
from geonorm.layers.graph import GraphNorm, GraphSizeNorm, MeanSubtractionNorm, PairNorm, SetNorm
from geonorm.layers.message import MessageNorm
from geonorm.layers.modern import (
    DensityNorm,
    DynamicTanh,
    EquivariantBatchNorm,
    EquivariantGraphNorm,
    EquivariantInstanceNorm,
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    FieldNorm,
    MaxMinNorm,
    NormSE3,
    PerTypeScaleShift,
    RMSNorm,
    ScaleFactor,
    SeparableLayerNorm,
    TensorNorm,
    TypedBatchNorm,
    fit_scale_factors,
    load_scale_factors,
)
from geonorm.layers.neighbors import AverageNeighborNorm, NeighborNorm, count_neighbors
from geonorm.layers.soft_groups import DiffGroupNorm
from geonorm.layers.standardize import Standardize
from geonorm.layers.vector import (
    EGANNorm,
    EvNorm,
    QuaternionNorm,
    VectorFieldNorm,
    VectorNeuronNorm,
    VectorPerceptronNorm,
)
from geonorm.layers.vision import BatchNorm, FilterResponseNorm, GroupNorm, InstanceNorm, LayerNorm, VarianceNorm
from geonorm.layers.weight import scaled_weight_standardization, spectral_norm, weight_norm
from geonorm.match import tasks as tasks
from geonorm.match.check import check
from geonorm.match.network import check_network
from geonorm.table import AFTER_2022, TABLE1, make

__version__ = "0.1.0.dev0"

__all__ = [
    "AFTER_2022",
    "TABLE1",
    "AverageNeighborNorm",
    "Axes",
    "BatchNorm",
    "DensityNorm",
    "DiffGroupNorm",
    "DynamicTanh",
    "EGANNorm",
    "EquivariantBatchNorm",
    "EquivariantGraphNorm",
    "EquivariantInstanceNorm",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "EvNorm",
    "FieldNorm",
    "FilterResponseNorm",
    "GeometricNorm",
    "GraphNorm",
    "GraphSizeNorm",
    "GroupNorm",
    "InstanceNorm",
    "LayerNorm",
    "MaxMinNorm",
    "MeanSubtractionNorm",
    "MessageNorm",
    "NeighborNorm",
    "NormSE3",
    "PairNorm",
    "PerTypeScaleShift",
    "QuaternionNorm",
    "RMSNorm",
    "ScaleFactor",
    "Segments",
    "SeparableLayerNorm",
    "SetNorm",
    "Standardize",
    "TensorNorm",
    "TypedBatchNorm",
    "VarianceNorm",
    "VectorFieldNorm",
    "VectorNeuronNorm",
    "VectorPerceptronNorm",
    "Vectors",
    "check",
    "check_network",
    "count_neighbors",
    "fit_scale_factors",
    "load_scale_factors",
    "make",
    "recommend",
    "scaled_weight_standardization",
    "spectral_norm",
    "tune_allocator",
    "weight_norm",
]
