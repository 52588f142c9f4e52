"""Dense layers without bias, residual layers, and the embeddings of atoms and edges."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from geonorm.models.gemnet.normalization import SILU_SCALE, Normalization, draw_weight, joined


class Dense(nn.Module):
    r"""A linear map without bias, and a SiLU that keeps the second moment of a standard normal input.

    $$ \hat\sigma(Wx),\qquad \hat\sigma(z)=\mathrm{SiLU}(z)/0.6 $$

    Args:
        inputs: The number of input columns.
        outputs: The number of output columns.
        normalization: Whether to divide by 0.6, and how to draw W.
        activation: False leaves the linear map.
    """

    def __init__(self, inputs: int, outputs: int, normalization: Normalization, activation: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs))
        self.activation = activation
        self.scale = SILU_SCALE if normalization.activation_scaling else 1.0
        draw_weight(self.weight, 1, normalization.initialization)

    def forward(self, x: Float[Tensor, "rows inputs"]) -> Float[Tensor, "rows outputs"]:
        """Apply to every row."""
        x = functional.linear(x, self.weight)
        return functional.silu(x) / self.scale if self.activation else x

    def extra_repr(self) -> str:
        """The numbers of columns, and what follows the linear map."""
        outputs, inputs = self.weight.shape
        return f"{inputs}, {outputs}" + ("" if self.activation else ", activation=False")


class Residual(nn.Module):
    r"""Two dense layers beside a skip connection: $x\mapsto(x+D_2D_1x)/\sqrt2$.

    Args:
        channels: The number of columns.
        normalization: Whether to divide by √2, and how the dense layers are made.
    """

    def __init__(self, channels: int, normalization: Normalization) -> None:
        super().__init__()
        self.skip_scaling = normalization.skip_scaling
        self.dense = nn.Sequential(*(Dense(channels, channels, normalization) for _ in range(2)))

    def forward(self, x: Float[Tensor, "rows channels"]) -> Float[Tensor, "rows channels"]:
        """Apply to every row."""
        return joined(x, self.dense(x), self.skip_scaling)


def residuals(number: int, channels: int, normalization: Normalization) -> nn.Sequential:
    """Several residual layers, one after the other."""
    return nn.Sequential(*(Residual(channels, normalization) for _ in range(number)))


class AtomEmbedding(nn.Module):
    """A row of unit variance for each element.

    Args:
        channels: The number of columns.
        elements: The largest nuclear charge.
    """

    def __init__(self, channels: int, elements: int = 93) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(elements, channels))
        nn.init.uniform_(self.weight, -math.sqrt(3), math.sqrt(3))

    def forward(self, z: Int[Tensor, " atoms"]) -> Float[Tensor, "atoms channels"]:
        """The rows of the atoms.

        Args:
            z: Nuclear charges from 1, ``[atoms]``.

        Returns:
            ``[atoms, channels]``.

        Raises:
            ValueError: If a charge has no row (looked at on the CPU only: elsewhere it would wait for the device).
        """
        if z.device.type == "cpu" and len(z) and not 1 <= int(z.min()) <= int(z.max()) <= len(self.weight):
            raise ValueError(
                f"z holds nuclear charges from {int(z.min())} to {int(z.max())}, expected 1 to {len(self.weight)}"
            )
        return self.weight[z - 1]

    def extra_repr(self) -> str:
        """The number of columns and of elements."""
        elements, channels = self.weight.shape
        return f"{channels}, elements={elements}"


class PairDense(nn.Module):
    r"""A dense layer of what is known of an edge c → a: $D[h_c\,\|\,h_a\,\|\,m_e]$.

    Args:
        atom_channels: The number of columns of h.
        inputs: The number of columns of m.
        outputs: The number of output columns.
        normalization: How the dense layer is made.
    """

    def __init__(self, atom_channels: int, inputs: int, outputs: int, normalization: Normalization) -> None:
        super().__init__()
        self.dense = Dense(2 * atom_channels + inputs, outputs, normalization)

    def forward(
        self,
        h: Float[Tensor, "atoms atom_channels"],
        m: Float[Tensor, "edges inputs"],
        source: Int[Tensor, " edges"],
        target: Int[Tensor, " edges"],
    ) -> Float[Tensor, "edges outputs"]:
        """Apply to every edge."""
        return self.dense(torch.cat([h[source], h[target], m], 1))
