"""The compiled kernels: what they can do, where they are, and how they are called."""

from geonorm.kernels.cpu.calls import backward, double_backward, forward, plain
from geonorm.kernels.cpu.library import MEAN_ALONE_TWICE, SETS, TYPES, kernels
from geonorm.kernels.cpu.recipes import Recipe, recipe
from geonorm.kernels.cpu.rows import Rows

__all__ = [
    "MEAN_ALONE_TWICE",
    "SETS",
    "TYPES",
    "Recipe",
    "Rows",
    "backward",
    "double_backward",
    "forward",
    "kernels",
    "plain",
    "recipe",
]
