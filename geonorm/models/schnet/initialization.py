"""How the weights of a network start: as published, and as in the framework of the code that Figure 2 cites."""

from __future__ import annotations

from torch import nn


def xavier(module: nn.Module) -> None:
    r"""Start a linear layer with weights from $U(-a,a)$, $a^2=6/(\text{fan-in}+\text{fan-out})$, and bias zero.

    Args:
        module: Modules of other kinds are left alone; hand this function to ``nn.Module.apply``.
    """
    if type(module) is nn.Linear:
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def lecun(module: nn.Module) -> None:
    r"""Start a linear layer with weights from $N(0,1/\text{fan-in})$ and bias zero, the default of Chainer.

    torch's own default has weights $\sqrt3$ times smaller and biases that are not zero.

    Args:
        module: Modules of other kinds are left alone; hand this function to ``nn.Module.apply``.
    """
    if type(module) is nn.Linear:
        nn.init.normal_(module.weight, std=module.in_features**-0.5)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
