"""The functions that one layer is: in training and evaluation, as it was given and after it has learned."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from geonorm.match.frozen import Function, frozen

#: By how much a parameter is moved, relative to its size.
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


def moved(network: nn.Module, size: float = MOVE, seed: int = 0) -> nn.Module:
    """A copy of a network or layer with all parameters that learn a little elsewhere.

    Gates and gains that start at zero hide what stands behind them: a fresh network may break no symmetry because it
    does not yet look at its input.

    Args:
        network: The network.
        size: The standard deviation of what is added to every parameter, relative to its root mean square; biases,
            gains and what is zero are moved as if that were at least one.
        seed: The seed of what is added.

    Returns:
        The copy.
    """
    copy, generator = deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in copy.parameters():
            if not (parameter.requires_grad and parameter.is_floating_point() and parameter.numel()):
                continue
            scale = parameter.square().mean().sqrt()
            if parameter.ndim < 2 or scale == 0:  # a matrix of zeros is a bias of vectors, or learns from zero
                scale = scale.clamp(min=1.0)
            step = torch.randn(parameter.shape, dtype=torch.float64, generator=generator).clamp(-2, 2)
            parameter.add_(size * scale * step.to(parameter))
    return copy


def can_move(network: nn.Module) -> bool:
    """Whether a network has parameters that learn, or buffers."""
    return any(p.requires_grad for p in network.parameters()) or any(True for _ in network.buffers())


def _learned(layer: nn.Module, draw: Callable[[int], tuple[Tensor, Tensor, int]]) -> nn.Module | None:
    """A copy whose parameters have moved and whose buffers have seen batches; ``None`` if it has neither."""
    if not can_move(layer):
        return None
    copy = moved(deepcopy(layer).double()).train()
    run = _caller(copy)
    with torch.no_grad():
        for seed in range(1, 4):
            run(*draw(seed))
    return copy


def _caller(module: nn.Module) -> Callable[..., Tensor]:
    """Call a module with as many of x, batch and batch_size as it takes, letting its buffers move."""
    from geonorm.match.frozen import _number_of_arguments

    number = _number_of_arguments(module)
    return lambda *given: module(*given[:number])
