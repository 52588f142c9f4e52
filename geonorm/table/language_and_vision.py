"""The left column of Table 1: layers from language and vision."""

from __future__ import annotations

from geonorm.axes import Axes
from geonorm.layers.vision import BatchNorm, FilterResponseNorm, GroupNorm, InstanceNorm, LayerNorm, VarianceNorm
from geonorm.layers.weight import scaled_weight_standardization, spectral_norm, weight_norm
from geonorm.table import printed
from geonorm.table.properties import Invariance, Properties
from geonorm.table.row import Row

SIDE = "language and vision"
AFFINE = {"weight": "channels", "bias": "channels"}

ROWS = (
    Row(
        name="BatchNorm",
        aliases=("BN",),
        side=SIDE,
        year=2015,
        community="computer vision",
        paper="ioffe2015batch",
        code="code_torch",
        printed=r"\frac{\mathcal A-\mu_{\{b,x\}}}{\sigma_{\{b,x\}}}",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{b,x\}}}{\sqrt{\sigma^2_{\{b,x\}}+\varepsilon}}+\beta",
        verdict="same",
        note=r"Axes and formula are right; Table 1 leaves out gain, bias, $\varepsilon$ and running statistics, "
        "here and in every row.",
        verified="Outputs, gradients and running buffers against torch.nn.BatchNorm1d, in training and evaluation "
        "mode.",
        mean=Axes("bx"),
        scale=Axes("bx"),
        statistic="residual",
        learnable=AFFINE,
        running=("running_mean", "running_var"),
        properties=Properties(
            inversion=False,
            translation="batch",
            independent_train=False,
            invariances=(Invariance("shift", ("channel",)), Invariance("scale", ("channel",))),
        ),
        layer=BatchNorm,
        as_printed=printed.standardized("bx"),
    ),
    Row(
        name="LayerNorm",
        side=SIDE,
        year=2016,
        community="language",
        paper="ba2016layer",
        code="code_torch",
        sources=("code_pyg",),
        printed=r"\frac{\mathcal A-\mu_{\{x,v\}}}{\sigma_{\{x,v\}}}",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{S}}{\sqrt{\sigma^2_{S}+\varepsilon}}+\beta,\quad "
        r"S=\{x,v\}\text{ (graph) or }\{v\}\text{ (node)}",
        verdict="ambiguous",
        note=r"Two layers share the name: the printed $\{x,v\}$ is the one for images and graphs, but Transformers "
        r"pool $\{v\}$, one node at a time. The reference carries the arXiv number of InstanceNorm.",
        verified="Mode graph against PyG LayerNorm with a batch vector, mode node against torch.nn.LayerNorm: outputs "
        "and gradients.",
        mean=Axes("xv"),
        scale=Axes("xv"),
        statistic="residual",
        learnable=AFFINE,
        properties=Properties(
            inversion=False, invariances=(Invariance("shift", ("sample",)), Invariance("scale", ("sample",)))
        ),
        layer=LayerNorm,
        as_printed=printed.standardized("xv"),
    ).also(
        "LayerNorm per node",
        mean=Axes("v"),
        scale=Axes("v"),
        properties=Properties(
            inversion=False, invariances=(Invariance("shift", ("node",)), Invariance("scale", ("node",)))
        ),
        options={"mode": "node"},
    ),
    Row(
        name="InstanceNorm",
        side=SIDE,
        year=2016,
        community="computer vision",
        paper="ulyanov2016instance",
        code="code_pyg",
        sources=("code_torch",),
        printed=r"\frac{\mathcal A-\mu_{\{x\}}}{\sigma_{\{x\}}}",
        published=r"\frac{\mathcal A-\mu_{\{x\}}}{\sqrt{\sigma^2_{\{x\}}+\varepsilon}}",
        verdict="same",
        note="As printed; gain, bias and running statistics are options, off by default.",
        verified="Outputs, gradients and running buffers against PyG InstanceNorm, and torch.nn.InstanceNorm1d on "
        "dense data.",
        mean=Axes("x"),
        scale=Axes("x"),
        statistic="residual",
        on_request=("weight", "bias", "running_mean", "running_var"),
        properties=Properties(
            translation="sample",
            invariances=(Invariance("shift", ("sample", "channel")), Invariance("scale", ("sample", "channel"))),
        ),
        layer=InstanceNorm,
        as_printed=printed.standardized("x"),
    ),
    Row(
        name="GroupNorm",
        side=SIDE,
        year=2018,
        community="computer vision",
        paper="wu2018group",
        code="code_torch",
        printed=r"\frac{\mathcal A-\mu_{\{x,v/g\}}}{\sigma_{\{x,v/g\}}}",
        published=r"\gamma\odot\frac{\mathcal A-\mu_{\{x,v/g\}}}{\sqrt{\sigma^2_{\{x,v/g\}}+\varepsilon}}+\beta",
        verdict="notation",
        note="The legend calls $g$ a part of the features and the subscript divides by it: read $v/g$ as the "
        "channels of one group. The same letter is the gain of two other rows.",
        verified="Outputs and gradients against torch.nn.GroupNorm on dense data; no library has it for graphs.",
        mean=Axes("xv"),
        scale=Axes("xv"),
        statistic="residual",
        grouped=True,
        learnable=AFFINE,
        properties=Properties(
            inversion=False,
            invariances=(Invariance("shift", ("sample", "group")), Invariance("scale", ("sample", "group"))),
        ),
        layer=GroupNorm,
        needs={"num_groups": 2},
        as_printed=printed.group_norm,
    ),
    Row(
        name="FilterResponseNorm",
        aliases=("FRN",),
        side=SIDE,
        year=2019,
        community="computer vision",
        paper="singh2020filter",
        code="code_timm",
        sources=("code_beyondbatchnorm",),
        printed=r"\frac{\mathcal A}{\mathrm{RMS}_{\{x\}}}",
        published=r"\max\Big(\gamma\odot\frac{\mathcal A}{\sqrt{\mathrm{RMS}^2_{\{x\}}+\varepsilon}}+\beta,\ \tau\Big)",
        verdict="incomplete",
        note=r"The thresholded linear unit $\max(\cdot,\tau)$ is part of the published layer, and so are gain and "
        "bias.",
        verified="Outputs and gradients against the closed form; the parts of the formula were read in both sources.",
        scale=Axes("x"),
        statistic="rms",
        learnable={**AFFINE, "threshold": "channels"},
        properties=Properties(inversion=False, invariances=(Invariance("scale", ("sample", "channel")),)),
        layer=FilterResponseNorm,
        as_printed=printed.filter_response_norm,
    ),
    Row(
        name="VarianceNorm",
        side=SIDE,
        year=2020,
        community="learning theory",
        paper="daneshmand2020batch",
        code="code_daneshmand",
        sources=("code_beyondbatchnorm", "daneshmand2021batch"),
        printed=r"\frac{\mathcal A}{\sigma_{\{b,x\}}}",
        published=r"\gamma\odot\frac{\mathcal A}{\sqrt{S^2+\varepsilon}}+\beta,\quad "
        r"S=\mathrm{RMS}_{\{b,x\}}\text{ (theory) or }\sigma_{\{b,x\}}\text{ (code)}",
        verdict="ambiguous",
        note="The theory of the cited paper divides by the root mean square; published code divides by the "
        "standard deviation, as printed. The two agree only where channel means vanish.",
        verified="Outputs and gradients of both readings against their closed forms; three versions in the authors' "
        "code and one in BeyondBatchNorm were read.",
        scale=Axes("bx"),
        statistic="own",
        learnable=AFFINE,
        running=("running_var",),
        properties=Properties(
            inversion=False, independent_train=False, invariances=(Invariance("scale", ("channel",)),)
        ),
        layer=VarianceNorm,
        as_printed=printed.variance_norm,
    ).also("VarianceNorm by RMS", aliases=("VarianceNorm RMS",), statistic="rms", options={"statistic": "rms"}),
    Row(
        name="WeightNorm",
        side=SIDE,
        year=2016,
        community="computer vision",
        paper="salimans2016weight",
        code="code_torch",
        printed=r"g\,\frac{W}{\lVert W\rVert_2}",
        published=r"W_k=g_k\,\frac{V_k}{\lVert V_k\rVert_2}\quad\text{for every output unit }k",
        verdict="notation",
        note="There is one norm and one gain for every output unit, that is for every row of the weight; Table 1 "
        "shows one of each for the whole weight.",
        verified="Weights, outputs and gradients against torch.nn.utils.parametrizations.weight_norm.",
        learnable={"gain": "outputs", "direction": "outputs, inputs"},
        properties=Properties(rotation="node", invariances=(Invariance("scale", ("channel",), of="weights"),)),
        acts_on="weights",
        layer=weight_norm,
        as_printed=printed.weight_norm,
    ),
    Row(
        name="SpectralNorm",
        side=SIDE,
        year=2018,
        community="computer vision",
        paper="miyato2018spectral",
        code="code_torch",
        printed=r"\max_{h:\,h\neq0}\frac{\lVert Wh\rVert_2}{\lVert h\rVert_2}\cdot W",
        published=r"\frac{W}{\sigma_{\max}(W)},\quad "
        r"\sigma_{\max}(W)=\max_{h\neq0}\frac{\lVert Wh\rVert_2}{\lVert h\rVert_2}",
        verdict="error",
        note="Table 1 multiplies by the largest singular value where the layer divides by it: as printed, the "
        r"result has spectral norm $\sigma_{\max}^2$ instead of 1.",
        verified="Weights and outputs against torch.nn.utils.parametrizations.spectral_norm, and the largest singular "
        "value of the result.",
        properties=Properties(rotation="node", invariances=(Invariance("scale", (), of="weights"),)),
        acts_on="weights",
        layer=spectral_norm,
        as_printed=printed.spectral_norm,
    ),
    Row(
        name="ScaledWeight",
        aliases=("Scaled Weight", "scaled_weight_standardization"),
        side=SIDE,
        year=2021,
        community="computer vision",
        paper="brock2021characterizing",
        code="code_nfnets",
        sources=("code_timm", "code_beyondbatchnorm"),
        printed=r"g\,\frac{W-\mu_{\{x,v\}}}{\sigma_{\{x,v\}}}",
        published=r"W_k\mapsto g_k\,\frac{W_k-\mu_k}{\sigma_k\sqrt{N_{\mathrm{in}}}}\quad"
        r"\text{over the fan-in of every output unit }k",
        verdict="error",
        note=r"The factor $1/\sqrt{N_{\mathrm{in}}}$ is missing: the printed rows have norm "
        r"$\sqrt{N_{\mathrm{in}}}$ instead of 1. And the axes $\{x,v\}$ belong to features, a weight has a "
        "fan-in.",
        verified="Weights against the closed form, and the norm of every row; three implementations were read.",
        learnable={"gain": "outputs", "weight": "outputs, inputs"},
        properties=Properties(
            invariances=(
                Invariance("shift", ("node",)),
                Invariance("shift", ("channel",), of="weights"),
                Invariance("scale", ("channel",), of="weights"),
            )
        ),
        acts_on="weights",
        layer=scaled_weight_standardization,
        as_printed=printed.scaled_weight,
    ),
)
