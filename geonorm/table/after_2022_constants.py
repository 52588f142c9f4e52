"""After Table 1: constants of the training set, and a count of neighbours that does not jump."""

from __future__ import annotations

from geonorm.layers.modern import DensityNorm, PerTypeScaleShift, ScaleFactor
from geonorm.table.properties import Properties
from geonorm.table.row import Row

SIDE = "graph and geometric"

ROWS = (
    Row(
        name="PerTypeScaleShift",
        aliases=("ScaleShiftBlock",),
        side=SIDE,
        year=2021,
        community="molecules",
        paper="batzner2022equivariant",
        code="code_nequip",
        sources=("code_mace",),
        published=r"\sigma_Z\,\mathcal A+\mu_Z",
        verdict="unlisted",
        note="Older than the survey, and part of the Allegro that it trains, but not named: constants of the training "
        "set for every element $Z$ turn the numbers of a network into energies.",
        verified="Outputs against nequip's layer and MACE's formula; the constants found in data that were made with "
        "known ones.",
        properties=Properties(inversion=False),
        layer=PerTypeScaleShift,
        needs={"scales": [1.5, 0.5], "shifts": [-2.0, 3.0]},
    ),
    Row(
        name="ScaleFactor",
        aliases=("ScalingFactor", "GemNet"),
        side=SIDE,
        year=2021,
        community="molecules",
        paper="gasteiger2021gemnet",
        code="code_gemnet",
        published=r"\lambda\,\mathcal A,\quad\lambda^2=\frac{\mathrm{Var}(\mathcal A_{\mathrm{ref}})}"
        r"{\mathrm{Var}(\mathcal A)}\text{ on a few batches, before training}",
        verdict="unlisted",
        note="Older than the survey, and the normalization of the GemNet that it trains, but not named: one "
        "constant for each place in the network, measured once and never trained.",
        verified="The variances behind the fitted constants, which are those of the references.",
        properties=Properties(rotation="node"),
        layer=ScaleFactor,
    ),
    Row(
        name="DensityNorm",
        side=SIDE,
        year=2024,
        community="molecules",
        paper="batatia2024foundation",
        code="code_mace",
        published=r"\frac{1}{\rho_i+1}\sum_{j\in\mathcal N(i)}m_{ij},\quad "
        r"\rho_i=\sum_{j\in\mathcal N(i)}\tanh\big(\varphi(r_{ij})^2\big)f_{\mathrm{cut}}(r_{ij})",
        verdict="unlisted",
        note="SchNet's own count of neighbours, learned and made smooth: an atom that crosses the cutoff changes "
        "nothing at the crossing.",
        verified="The density against MACE's, written anew with e3nn and nequip's cutoff; two continuous derivatives "
        "at the cutoff.",
        learnable={"weights.0": "8, 1"},
        features="irreps",
        properties=Properties(rotation="node"),
        acts_on="messages",
        layer=DensityNorm,
        needs={"cutoff": 3.0},
    ),
)
