"""Claims of Section 3: Table 1, its families, and the layers for geometric data."""

from __future__ import annotations

from geonorm.table.claims.claim import Claim

CLAIMS = (
    Claim(
        id="C12",
        section="3, Table 1",
        title="The formulas of Table 1",
        statement="Table 1 gives the formulas of 22 normalization layers.",
        verdict="refined",
        finding=(
            "About a third of the rows are right, most of these with a remark on notation. Nearly half print another "
            "function than the layer."
        ),
        shown=("errata-rows",),
    ),
    Claim(
        id="C13",
        section="3",
        title="There are two families",
        statement="One family standardizes over axes; the other rescales by another quantity of the data.",
        verdict="refined",
        finding="There is a third: three rows change weights and do not look at the data.",
        shown=("families-left", "families-all"),
    ),
    Claim(
        id="C14",
        section="3",
        title="InstanceNorm ignores the contrast, BatchNorm does not",
        statement="InstanceNorm ignores the contrast of each image, which suits style transfer; BatchNorm does not.",
        verdict="confirmed",
        finding="With BatchNorm a change of one picture also leaks into the others.",
        shown=("contrast",),
    ),
    Claim(
        id="C15",
        section="3",
        title="Many variants repair a mismatch",
        statement="Many variants of BatchNorm were made to repair a mismatch between it and a task.",
        verdict="not testable here",
        finding=(
            "What the authors had in mind cannot be measured. What they achieved can: most rows make samples "
            "independent of each other, and the rows for vectors respect rotations."
        ),
        shown=("fingerprint-of-all",),
    ),
    Claim(
        id="C16",
        section="3",
        title="BatchNorm confuses two samples that SetNorm keeps apart",
        statement=(
            "BatchNorm may send two samples to one output if they differ only in a scale and a bias; SetNorm, with "
            "other axes, does not."
        ),
        verdict="not confirmed",
        finding="It is the other way round: BatchNorm keeps them apart, SetNorm sends them to one output.",
        shown=("case4-setnorm", "who-confuses-what"),
    ),
    Claim(
        id="C17",
        section="3.1",
        title="Variances and root mean squares respect rotations",
        statement="To divide vectors by a variance or a root mean square over the features respects rotations.",
        verdict="refined",
        finding="A mean square of whole vectors does. A variance about one number, that of all components, does not.",
        shown=("legal-statistics", "case2-legal", "legal-and-illegal"),
    ),
    Claim(
        id="C18",
        section="3.1",
        title="Vector Perceptron and Quaternion are identical in form",
        statement="The norms of Vector Perceptrons and of quaternion networks are identical in form.",
        verdict="refined",
        finding="The form is the same, the axes are not, and so they are different functions.",
        shown=("same-layer-claims", "many-names"),
    ),
    Claim(
        id="C19",
        section="3.1",
        title="The norm of vector fields is VarianceNorm",
        statement="The norm of vector field networks is practically VarianceNorm, on another kind of data.",
        verdict="refined",
        finding="With the root mean square of its theory it is; with the deviation that Table 1 prints it is not.",
        shown=("same-layer-claims", "case3-variancenorm"),
    ),
    Claim(
        id="C20",
        section="3.1",
        title="SchNet and Allegro scale by connectivity",
        statement="SchNet and Allegro scale by the connectivity, one for each atom, the other for the whole data set.",
        verdict="confirmed",
        finding="The text is right. The subscripts of Table 1 are not, and Allegro takes a root where MACE takes none.",
        shown=("root-or-not",),
    ),
    Claim(
        id="C21",
        section="3.1",
        title="The targets do not depend on the number of neighbours",
        statement="What both predict for an atom is invariant to the number of its neighbours; the layer keeps that.",
        verdict="not confirmed",
        finding="Energies of atoms depend on the coordination. A mean over neighbours erases it, a constant keeps it.",
        shown=("coordination-erased",),
    ),
)
