"""Claims of Sections 4 and 5: the two figures, networks without normalization, and open questions."""

from __future__ import annotations

from geonorm.table.claims.claim import Claim

CLAIMS = (
    Claim(
        id="C22",
        section="4, Figure 1",
        title="Without normalization Allegro starts at $10^{14}$",
        statement=(
            "Without normalization the losses of Allegro start near $10^{14}$, 11 orders of magnitude above the "
            "normalized network, and stay 5 orders above after 100 epochs."
        ),
        verdict="refined",
        finding=(
            "The first number is the squared total energy in meV², and the energy shift alone decides on it. The last "
            "gap reproduces; the first one only if unlike things are compared."
        ),
        shown=("unit-of-the-first-point", "long-run"),
    ),
    Claim(
        id="C23",
        section="4",
        title="The mechanism is gradient explosion",
        statement="The network without normalization fails by gradient explosion.",
        verdict="not confirmed",
        finding=(
            "A network without the neighbour average alone starts with as large a gradient and trains well. Without "
            "the energy shift gradients grow later, as the layers build the missing constant. With depth they explode "
            "only where the neighbour average is missing from a deeper network."
        ),
        shown=("large-or-exploding", "explosion-with-depth"),
    ),
    Claim(
        id="C24",
        section="4, Figure 2",
        title="SchNet and GemNet gain an order of magnitude",
        statement="With their normalization, SchNet and GemNet reach losses that are an order of magnitude lower.",
        verdict="refined",
        finding=(
            "If its activation has the offset that the cited code has, SchNet without BatchNorm does not learn: it has "
            "four to ten times the squared error after twenty epochs. Without the offset BatchNorm saves epochs. "
            "GemNet does not gain by its fitted factors; it hangs on another of its constants."
        ),
        shown=("schnet-long-run", "gemnet-long"),
    ),
    Claim(
        id="C25",
        section="1, aim 4",
        title="Geometric match is necessary, not sufficient",
        statement="Geometric match is a necessary condition on a normalization layer, and not a sufficient one.",
        verdict="refined",
        finding=(
            "Not sufficient: some rows that match are worse than no norm at all. Necessary: a tendency, not a law. On "
            "forces the worst rows all fail a condition, but some that fail are as good as no norm; on couplings it "
            "hardly matters."
        ),
        shown=("all-rows-in-order", "is-a-match-necessary", "why-not-sufficient"),
    ),
    Claim(
        id="C26",
        section="5",
        title="Many models in chemistry use no normalization",
        statement="Many models in chemistry use none: TeaNet, MEGNet, MolNet, FermiNet and PaiNN are cited.",
        verdict="refined",
        finding=(
            "None of the four networks whose code we read standardizes features. But MEGNet takes means over "
            "neighbours, as the row SchNet does; FermiNet takes means over electrons; a later PaiNN has a LayerNorm. "
            "The code of TeaNet we could not read."
        ),
        shown=("claim-c26",),
    ),
    Claim(
        id="C27",
        section="5",
        title="Two open challenges",
        statement=(
            "It is open under which conditions traditional layers fail, and what the most general layer for geometric "
            "data is."
        ),
        verdict="refined",
        finding=(
            "A part of each has an answer. Three theorems read from the axes what a layer of statistics breaks, erases "
            "and couples; one formula has most rows as settings. Which setting trains best, neither says."
        ),
        shown=("first-challenge", "second-condition", "who-sees-whom", "lattice"),
    ),
)
