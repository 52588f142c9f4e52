"""Rows of Table 1 that normalize the weights of a linear map and never look at the data."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from geonorm.numerics import accumulation_dtype, safe_norm

#: Variance-preserving constants $\gamma_\phi=1/\mathrm{std}[\phi(z)]$ for $z\sim N(0,1)$.
NONLINEARITY_GAINS = {"linear": 1.0, "relu": (2.0 / (1.0 - 1.0 / torch.pi)) ** 0.5}


class WeightNormalization(nn.Module):
    """The parametrization behind :func:`weight_norm`, with the names and shapes of torch's state dict.

    torch's own treats the norm as a constant in the second derivative with respect to the weight.
    """

    def forward(self, gain: Float[Tensor, "out *ones"], weight: Float[Tensor, "out *fan"]) -> Float[Tensor, "out *fan"]:
        """Give each output unit its length."""
        dtype = accumulation_dtype(weight.dtype)
        rows = weight.to(dtype).reshape(weight.shape[0], -1)
        unit = rows / safe_norm(rows, keepdim=True).clamp(min=1e-12)
        return (gain.to(dtype) * unit.view_as(weight)).to(weight.dtype)

    def right_inverse(
        self, weight: Float[Tensor, "out *fan"]
    ) -> tuple[Float[Tensor, "out *ones"], Float[Tensor, "out *fan"]]:
        """The lengths and directions that give this weight."""
        norm = safe_norm(weight.reshape(weight.shape[0], -1))
        return norm.view(-1, *(1,) * (weight.ndim - 1)), weight


def weight_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    r"""Weight normalization: every output unit has a length of its own, apart from its direction.

    $$ w_k=g_k\,\frac{v_k}{\|v_k\|_2} $$

    one gain $g_k$ per output unit, initially $\|v_k\|$ so that nothing changes. The survey prints one norm for the
    matrix.

    Args:
        module: A module with a weight of shape ``[out, ...]``; changed in place.
        name: The name of the weight.

    Returns:
        The module.

    Source: Salimans and Kingma 2016 (arXiv 1602.07868); equal to ``torch.nn.utils.parametrizations.weight_norm`` up to
    first derivatives (torch's second derivatives with respect to the weight are wrong), whose state dict it loads.
    """
    parametrize.register_parametrization(module, name, WeightNormalization())
    return module


def spectral_norm(module: nn.Module, name: str = "weight", n_power_iterations: int = 1) -> nn.Module:
    r"""Spectral normalization: divide the weight by its largest singular value.

    $$ \bar W=\frac{W}{\sigma_{\max}(W)},\qquad \sigma_{\max}(W)=\max_{h\ne0}\frac{\|Wh\|_2}{\|h\|_2} $$

    The survey prints the product of the two. The singular value is followed by power iteration, one step in every
    forward of the training mode, so that train and eval differ.

    Args:
        module: A module with a weight of shape ``[out, ...]``; changed in place.
        name: The name of the weight.
        n_power_iterations: Steps of the power iteration for each forward.

    Returns:
        The module.

    Source: Miyato et al. 2018 (arXiv 1802.05957); ``torch.nn.utils.parametrizations.spectral_norm``.
    """
    return parametrizations.spectral_norm(module, name, n_power_iterations)


class ScaledWeightStandardization(nn.Module):
    r"""The parametrization behind :func:`scaled_weight_standardization`.

    Args:
        weight: The weight it will standardize, ``[out, ...]``: only its shape, device and dtype are used.
        gain: Learn a gain per output unit.
        constant: The constant of the nonlinearity.
        eps: The least value of fan-in × variance.
    """

    def __init__(self, weight: Float[Tensor, "out *fan"], gain: bool, constant: float, eps: float) -> None:
        super().__init__()
        self.fan_in = weight[0].numel()
        self.constant, self.eps = constant, eps
        self.gain = (
            nn.Parameter(torch.ones(weight.shape[0], device=weight.device, dtype=weight.dtype)) if gain else None
        )

    def forward(self, weight: Float[Tensor, "out *fan"]) -> Float[Tensor, "out *fan"]:
        """Standardize each output unit."""
        rows = weight.flatten(1).to(accumulation_dtype(weight.dtype))
        centred = rows - rows.mean(1, keepdim=True)
        scale = self.constant * centred.square().sum(1, keepdim=True).clamp(min=self.eps).rsqrt()
        if self.gain is not None:
            scale = scale * self.gain[:, None]
        return (centred * scale).view_as(weight).to(weight.dtype)


def scaled_weight_standardization(
    module: nn.Module, name: str = "weight", *, gain: bool = True, nonlinearity: str = "linear", eps: float = 1e-4
) -> nn.Module:
    r"""Scaled weight standardization: every output unit has weights of mean 0 and variance 1 / fan-in.

    $$ \hat W_{kj}=g_k\,\gamma_\phi\,\frac{W_{kj}-\mu_k}{\sigma_k\sqrt{N_{\rm in}}} $$

    with $\mu_k,\sigma_k$ over the fan-in. The survey leaves out $\sqrt{N_{\rm in}}$ and writes axes of activations.
    The rows of $\hat W$ add up to zero, so a constant added to all inputs of a node is lost.

    Args:
        module: A module with a weight of shape ``[out, ...]``; changed in place.
        name: The name of the weight.
        gain: Learn a gain per output unit, initially 1.
        nonlinearity: ``"linear"`` or ``"relu"``: multiply by its variance-preserving constant.
        eps: The least value of fan-in × variance, as in the authors' code.

    Returns:
        The module.

    Raises:
        ValueError: If the nonlinearity is unknown, or the fan-in is one (a single weight has no variance).

    Source: Brock, De and Smith 2021 (arXiv 2101.08692).
    """
    if nonlinearity not in NONLINEARITY_GAINS:
        raise ValueError(
            f"nonlinearity is {nonlinearity!r}, expected one of {', '.join(map(repr, NONLINEARITY_GAINS))}"
        )
    weight = getattr(module, name)
    if weight.ndim < 2 or weight[0].numel() < 2:
        raise ValueError(
            f"the weight {name!r} has shape {list(weight.shape)}: standardizing needs a fan-in of at least two"
        )
    standardization = ScaledWeightStandardization(weight, gain, NONLINEARITY_GAINS[nonlinearity], eps)
    parametrize.register_parametrization(module, name, standardization)
    return module
