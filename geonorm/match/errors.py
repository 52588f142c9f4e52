"""How far a layer is from a symmetry: relative errors between two ways of computing the same thing, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match import actions
from geonorm.match.actions import samples
from geonorm.match.frozen import frozen
from geonorm.match.rotations import Level, rotate, rotations_of_nodes

Layer = Callable[..., Tensor]
Features = Float[Tensor, "nodes *features"]
Batch = Int[Tensor, " nodes"] | None


def relative_error(a: Float[Tensor, "*shape"], b: Float[Tensor, "*shape"]) -> float:
    r"""The relative difference of two tensors, between 0 and 1.

    $$ \frac{\|a-b\|}{\|a\|+\|b\|} $$

    Degenerate outputs have no relative error and give ``nan``: an entry that is NaN or infinite, or both tensors zero.
    ``nan`` is neither below nor above any bound, so that ``error < bound`` never passes a layer that computes nothing.

    Args:
        a: One tensor.
        b: The other, of the same shape.

    Returns:
        The error, or ``nan``.
    """
    a, b = a.double(), b.double()
    largest = torch.stack([a, b]).abs().max() if a.numel() else a.new_zeros(())
    if not torch.isfinite(largest) or largest == 0:
        return float("nan")
    a, b = a / largest, b / largest  # whose squares neither overflow nor vanish
    return ((a - b).norm() / (a.norm() + b.norm())).item()


def _largest(errors: list[float]) -> float:
    """The largest error; ``nan`` wins."""
    return torch.tensor(errors, dtype=torch.float64).max().item()


def of_samples(y: Float[Tensor, "..."], nodes: int, number: int) -> bool:
    """Whether an output has one row for each sample, not one for each node."""
    return y.shape[:1] == (number,) != (nodes,)


def node_permutation_error(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    training: bool = True,
    seed: int = 0,
) -> float:
    """Reorder the nodes inside each sample: the relative error of the output, which must be reordered alike.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``; its output has one row for
            each node, or one for each sample, which must then stay as it is.
        x: Node features, ``[nodes, ...]``.
        batch: The sample of each node.
        batch_size: The number of samples.
        training: Training or eval mode.
        seed: The seed of the order.

    Returns:
        The relative error; ``nan`` if the output is degenerate.
    """
    function = frozen(layer, training)
    index, number = samples(x, batch, batch_size)
    order, y = actions.permute_nodes(index, seed), function(x, batch, batch_size)
    return relative_error(function(x[order], batch, batch_size), y if of_samples(y, len(x), number) else y[order])


def sample_permutation_error(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    training: bool = True,
    seed: int = 0,
) -> float:
    """Reorder the samples of the batch: the relative error of the output, which must be reordered alike."""
    function = frozen(layer, training)
    index, number = samples(x, batch, batch_size)
    order, new_batch = actions.permute_samples(index, number, seed)
    moved, y = function(x[order], new_batch, number), function(x, index, number)
    if not of_samples(y, len(x), number):
        return relative_error(moved, y[order])
    first = _first_nodes(new_batch)
    return relative_error(moved[new_batch[first]], y[index[order][first]])


def _first_nodes(index: Int[Tensor, " nodes"]) -> Int[Tensor, " samples"]:
    """The first node of every sample that has nodes."""
    return torch.stack([torch.nonzero(index == sample)[0, 0] for sample in index.unique()])


def rotation_error(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    irreps: str | tuple | None = None,
    irreps_out: str | tuple | None = None,
    level: Level = "sample",
    improper: bool | Literal["only"] = True,
    training: bool = True,
    seed: int = 0,
) -> float:
    r"""Rotate the input: the relative error of the output, which must be rotated alike, $f(gx)=gf(x)$.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        x: Features ``[nodes, columns]``, or vectors ``[nodes, channels, 3]``.
        batch: The sample of each node.
        batch_size: The number of samples.
        irreps: What the input columns are; without it three consecutive columns are one polar vector.
        irreps_out: What the output columns are; without it the same as the input.
        level: One rotation for the whole ``"batch"``, for each ``"sample"`` (the symmetry of a task that treats samples
            one by one), or for each ``"node"``.
        improper: Also try elements with determinant −1, besides rotations proper; ``"only"``: try no others.
        training: Training or eval mode.
        seed: The seed of the rotations.

    Returns:
        The larger of the errors for proper and improper elements; ``nan`` if the output is degenerate.
    """
    function = frozen(layer, training)
    x = x.double()
    y = function(x, batch, batch_size)
    index, number = samples(x, batch, batch_size)
    first = _first_nodes(index) if of_samples(y, len(x), number) else None
    irreps_out = irreps if irreps_out is None else irreps_out
    errors = []
    for kind in {False: (False,), True: (False, True), "only": (True,)}[improper]:
        g = rotations_of_nodes(x, batch, batch_size, level=level, improper=kind, seed=seed)
        moved = function(rotate(x, g, irreps), batch, batch_size)
        if first is None:
            errors.append(relative_error(moved, rotate(y, g, irreps_out)))
        else:
            errors.append(relative_error(moved[index[first]], rotate(y[index[first]], g[first], irreps_out)))
    return _largest(errors)


def sample_dependence(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    training: bool = True,
    seed: int = 0,
) -> float:
    """Change the features of all other samples: the largest relative change of a sample's own output.

    A layer that treats samples one by one gives exactly zero.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)`` or ``(x, batch)``.
        x: Node features, ``[nodes, ...]``.
        batch: The sample of each node; at least two samples with nodes.
        batch_size: The number of samples.
        training: Training or eval mode.
        seed: The seed of the new features.

    Returns:
        The largest relative change over the samples; ``nan`` if an output is degenerate.

    Raises:
        ValueError: If there is only one sample.
    """
    function = frozen(layer, training)
    index, number = samples(x, batch, batch_size)
    present = index.unique().tolist()
    if len(present) < 2:
        raise ValueError(f"the batch has {len(present)} sample(s) with nodes, expected two or more: pass batch")
    y = function(x, batch, batch_size)
    rows = torch.arange(number) if of_samples(y, len(x), number) else index
    errors = []
    for sample in present:
        other = function(actions.replace_other_samples(x, index, sample, seed + sample), batch, batch_size)
        own = rows == sample
        if y[own].any() or other[own].any():  # a sample of one node may rightly be mapped to zero
            errors.append(relative_error(other[own], y[own]))
    return _largest(errors) if errors else float("nan")


def invariance_error(
    layer: Layer,
    x: Features,
    batch: Batch = None,
    batch_size: int | None = None,
    *,
    kind: Literal["shift", "scale"],
    per: tuple[str, ...] = (),
    irreps: str | tuple | None = None,
    groups: int | None = None,
    training: bool = True,
    seed: int = 0,
) -> float:
    """Shift or scale the input: the relative change of the output, zero where the layer cannot see the change.

    Args:
        layer: The layer, called as ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        x: Node features, ``[nodes, ...]``.
        batch: The sample of each node.
        batch_size: The number of samples.
        kind: ``"shift"`` or ``"scale"``, with a random parameter for each of ``per``.
        per: What a parameter belongs to, for example ``("sample", "channel")``; see :func:`pools`.
        irreps: What the columns are, where ``per`` names a field or a type.
        groups: The number of channel groups, where ``per`` names a group.
        training: Training or eval mode.
        seed: The seed of the parameters.

    Returns:
        The relative error; ``nan`` if the output is degenerate.

    Raises:
        ValueError: If the kind is unknown.
    """
    if kind not in ("shift", "scale"):
        raise ValueError(f"kind is {kind!r}, expected 'shift' or 'scale'")
    function = frozen(layer, training)
    x = x.double()
    pool = actions.pools(x, batch, per, irreps=irreps, groups=groups)
    changed = {"shift": actions.shift, "scale": actions.scale}[kind](x, pool, seed)
    return relative_error(function(changed, batch, batch_size), function(x, batch, batch_size))
