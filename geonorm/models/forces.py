"""Forces as the slope of an energy, in whatever mode a network is called."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def with_forces(
    energies: Callable[..., Float[Tensor, " molecules"]], pos: Float[Tensor, "atoms 3"], *others: Tensor, training: bool
) -> tuple[Float[Tensor, " molecules"], Float[Tensor, "atoms 3"]]:
    r"""Return energies and minus the derivative of their sum.

    $$ F_a=-\frac{\partial}{\partial r_a}\sum_BE_B $$

    Where a normalization couples molecules, the force on an atom holds the response of the others too. In training
    both can be differentiated, unless gradients are switched off; otherwise they are detached. They also come out
    under ``torch.no_grad`` and ``torch.inference_mode``.

    Args:
        energies: The energies as a function of the positions and the other tensors.
        pos: Positions, ``[atoms, 3]``.
        *others: Further inputs, such as nuclear charges and the batch vector.
        training: Whether the network trains.

    Returns:
        Energies ``[molecules]`` and forces ``[atoms, 3]``.
    """
    if torch.is_inference_mode_enabled():
        # Forces are derivatives, which that mode forbids even of tensors made in it.
        with torch.inference_mode(False), torch.no_grad():
            return with_forces(energies, pos.clone(), *(other.clone() for other in others), training=training)
    differentiable = training and torch.is_grad_enabled()
    with torch.enable_grad():
        place = pos if pos.requires_grad else pos.detach().requires_grad_()
        energy = energies(place, *others)
        (slope,) = torch.autograd.grad(energy.sum(), place, create_graph=differentiable)
    return (energy, -slope) if differentiable else (energy.detach(), -slope.detach())
