"""Every row of the tables as a function of features and samples, which the checker can measure."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from e3nn import o3
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.layers.fields import Features
from geonorm.table.readings import _asked_for
from geonorm.table.row import Row

#: Twelve scalars, or the same number of columns as vectors.
CHANNELS, VECTORS = 12, 4
#: So small that it does not blur what is forgotten.
EPS = 1e-14


def known_without_data(x: Tensor, batch: Int[Tensor, " nodes"], batch_size: int) -> dict[str, Any]:
    """What layers may ask for beside features, as far as samples tell it.

    Inside a sample all nodes are neighbours, at distance one; the type of a node is the parity of its sample's size.

    Args:
        x: Features, ``[nodes, ...]``, whose dtype distances get.
        batch: The sample of each node.
        batch_size: The number of samples.

    Returns:
        Arguments of layers by their names.
    """
    size = torch.bincount(batch, minlength=batch_size)[batch]
    _, receivers = torch.nonzero((batch[:, None] == batch).fill_diagonal_(False), as_tuple=True)
    return {
        "batch": batch,
        "batch_size": batch_size,
        "num_neighbors": size - 1,
        "types": size % 2,
        "receivers": receivers,
        "distances": torch.ones(len(receivers), dtype=x.dtype),
    }


class Fed(nn.Module):
    """A layer that asks for more than features and samples, given what can be known without more data."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.asked = _asked_for(layer)

    def forward(self, x: Tensor, batch: Int[Tensor, " nodes"], batch_size: int) -> Tensor:
        """Call the layer with all that it asks for."""
        known = known_without_data(x, batch, batch_size)
        return self.layer(x, **{name: known[name] for name in self.asked})


class OfMessages(nn.Module):
    """MessageNorm of the messages alone, at nodes whose features are all one."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, message: Tensor) -> Tensor:
        """The next features."""
        ones = torch.ones_like(message)
        return ones + self.layer(ones, message)


class OfBoth(OfMessages):
    """MessageNorm of features and messages, side by side: the next features."""

    def forward(self, x: Tensor) -> Tensor:
        """The next features."""
        features, message = x.chunk(2, 1)
        return features + self.layer(features, message)


class OfTensors(nn.Module):
    """A layer of tensors of rank two, as a function of their irreps."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        parts = [o3.wigner_3j(degree, 1, 1, dtype=torch.float64) * (2 * degree + 1) ** 0.5 for degree in range(3)]
        self.register_buffer("basis", torch.cat(parts))

    def forward(self, x: Float[Tensor, "nodes columns"]) -> Float[Tensor, "nodes columns"]:
        """Irreps of types 0e, 1e and 2e, all channels of each."""
        dims, channels = (1, 3, 5), x.shape[1] // 9
        parts = x.split([channels * dim for dim in dims], 1)
        irreps = torch.cat([part.unflatten(1, (channels, dim)) for part, dim in zip(parts, dims, strict=True)], 2)
        y = self.layer(torch.einsum("nck,kij->ncij", irreps, self.basis))
        return torch.cat([part.flatten(1) for part in torch.einsum("ncij,kij->nck", y, self.basis).split(dims, 2)], 1)


class Mixing(nn.Module):
    """A linear map between channels: the same for all components of vectors."""

    def __init__(self, linear: nn.Module, components: int) -> None:
        super().__init__()
        self.linear, self.components = linear, components

    def forward(self, x: Float[Tensor, "nodes columns"]) -> Float[Tensor, "nodes columns"]:
        """Mix the channels."""
        return self.linear(x.unflatten(1, (-1, self.components)).transpose(1, 2)).transpose(1, 2).flatten(1)


def layer_of(row: Row, on: str) -> tuple[nn.Module, str, str] | None:
    """Build the layer of a row as a function of features and samples.

    Args:
        row: A row of either table, or a variant.
        on: ``"scalars"`` or ``"vectors"``. A layer made for scalars is given the components of vectors as channels, a
            layer of tensors of rank two their irreps; of a layer of weights the map that carries them is measured.

    Returns:
        The layer with the irreps of its input and output; ``None`` if it does not take such features.

    Raises:
        ValueError: If the kind of features is unknown.
    """
    if on not in ("scalars", "vectors"):
        raise ValueError(f"on is {on!r}, expected 'scalars' or 'vectors': what the layer is given")
    if on == "scalars" and (row.features in ("vectors", "tensors") or row.name == "FieldNorm"):
        return None  # FieldNorm of scalars is zero
    irreps = f"{CHANNELS}x0e" if on == "scalars" else f"{VECTORS}x1o"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if row.acts_on == "weights":
            channels, components = (CHANNELS, 1) if on == "scalars" else (VECTORS, 3)
            linear = nn.Linear(channels, channels, bias=False, dtype=torch.float64)
            return Mixing(row.make(linear, **_converged(row)), components), irreps, irreps
        layer = built(row, {"scalars": CHANNELS, "tensors": 2}.get(row.features, irreps))
    open_thresholds(layer)
    if row.name == "MessageNorm":
        return (OfMessages(layer), irreps, irreps) if on == "scalars" else (OfBoth(layer), f"{2 * VECTORS}x1o", irreps)
    if row.features == "tensors":
        return OfTensors(layer), "2x0e+2x1e+2x2e", "2x0e+2x1e+2x2e"
    further = set(_asked_for(layer)) - {"batch", "batch_size"}
    outputs = f"{VECTORS}x0e+{irreps}" if row.layer.__name__ == "EvNorm" else irreps
    return (Fed(layer) if further else layer), irreps, outputs


def built(row: Row, features: Features, **options: object) -> nn.Module:
    """Build the layer of a row in float64, with an ε that blurs nothing, and with a factor where one is to be fitted.

    Args:
        row: A row whose layer acts on features.
        features: What the layer is made for.
        **options: Further arguments of the layer.

    Returns:
        The layer.
    """
    tiny = {name: EPS for name in ("eps", "vector_eps") if name in inspect.signature(row.layer).parameters}
    layer = row.make(features, **{**tiny, **row.needs, **options}, dtype=torch.float64)
    if row.name == "ScaleFactor":
        layer.set(0.7)
    return layer


def flattened(row: Row) -> nn.Module:
    """Build the layer of a row of weights on a map of flattened vectors, which mixes whole vectors.

    It is the map that the table declares; :func:`layer_of` builds the map between channels. WeightNorm and
    SpectralNorm respect rotations in both, here as long as the weight mixes whole vectors; ScaledWeight in the map
    between channels alone, since here it takes one mean over weights that belong to different components.

    Args:
        row: A row whose layer acts on weights.

    Returns:
        The linear map of twelve columns, four vectors.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        linear = nn.Linear(CHANNELS, CHANNELS, bias=False, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(torch.kron(torch.randn(VECTORS, VECTORS), torch.eye(3)))
        illegal = {"allow_illegal": True} if row.name == "ScaledWeight" else {}
        return row.make(linear, **_converged(row), **illegal)


def _converged(row: Row) -> dict[str, int]:
    """Options with which a power iteration comes to its end."""
    return {"n_power_iterations": 200} if row.name == "SpectralNorm" else {}


def open_thresholds(layer: nn.Module) -> None:
    """Move thresholds out of the way: what is declared to be lost is lost where none of them cuts."""
    name = type(layer).__name__
    if name == "FilterResponseNorm":
        nn.init.constant_(layer.threshold, -100.0)
    if name == "NormSE3":
        nn.init.constant_(layer.bias, 5.0)
