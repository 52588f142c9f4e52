"""TensorNorm: TensorNet's squashing of rank-2 tensors."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.axes import NodeFeatures
from geonorm.numerics import accumulation_dtype


class TensorNorm(nn.Module):
    r"""Tensor normalization: divide every 3 × 3 tensor by its squared norm plus one.

    $$ Y_{ic}=\frac{X_{ic}}{\|X_{ic}\|_F^2+1},\qquad \|X\|_F^2=\sum_{pq}X_{pq}^2 $$

    The squared norm, not the norm: the length of the result rises to ½ at $\|X\|_F=1$ and falls again, so that $X$ and
    $X/\|X\|_F^2$ have the same result, and large tensors vanish. It is smooth everywhere, has neither parameters nor
    statistics, and commutes with a rotation of every node of its own, $X\mapsto RXR^\top$.

    Args:
        channels: The number of tensors of a node.
        device: Accepted for uniformity; the layer has no parameters.
        dtype: Likewise.

    Raises:
        ValueError: If the number of channels is negative.

    Source: Simeon and De Fabritiis 2023 (arXiv 2306.06482); torchmd-net ``TensorNet``, whose function ``tensor_norm``
    returns the squared norm.
    """

    def __init__(
        self, channels: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if channels < 0:
            raise ValueError(f"channels is {channels}, expected a number of channels >= 0")
        self.channels = channels

    def reset_parameters(self) -> None:
        """The layer has no parameters."""

    def forward(
        self,
        x: Float[Tensor, "*shape"],
        batch: Int[Tensor, " rows"] | None = None,
        batch_size: int | None = None,
    ) -> Float[Tensor, "*shape"]:
        """Squash the tensors.

        Args:
            x: Tensors, ``[nodes, channels, 3, 3]``, or a dense batch ``[samples, nodes, channels, 3, 3]``; the last
                three axes may be one, ``[nodes, 9 channels]``.
            batch: Not used: every node is treated by itself.
            batch_size: Not used.

        Returns:
            The tensors, of the shape and dtype of ``x``.

        Raises:
            ValueError: If the last axes or the batch do not fit, or x holds no floating-point numbers.
        """
        apart = x.ndim in (4, 5) and x.shape[-3:] == (self.channels, 3, 3)
        if not apart and not (x.ndim in (2, 3) and x.shape[-1] == 9 * self.channels):
            raise ValueError(
                f"x has shape {list(x.shape)}, expected [nodes, {self.channels}, 3, 3], a dense batch "
                f"[samples, nodes, {self.channels}, 3, 3], or the last three axes as one of {9 * self.channels}"
            )
        given = NodeFeatures.read(x.flatten(-3) if apart else x, batch, batch_size, 9 * self.channels)
        wide = given.x.to(accumulation_dtype(x.dtype)).unflatten(1, (self.channels, 9))
        squashed = wide / (wide.square().sum(-1, keepdim=True) + 1)
        return squashed.reshape(x.shape).to(x.dtype)

    def extra_repr(self) -> str:
        """The number of channels."""
        return str(self.channels)
