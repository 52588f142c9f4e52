"""Rows of Table 1 that normalize the weights of a linear map and never look at the data."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize

from geonorm.layers.channel_matrices import MatrixPerType, WholeWeight, is_map_of_vectors, matrices_of
from geonorm.numerics import accumulation_dtype, safe_norm

#: Variance-preserving constants $\gamma_\phi=1/\mathrm{std}[\phi(z)]$ for $z\sim N(0,1)$.
NONLINEARITY_GAINS = {"linear": 1.0, "relu": (2.0 / (1.0 - 1.0 / torch.pi)) ** 0.5}


class WeightNormalization(nn.Module):
    """The parametrization behind :func:`weight_norm`, with the names and shapes of torch's state dict.

    torch's own treats the norm as a constant in the second derivative with respect to the weight.

    Args:
        matrices: How to read the weight.
    """

    def __init__(self, matrices: WholeWeight | MatrixPerType) -> None:
        super().__init__()
        self.matrices = matrices

    def forward(self, gain: Float[Tensor, "out *ones"], weight: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        """Give each output unit its length."""
        dtype = accumulation_dtype(weight.dtype)
        rows = self.matrices.read(weight.to(dtype))
        gains = gain.to(dtype).reshape(-1, 1).split([len(matrix) for matrix in rows])
        units = [matrix / safe_norm(matrix, keepdim=True).clamp(min=1e-12) for matrix in rows]
        return self.matrices.write([g * unit for g, unit in zip(gains, units, strict=True)]).to(weight.dtype)

    def right_inverse(
        self, weight: Float[Tensor, "*weight"]
    ) -> tuple[Float[Tensor, "out *ones"], Float[Tensor, "*weight"]]:
        """The lengths and directions that give this weight."""
        norms = [safe_norm(matrix) for matrix in self.matrices.read(weight)]
        return torch.cat(norms).view(self.matrices.gain_shape), weight


def weight_norm(module: nn.Module, name: str = "weight") -> nn.Module:
    r"""Weight normalization: every output unit has a length of its own, apart from its direction.

    $$ w_k=g_k\,\frac{v_k}{\|v_k\|_2} $$

    one gain $g_k$ per output unit, initially $\|v_k\|$ so that nothing changes. The survey prints one norm for the
    matrix. In an ``e3nn.o3.Linear`` an output unit is an output channel: its row of the matrix over channels of its
    type, path normalization included. A flattened $W\otimes I_3$ keeps its form too.

    Args:
        module: A module with a weight of shape ``[out, ...]``, or an ``e3nn.o3.Linear``; changed in place.
        name: The name of the weight.

    Returns:
        The module.

    Source: Salimans and Kingma 2016 (arXiv 1602.07868); equal to ``torch.nn.utils.parametrizations.weight_norm`` up to
    first derivatives (torch's second derivatives with respect to the weight are wrong), whose state dict it loads.
    """
    parametrize.register_parametrization(module, name, WeightNormalization(matrices_of(module, name)))
    return module


class SpectralNormalization(nn.Module):
    """The parametrization behind :func:`spectral_norm` for the matrices of irrep types, one power iteration for each.

    Args:
        weight: The weight.
        matrices: How to read it.
        n_power_iterations: Steps of the power iterations for each forward.
    """

    def __init__(self, weight: Float[Tensor, " numbers"], matrices: MatrixPerType, n_power_iterations: int) -> None:
        super().__init__()
        self.matrices = matrices
        self.types = nn.ModuleList()
        for matrix in matrices.read(weight.detach()):
            holder = nn.Module()
            holder.weight = nn.Parameter(matrix)
            parametrizations.spectral_norm(holder, "weight", n_power_iterations)
            self.types.append(holder.parametrizations.weight[0])

    def forward(self, weight: Float[Tensor, " numbers"]) -> Float[Tensor, " numbers"]:
        """Divide the matrix of every type by its largest singular value."""
        rows = self.matrices.read(weight)
        return self.matrices.write([norm(matrix) for norm, matrix in zip(self.types, rows, strict=True)])


def spectral_norm(module: nn.Module, name: str = "weight", n_power_iterations: int = 1) -> nn.Module:
    r"""Spectral normalization: divide the weight by its largest singular value.

    $$ \bar W=\frac{W}{\sigma_{\max}(W)},\qquad \sigma_{\max}(W)=\max_{h\ne0}\frac{\|Wh\|_2}{\|h\|_2} $$

    The survey prints the product of the two. The singular value is followed by power iteration, one step in every
    forward of the training mode, so that train and eval differ. In an ``e3nn.o3.Linear`` each irrep type is divided by
    the largest singular value of its own matrix over channels, path normalization included. A flattened $W\otimes I_3$
    keeps its form too.

    Args:
        module: A module with a weight of shape ``[out, ...]``, or an ``e3nn.o3.Linear``; changed in place.
        name: The name of the weight.
        n_power_iterations: Steps of the power iteration for each forward.

    Returns:
        The module.

    Source: Miyato et al. 2018 (arXiv 1802.05957); ``torch.nn.utils.parametrizations.spectral_norm``.
    """
    matrices = matrices_of(module, name)
    if isinstance(matrices, WholeWeight):
        return parametrizations.spectral_norm(module, name, n_power_iterations)
    parametrize.register_parametrization(
        module, name, SpectralNormalization(getattr(module, name), matrices, n_power_iterations)
    )
    return module


class ScaledWeightStandardization(nn.Module):
    r"""The parametrization behind :func:`scaled_weight_standardization`.

    Args:
        weight: The weight it will standardize: only its device and dtype are used.
        matrices: How to read it.
        gain: Learn a gain per output unit.
        constant: The constant of the nonlinearity.
        eps: The least value of fan-in × variance.
    """

    def __init__(
        self, weight: Tensor, matrices: WholeWeight | MatrixPerType, gain: bool, constant: float, eps: float
    ) -> None:
        super().__init__()
        self.matrices, self.constant, self.eps = matrices, constant, eps
        rows = matrices.gain_shape[0]
        self.gain = nn.Parameter(torch.ones(rows, device=weight.device, dtype=weight.dtype)) if gain else None

    def forward(self, weight: Float[Tensor, "*weight"]) -> Float[Tensor, "*weight"]:
        """Standardize each output unit."""
        rows = self.matrices.read(weight.to(accumulation_dtype(weight.dtype)))
        new = [
            self._standardize(matrix, present) for matrix, present in zip(rows, self.matrices.present(), strict=True)
        ]
        if self.gain is not None:
            gains = self.gain[:, None].split([len(matrix) for matrix in rows])
            new = [gain * matrix for gain, matrix in zip(gains, new, strict=True)]
        return self.matrices.write(new).to(weight.dtype)

    def _standardize(
        self, matrix: Float[Tensor, "out fan_in"], present: Bool[Tensor, "out fan_in"] | None
    ) -> Float[Tensor, "out fan_in"]:
        """Rows of mean 0 and length γ over the entries that exist."""
        if present is None:
            centred = matrix - matrix.mean(1, keepdim=True)
        else:
            mean = matrix.sum(1, keepdim=True) / present.sum(1, keepdim=True)
            centred = torch.where(present, matrix - mean, 0)
        return self.constant * centred * centred.square().sum(1, keepdim=True).clamp(min=self.eps).rsqrt()


def scaled_weight_standardization(
    module: nn.Module,
    name: str = "weight",
    *,
    gain: bool = True,
    nonlinearity: str = "linear",
    eps: float = 1e-4,
    allow_illegal: bool = False,
) -> nn.Module:
    r"""Scaled weight standardization: every output unit has weights of mean 0 and variance 1 / fan-in.

    $$ \hat W_{kj}=g_k\,\gamma_\phi\,\frac{W_{kj}-\mu_k}{\sigma_k\sqrt{N_{\rm in}}} $$

    with $\mu_k,\sigma_k$ over the fan-in. The survey leaves out $\sqrt{N_{\rm in}}$ and writes axes of activations.
    The rows of $\hat W$ add up to zero, so a constant added to all inputs of a node is lost.

    On vectors it must see the matrix W over channels: of the flattened $W\otimes I_3$ it would fill the zeros and turn
    the vectors, so such a weight is refused. In an ``e3nn.o3.Linear`` it standardizes the rows of the matrix of each
    irrep type, path normalization included; a vector added to all channels of its type is lost.

    Args:
        module: A module with a weight of shape ``[out, ...]``, or an ``e3nn.o3.Linear``; changed in place.
        name: The name of the weight.
        gain: Learn a gain per output unit, initially 1.
        nonlinearity: ``"linear"`` or ``"relu"``: multiply by its variance-preserving constant.
        eps: The least value of fan-in × variance, as in the authors' code.
        allow_illegal: Standardize a flattened $W\otimes I_3$ all the same (for counter-examples).

    Returns:
        The module.

    Raises:
        ValueError: If the nonlinearity is unknown, the fan-in is one (a single weight has no variance), or the weight
            acts on the flattened components of vectors.

    Source: Brock, De and Smith 2021 (arXiv 2101.08692).
    """
    if nonlinearity not in NONLINEARITY_GAINS:
        raise ValueError(
            f"nonlinearity is {nonlinearity!r}, expected one of {', '.join(map(repr, NONLINEARITY_GAINS))}"
        )
    weight, matrices = getattr(module, name), matrices_of(module, name)
    if matrices.least_fan_in < 2:
        raise ValueError(
            f"the weight {name!r} has shape {list(weight.shape)} and an output unit of fan-in {matrices.least_fan_in}: "
            "standardizing needs a fan-in of at least two"
        )
    if not allow_illegal and is_map_of_vectors(weight):
        raise ValueError(
            f"the weight {name!r} of shape {list(weight.shape)} acts alike on three components of vectors, expected a "
            "matrix over channels: standardized with its zeros it would turn the vectors. Use "
            f"nn.Linear({weight.shape[1] // 3}, {weight.shape[0] // 3}, bias=False) on the channels of x.mT, or "
            "e3nn.o3.Linear (allow_illegal=True standardizes it all the same)"
        )
    standardization = ScaledWeightStandardization(weight, matrices, gain, NONLINEARITY_GAINS[nonlinearity], eps)
    parametrize.register_parametrization(module, name, standardization)
    return module
