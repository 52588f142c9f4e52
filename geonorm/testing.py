"""For the test suite of your own layers and networks: one assertion, and two classes of tests to inherit."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from geonorm.layers.fields import Fields, Vectors
from geonorm.match.check import check
from geonorm.match.inputs import batch_of, generic_features
from geonorm.match.network import check_network
from geonorm.match.report import MatchReport
from geonorm.match.state import moved
from geonorm.match.tasks import ENERGY, Task

__all__ = ["LayerTests", "NetworkTests", "assert_geometric_match", "moved"]


def assert_geometric_match(
    layer: Callable[..., Tensor],
    inputs: str | int | Vectors,
    outputs: str | int | Vectors | None = None,
    *,
    task: Task = ENERGY,
    allow: Iterable[str] = (),
    **options: Any,
) -> MatchReport:
    """Assert that a layer is a geometric match for a task, but for what you allow.

    Args:
        layer: A module or function of ``(x, batch, batch_size)``, ``(x, batch)`` or ``(x)``.
        inputs: What the columns of x are: irreps, a number of scalars, or ``Vectors``.
        outputs: The same for the output; without it the layer's ``irreps_out``, or else the inputs.
        task: What the target respects and what it does not mind.
        allow: Names of symmetries that may be broken and of invariances that may be added, as the report prints them:
            ``"sample independence"``, ``"scale per node"``.
        **options: Further arguments of :func:`geonorm.check`.

    Returns:
        The report.

    Raises:
        AssertionError: With the whole report, if something else is broken or added.
    """
    report = check(layer, inputs, outputs, task=task, **options)
    allowed = set(allow)
    found = [name for name in (*report.broken, *report.added) if name not in allowed]
    if found:
        raise AssertionError(f"not allowed: {', '.join(found)}\n{report}")
    return report


class LayerTests:
    """Tests of a layer: inherit, name the inputs and say how to make it.

    .. code-block:: python

        class TestMyNorm(geonorm.testing.LayerTests):
            inputs = "8x0e+4x1o"
            allow = ["scale per (node, type)"]

            def make(self):
                return MyNorm("8x0e+4x1o")

    Attributes:
        inputs: Irreps, a number of scalars, or ``Vectors``.
        outputs: The same for the output, or ``None``.
        task: The task.
        allow: What may be broken or added.
        sizes: The number of nodes of each sample.
    """

    inputs: str | int | Vectors
    outputs: str | int | Vectors | None = None
    task: Task = ENERGY
    allow: Iterable[str] = ()
    sizes: tuple[int, ...] = (4, 5)

    def make(self) -> Callable[..., Tensor]:
        """The layer that is tested."""
        raise NotImplementedError("say how to make the layer: def make(self): return MyNorm(...)")

    def test_is_a_geometric_match(self) -> None:
        """Definition 3: no symmetry of the task is broken and no invariance added, but for what is allowed."""
        assert_geometric_match(
            self.make(), self.inputs, self.outputs, task=self.task, allow=self.allow, sizes=self.sizes
        )

    def test_first_and_second_derivatives_are_exact(self) -> None:
        """Forces are gradients, and training on them differentiates the layer twice."""
        function, x = self._function()
        x.requires_grad_()
        assert torch.autograd.gradcheck(function, x, atol=1e-6)
        assert torch.autograd.gradgradcheck(function, x, atol=1e-6)

    def test_nothing_is_nan_where_features_vanish(self) -> None:
        """The output and two derivatives are finite at zero features, and where one node has none."""
        function, x = self._function()
        some = x.clone()
        some[0] = 0
        for hard in (torch.zeros_like(x), some):
            y = function(hard.requires_grad_())
            (first,) = torch.autograd.grad(y.square().sum(), hard, create_graph=True, allow_unused=True)
            values = [y] if first is None else [y, first]
            if first is not None and first.requires_grad:
                values += [
                    g for g in torch.autograd.grad(first.square().sum(), hard, allow_unused=True) if g is not None
                ]
            assert all(torch.isfinite(value).all() for value in values)

    def _function(self) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        from geonorm.match.frozen import frozen

        layer = self.make()
        fields = Fields(self.inputs)
        x = generic_features(fields, self.sizes)
        if isinstance(self.inputs, Vectors):
            x = x.reshape(len(x), *fields.block)
        batch, run = batch_of(self.sizes), frozen(layer)
        return lambda x: run(x, batch, len(self.sizes)), x


class NetworkTests:
    """Tests of a network: inherit, say how to make it and a batch of two samples or more.

    Attributes:
        task: The task.
        allow: What may be broken or added.
        options: Further arguments of :func:`geonorm.check_network`.
    """

    task: Task = ENERGY
    allow: Iterable[str] = ()
    options: dict[str, Any] = {}  # noqa: RUF012 (a class attribute that tests override)

    def make(self) -> nn.Module:
        """The network that is tested."""
        raise NotImplementedError("say how to make the network: def make(self): return MyNetwork(...)")

    def data(self) -> Any:
        """A batch of two samples or more."""
        raise NotImplementedError("give a batch: def data(self): return {'z': z, 'pos': pos, 'batch': batch}")

    def test_is_a_geometric_match(self) -> None:
        """Definition 3 in the input space of the network as it is made, but for what is allowed."""
        self._assert_match(updates=False)

    def test_is_a_geometric_match_once_it_has_learned(self) -> None:
        """The same with its parameters moved: what is multiplied by zero at the start breaks nothing yet."""
        self._assert_match(updates=True)

    def _assert_match(self, updates: bool) -> None:
        report = check_network(self.make(), self.data(), self.task, **self.options).only(updates)
        found = [name for name in (*report.broken, *report.added) if name not in set(self.allow)]
        assert not found, f"not allowed: {', '.join(found)}\n{report}"
