"""The graph rows of Table 1: layers for nodes, sets and neighbour sums."""

from __future__ import annotations

from geonorm.axes import Axes
from geonorm.layers.graph import GraphNorm, GraphSizeNorm, MeanSubtractionNorm, PairNorm, SetNorm
from geonorm.layers.message import MessageNorm
from geonorm.layers.neighbors import AverageNeighborNorm, NeighborNorm
from geonorm.layers.soft_groups import DiffGroupNorm
from geonorm.table import printed
from geonorm.table.properties import Invariance, Properties
from geonorm.table.row import Row

SIDE = "graph and geometric"
AFFINE = {"weight": "channels", "bias": "channels"}

GRAPH_NORMS = (
    Row(
        name="GraphNorm",
        side=SIDE,
        year=2020,
        community="graph learning",
        paper="cai2021graphnorm",
        code="code_graphnorm",
        sources=("code_pyg",),
        printed=r"\frac{\mathcal A-\alpha\odot\mu_{\{x\}}}{\sigma_{\{x\}}}",
        published=r"\gamma\odot\frac{\mathcal A-\alpha\odot\mu_{\{x\}}}"
        r"{\sqrt{\mathrm{RMS}^2_{\{x\}}(\mathcal A-\alpha\odot\mu_{\{x\}})+\varepsilon}}+\beta",
        verdict="error",
        note=r"The divisor is the root mean square of the numerator, not the standard deviation of $\mathcal A$: "
        r"the two agree only at $\alpha=1$, where the layer starts.",
        verified=r"Outputs and gradients against PyG GraphNorm at several $\alpha$; the mean square of the output is 1 "
        "for each of them.",
        mean=Axes("x"),
        scale=Axes("x"),
        statistic="residual",
        learnable={**AFFINE, "mean_scale": "channels"},
        properties=Properties(
            inversion=False,
            translation="sample",
            invariances=(Invariance("shift", ("sample", "channel")), Invariance("scale", ("sample", "channel"))),
        ),
        layer=GraphNorm,
        as_printed=printed.graph_norm,
    ),
    Row(
        name="PairNorm",
        side=SIDE,
        year=2019,
        community="graph learning",
        paper="zhao2020pairnorm",
        code="code_pairnorm",
        sources=("code_pyg",),
        printed=r"s\cdot\Big(\frac{\mathcal A-\mu_{\{x,v\}}}{\sigma_{\{x,v\}}}\Big)",
        published=r"s\,\frac{\mathcal A-\mu_{\{x\}}}"
        r"{\sqrt{v\,\mathrm{RMS}^2_{\{x,v\}}(\mathcal A-\mu_{\{x\}})+\varepsilon}}",
        verdict="error",
        note=r"The mean is one per channel, over $\{x\}$, and the divisor is the root mean square length of a "
        "node's whole row: the printed formula is $s$ times graph LayerNorm, with mean squared row length "
        "$s^2v$ instead of $s^2$.",
        verified="Outputs and gradients against PyG PairNorm, plain and individually scaled; the mean squared row "
        "length.",
        mean=Axes("x"),
        scale=Axes("xv"),
        statistic="residual",
        properties=Properties(
            translation="sample",
            rotation="sample",
            invariances=(Invariance("shift", ("sample", "channel")), Invariance("scale", ("sample",))),
        ),
        layer=PairNorm,
        as_printed=printed.pair_norm,
    ),
    Row(
        name="MeanSubtractionNorm",
        side=SIDE,
        year=2020,
        community="graph learning",
        paper="yang2020revisiting",
        code="code_pyg",
        printed=r"\mathcal A-\mu_{\{b,v\}}",
        published=r"\mathcal A-\mu_{\{x\}}",
        verdict="error",
        note=r"A mean over $\{b,v\}$ is one number per node index: it has no meaning for graphs of different sizes, "
        "it breaks permutation equivariance, and it couples the samples. The layer subtracts the node mean of "
        "each graph.",
        verified="Outputs and gradients against PyG MeanSubtractionNorm; the output mean of every graph and channel is "
        "0.",
        mean=Axes("x"),
        properties=Properties(
            translation="sample", rotation="sample", invariances=(Invariance("shift", ("sample", "channel")),)
        ),
        layer=MeanSubtractionNorm,
        as_printed=printed.mean_subtraction_norm,
    ),
    Row(
        name="MessageNorm",
        side=SIDE,
        year=2020,
        community="graph learning",
        paper="li2020deepergcn",
        code="code_deepgcns",
        sources=("code_pyg",),
        printed=r"\mathrm{MLP}\Big(\mathcal A+s\cdot\lVert\mathcal A_{\{x\}}\rVert_2\,"
        r"\frac{m_{\{x\}}}{\lVert m_{\{x\}}\rVert_2}\Big)",
        published=r"s\,\lVert a_i\rVert_2\,\frac{m_i}{\lVert m_i\rVert_2}\quad\text{for every node }i",
        verdict="notation",
        note=r"Here $\{x\}$ means of node $x$, against the legend: the lengths run over the channels of one node. "
        "The sum and the MLP belong to the convolution around the layer.",
        verified="Outputs and gradients against PyG MessageNorm.",
        scale=Axes("v"),
        statistic="rms",
        on_request=("scale",),
        properties=Properties(rotation="node", invariances=(Invariance("scale", ("node",), of="messages"),)),
        acts_on="messages",
        layer=MessageNorm,
        as_printed=printed.message_norm,
    ),
    Row(
        name="DiffGroupNorm",
        side=SIDE,
        year=2020,
        community="graph learning",
        paper="zhou2020towards",
        code="code_dgn",
        sources=("code_pyg",),
        printed=r"\mathcal A+s\sum_g\mathrm{BN}\big(\mathrm{softmax}_g(\mathcal A\,\Gamma)\odot\mathcal A\big)",
        published=r"\mathcal A+\lambda\sum_g\mathrm{BN}_g"
        r"\big(\mathrm{softmax}_g(\mathcal A\,\Gamma)\odot\mathcal A\big)",
        verdict="same",
        note="As printed, with a BatchNorm of its own for every group; the $s$ of Table 1 is the paper's "
        r"$\lambda$.",
        verified="Outputs, gradients and running buffers against PyG DiffGroupNorm.",
        mean=Axes("bx"),
        scale=Axes("bx"),
        statistic="residual",
        learnable={"assign": "groups, channels", "weight": "groups, channels", "bias": "groups, channels"},
        running=("running_mean", "running_var"),
        properties=Properties(inversion=False, independent_train=False),
        layer=DiffGroupNorm,
        needs={"groups": 3},
        as_printed=printed.diff_group_norm,
    ),
    Row(
        name="SetNorm",
        side=SIDE,
        year=2022,
        community="sets",
        paper="zhang2022set",
        code="code_setnorm",
        printed=r"\frac{\mathcal A-\mu_{\{b,v\}}}{\sigma_{\{b,v\}}}",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{x,v\}}}{\sqrt{\sigma^2_{\{x,v\}}+\varepsilon}}+\beta",
        verdict="error",
        note=r"The axes are $\{x,v\}$: one mean and one deviation for each set. As printed the layer breaks "
        "permutation equivariance, which its paper requires, and couples the sets. Corrected, it is the row "
        "LayerNorm as printed.",
        verified="Equal to LayerNorm in mode graph; mean 0 and variance 1 over the elements and features of every set, "
        "which the authors' own test asserts.",
        mean=Axes("xv"),
        scale=Axes("xv"),
        statistic="residual",
        learnable=AFFINE,
        properties=Properties(
            inversion=False, invariances=(Invariance("shift", ("sample",)), Invariance("scale", ("sample",)))
        ),
        layer=SetNorm,
        as_printed=printed.standardized("bv"),
    ),
)

