r"""The formulas of Table 1, read to the letter on a dense tensor of shape $b\times x\times v$.

Subscripts say what is pooled: $\mu_{\{x\}}$ is the mean over the nodes, one per sample and channel. Nothing is added
that the table does not print: no ε, no gain, no bias. These functions exist to be compared with the published layers.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

_DIMENSION = {"b": 0, "x": 1, "v": 2}

Dense = Float[Tensor, "b x v"]


def _dims(axes: str) -> tuple[int, ...]:
    return tuple(_DIMENSION[letter] for letter in axes)


def mu(a: Dense, axes: str) -> Float[Tensor, "..."]:
    r"""The mean $\mu_{\{\cdot\}}$ over the named axes, kept as axes of length 1."""
    return a.mean(_dims(axes), keepdim=True)


def sigma(a: Dense, axes: str) -> Float[Tensor, "..."]:
    r"""The standard deviation $\sigma_{\{\cdot\}}$ over the named axes, divided by the number of entries."""
    return a.std(_dims(axes), correction=0, keepdim=True)


def rms(a: Dense, axes: str) -> Float[Tensor, "..."]:
    r"""The root mean square $\mathrm{RMS}_{\{\cdot\}}$ over the named axes."""
    return a.square().mean(_dims(axes), keepdim=True).sqrt()


def standardized(axes: str) -> Callable[[Dense], Dense]:
    r"""The formula $(\mathcal A-\mu_S)/\sigma_S$ for the axes $S$."""

    def as_printed(a: Dense) -> Dense:
        return (a - mu(a, axes)) / sigma(a, axes)

    return as_printed


def group_norm(a: Dense, num_groups: int = 2) -> Dense:
    r"""$(\mathcal A-\mu_{\{x,v/g\}})/\sigma_{\{x,v/g\}}$, with $v/g$ read as the channels of one group."""
    groups = a.chunk(num_groups, dim=2)
    return torch.cat([standardized("xv")(group) for group in groups], dim=2)


def filter_response_norm(a: Dense) -> Dense:
    r"""$\mathcal A/\mathrm{RMS}_{\{x\}}$."""
    return a / rms(a, "x")


def variance_norm(a: Dense) -> Dense:
    r"""$\mathcal A/\sigma_{\{b,x\}}$."""
    return a / sigma(a, "bx")


def weight_norm(weight: Float[Tensor, "out fan_in"], g: float = 1.0) -> Float[Tensor, "out fan_in"]:
    r"""$g\,W/\lVert W\rVert_2$: one gain and one (Frobenius) norm for the whole weight."""
    return g * weight / torch.linalg.matrix_norm(weight, "fro")


def spectral_norm(weight: Float[Tensor, "out fan_in"]) -> Float[Tensor, "out fan_in"]:
    r"""$\max_{h\neq0}\frac{\lVert Wh\rVert_2}{\lVert h\rVert_2}\cdot W$: a product, as printed."""
    return torch.linalg.matrix_norm(weight, 2) * weight


def scaled_weight(weight: Float[Tensor, "out fan_in"], g: float = 1.0) -> Float[Tensor, "out fan_in"]:
    r"""$g\,(W-\mu)/\sigma$, with the printed axes $\{x,v\}$ of a weight read as its fan-in."""
    return g * (weight - weight.mean(1, keepdim=True)) / weight.std(1, correction=0, keepdim=True)


def graph_norm(a: Dense, alpha: float | Float[Tensor, " v"] = 1.0) -> Dense:
    r"""$(\mathcal A-\alpha\odot\mu_{\{x\}})/\sigma_{\{x\}}$."""
    return (a - alpha * mu(a, "x")) / sigma(a, "x")


def pair_norm(a: Dense, s: float = 1.0) -> Dense:
    r"""$s\,(\mathcal A-\mu_{\{x,v\}})/\sigma_{\{x,v\}}$."""
    return s * standardized("xv")(a)


def mean_subtraction_norm(a: Dense) -> Dense:
    r"""$\mathcal A-\mu_{\{b,v\}}$: one number for each node index."""
    return a - mu(a, "bv")


def message_norm(
    a: Dense, message: Dense, s: float = 1.0, mlp: Callable[[Dense], Dense] = lambda features: features
) -> Dense:
    r"""$\mathrm{MLP}(\mathcal A+s\,\lVert\mathcal A_{\{x\}}\rVert_2\,m_{\{x\}}/\lVert m_{\{x\}}\rVert_2)$."""
    # Read by the legend, the subscript makes these lengths over the nodes, one per sample and channel.
    direction = message / torch.linalg.vector_norm(message, dim=1, keepdim=True)
    return mlp(a + s * torch.linalg.vector_norm(a, dim=1, keepdim=True) * direction)


def diff_group_norm(a: Dense, projection: Float[Tensor, "v groups"], s: float = 0.01) -> Dense:
    r"""$\mathcal A+s\sum_g\mathrm{BN}(\mathrm{softmax}_g(\mathcal A\,\Gamma)\odot\mathcal A)$."""
    gates = torch.softmax(a @ projection, dim=-1)
    return a + s * sum(standardized("bx")(gate.unsqueeze(-1) * a) for gate in gates.unbind(-1))


def graph_size_norm(a: Dense) -> Dense:
    r"""$\mathcal A/\lvert X\rvert$."""
    return a / a.shape[1]


def schnet(a: Dense, num_neighbors: Float[Tensor, "b x"]) -> Dense:
    r"""$\mathcal A/\mathcal N_{\{v\}}$: the average over the channels of a count that has none is the node's own."""
    return a / num_neighbors.unsqueeze(-1)


