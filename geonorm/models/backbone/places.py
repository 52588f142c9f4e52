"""The scalars and the vectors of a block, given to a normalization layer as it takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geonorm.table.readings import _asked_for

Scalars = Float[Tensor, "atoms width"]
Arrows = Float[Tensor, "atoms width 3"]
Known = Mapping[str, Any]


class Called(nn.Module):
    """A layer of columns, given what it asks for.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.asked = _asked_for(layer) + ["types"] * getattr(layer, "per_type", False)

    def forward(self, x: Float[Tensor, "atoms columns"], known: Known) -> Float[Tensor, "atoms columns"]:
        """Normalize the columns."""
        return self.layer(x, **{name: known[name] for name in self.asked})


class Apart(nn.Module):
    """One layer for the scalars and one for the vectors, whose components it is given as columns.

    A layer made for scalars knows nothing of what the columns are. A part without a layer stays as it is.

    Args:
        scalars: The layer of the scalars, or ``None``.
        vectors: The layer of the vectors, or ``None``.
    """

    def __init__(self, scalars: nn.Module | None, vectors: nn.Module | None) -> None:
        super().__init__()
        self.scalars = None if scalars is None else Called(scalars)
        self.vectors = None if vectors is None else Called(vectors)

    def forward(
        self, s: Scalars, v: Arrows, known: Known, features: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Scalars, Arrows]:
        """Normalize both."""
        s = s if self.scalars is None else self.scalars(s, known)
        v = v if self.vectors is None else self.vectors(v.flatten(1), known).view_as(v)
        return s, v


class Together(nn.Module):
    """One layer for the irreps of scalars and vectors.

    Args:
        layer: A layer of ``"{width}x0e+{width}x1o"``; of a message too, if it is MessageNorm.
        of_messages: The layer takes the features of the atoms first and their messages second.
    """

    def __init__(self, layer: nn.Module, of_messages: bool = False) -> None:
        super().__init__()
        self.of_messages = of_messages
        self.layer = layer if of_messages else Called(layer)

    def forward(
        self, s: Scalars, v: Arrows, known: Known, features: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Scalars, Arrows]:
        """Normalize both."""
        x = torch.cat([s, v.flatten(1)], 1)
        if self.of_messages:
            old, arrows = features
            x = self.layer(torch.cat([old, arrows.flatten(1)], 1), x)
        else:
            x = self.layer(x, known)
        return x[:, : s.shape[1]], x[:, s.shape[1] :].reshape(v.shape)


class OfMessages(nn.Module):
    """MessageNorm of the scalars alone.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(
        self, s: Scalars, v: Arrows, known: Known, features: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Scalars, Arrows]:
        """Normalize the scalars."""
        return self.layer(features[0], s), v


class Multiplied(nn.Module):
    r"""EvNorm of the vectors, its two parts multiplied again: $\mathbf v\mapsto(1+L\bar h)\odot\hat{\mathbf h}$.

    Args:
        layer: EvNorm, which returns invariant contents and directions.
        width: The number of vectors.
    """

    def __init__(self, layer: nn.Module, width: int) -> None:
        super().__init__()
        self.layer, self.contents = layer, nn.Linear(width, width)
        nn.init.ones_(self.contents.bias)

    def forward(
        self, s: Scalars, v: Arrows, known: Known, features: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Scalars, Arrows]:
        """Normalize the vectors."""
        content, direction = self.layer(v)
        return s, self.contents(content)[:, :, None] * direction


class AsTensors(nn.Module):
    r"""TensorNorm of the tensors with scalars and vectors for parts, $X_{ic}=s_{ic}\mathbb 1+[\mathbf v_{ic}]_\times$.

    Args:
        layer: TensorNorm.
        with_vectors: False leaves the vectors out, of the tensors and as they are.
    """

    def __init__(self, layer: nn.Module, with_vectors: bool) -> None:
        super().__init__()
        self.layer, self.with_vectors = layer, with_vectors

    def forward(
        self, s: Scalars, v: Arrows, known: Known, features: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Scalars, Arrows]:
        """Normalize both."""
        tensors = s[:, :, None, None] * torch.eye(3, dtype=s.dtype, device=s.device)
        if self.with_vectors:
            x, y, z = v.unbind(2)
            zero = torch.zeros_like(x)
            cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], 2)
            tensors = tensors + cross.unflatten(2, (3, 3))
        tensors = self.layer(tensors)
        s = tensors.diagonal(dim1=2, dim2=3).mean(2)
        if self.with_vectors:
            v = torch.stack([tensors[:, :, 2, 1], tensors[:, :, 0, 2], tensors[:, :, 1, 0]], 2)
        return s, v
