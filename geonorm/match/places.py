"""What a function forgets of where things are and how they lie: rotations and translations in the null space."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.layers.fields import Fields
from geonorm.match import actions
from geonorm.match.families import outside
from geonorm.match.pooled import Pooled

#: The effect of a rotation, relative to the largest of all changes, below which it counts as none; e3nn's generators
#: are right to seven digits.
UNFELT = 1e-6
#: One family: kind, what a parameter belongs to, whether all parameters are lost, name, and a basis.
Lost = tuple[str, tuple[str, ...], bool, str, Tensor]


@dataclass(frozen=True)
class Forgotten:
    """Rotations that a function does not feel.

    Args:
        per: What each rotation belongs to.
        whole: Whether none of this family is felt.
        name: The family in words.
        around: The lost directions of rotations around x, y and z, each with disjoint members.
    """

    per: tuple[str, ...]
    whole: bool
    name: str
    around: tuple[Pooled, ...]


def forgotten_rotations(
    matrix: Float[Tensor, "outputs inputs"],
    x: Float[Tensor, "nodes columns"],
    batch: Int[Tensor, " nodes"],
    irreps: str,
    largest: float,
) -> Iterator[Forgotten]:
    """The rotations that a function does not feel: of the whole batch, of samples, of nodes, also field by field.

    Three small rotations turn every field; the Jacobian says what each does to the output. Those of one pool are lost
    together or not at all, so that no singular values are needed.

    Args:
        matrix: The Jacobian, or random combinations of its rows (:func:`geonorm.match.probes.sketch`).
        x: The features.
        batch: The sample of each node.
        irreps: What the columns are.
        largest: The largest singular value of the Jacobian.

    Returns:
        The families of which something is lost.
    """
    turned = _turned(x, irreps)
    if not turned.any():
        return
    effect = torch.einsum("onc,gnc->ognc", matrix.reshape(len(matrix), *x.shape), turned)
    for per in ((), ("sample",), ("node",), ("field",), ("sample", "field"), ("node", "field")):
        pool = actions.pools(x, batch, per, irreps=irreps).flatten()
        number = int(pool.max()) + 1
        felt = effect.new_zeros(len(matrix), 3, number).index_add(2, pool, effect.flatten(2)).square().sum(0)
        size = turned.new_zeros(3, number).index_add(1, pool, turned.flatten(1).square())
        lost = ((felt <= (UNFELT * largest) ** 2 * size) & (size > 0)).all(0)
        if lost.any():
            words = f"rotation per {per[0]}" if len(per) == 1 else f"rotation per ({', '.join(per)})"
            whole = bool(lost[size.sum(0) > 0].all())
            around = tuple(Pooled.of(pool, each.flatten(), lost) for each in turned)
            yield Forgotten(per, whole, words if per else "one rotation of all features", around)


def lost_rotations(
    matrix: Float[Tensor, "outputs inputs"],
    x: Float[Tensor, "nodes columns"],
    batch: Int[Tensor, " nodes"],
    irreps: str,
    largest: float,
) -> list[Lost]:
    """The families of :func:`forgotten_rotations`, each with an orthonormal basis of the directions that are lost."""
    found = []
    for each in forgotten_rotations(matrix, x, batch, irreps, largest):
        directions = torch.cat([one.combine(torch.eye(one.number, dtype=x.dtype)) for one in each.around]).T
        found.append(("rotation", each.per, each.whole, each.name, outside(directions, directions[:, :0])))
    return found


def translations(x: Float[Tensor, "nodes columns"], batch: Int[Tensor, " nodes"]) -> Pooled:
    """Raw coordinates of every sample moved along x, y and z, all channels alike."""
    component = torch.arange(x.shape[1]) % 3
    return Pooled.of((batch[:, None] * 3 + component).flatten(), x.new_ones(x.numel()))


def _turned(x: Float[Tensor, "nodes columns"], irreps: str) -> Float[Tensor, "3 nodes columns"]:
    """How every field begins to move under each of three rotations; scalars do not."""
    turned = x.new_zeros(3, *x.shape)
    if not Fields(irreps).nontrivial_types:
        return turned
    from e3nn import o3

    for (mul, irrep), columns in zip(o3.Irreps(irreps), o3.Irreps(irreps).slices(), strict=True):
        if irrep.l:
            part = x[:, columns].reshape(len(x), mul, irrep.dim)
            generators = o3.so3_generators(irrep.l).to(x.dtype)
            turned[:, :, columns] = torch.einsum("gij,ncj->gnci", generators, part).flatten(2)
    return turned
