"""The length of every field of a node: the invariant that a layer may change without turning a vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.numerics import safe_norm

#: Channels and components of consecutive columns of one type (:class:`geonorm.layers.fields.Fields`).
Runs = Sequence[tuple[int, int]]


def blocks(x: Float[Tensor, "nodes columns"], runs: Runs) -> list[Float[Tensor, "nodes _ _"]]:
    """The columns of each run as ``[nodes, channels, components]``."""
    parts = x.split([channels * dim for channels, dim in runs], 1)
    return [part.unflatten(1, run) for part, run in zip(parts, runs, strict=True)]


def magnitudes(x: Float[Tensor, "nodes columns"], runs: Runs) -> Float[Tensor, "nodes fields"]:
    """The Euclidean length of every field; at zero it and all its derivatives are zero."""
    parts = [safe_norm(block) for block in blocks(x, runs)]
    return parts[0] if len(parts) == 1 else torch.cat([*parts, x[:, :0]], 1)


def smooth_length(x: Float[Tensor, "*rows components"], smoothing: float) -> Float[Tensor, "*rows"]:
    r"""The smooth length $\sqrt{\|x\|^2+\epsilon^2}-\epsilon=\|x\|^2/(\sqrt{\|x\|^2+\epsilon^2}+\epsilon)$."""
    if smoothing == 0:
        return safe_norm(x)
    root = safe_norm(torch.cat([x, torch.full_like(x[..., :1], smoothing)], -1), keepdim=True)
    return (x * (x / (root + smoothing))).sum(-1)


def rescale(
    x: Float[Tensor, "nodes columns"], factors: Float[Tensor, "#nodes fields"], runs: Runs
) -> Float[Tensor, "nodes columns"]:
    """Multiply every field by a factor of its own: nothing turns."""
    parts = zip(blocks(x, runs), factors.split([channels for channels, _ in runs], 1), strict=True)
    scaled = [(block * factor[..., None]).flatten(1) for block, factor in parts]
    return scaled[0] if len(scaled) == 1 else torch.cat([*scaled, x[:, :0]], 1)
