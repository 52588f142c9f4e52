"""Random probes of a Jacobian: what couples samples, how large it is, and what lies in its null space."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from geonorm.match.pooled import Pooled, Span
from geonorm.match.products import Products, in_parts

#: The number of probes, and so of unnamed directions that can be counted; many products cost little more than one.
PROBES = 16
#: Probes of which less than this part remains have no part in the null space.
NOTHING = 1e-4
#: The most steps of a search.
STEPS = 400
#: The rounding of a product with the Jacobian and one with its transpose.
ROUNDING = 1e-15


def coupling(
    products: Products,
    batch: Int[Tensor, " nodes"],
    rows: Int[Tensor, " rows"],
    seed: int = 0,
    probes: int = PROBES,
) -> float:
    r"""The part of the Jacobian that couples different samples, relative to the whole, from random probes.

    $$ \frac{\sum_s \mathbb E\,\|(J v_s)_{\text{outside of }s}\|^2}{\sum_s \mathbb E\,\|J v_s\|^2},
       \qquad v_s\ \text{Gaussian on the nodes of sample } s $$

    Numerator and denominator are unbiased estimates of squared Frobenius norms (Hutchinson). The result, the root of
    their ratio, is zero exactly if the samples are independent to first order, with probability one.

    Args:
        products: The Jacobian.
        batch: The sample of each node.
        rows: The sample of each row of the output.
        seed: The seed of the probes.
        probes: The number of probes for each sample.

    Returns:
        The coupling; ``nan`` where the Jacobian is zero.
    """
    generator = torch.Generator().manual_seed(seed)
    nodes, outputs = len(batch), len(rows)
    cross = total = 0.0
    for sample in batch.unique().tolist():
        v = torch.randn(probes, nodes, products.x.numel() // nodes, dtype=torch.float64, generator=generator)
        v = v * (batch == sample)[:, None]
        square = products.forward(v.flatten(1)).square().reshape(probes, outputs, -1).sum((0, 2))
        cross += square[rows != sample].sum().item()
        total += square.sum().item()
    return (cross / total) ** 0.5 if total > 0 else float("nan")


def sketch(products: Products, seed: int = 0, probes: int = PROBES) -> Float[Tensor, "probes inputs"]:
    r"""Random combinations $R$ of the rows of the Jacobian, with $\mathbb E\,\|Rv\|^2=\|Jv\|^2$ for every direction v.

    With probability one $Rv=0$ only if $Jv=0$: for single directions a sketch of a few rows stands for the whole.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    u = torch.randn(probes, products.y.numel(), dtype=torch.float64, generator=generator)
    return products.backward(u) / probes**0.5


def reach(products: Products, seed: int = 0, probes: int = PROBES) -> int:
    """How many inputs one output depends on: the largest number found among some outputs drawn at random."""
    generator = torch.Generator().manual_seed(seed + 5)
    u = torch.zeros(probes, products.y.numel(), dtype=torch.float64)
    u[torch.arange(probes), torch.randint(products.y.numel(), (probes,), generator=generator)] = 1
    return int((products.backward(u) != 0).sum(1).max())


def largest_singular_value(
    products: Products, start: Float[Tensor, "some inputs"], steps: int = 20, within: float = 1e-3
) -> float:
    """The largest singular value, by iterating on a space of directions until it no longer grows."""
    largest = 0.0
    for _ in range(steps):
        felt = products.forward(torch.linalg.qr(start.T, mode="reduced").Q.T)
        before, largest = largest, torch.linalg.matrix_norm(felt, 2).item()
        if largest <= (1 + within) * before:
            break
        start = products.backward(felt)
    return largest


@dataclass(frozen=True)
class Found:
    """What a search found in the null space of a Jacobian, outside of what was known.

    Args:
        basis: Orthonormal directions that are lost, exactly or nearly, the least felt first.
        values: How much the output feels each of them, in the unit of the Jacobian.
        complete: Whether these are all; else every probe kept a part, and there may be any number more.
        estimate: The squared length of what remained of the probes: an unbiased estimate of the number of directions.
        settled: Whether the search came to an end before its last step.
    """

    basis: Float[Tensor, "some inputs"]
    values: Float[Tensor, " some"]
    complete: bool
    estimate: float
    settled: bool

    @classmethod
    def nothing(cls, inputs: int, settled: bool = True) -> Found:
        """No further directions."""
        return cls(torch.zeros(0, inputs, dtype=torch.float64), torch.zeros(0, dtype=torch.float64), True, 0.0, settled)


