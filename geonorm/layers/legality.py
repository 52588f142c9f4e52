"""Theorem A: which axes a statistic may pool on features that rotate."""

from __future__ import annotations

from geonorm.axes import Axes
from geonorm.layers.fields import Fields

#: The levels of rotations: one group element per batch, per sample, per node. Each contains the ones before it.
LEVELS = ("batch", "sample", "node")


def violations(
    fields: Fields, mean: Axes | None, scale: Axes | None, statistic: str, *, mean_on: str, level: str
) -> list[str]:
    r"""Why a choice of axes breaks the equivariance of a standardization, clause by clause.

    A layer $y=\gamma\,(x-\alpha\,\mathrm{mean}(x))/S^{\tau}+\beta$ is equivariant at a level if and only if, on every
    type but 0e: (β) there is no bias, (γ) gain and α are shared by the components of a field, (M) a mean pools equal
    components of one type and does not cross the level, (S) a scale pools all components of a field, and is a variance
    about its own mean (*own*) only where components are single and that mean obeys (M). (β) and (γ) hold by
    construction in :class:`Standardize`, so (M) and (S) are checked here.

    Args:
        fields: The features.
        mean: The axes of the mean, or ``None``.
        scale: The axes of the scale, or ``None``.
        statistic: ``"rms"``, ``"residual"`` or ``"own"``.
        mean_on: ``"0e"`` or ``"all"``: the types from which the mean is subtracted.
        level: ``"batch"``, ``"sample"`` or ``"node"``: the rotations that must be respected.

    Returns:
        The reasons, empty if the choice is legal.
    """
    reasons = []
    if not fields.nontrivial_types:
        return reasons
    names = "+".join(str(irrep) for irrep in fields.nontrivial_types)
    wide = [irrep for irrep in fields.nontrivial_types if irrep.dim > 1]
    if mean is not None and mean_on == "all":
        if "m" in mean and wide:
            reasons.append(
                f"(M) the mean over {mean!r} pools the components of {names}: it subtracts a multiple of (1, 1, ...), "
                "which does not rotate with the features. Leave m out of the mean, or subtract it from 0e only."
            )
        elif "t" in mean and len(fields.types) > 1:
            reasons.append(f"(M) the mean over {mean!r} mixes irrep types that transform differently: leave t out.")
        if "b" in mean and level != "batch":
            reasons.append(
                f"(M) the mean over {mean!r} carries a vector of {names} from one sample to another, each of which "
                "may be rotated by its own element: pool x instead of bx, or subtract the mean from 0e only."
            )
        if "x" in mean and level == "node":
            reasons.append(f"(M) the mean over {mean!r} carries a vector between nodes: level 'node' allows only v.")
    if scale is not None:
        if "m" not in scale and wide:
            reasons.append(
                f"(S) the scale over {scale!r} is different for each component of {names}: it stretches space along "
                f"the coordinate axes. Add m: {Axes(''.join(scale) + 'm')!r}."
            )
        mixes = "t" in scale and len(fields.types) > 1
        crosses = ("b" in scale and level != "batch") or ("x" in scale and level == "node")
        if statistic == "own" and (wide or mixes or crosses):
            reasons.append(
                f"(S) a variance about the mean over {scale!r} (statistic 'own') is not invariant on {names}: "
                "use 'rms', or 'residual' with a legal mean."
            )
    return reasons
