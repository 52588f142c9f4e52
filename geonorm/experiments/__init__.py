"""One function per figure of the survey: train with and without, and return records."""

from geonorm.experiments.allegro import figure1
from geonorm.experiments.gemnet import figure2_gemnet
from geonorm.experiments.records import read_records
from geonorm.experiments.schnet import figure2_schnet
from geonorm.experiments.sizes import layer_sizes
from geonorm.experiments.summary import final_errors
from geonorm.experiments.swap import swap_rows
from geonorm.experiments.symmetry import symmetry_errors

__all__ = [
    "figure1",
    "figure2_gemnet",
    "figure2_schnet",
    "final_errors",
    "layer_sizes",
    "read_records",
    "swap_rows",
    "symmetry_errors",
]