def search(
    products: Products,
    known: Span,
    largest: float,
    *,
    exact: float,
    small: float,
    seed: int = 0,
    probes: int = PROBES,
) -> Found:
    r"""Look for lost directions outside of those that are known, without a matrix.

    A Gaussian probe z outside of the known directions is written as $z=w+J^\top c$ by conjugate gradients (CGLS), so
    that $\|Jw\|$ becomes as small as it can: w is the part of the probe in the null space. If there is nothing but
    what is known, nothing remains of any probe. If there are fewer further directions than probes, the remains span
    all of them, and their number is exact. Otherwise there are at least as many as probes, and $\|w\|^2$ estimates
    their number without bias.

    Args:
        products: The Jacobian.
        known: Directions to leave out.
        largest: The largest singular value.
        exact: What is felt less than this part of the largest is lost exactly.
        small: What is felt less than this part is lost nearly.
        seed: The seed of the probes.
        probes: Their number.

    Returns:
        What was found. A direction in it is lost for certain, since its product was formed. That nothing was found is
        proved up to the chance that all probes miss it.
    """
    generator = torch.Generator().manual_seed(seed + 2)
    z = known.without(torch.randn(probes, products.x.numel(), dtype=torch.float64, generator=generator))
    size = torch.linalg.vector_norm(z, dim=1)
    w = z
    for _ in range(2):  # once more from where the first ended, free of its rounding
        w, settled = _null_part(products, known, w, size, largest, exact, small)
    found = _lost_among(products, w, size, largest, small, settled)
    if not found.complete and not (found.values <= exact * largest).any():
        # So many directions are lost nearly that no probe shows what is lost exactly: let the search go on to that.
        w, settled = _null_part(products, known, w, size, largest, exact, 0.0)
        final = _lost_among(products, w, size, largest, small, settled)
        found = final if (final.values <= exact * largest).any() else replace(found, settled=settled)
    return found


def _lost_among(products: Products, w: Tensor, size: Tensor, largest: float, small: float, settled: bool) -> Found:
    """The directions of what remained of the probes, and how much each of them is felt."""
    lengths, directions = torch.linalg.svd(w / size[:, None], full_matrices=False)[1:]
    basis = directions[lengths > NOTHING]
    complete = len(basis) < len(w)
    if not len(basis):
        return Found.nothing(products.x.numel(), settled)
    combinations, values, _ = torch.linalg.svd(products.forward(basis), full_matrices=True)
    values = torch.cat([values, values.new_zeros(len(basis) - len(values))])
    order = values.argsort()
    lost = values[order] <= small * largest
    basis = (combinations.T @ basis)[order][lost]
    return Found(basis, values[order][lost], complete, w.square().sum(1).mean().item(), settled)


def _null_part(
    products: Products, known: Span, w: Tensor, size: Tensor, largest: float, exact: float, small: float
) -> tuple[Tensor, bool]:
    """Remove from every row what the output feels; a row that has ended stays as it is."""
    r = products.forward(w)
    s = known.without(products.backward(r))
    p, square = s, s.square().sum(1)
    going = torch.ones(len(w), dtype=torch.bool)
    for _ in range(STEPS):
        going &= ~_ended(w, r, s, size, largest, exact, small)
        if not going.any():
            return w, True
        q = products.forward(p)
        length = q.square().sum(1)
        alpha = torch.where(going & (length > 0), square / torch.where(length > 0, length, 1), 0)[:, None]
        w, r = w - alpha * p, r - alpha * q
        s = known.without(products.backward(r))
        before, square = square, s.square().sum(1)
        p = s + torch.where(before > 0, square / torch.where(before > 0, before, 1), 0)[:, None] * p
    return w, False


def _ended(
    w: Tensor, r: Tensor, s: Tensor, size: Tensor, largest: float, exact: float, small: float
) -> Bool[Tensor, " probes"]:
    """Whether nothing remains of a probe, or nothing that the output feels, or only what it hardly feels."""
    rest, felt, slope = (torch.linalg.vector_norm(each, dim=1) for each in (w, r, s))
    limit = small * largest
    hardly = (felt <= limit * rest) & (slope <= limit * felt + ROUNDING * largest**2 * rest)
    return (rest <= NOTHING * size) | (felt <= 0.01 * exact * largest * rest) | (hardly & (small > 0))


def norm_on(products: Products, family: Pooled, seed: int = 0) -> float:
    """The largest singular value of the Jacobian on the span of a family of disjoint members."""
    generator = torch.Generator().manual_seed(seed + 3)
    number = min(4, family.number)
    start = torch.randn(number, family.number, dtype=torch.float64, generator=generator)
    largest = 0.0
    for _ in range(20):
        rows = torch.linalg.qr(start.T, mode="reduced").Q.T
        felt = products.forward(family.combine(rows))
        before, largest = largest, torch.linalg.matrix_norm(felt, 2).item()
        if largest <= 1.001 * before:
            break
        start = family.coefficients(products.backward(felt))
    return largest


def lost_in(
    products: Products, family: Pooled, largest: float, exact: float, at_once: int = PROBES
) -> Float[Tensor, "some inputs"]:
    """The combinations of members that are lost exactly, from the products with all of them."""
    rows = family.combine(torch.eye(family.number, dtype=torch.float64))
    felt = in_parts(products.forward, rows, at_once)
    squares, combinations = torch.linalg.eigh(felt @ felt.T)
    combinations = combinations[:, squares <= (1e-6 * largest) ** 2].T
    _, values, within = torch.linalg.svd((combinations @ felt).T, full_matrices=True)
    values = torch.cat([values, values.new_zeros(len(combinations) - len(values))])
    return within[values <= exact * largest] @ combinations @ rows