def allegro_mace(a: Dense, num_neighbors: Float[Tensor, "b x"]) -> Dense:
    r"""$\mathcal A/\mathcal N_{\{b,x,v\}}$: the average count of all nodes of the batch."""
    return a / num_neighbors.mean()


Vectors = Float[Tensor, "b x v m"]


def rms_of_vectors(axes: str) -> Callable[[Vectors], Vectors]:
    r"""The formula $\mathcal A/\mathrm{RMS}_S$ on vectors, for axes $S$ among b, x, v and the components m.

    The table prints $S=\{x,y\}$ for the quaternion and vector-perceptron rows; these are the readings that y can have.
    """
    dims = tuple("bxvm".index(letter) for letter in axes)

    def reading(a: Vectors) -> Vectors:
        return a / a.square().mean(dims, keepdim=True).sqrt()

    return reading


def ev_norm(
    positional: Vectors, invariant: Vectors | None = None, beta: float | Float[Tensor, " v"] = 1.0
) -> tuple[Dense, Vectors]:
    r"""The standardized lengths $(\lVert\mathcal A_P\rVert_2-\mu_{\{x,v\}})/\sigma_{\{x,v\}}$ and a direction.

    The second part is $\mathcal A_I/(\lVert\mathcal A_I\rVert_2+1/\beta)$. The labels stand for "positional" and
    "invariant"; without a second tensor both are the first.
    """
    invariant = positional if invariant is None else invariant
    content = standardized("xv")(torch.linalg.vector_norm(positional, dim=3))
    least = torch.as_tensor(beta, dtype=positional.dtype).reciprocal()
    length = torch.linalg.vector_norm(invariant, dim=3) + least
    return content, invariant / length.unsqueeze(3)


def vector_neuron(positional: Vectors, invariant: Dense | None = None) -> tuple[Vectors, Dense]:
    r"""The pair $\mathcal A_P/\lVert\mathcal A_P\rVert_2$ and $\mathrm{BN}(\mathcal A_I)$.

    The labels stand for "positional" and "invariant"; without a second tensor the latter are the lengths of the first.
    """
    length = torch.linalg.vector_norm(positional, dim=3)
    return positional / length.unsqueeze(3), standardized("bx")(length if invariant is None else invariant)
