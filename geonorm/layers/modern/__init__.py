"""Layers that came after the survey, or that equivariant networks brought along."""

from geonorm.layers.modern.batch import EquivariantBatchNorm, EquivariantGraphNorm, EquivariantInstanceNorm
from geonorm.layers.modern.layer import EquivariantLayerNorm, EquivariantRMSNorm, SeparableLayerNorm
from geonorm.layers.modern.magnitude import FieldNorm, MaxMinNorm, NormSE3
from geonorm.layers.modern.rms import RMSNorm

__all__ = [
    "EquivariantBatchNorm",
    "EquivariantGraphNorm",
    "EquivariantInstanceNorm",
    "EquivariantLayerNorm",
    "EquivariantRMSNorm",
    "FieldNorm",
    "MaxMinNorm",
    "NormSE3",
    "RMSNorm",
    "SeparableLayerNorm",
]
