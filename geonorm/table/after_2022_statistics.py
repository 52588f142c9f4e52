"""After Table 1: layers that standardize, on features that rotate, over batches, graphs, nodes and types of nodes."""

from __future__ import annotations

from geonorm.axes import Axes
from geonorm.layers.modern import (
    EquivariantBatchNorm,
    EquivariantGraphNorm,
    EquivariantInstanceNorm,
    EquivariantLayerNorm,
    EquivariantRMSNorm,
    RMSNorm,
    SeparableLayerNorm,
    TypedBatchNorm,
)
from geonorm.table.properties import Invariance, Properties
from geonorm.table.row import Row

SIDE = "graph and geometric"
AFFINE = {"weight": "fields", "bias": "scalar fields"}

ROWS = (
    Row(
        name="RMSNorm",
        side="language and vision",
        year=2019,
        community="language",
        paper="zhang2019root",
        code="code_torch",
        published=r"\gamma\odot\frac{\mathcal A}{\sqrt{\mathrm{RMS}^2_{\{v,t,m\}}+\varepsilon}}",
        verdict="unlisted",
        note="Older than the survey: LayerNorm of a node without its mean, which makes it legal for vectors; one "
        "divisor for all types of a node.",
        verified="Outputs and gradients against torch.nn.RMSNorm; on irreps against the closed form.",
        scale=Axes("vtm"),
        statistic="rms",
        learnable={"weight": "fields"},
        features="irreps",
        properties=Properties(rotation="node", invariances=(Invariance("scale", ("node",)),)),
        layer=RMSNorm,
    ),
    Row(
        name="EquivariantBatchNorm",
        aliases=("e3nn BatchNorm", "SE3BatchNorm"),
        side=SIDE,
        year=2018,
        community="equivariant networks",
        paper="weiler2018steerable",
        code="code_e3nn",
        sources=("code_se3cnn", "geiger2022e3nn"),
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{b,x\}}^{0e}}{\sqrt{\mathrm{RMS}^2_{\{b,x,m\}}+\varepsilon}}"
        r"+\beta^{0e}",
        verdict="unlisted",
        note="Older than the survey, in the code of the 3D steerable CNNs, today in e3nn: BatchNorm of the scalars, "
        "and on all other types the layer that Table 1 leaves out.",
        verified="Outputs, gradients and running buffers against e3nn.nn.BatchNorm.",
        mean=Axes("bx"),
        scale=Axes("bxm"),
        statistic="residual",
        centred="scalars",
        learnable=AFFINE,
        running=("running_mean", "running_var"),
        features="irreps",
        properties=Properties(
            rotation="node",
            independent_train=False,
            invariances=(Invariance("shift", ("field",), on="scalars"), Invariance("scale", ("field",))),
        ),
        layer=EquivariantBatchNorm,
    ),
    Row(
        name="EquivariantInstanceNorm",
        side=SIDE,
        year=2021,
        community="equivariant networks",
        paper="brandstetter2022geometric",
        code="code_equiformer",
        sources=("code_eqgat",),
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{x\}}^{0e}}"
        r"{\sqrt{\mathrm{RMS}^2_{\{x,m\}}+\varepsilon}}+\beta^{0e}",
        verdict="unlisted",
        note="Older than the survey: its statistics are those of a graph, found by the batch vector; its first code "
        "took pseudoscalars for scalars, whose mean and bias break inversion.",
        verified="Outputs and gradients against the closed form, on a dense batch also against e3nn.nn.BatchNorm.",
        mean=Axes("x"),
        scale=Axes("xm"),
        statistic="residual",
        centred="scalars",
        learnable=AFFINE,
        features="irreps",
        properties=Properties(
            rotation="node",
            invariances=(
                Invariance("shift", ("sample", "field"), on="scalars"),
                Invariance("scale", ("sample", "field")),
            ),
        ),
        layer=EquivariantInstanceNorm,
    ),
    Row(
        name="EquivariantGraphNorm",
        side=SIDE,
        year=2022,
        community="molecules",
        paper="liao2023equiformer",
        code="code_equiformer",
        sources=("cai2021graphnorm",),
        published=r"\gamma\odot\frac{\mathcal A-\alpha\odot\mu_{\{x\}}}"
        r"{\sqrt{\mathrm{RMS}^2_{\{x,m\}}(\mathcal A-\alpha\odot\mu_{\{x\}})+\varepsilon}}+\beta^{0e}",
        verdict="unlisted",
        note=r"GraphNorm with one $\alpha$ and one divisor for the components of a vector: $\alpha$ starts at 1 for "
        "scalars and at 0 for what rotates, and may be learned since a graph's mean vector rotates with the graph.",
        verified=r"Outputs and gradients against the closed form at several $\alpha$; on scalars equal to the row "
        "GraphNorm.",
        mean=Axes("x"),
        scale=Axes("xm"),
        statistic="residual",
        learnable={**AFFINE, "mean_scale": "fields"},
        features="irreps",
        properties=Properties(
            rotation="sample",
            invariances=(
                Invariance("shift", ("sample", "field"), on="scalars"),
                Invariance("scale", ("sample", "field")),
            ),
        ),
        layer=EquivariantGraphNorm,
    ),
    Row(
        name="EquivariantLayerNorm",
        side=SIDE,
        year=2022,
        community="molecules",
        paper="liao2023equiformer",
        code="code_equiformer",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{v\}}^{0e}}"
        r"{\sqrt{\mathrm{RMS}^2_{\{v,m\}}+\varepsilon}}+\beta^{0e}",
        verdict="unlisted",
        note="The Vector Perceptron's layer for all types: one divisor for each type of a node, so that the relative "
        "size of types is lost; a variant also subtracts the mean vector over channels.",
        verified="Outputs and gradients of both variants against the formulas of the authors' code, written anew.",
        mean=Axes("v"),
        scale=Axes("vm"),
        statistic="residual",
        centred="scalars",
        learnable=AFFINE,
        features="irreps",
        properties=Properties(
            rotation="node",
            invariances=(Invariance("shift", ("node",), on="scalars"), Invariance("scale", ("node", "type"))),
        ),
        layer=EquivariantLayerNorm,
    ).also(
        "EquivariantLayerNorm with vectors centred",
        centred="all",
        properties=Properties(
            rotation="node",
            translation="node",
            invariances=(Invariance("shift", ("node", "component")), Invariance("scale", ("node", "type"))),
        ),
        options={"center_vectors": True},
    ),
    Row(
        name="SeparableLayerNorm",
        side=SIDE,
        year=2023,
        community="molecules",
        paper="liao2024equiformerv2",
        code="code_equiformer_v2",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{v\}}^{0e}}{\sqrt{\mathrm{RMS}^2_S+\varepsilon}}+\beta^{0e},\ "
        r"S=\{v\}\text{ of }0e,\ \{v,t,m\}\text{ of the rest}",
        verdict="unlisted",
        note="LayerNorm of the scalars, and one divisor for everything that rotates, in which the types count equally: "
        "their relative size is kept.",
        verified="Outputs and gradients against the formula of the authors' code, written anew.",
        mean=Axes("v"),
        scale=Axes("vtm"),
        statistic="residual",
        centred="scalars",
        learnable=AFFINE,
        features="irreps",
        properties=Properties(
            rotation="node",
            invariances=(
                Invariance("shift", ("node",), on="scalars"),
                Invariance("scale", ("node",), on="scalars"),
                Invariance("scale", ("node",), on="non-scalars"),
            ),
        ),
        layer=SeparableLayerNorm,
    ),
    Row(
        name="EquivariantRMSNorm",
        side=SIDE,
        year=2023,
        community="molecules",
        paper="liao2024equiformerv2",
        code="code_equiformer_v2",
        sources=("code_fairchem",),
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{v\}}^{0e}}{\sqrt{\mathrm{RMS}^2_{\{v,t,m\}}+\varepsilon}}"
        r"+\beta^{0e}",
        verdict="unlisted",
        note="One divisor for all types of a node, which count equally, after the scalars are centred: a common scale "
        "of the node is all that is lost of what rotates.",
        verified="Outputs and gradients against the formula of the authors' code, written anew.",
        mean=Axes("v"),
        scale=Axes("vtm"),
        statistic="residual",
        centred="scalars",
        learnable=AFFINE,
        features="irreps",
        properties=Properties(
            rotation="node", invariances=(Invariance("shift", ("node",), on="scalars"), Invariance("scale", ("node",)))
        ),
        layer=EquivariantRMSNorm,
    ),
    Row(
        name="TypedBatchNorm",
        aliases=("HeteroBatchNorm",),
        side=SIDE,
        year=2023,
        community="graph learning",
        paper="code_pyg",
        code="code_pyg",
        sources=("ioffe2015batch",),
        published=r"\gamma_Z\odot\frac{\mathcal A-\mu_{\{b,x\},Z}}{\sqrt{\sigma^2_{\{b,x\},Z}+\varepsilon}}+\beta_Z",
        verdict="unlisted",
        note="BatchNorm with statistics, gain and bias of its own for every type $Z$ of node, which in a molecule is "
        "the element.",
        verified="Outputs, gradients and running buffers against torch.nn.BatchNorm1d type by type; evaluation mode "
        "against PyG HeteroBatchNorm, which stops the gradient through its statistics in training.",
        mean=Axes("bx"),
        scale=Axes("bx"),
        statistic="residual",
        learnable={"weight": "node types, channels", "bias": "node types, channels"},
        running=("running_mean", "running_var"),
        properties=Properties(
            inversion=False,
            translation="batch",
            independent_train=False,
            invariances=(Invariance("shift", ("kind", "channel")), Invariance("scale", ("kind", "channel"))),
        ),
        layer=TypedBatchNorm,
        needs={"num_types": 2},
    ),
)
