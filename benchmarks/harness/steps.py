"""What is timed: the forward pass, a training step, and a training step on forces."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

MODES = ("forward", "backward", "double backward")
Step = Callable[[], tuple[Tensor, ...]]


def steps(layer: nn.Module, x: Tensor, batch: tuple[Tensor, int] | tuple[()]) -> dict[str, Step]:
    """One function per mode; each returns what it computed.

    Args:
        layer: The layer, in training mode.
        x: Its input.
        batch: What is passed after the input.

    Returns:
        ``"forward"`` without gradients; ``"backward"`` adds the gradient of input and parameters; ``"double backward"``
        is forward, the gradient of the input as a network computes forces (so the gradient of the output is itself
        differentiated), and the gradient of the sum of its squares with respect to input, parameters and that gradient.
    """
    generator = torch.Generator().manual_seed(1)
    g = torch.randn(x.shape, generator=generator).to(x.device)
    x = x.clone().requires_grad_()
    g_of_network = g.clone().requires_grad_()
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]

    def forward() -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (layer(x, *batch),)

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(layer(x, *batch), [x, *parameters], g)

    def double_backward() -> tuple[Tensor, ...]:
        (force,) = torch.autograd.grad(layer(x, *batch), x, g_of_network, create_graph=True)
        loss = force.square().sum()
        return torch.autograd.grad(loss, [x, g_of_network, *parameters], materialize_grads=True)

    return dict(zip(MODES, (forward, backward, double_backward), strict=True))


def check_equal(ours: dict[str, Step], theirs: dict[str, Step], what: str, modes: tuple[str, ...] = MODES) -> None:
    """Stop if the two layers do not compute the same, up to the rounding of float32."""
    for mode in modes:
        number = {"forward": 1, "backward": 1, "double backward": 2}[mode]
        for a, b in zip(ours[mode]()[:number], theirs[mode]()[:number], strict=True):
            error = ((a - b).norm() / b.norm().clamp(min=1e-30)).item()
            if not error < 1e-4:
                raise SystemExit(f"{what}, {mode}: the layers differ by {error:.1e}; there is nothing to compare")
