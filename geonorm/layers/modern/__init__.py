"""Layers that came after the survey, or that equivariant networks brought along."""

from geonorm.layers.modern.batch import EquivariantBatchNorm, EquivariantGraphNorm, EquivariantInstanceNorm
from geonorm.layers.modern.density import DensityNorm
from geonorm.layers.modern.dynamic_tanh import DynamicTanh
from geonorm.layers.modern.layer import EquivariantLayerNorm, EquivariantRMSNorm, SeparableLayerNorm
from geonorm.layers.modern.magnitude import FieldNorm, MaxMinNorm, NormSE3
from geonorm.layers.modern.per_type import PerTypeScaleShift
from geonorm.layers.modern.rms import RMSNorm
from geonorm.layers.modern.scale_factor import ScaleFactor, fit_scale_factors, load_scale_factors
from geonorm.layers.modern.tensor import TensorNorm
from geonorm.layers.modern.typed import TypedBatchNorm

__all__ = [
    "DensityNorm",
    "DynamicTanh",
    "EquivariantBatchNorm",
    "EquivariantGraphNorm",
    "EquivariantInstanceNorm",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "FieldNorm",
    "MaxMinNorm",
    "NormSE3",
    "PerTypeScaleShift",
    "RMSNorm",
    "ScaleFactor",
    "SeparableLayerNorm",
    "TensorNorm",
    "TypedBatchNorm",
    "fit_scale_factors",
    "load_scale_factors",
]
