"""The Jacobian of a function as a linear map: its products with vectors, without the matrix."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

#: What torch raises where a function cannot be transformed, batched, or differentiated twice.
REFUSED = (RuntimeError, NotImplementedError)
#: The relative difference up to which two ways of computing one number agree.
AGREE = 1e-9
#: Six values of a function give its slope up to the sixth power of the step; at this step rounding is as small.
STENCIL = {-3: -1 / 60, -2: 3 / 20, -1: -3 / 4, 1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
STEP = 1e-2


class Products:
    r"""Products of the Jacobian of a function at x, forward $v \mapsto Jv$ and backward $u \mapsto J^\top u$.

    Backward is what automatic differentiation does. It is linear in u, and its own transpose is the product forward, so
    that a layer needs no rule of its own for forward mode. Where a function cannot be batched, one vector follows the
    other; where it cannot be differentiated twice (found out by $\langle u, Jv\rangle=\langle J^\top u, v\rangle$), the
    product forward is taken from differences of sixth order.

    Args:
        function: A function of x.
        x: Where to differentiate, in float64.

    Attributes:
        y: The value there.
        way: How products are made: ``"transforms"``, ``"one by one"``, or ``"differences"``.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], x: Float[Tensor, "..."]) -> None:
        self.function, self.x = function, x.detach()
        self.y = function(self.x).detach()
        ways = {"transforms": self._transforms, "one by one": self._one_by_one, "differences": self._differences}
        for self.way, build in ways.items():
            try:
                self._forward, self._backward = build()
                if self.way == "differences" or self._adjoint():
                    return
            except REFUSED:
                if self.way == "differences":
                    raise

    def forward(self, directions: Float[Tensor, "some inputs"]) -> Float[Tensor, "some outputs"]:
        """What each direction of the input does to the output."""
        return self._forward(directions.reshape(-1, *self.x.shape)).detach().reshape(len(directions), self.y.numel())

    def backward(self, weights: Float[Tensor, "some outputs"]) -> Float[Tensor, "some inputs"]:
        """The gradient of each weighted sum of outputs."""
        return self._backward(weights.reshape(-1, *self.y.shape)).detach().reshape(len(weights), self.x.numel())

    def _adjoint(self) -> bool:
        """Whether the one is the transpose of the other."""
        generator = torch.Generator().manual_seed(0)
        v = torch.randn(1, self.x.numel(), dtype=self.x.dtype, generator=generator)
        u = torch.randn(1, self.y.numel(), dtype=self.y.dtype, generator=generator)
        forward, backward = self.forward(v)[0], self.backward(u)[0]
        if not (forward.isfinite().all() and backward.isfinite().all()):
            return True  # no other way will make it finite
        difference = (forward @ u[0] - backward @ v[0]).abs()
        return bool(difference <= AGREE * (forward.norm() * u.norm() + backward.norm() * v.norm()))

    def _transforms(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        _, backward = torch.func.vjp(self.function, self.x)
        _, forward = torch.func.vjp(lambda u: backward(u)[0], torch.zeros_like(self.y))
        return torch.func.vmap(lambda v: forward(v)[0]), torch.func.vmap(lambda u: backward(u)[0])

    def _recorded(self) -> tuple[Tensor, Tensor]:
        x = self.x.clone().requires_grad_()
        y = self.function(x)
        return x, y if y.requires_grad else y + 0 * x.sum()

    def _one_by_one(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        x, y = self._recorded()
        u = torch.zeros_like(y, requires_grad=True)
        (g,) = torch.autograd.grad(y, x, u, create_graph=True)

        def forward(directions: Tensor) -> Tensor:
            return torch.stack([torch.autograd.grad(g, u, each, retain_graph=True)[0] for each in directions])

        return forward, self._gradients(x, y)

    def _differences(self) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
        size = self.x.square().mean().sqrt()

        def slope(direction: Tensor) -> Tensor:
            largest = direction.abs().max()
            if not largest > 0:
                return torch.zeros_like(self.y)
            step = STEP * size / largest
            with torch.no_grad():
                return sum(w * self.function(self.x + n * step * direction) for n, w in STENCIL.items()) / step

        def forward(directions: Tensor) -> Tensor:
            return torch.stack([slope(each) for each in directions])

        return forward, self._gradients(*self._recorded())

    @staticmethod
    def _gradients(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
        def backward(weights: Tensor) -> Tensor:
            return torch.stack([torch.autograd.grad(y, x, each, retain_graph=True)[0] for each in weights])

        return backward


def in_parts(function: Callable[[Tensor], Tensor], rows: Float[Tensor, "some n"], at_once: int) -> Tensor:
    """Apply a map of rows to a few of them at a time, so that memory does not grow with their number."""
    cuts = [*range(0, len(rows), at_once), len(rows)]
    return torch.cat([function(rows[start:stop]) for start, stop in pairwise(cuts)]) if len(rows) else function(rows)
