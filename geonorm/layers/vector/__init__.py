"""Rows of Table 1 on vectors: what they change is the length of a vector, never its line."""

from geonorm.layers.vector.evnorm import EvNorm
from geonorm.layers.vector.field import VectorFieldNorm
from geonorm.layers.vector.neuron import VectorNeuronNorm
from geonorm.layers.vector.perceptron import EGANNorm, VectorPerceptronNorm
from geonorm.layers.vector.quaternion import QuaternionNorm

__all__ = [
    "EGANNorm",
    "EvNorm",
    "QuaternionNorm",
    "VectorFieldNorm",
    "VectorNeuronNorm",
    "VectorPerceptronNorm",
]
