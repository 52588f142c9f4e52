"""MessageNorm: a rescaled message, the one row of Table 1 with two inputs."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from geonorm.axes import NodeFeatures, check_floating_point
from geonorm.layers.fields import Features, Fields
from geonorm.numerics import accumulation_dtype, safe_norm


class MessageNorm(nn.Module):
    r"""Message normalization: give the aggregated message of a node the length of the node's own features.

    $$ \mathrm{MsgNorm}(x_i, m_i)=s\,\|x_i\|_2\,\frac{m_i}{\max(\|m_i\|_2,\,10^{-12})} $$

    The sum $x_i+\mathrm{MsgNorm}(x_i,m_i)$ and the MLP that the survey prints around it belong to the convolution. The
    norms are those of one node, over $\{v\}$. The length of the message, and with it the number of neighbours that a
    sum carries, is erased. Norms are invariant: irreps are treated as their columns.

    Args:
        channels: The number of channels, irreps such as ``"32x0e+16x1o"``, or ``Vectors(channels, dim)``.
        learn_scale: Learn the scale s (one number, initially 1).
        device: The device of the scale.
        dtype: Its dtype.

    Source: Li, Xiong, Thabet and Ghanem 2020 (arXiv 2006.07739); equal to PyTorch Geometric ``MessageNorm``, and
    finite to second order also where x or m is zero.
    """

    def __init__(
        self,
        channels: Features,
        learn_scale: bool = False,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.fields = Fields(channels)
        self.scale = nn.Parameter(torch.empty(1, device=device, dtype=dtype), requires_grad=learn_scale)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Scale 1."""
        nn.init.ones_(self.scale)

    def forward(self, x: Float[Tensor, "*shape"], message: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Rescale the messages.

        Args:
            x: Node features, ``[nodes, channels]``, or a dense batch; vectors also as ``[nodes, channels, 3]``.
            message: The aggregated message of each node, of the same shape.

        Returns:
            The rescaled messages, to be added to ``x`` by the convolution.

        Raises:
            ValueError: If the shapes differ or the last axes do not fit, or the numbers are integers.
        """
        fits = x.shape[-1:] == (self.fields.dim,) or x.shape[-2:] == self.fields.block
        if x.shape != message.shape or not fits:
            raise ValueError(
                f"x has shape {list(x.shape)} and message {list(message.shape)}, expected both "
                f"{self.fields.shapes}: pass the messages after aggregation, one row for each node"
            )
        check_floating_point(message, "message")
        read = [NodeFeatures.read(value, None, None, self.fields.dim, self.fields.block) for value in (x, message)]
        dtype = accumulation_dtype(message.dtype)
        wide, m = (given.x.to(dtype) for given in read)
        unit = m / safe_norm(m, keepdim=True).clamp(min=1e-12)
        return read[1].restore((self.scale.to(dtype) * safe_norm(wide, keepdim=True) * unit).to(message.dtype))

    def extra_repr(self) -> str:
        """The number of channels, and whether the scale is learned."""
        return f"{self.fields!r}, learn_scale={self.scale.requires_grad}"
