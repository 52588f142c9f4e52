"""The look of the book: one plot style, the axes cube, charts with direct labels, tables, figures to move.

Importing this package imports matplotlib; ``import geonorm`` does not. Every drawing function has a partner ``alt_*``
that says the same in words, computed from the same numbers.
"""

from geonorm.viz.charts import alt_bars, alt_lines, bars, lines
from geonorm.viz.cube import alt_axes_cube, alt_weight_grid, axes_cube, weight_grid
from geonorm.viz.fingerprint import alt_fingerprint, fingerprint
from geonorm.viz.frames import Control, Frames
from geonorm.viz.guide import alt_guide, guide
from geonorm.viz.runs import alt_curves, curves
from geonorm.viz.style import COLORS, figure, show, use_style
from geonorm.viz.svg import Panel, label, use
from geonorm.viz.tables import TextTable
from geonorm.viz.timeline import Stop, alt_timeline, timeline

__all__ = [
    "COLORS",
    "Control",
    "Frames",
    "Panel",
    "Stop",
    "TextTable",
    "alt_axes_cube",
    "alt_bars",
    "alt_curves",
    "alt_fingerprint",
    "alt_guide",
    "alt_lines",
    "alt_timeline",
    "alt_weight_grid",
    "axes_cube",
    "bars",
    "curves",
    "figure",
    "fingerprint",
    "guide",
    "label",
    "lines",
    "show",
    "timeline",
    "use",
    "use_style",
    "weight_grid",
]
