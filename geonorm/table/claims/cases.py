"""Claims of Sections 1 and 2: BatchNorm, the four cases, and geometric match."""

from __future__ import annotations

from geonorm.table.claims.claim import Claim

CLAIMS = (
    Claim(
        id="C1",
        section="1",
        title="BatchNorm makes very deep networks trainable",
        statement="BatchNorm stabilizes optimization, and so makes very deep networks trainable.",
        verdict="refined",
        finding=(
            "It keeps the size of the signal at every depth and forgives wrong initial weights. Trainable depth it "
            "gives only together with skip connections."
        ),
        shown=("deep-network", "does-it-train"),
    ),
    Claim(
        id="C2",
        section="1 and 2",
        title="Applied naively, it is insufficient for geometric data",
        statement="Applied as it is, BatchNorm is insufficient for networks on geometric data and graphs.",
        verdict="confirmed",
        finding="It couples the molecules of a batch, breaks rotations, tears angles, and removes numbers.",
        shown=("case1-exact", "case2-check", "case3-destroyed", "case4-count"),
    ),
    Claim(
        id="C3",
        section="1",
        title="The same layers were invented more than once",
        statement="Several groups invented similar or identical layers, presumably without knowing of each other.",
        verdict="confirmed",
        finding="A program that compares outputs finds many rows that are one function, of other fields and years.",
        shown=("same-layer-claims", "fingerprint-of-all"),
    ),
    Claim(
        id="C4",
        section="2, Case 1",
        title="In GemNet, BatchNorm correlates separate molecules",
        statement="In GemNet, a BatchNorm introduces correlations between separate molecules and atoms.",
        verdict="confirmed",
        finding=(
            "In training mode every energy has a derivative by the atoms of every other molecule; with GemNet's own "
            "factors these derivatives are exactly zero. Nothing is learned for it: an untrained network does the same."
        ),
        shown=("case1-exact",),
    ),
    Claim(
        id="C5",
        section="2, Case 1",
        title="Usual normalization makes GemNet worse",
        statement="The usual normalization layers reduce the accuracy of GemNet.",
        verdict="confirmed",
        finding=(
            "The forces, which are nearly all of the loss, get worse with every usual layer that we tried. BatchNorm "
            "loses most in evaluation mode, which is not the function that was trained."
        ),
        shown=("case1-training", "gemnet-long"),
    ),
    Claim(
        id="C6",
        section="2, Case 2",
        title="BatchNorm breaks rotations, the Quaternion norm does not",
        statement="BatchNorm breaks equivariance under rotations; the norm of quaternion networks keeps it.",
        verdict="confirmed",
        finding="An addition: per channel, as published, the Quaternion norm still couples the samples of a batch.",
        shown=("case2-check",),
    ),
    Claim(
        id="C7",
        section="2, Case 3",
        title="Only magnitudes should be normalized",
        statement="Of a vector field one should normalize the magnitudes only; normalized angles lose the orientation.",
        verdict="confirmed",
        finding="Normalized angles do not turn with the field, are pressed into an arc, and are torn at its ends.",
        shown=("case3-destroyed",),
    ),
    Claim(
        id="C8",
        section="2, Case 4",
        title="BatchNorm may remove what a set is asked for",
        statement=(
            "A layer for sets must respect permutations and must not remove what the task needs. BatchNorm may violate "
            "the second, and makes inputs depend on each other."
        ),
        verdict="refined",
        finding=(
            "The dependence is there. What BatchNorm removes belongs to the batch; a set loses numbers of its own only "
            "if it is alone in its batch. The layers that standardize each set by itself are those that remove."
        ),
        shown=("case4-count", "case4-on-the-data"),
    ),
    Claim(
        id="C9",
        section="2",
        title="In each case the mismatch lowers performance",
        statement="In each of the four cases the mismatch lowers the performance.",
        verdict="refined",
        finding=(
            "In Case 1 it does, and most of the loss comes from evaluation mode. In Case 2 the repair changes little "
            "in short trainings. In Case 4 the target and the place decide. Case 3 we did not train."
        ),
        shown=("case1-training", "case4-on-the-data", "is-a-match-necessary"),
    ),
    Claim(
        id="C10",
        section="2, Definitions 1 to 3",
        title="The definitions capture geometric match",
        statement="The definitions of equivariance, task and match capture what a layer must do.",
        verdict="refined",
        finding=(
            "Input and output need representations of their own, and each sample an element of its own. Read strictly, "
            "condition 2 rejects most rows of Table 1 for an energy; a task has to say what it does not mind."
        ),
        shown=("one-element-per-sample", "read-strictly"),
    ),
    Claim(
        id="C11",
        section="2",
        title="Convolutional networks match the classification of images",
        statement="Convolutional networks are invariant under translations, and so match the classification of images.",
        verdict="refined",
        finding=(
            "The layers are equivariant and the read-out is invariant, exactly if images are periodic and nothing is "
            "skipped. Padding with zeros makes it approximate, and strides break it."
        ),
        shown=("claim-c11",),
    ),
)
