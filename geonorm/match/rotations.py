"""Random rotations and reflections, and how they act on node features."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.match.actions import samples

Level = Literal["batch", "sample", "node"]


def random_rotations(number: int, improper: bool = False, seed: int = 0) -> Float[Tensor, "number 3 3"]:
    """Draw orthogonal matrices from the invariant (Haar) measure, in float64.

    Args:
        number: How many.
        improper: Let the first, third, fifth … have determinant −1 (a rotation times the inversion), so that samples
            of one batch get elements of both kinds; else all determinants are +1.
        seed: The seed of the draw; torch's global generator is not touched.

    Returns:
        The matrices, ``[number, 3, 3]``.
    """
    generator = torch.Generator().manual_seed(seed)
    gaussian = torch.randn(number, 3, 3, dtype=torch.float64, generator=generator)
    q, r = torch.linalg.qr(gaussian)
    # The signs make the factorization unique, without which Q is not uniformly distributed.
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None, :]
    q = q * torch.linalg.det(q)[:, None, None].round()
    if improper:
        q[::2] *= -1
    return q


def rotations_of_nodes(
    x: Float[Tensor, "nodes *features"],
    batch: Int[Tensor, " nodes"] | None,
    batch_size: int | None = None,
    *,
    level: Level = "sample",
    improper: bool = False,
    seed: int = 0,
) -> Float[Tensor, "nodes 3 3"]:
    """Draw one rotation for the whole batch, for every sample or for every node, and give it to its nodes.

    Raises:
        ValueError: If the level is unknown.
    """
    index, number = samples(x, batch, batch_size)
    if level == "batch":
        index, number = torch.zeros_like(index), 1
    elif level == "node":
        index, number = torch.arange(len(index)), len(index)
    elif level != "sample":
        raise ValueError(f"level is {level!r}, expected 'batch', 'sample' or 'node': who gets a rotation of its own")
    return random_rotations(number, improper, seed)[index]


def representation(irrep: tuple, rotations: Float[Tensor, "number 3 3"]) -> Float[Tensor, "number dim dim"]:
    r"""The matrices D with which an irrep transforms, in float64 to the last digits.

    They are read off the spherical harmonics, $Y(Rp)=D(R)\,Y(p)$ at fixed points p; the way over Euler angles
    (``Irrep.D_from_matrix``) is right to about seven digits.
    """
    from e3nn import o3

    determinant = torch.linalg.det(rotations).sign()
    proper = rotations * determinant[:, None, None]
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(4 * irrep.l + 4, 3, dtype=torch.float64, generator=generator)
    still = o3.spherical_harmonics(irrep.l, points, normalize=True)
    moved = o3.spherical_harmonics(irrep.l, torch.einsum("nij,pj->npi", proper, points), normalize=True)
    parity = torch.where(determinant < 0, float(irrep.p), 1.0)
    return parity[:, None, None] * (torch.linalg.pinv(still) @ moved).mT


def rotate(
    x: Float[Tensor, "nodes *features"],
    rotations: Float[Tensor, "nodes 3 3"],
    irreps: str | tuple | None = None,
) -> Float[Tensor, "nodes *features"]:
    """Act on node features with one orthogonal matrix per node.

    Args:
        x: Features ``[nodes, columns]``, vectors ``[nodes, channels, 3]``, or tensors of rank two
            ``[nodes, channels, 3, 3]``, of which both indices rotate.
        rotations: The matrices, proper or not, ``[nodes, 3, 3]``.
        irreps: What the columns are, in e3nn's ``mul_ir`` layout. Without it, three consecutive columns are one polar
            vector (``Cx1o``).

    Returns:
        The features, rotated.

    Raises:
        ValueError: If the columns do not fit the irreps, or cannot be read as vectors.
    """
    if x.ndim == 4 and x.shape[2:] == (3, 3):
        return torch.einsum("nij,ncjk,nlk->ncil", rotations.to(x.dtype), x, rotations.to(x.dtype))
    if irreps is None or x.ndim == 3:
        if x.shape[-1] % 3 or (x.ndim == 3 and x.shape[-1] != 3):
            raise ValueError(
                f"x has shape {list(x.shape)}: columns are read as vectors, so their number must be divisible by 3 "
                "(or x [nodes, channels, 3], or [nodes, channels, 3, 3] of rank two). Say what they are with irreps, "
                "for example '8x0e+8x1o'"
            )
        return torch.einsum("nij,ncj->nci", rotations.to(x.dtype), x.reshape(len(x), -1, 3)).reshape(x.shape)
    from e3nn import o3

    irreps = o3.Irreps(irreps)
    if x.ndim != 2 or x.shape[1] != irreps.dim:
        raise ValueError(f"x has shape {list(x.shape)}, expected [nodes, {irreps.dim}] for irreps {irreps}")
    parts = []
    for (mul, irrep), columns in zip(irreps, irreps.slices(), strict=True):
        part = x[:, columns].reshape(len(x), mul, irrep.dim)
        parts.append(torch.einsum("nij,ncj->nci", representation(irrep, rotations).to(x.dtype), part).flatten(1))
    return torch.cat(parts, 1) if parts else x
