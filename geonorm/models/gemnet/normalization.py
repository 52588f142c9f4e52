"""What normalizes GemNet, piece by piece: the factors or a layer in their place, and three constants of its design."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.layers.modern.scale_factor import ScaleFactor

#: GemNet divides SiLU by this: the root of its second moment for a standard normal input is 0.5965.
SILU_SCALE = 0.6


@dataclass(frozen=True)
class Normalization:
    r"""Which of GemNet's four mechanisms are on; each can be switched by itself.

    Args:
        factors: What stands after every filter and neighbour sum, five kinds of place in all: ``"fitted"`` scale
            factors; ``"ones"``, which leaves the values as they are; the name of a row of the tables, such as
            ``"BatchNorm"``; or a function from the number of channels to a layer of ``(x, batch, batch_size)``, where
            ``batch`` is the sample of each row of x (rows are edges or atoms).
        skip_scaling: Divide every sum of two terms by $\sqrt2$.
        activation_scaling: Divide SiLU by 0.6.
        initialization: Draw weights orthogonal, with rows of mean zero and variance 1/fan-in. Off, they are those of
            ``torch.nn.Linear``: independent and uniform, of variance 1/(3 fan-in).
    """

    factors: str | Callable[[int], nn.Module] = "fitted"
    skip_scaling: bool = True
    activation_scaling: bool = True
    initialization: bool = True


#: The combinations by the names that figures and tables use.
NORMALIZATIONS = {
    "fitted": Normalization(),
    "ones": Normalization("ones"),
    "plain": Normalization("ones", skip_scaling=False, activation_scaling=False),
    "batch": Normalization("BatchNorm"),
    "graph": Normalization("GraphNorm"),
    "no skip scaling": Normalization(skip_scaling=False),
    "no activation scaling": Normalization(activation_scaling=False),
    "no initialization": Normalization(initialization=False),
    "none": Normalization("ones", False, False, False),
}


def named_normalization(name: str | Normalization) -> Normalization:
    """Return the combination of normalizers with this name.

    Args:
        name: A key of :data:`NORMALIZATIONS`, or a combination of your own, which is returned as it is.

    Returns:
        The combination.

    Raises:
        ValueError: If the name is unknown.
    """
    if isinstance(name, Normalization):
        return name
    if name not in NORMALIZATIONS:
        known = ", ".join(repr(key) for key in NORMALIZATIONS)
        raise ValueError(
            f"unknown normalization {name!r}, expected one of {known}, or a combination of your own such as "
            f"Normalization(factors={name!r}), where factors names a row of the tables."
        )
    return NORMALIZATIONS[name]


def scaling_layer(channels: int, factors: str | Callable[[int], nn.Module]) -> nn.Module:
    """Build what stands in the place of one scale factor.

    Args:
        channels: The number of columns of its input.
        factors: As in :class:`Normalization`.

    Returns:
        A :class:`~geonorm.ScaleFactor` (set to one for ``"ones"``), or the layer.

    Raises:
        ValueError: If the layer needs more than features, the sample of each row and the number of samples.
        UnknownRowError: If no row has the name.
    """
    if factors in ("fitted", "ones"):
        layer = ScaleFactor(channels)
        if factors == "ones":
            layer.set(1.0)
        return layer
    if callable(factors):
        layer = factors(channels)
    else:
        from geonorm.table import make

        layer = make(factors, channels)
    needed = [
        parameter.name
        for parameter in list(inspect.signature(layer.forward).parameters.values())[1:]
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    if further := sorted(set(needed) - {"batch", "batch_size"}):
        raise ValueError(
            f"{type(layer).__name__} needs {further}, and in GemNet a layer is given (x, batch, batch_size): "
            "choose one that needs no more, or wrap it"
        )
    return layer


def rescaled(
    layer: nn.Module,
    x: Float[Tensor, "rows channels"],
    reference: Callable[[], Float[Tensor, "others columns"]],
    batch: Int[Tensor, " rows"],
    batch_size: int,
) -> Float[Tensor, "rows channels"]:
    """Call what stands in the place of a scale factor.

    Args:
        layer: From :func:`scaling_layer`.
        x: The output of a filter or a neighbour sum.
        reference: Makes the features whose variance x should have; called while a factor is fitted.
        batch: The sample of each row.
        batch_size: The number of samples.

    Returns:
        The rows after it.
    """
    if isinstance(layer, ScaleFactor):
        return layer(x, reference)
    return layer(x, *(batch, batch_size)[: len(inspect.signature(layer.forward).parameters) - 1])


def joined(one: Float[Tensor, "..."], two: Float[Tensor, "..."], skip_scaling: bool) -> Float[Tensor, "..."]:
    r"""Add two terms, and divide by $\sqrt2$ if sums are scaled."""
    return (one + two) / math.sqrt(2) if skip_scaling else one + two


def draw_weight(weight: nn.Parameter, inputs: int, initialization: bool) -> None:
    r"""Draw a weight whose last ``inputs`` axes, and no others, are summed over.

    $$ W_{og}=\frac{Q_{og}-\operatorname{mean}_g Q_{og}}{\sqrt{\text{fan-in}}\;(\operatorname{std}_gQ_{og}+10^{-6})} $$

    with a random (semi-)orthogonal Q and the unbiased standard deviation over the inputs g of the output o. Rows of
    mean zero remove the mean that SiLU gives all its outputs.

    Args:
        weight: One axis of outputs, then the inputs.
        inputs: The number of axes of inputs.
        initialization: False draws independent numbers as ``torch.nn.Linear`` does.

    Source: TUM-DAML/gemnet_pytorch at a0164f7; rows of mean zero and scaled variance: Brock, De and Smith 2021
    (arXiv 2101.08692).
    """
    matrix = weight.new_empty(math.prod(weight.shape[:-inputs]), math.prod(weight.shape[-inputs:]))
    fan_in = matrix.shape[1]
    if initialization:
        nn.init.orthogonal_(matrix)
        deviation = matrix.std(1, keepdim=True, correction=min(1, fan_in - 1))
        matrix = (matrix - matrix.mean(1, keepdim=True)) / (deviation + 1e-6) / math.sqrt(fan_in)
    else:
        nn.init.uniform_(matrix, -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))
    with torch.no_grad():
        weight.copy_(matrix.reshape(weight.shape))
