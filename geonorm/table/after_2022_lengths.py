"""After Table 1: layers that change the length of every field by itself or beside the others of its node."""

from __future__ import annotations

from geonorm.axes import Axes
from geonorm.layers.modern import DynamicTanh, FieldNorm, MaxMinNorm, NormSE3, TensorNorm
from geonorm.table.properties import Invariance, Properties
from geonorm.table.row import Row

SIDE = "graph and geometric"

ROWS = (
    Row(
        name="FieldNorm",
        side=SIDE,
        year=2022,
        community="equivariant networks",
        paper="cesa2022program",
        code="code_escnn",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{m\}}^{0e}}"
        r"{\sqrt{\mathrm{RMS}^2_{\{m\}}+\varepsilon}}+\beta^{0e}",
        verdict="unlisted",
        note="Every field of every node is divided by its own RMS, in the library of the cited paper: of a vector the "
        "direction is left, of a scalar nothing but the bias.",
        verified="Outputs and gradients against the closed form; the library was read, not run.",
        mean=Axes("m"),
        scale=Axes("m"),
        statistic="residual",
        centred="scalars",
        learnable={"weight": "fields", "bias": "scalar fields"},
        features="irreps",
        properties=Properties(
            rotation="node",
            invariances=(
                Invariance("shift", ("node", "field"), on="scalars"),
                Invariance("scale", ("node", "field"), on="non-scalars"),
            ),
        ),
        layer=FieldNorm,
    ),
    Row(
        name="NormSE3",
        aliases=("GNormSE3",),
        side=SIDE,
        year=2020,
        community="equivariant networks",
        paper="fuchs2020se3",
        code="code_nvidia_se3",
        published=r"\frac{\mathcal A}{\lVert\mathcal A\rVert_2}\,"
        r"\mathrm{ReLU}\big(\mathrm{LN}_{\{v\}}(\lVert\mathcal A\rVert_2)\big)",
        verdict="unlisted",
        note="Older than the survey: a LayerNorm of the lengths as Vector Neuron has a BatchNorm, whose ReLU may "
        "shorten a vector to zero but never reverses it.",
        verified="Outputs and gradients against the closed form; the implementation was read, not run.",
        mean=Axes("v"),
        scale=Axes("v"),
        statistic="residual",
        of_lengths=True,
        learnable={"weight": "channels", "bias": "channels"},
        features="vectors",
        properties=Properties(
            rotation="node", invariances=(Invariance("scale", ("node",)), Invariance("shift of lengths", ("node",)))
        ),
        layer=NormSE3,
    ),
    Row(
        name="MaxMinNorm",
        aliases=("VecLayerNorm", "ViSNet"),
        side=SIDE,
        year=2022,
        community="molecules",
        paper="wang2024enhancing",
        code="code_pyg",
        published=r"\gamma\odot\frac{\mathcal A}{\lVert\mathcal A\rVert_2}\,"
        r"\frac{\lVert\mathcal A\rVert_2-\min_v\lVert\mathcal A\rVert_2}"
        r"{\max_v\lVert\mathcal A\rVert_2-\min_v\lVert\mathcal A\rVert_2}",
        verdict="unlisted",
        note="The lengths of a node's vectors are stretched to the interval from 0 to 1: the shortest vector is always "
        "lost, and there are kinks where lengths are equal.",
        verified="Outputs and gradients against the VecLayerNorm of PyG's ViSNet.",
        mean=Axes("v"),
        scale=Axes("v"),
        statistic="range",
        of_lengths=True,
        learnable={"weight": "channels"},
        features="vectors",
        properties=Properties(
            rotation="node",
            invariances=(
                Invariance("scale", ("node",)),
                Invariance("shift of lengths", ("node",)),
                Invariance("turn of the shortest vector", ("node",), number=2),
            ),
        ),
        layer=MaxMinNorm,
    ),
    Row(
        name="TensorNorm",
        aliases=("TensorNet",),
        side=SIDE,
        year=2023,
        community="molecules",
        paper="simeon2023tensornet",
        code="code_torchmdnet",
        published=r"\frac{\mathcal A}{\lVert\mathcal A\rVert_F^2+1}",
        verdict="unlisted",
        note="A squashing function of tensors of rank two: bounded, without statistics and parameters, and not "
        "monotone, so that tensors of length $r$ and $1/r$ get one length.",
        verified="Outputs and gradients against the closed form, and the largest length of a result.",
        scale=Axes("m"),
        statistic="squash",
        features="tensors",
        properties=Properties(rotation="node"),
        layer=TensorNorm,
    ),
    Row(
        name="DynamicTanh",
        aliases=("DyT",),
        side="language and vision",
        year=2025,
        community="computer vision",
        paper="zhu2025transformers",
        code="code_dyt",
        published=r"\gamma\odot\tanh(\alpha\mathcal A)+\beta,\quad\text{of vectors }"
        r"\gamma\odot\frac{\mathcal A}{\lVert\mathcal A\rVert_2}\tanh(\alpha\lVert\mathcal A\rVert_2)",
        verdict="unlisted",
        note="No statistic at all: nothing is removed and no sample sees another; the published form is for scalars, "
        "the one of lengths is what vectors allow.",
        verified="Outputs and gradients of both forms against the closed forms.",
        scale=Axes("m"),
        statistic="squash",
        learnable={"alpha": "1", "weight": "fields", "bias": "scalar fields"},
        features="irreps",
        properties=Properties(rotation="node"),
        layer=DynamicTanh,
    ),
)
