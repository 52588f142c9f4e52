"""Which layers of a network are looked at, and how to look without leaving a trace."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

#: A layer whose output has rows and features; where it returns several things, with the index or key of one of them.
Measured = nn.Module | tuple[nn.Module, int | str]


@contextmanager
def unchanged_buffers(network: nn.Module) -> Iterator[None]:
    """Let a network compute, in whatever mode, and put its buffers back: running statistics stay what they were.

    Args:
        network: The network.
    """
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in network.named_buffers():
                buffer.copy_(before[name])
