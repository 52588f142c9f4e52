"""The functions that one layer is: in training and evaluation, as it was given and after it has learned."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from geonorm.match.frozen import Function, frozen

#: By how much a parameter is moved, relative to its size and at least in absolute terms.
MOVE = 0.3


def states(layer: Callable[..., Tensor], draw: Callable[[int], tuple[Tensor, Tensor, int]]) -> dict[str, Function]:
    """Every different function of ``(x, batch, batch_size)`` that a layer stands for.

    Definition 3 is about all values of the parameters. At initialization a bias is zero and a gain one, and hide what
    they will do; running statistics are zero and one. So the layer is also measured after its parameters have moved
    and its running statistics have seen three batches.

    Args:
        layer: A module or a function.
        draw: From a seed, features, batch vector and number of samples that training would see.

    Returns:
        The functions by name: ``"training"``, ``"evaluation"``, ``"training after updates"``, ``"evaluation after
        updates"``; a mode that computes the same as the one before is left out.
    """
    if not isinstance(layer, nn.Module):
        return {"function": frozen(layer)}
    found = {"training": frozen(layer, True)}
    if _differs(found["training"], frozen(layer, False), draw):
        found["evaluation"] = frozen(layer, False)
    learned = _learned(layer, draw)
    if learned is not None:
        found["training after updates"] = frozen(learned, True)
        if "evaluation" in found:
            found["evaluation after updates"] = frozen(learned, False)
    return found


def _differs(one: Function, other: Function, draw: Callable[[int], tuple[Tensor, Tensor, int]]) -> bool:
    given = draw(0)
    return not torch.equal(one(*given).nan_to_num(), other(*given).nan_to_num())


def _learned(layer: nn.Module, draw: Callable[[int], tuple[Tensor, Tensor, int]]) -> nn.Module | None:
    """A copy whose parameters have moved and whose buffers have seen batches; ``None`` if it has neither."""
    copy = deepcopy(layer).double().train()
    parameters = [p for p in copy.parameters() if p.requires_grad and p.is_floating_point()]
    if not parameters and not any(True for _ in copy.buffers()):
        return None
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in parameters:
            size = parameter.square().mean().sqrt()
            if parameter.ndim < 2 or size == 0:  # a matrix of zeros is a bias of vectors, or learns from zero
                size = size.clamp(min=1.0)
            step = torch.randn(parameter.shape, dtype=parameter.dtype, generator=generator).clamp(-2, 2)
            parameter.add_(MOVE * size * step)
        run = _caller(copy)
        for seed in range(1, 4):
            run(*draw(seed))
    return copy


def _caller(module: nn.Module) -> Callable[..., Tensor]:
    """Call a module with as many of x, batch and batch_size as it takes, letting its buffers move."""
    from geonorm.match.frozen import _number_of_arguments

    number = _number_of_arguments(module)
    return lambda *given: module(*given[:number])
