"""A layer as a function: in float64, in one mode, the same at every call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from copy import deepcopy

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Function = Callable[[Tensor, Tensor | None, int | None], Tensor]


def frozen(layer: Callable[..., Tensor], training: bool = True) -> Function:
    """Read a layer as a function of the node features and the batch, for measuring it.

    A module is copied to float64 and put into training or eval mode. Each call starts from the same buffers, so that
    running statistics (or the vectors of a power iteration) move neither between two measurements nor in the original.
    A plain function is called as it is. Where a layer returns several tensors, one row for each node, their columns are
    put side by side: EvNorm's content and direction are features ``"16x0e+16x1o"``.

    Args:
        layer: A module or function that takes ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``. Wrap a layer with
            further inputs: ``lambda x: layer(x, messages)``.
        training: Measure the layer in training mode, else in eval mode: two different functions.

    Returns:
        The function ``(x, batch, batch_size) -> y``; it calls the layer in float64.

    Raises:
        TypeError: If the layer is no callable, needs inputs that are not known here, or returns no tensor.
    """
    if not callable(layer):
        raise TypeError(f"layer is a {type(layer).__name__}, expected a module or a function of (x, batch, batch_size)")
    number = _number_of_arguments(layer)
    function = layer
    if isinstance(layer, nn.Module):
        module = deepcopy(layer).double().train(training)
        buffers = dict(module.named_buffers())

        def function(*arguments: Tensor | int | None) -> object:
            # Function transforms allow a change in place only of what comes from the input. Buffers take no gradient.
            nothing = arguments[0][:0].sum().detach()
            fresh = {n: b + nothing if b.is_floating_point() else b.clone() for n, b in buffers.items()}
            return torch.func.functional_call(module, fresh, arguments)

    def call(
        x: Float[Tensor, "nodes *features"], batch: Int[Tensor, " nodes"] | None = None, batch_size: int | None = None
    ) -> Float[Tensor, "..."]:
        y = function(*(x.double(), batch, batch_size)[:number])
        if isinstance(y, tuple | list) and y and all(isinstance(part, Tensor) and len(part) == len(x) for part in y):
            return torch.cat([part.flatten(1) for part in y], 1)
        if not isinstance(y, Tensor):
            raise TypeError(
                f"layer returned a {type(y).__name__}, expected a tensor, or several with one row for each node: wrap "
                "it in a function that picks"
            )
        return y

    return call


def _number_of_arguments(layer: Callable[..., Tensor]) -> int:
    """How many of x, batch and batch_size a layer takes."""
    try:
        parameters = list(
            inspect.signature(layer.forward if isinstance(layer, nn.Module) else layer).parameters.values()
        )
    except ValueError:  # a builtin such as torch.tanh has no signature
        return 1
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 3
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    number = min(len(places), 1)
    for place, known in zip(places[1:], ("batch", "batch_size"), strict=False):
        if known not in place.name and (place.default is not place.empty or isinstance(layer, nn.Module)):
            break
        number += 1
    unknown = [place.name for place in places[max(number, 1) :] if place.default is place.empty]
    if unknown or not places:
        name = type(layer).__name__ if isinstance(layer, nn.Module) else getattr(layer, "__name__", "the function")
        what = f"needs {', '.join(unknown)}" if unknown else "takes no features"
        raise TypeError(f"{name} {what}, expected (x, batch, batch_size): wrap it, lambda x, batch: layer(x, ...)")
    return number