SIZE_AND_NEIGHBOR_NORMS = (
    Row(
        name="GraphSizeNorm",
        side=SIDE,
        year=2020,
        community="graph learning",
        paper="dwivedi2023benchmarking",
        code="code_benchmarking",
        sources=("code_pyg",),
        printed=r"\frac{\mathcal A}{\lvert X\rvert}",
        published=r"\frac{\mathcal A}{\sqrt{\lvert X\rvert}}",
        verdict="error",
        note="The square root is missing.",
        verified="Outputs and gradients against PyG GraphSizeNorm.",
        properties=Properties(rotation="node"),
        layer=GraphSizeNorm,
        as_printed=printed.graph_size_norm,
    ),
    Row(
        name="SchNet",
        aliases=("NeighborNorm",),
        side=SIDE,
        year=2017,
        community="molecules",
        paper="schutt2018schnet",
        code="code_schnetpack",
        printed=r"\frac{\mathcal A}{\mathcal N_{\{v\}}}",
        published=r"\frac{1}{\max(\lvert\mathcal N(i)\rvert,1)}\sum_{j\in\mathcal N(i)}m_{ij}"
        r"\quad\text{for every node }i",
        verdict="notation",
        note=r"$\mathcal N$ is the node's own number of neighbours, which has no channel to average over, and it "
        r"divides the sum of the messages, not $\mathcal A$. In the reference code it is an option, off by "
        "default.",
        verified="Outputs against the mean over the neighbours; the option was read in four versions of the code.",
        properties=Properties(rotation="node"),
        acts_on="messages",
        layer=NeighborNorm,
        as_printed=printed.schnet,
    ),
    Row(
        name="Allegro / MACE",
        aliases=("Allegro", "AverageNeighborNorm"),
        side=SIDE,
        year=2022,
        community="molecules",
        paper="musaelian2023learning",
        code="code_allegro",
        sources=("batatia2022mace", "code_mace", "code_nequip"),
        printed=r"\frac{\mathcal A}{\mathcal N_{\{b,x,v\}}}",
        published=r"\frac{1}{\bar{\mathcal N}^{\,p}}\sum_{j\in\mathcal N(i)}m_{ij},\quad "
        r"p=\tfrac12\text{ (Allegro, NequIP) or }1\text{ (MACE)}",
        verdict="error",
        note=r"Allegro divides by $\sqrt{\bar{\mathcal N}}$ and only MACE by $\bar{\mathcal N}$; and $\bar{\mathcal "
        "N}$ is a constant, counted once on the training set, not a statistic of the batch.",
        verified="Outputs against the closed form; the factor was read in both codes at the time of the papers and "
        "now.",
        properties=Properties(rotation="node"),
        acts_on="messages",
        layer=AverageNeighborNorm,
        needs={"avg_num_neighbors": 12.0},
        as_printed=printed.allegro_mace,
    ).also("MACE", paper="batatia2022mace", code="code_mace", sources=(), options={"power": 1.0}),
)
