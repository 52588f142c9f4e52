"""The general form as a row of its own: found by name like any other, in neither of the tables, since it is ours."""

from __future__ import annotations

from geonorm.axes import Axes
from geonorm.layers.geometric import GeometricNorm
from geonorm.table.properties import Properties
from geonorm.table.row import Row

#: GeometricNorm with its default settings.
GENERAL = Row(
    name="GeometricNorm",
    aliases=("general form",),
    side="graph and geometric",
    year=2026,
    community="this book",
    paper="aalto2022geometric",
    code=None,
    published=r"\gamma\odot\frac{\mathcal A}{\big(\mathrm{RMS}^2_{\{v,t,m\}}+\varepsilon\big)^{\tau/2}}+\beta^{0e},"
    r"\quad\tau=\mathrm{sigmoid}(\theta)",
    verdict="unlisted",
    note="Not published: this project's answer to the survey's second open question, with the settings that it has by "
    "default. Other settings are the rows of the tables.",
    verified="Outputs, gradients, second derivatives and running buffers of each corner against the layer of its row.",
    scale=Axes("vtm"),
    statistic="rms",
    learnable={"weight": "fields", "bias": "scalar fields", "exponent_logit": "groups of types"},
    features="irreps",
    properties=Properties(rotation="node"),
    layer=GeometricNorm,
)
