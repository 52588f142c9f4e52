"""Two different samples of one batch with the same output, found by solving for the second one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match import actions
from geonorm.match.errors import relative_error

BatchFunction = Callable[[Tensor, Tensor, int], Tensor]
#: From some entries of the second sample, the outputs of both samples.
Outputs = Callable[[Tensor], Tensor]

#: The search begins where one node is turned round, made longer, made shorter; before that, where only the shortest of
#: its fields is turned round.
STARTS = (-1.0, 30.0, 1 / 30)
#: With more columns than this, one field of every type is sought for, not all columns of a node.
COLUMNS = 32
#: With more entries than this, a sample is not moved as a whole.
ENTRIES = 512
STEPS = 25
#: Outputs are the same below this relative difference: no ε is in the way of a solution.
SOLVED = 1e-9
#: Samples are different above this relative difference.
DIFFERENT = 0.02


def partner(
    function: BatchFunction,
    x: Float[Tensor, "nodes *features"],
    batch: Int[Tensor, " nodes"],
    *,
    irreps: str | tuple | None = None,
    whole: bool = True,
) -> tuple[str, float] | None:
    r"""Solve $f(X)_1=f(X)_2$ for a second sample that differs from the first.

    A shift or a scale of a sample has a name. A sample may also be confused with one that has none: along a direction
    that the layer does not see, or far away. The length that Vector Neuron's BatchNorm reflects at the mean comes back
    as a reversed vector, and TensorNorm gives $X$ and $X/\|X\|^2$ one output. A damped Gauss–Newton search finds such
    pairs: from one node turned round, made longer or shorter, and from the whole sample moved along a direction that
    does not tell it from the first. Where it finds none, there may still be one.

    Args:
        function: The function of features, batch vector and number of samples, with a row of output for each node.
        x: Generic features.
        batch: The sample of each node, sorted; the first sample is copied.
        irreps: What the columns are.
        whole: Also move the sample as a whole, not only one of its nodes.

    Returns:
        How the second sample differs, in words, and the relative difference of the two outputs; ``None`` if none was
        found.
    """
    own = batch == 0
    first, rest = x[own], x[~own]
    again, number = torch.cat([batch[own], batch[own] + 1, batch[~own] + 1]), int(batch.max()) + 2

    def outputs_of(places: Tensor) -> Outputs:
        def outputs(entries: Tensor) -> Tensor:
            second = first.flatten().index_copy(0, places, entries).reshape(first.shape)
            return function(torch.cat([first, second, rest]), again, number)[: 2 * len(first)].reshape(2, -1)

        return outputs

    groups = actions.column_groups(first, irreps)
    fields = groups.get("field", groups["channel"])
    for places in _of_a_node(fields, groups.get("type", torch.zeros_like(fields))):
        given, outputs = first[0].flatten()[places], outputs_of(places)
        own_fields = fields[places].unique(return_inverse=True)[1]
        for start in (_reversed_shortest(given, own_fields), *(factor * given for factor in STARTS)):
            found = _solve(outputs, start, given)
            if found is not None:
                return _in_words(given, found[0], own_fields), found[1]
    if whole and first.numel() <= ENTRIES:
        outputs = outputs_of(torch.arange(first.numel()))
        for start in _along_what_is_lost(outputs, first.flatten()):
            found = _solve(outputs, start, first.flatten())
            if found is not None:
                return "direction without a name", found[1]
    return None


def _of_a_node(fields: Tensor, types: Tensor) -> Iterator[Tensor]:
    """The columns of a node that the second sample may have for itself."""
    if len(fields) <= COLUMNS:
        yield torch.arange(len(fields))
        return
    for kind in types.unique():
        yield torch.nonzero(fields == fields[types == kind][0])[:, 0]


def _reversed_shortest(given: Tensor, fields: Tensor) -> Tensor:
    """The shortest field with the opposite sign: a long one may have no partner, where lengths are reflected."""
    square = given.new_zeros(int(fields.max()) + 1).index_add(0, fields, given.square())
    return torch.where(fields == square.argmin(), -given, given)


def _along_what_is_lost(outputs: Outputs, given: Tensor) -> Iterator[Tensor]:
    """The sample moved, by half its size, along one of the directions that do not tell it from its copy."""
    slope = torch.func.jacfwd(lambda entries: outputs(entries).diff(dim=0)[0])(given)
    if torch.isfinite(slope).all():
        squares, directions = torch.linalg.eigh(slope.T @ slope)
        lost = directions[:, squares <= (1e-7 * squares[-1].sqrt()) ** 2]
        if lost.shape[1]:
            yield given + 0.5 * given.norm() * lost.sum(1) / lost.shape[1] ** 0.5


def _solve(outputs: Outputs, entries: Tensor, given: Tensor) -> tuple[Tensor, float] | None:
    """Levenberg and Marquardt's method: other entries with equal outputs, and how equal they are."""

    def difference(entries: Tensor) -> tuple[Tensor, Tensor]:
        one, other = outputs(entries)
        gap = other - one
        return gap, torch.stack([gap.norm(), one.norm() + other.norm()])

    damping = 1e-3
    gap, sizes = difference(entries)
    for _ in range(STEPS):
        back = relative_error(entries, given) <= DIFFERENT
        if back or not torch.isfinite(sizes).all() or sizes[1] == 0:
            return None
        if sizes[0] <= SOLVED * sizes[1]:
            return entries, (sizes[0] / sizes[1]).item()
        slope = torch.func.jacfwd(lambda moved: difference(moved)[0])(entries)
        square, gradient = slope.T @ slope, slope.T @ gap
        for _ in range(8):
            step = torch.linalg.solve(square + damping * torch.diag(square.diagonal() + 1e-12), gradient)
            new, new_sizes = difference(entries - step)
            if new_sizes[0] < sizes[0]:
                entries, gap, sizes, damping = entries - step, new, new_sizes, max(damping / 10, 1e-12)
                break
            damping *= 10
        else:
            return None
    return None


def _in_words(given: Tensor, found: Tensor, fields: Tensor) -> str:
    """How the node that was found differs from the one that was given."""
    of_fields = given.new_zeros(3, int(fields.max()) + 1)
    inner, one, other = of_fields.index_add(1, fields, torch.stack([given * found, given.square(), found.square()]))
    if len(fields) == len(inner):
        return "change of the values of one node"
    cosine = inner / (one * other).sqrt()
    if (1 - cosine.abs()).max() > 1e-6:
        return "change of one node"
    reversal = "reversal and " if cosine.min() < 0 else ""
    return f"{reversal}change of length of vectors of one node"
