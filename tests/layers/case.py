"""A layer of the library with what a test must know to call it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from layers.forms import SCALARS, Form
from layers.peers import ragged_batch, randomize
from torch import Tensor, nn

Extra = Callable[[int, Form, torch.dtype], tuple[Tensor, ...]]


def nothing(nodes: int, form: Form, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """No input but the features."""
    return ()


def messages(nodes: int, form: Form, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """An aggregated message for each node."""
    return (form.draw(nodes, dtype),)


def neighbors(nodes: int, form: Form, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The number of neighbours of each node; some have none."""
    return (torch.randint(0, 5, (nodes,)),)


def types(nodes: int, form: Form, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The type of each node."""
    return (torch.randint(0, 2, (nodes,)),)


def edges(nodes: int, form: Form, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The lengths of edges and the nodes at which they end; some are longer than a cutoff of 3."""
    number = 2 * nodes
    return (torch.rand(number, dtype=torch.float64) * 3 + 0.5).to(dtype), torch.randint(0, max(nodes, 1), (number,))


def together(parts: tuple[Tensor, ...] | Tensor) -> Tensor:
    """A result of several parts as one matrix: the first part has the rows."""
    if isinstance(parts, Tensor):
        return parts
    rows = parts[0].ndim - 1
    return torch.cat([part.flatten(rows) for part in parts], rows)


@dataclass(frozen=True)
class Case:
    """A layer and how it is called.

    Args:
        build: Makes the layer: ``build(features, **factory_keywords)``.
        representation: What ``repr`` says about the layer, with … for the features.
        form: What the features of a node are.
        extra: Makes the inputs after the features, one row for each node or edge.
        per_sample: Whether statistics belong to a sample: the layer reads the batch vector.
        takes_batch: Whether the layer is called with ``(x, batch, batch_size)``.
        weights: Whether the layer normalizes the weight of a linear map.
        level: The finest rotations with which the layer commutes: one for each sample, or one for each node.
        result: What the features of the result are, where they are not those of the input.
        split: How the matrix of features becomes what the layer is given, where it is not given a matrix.
        prepare: What is done with a new layer before it is used.
        stretch: By how much small differences between channels may be stretched, and their rounding errors with them.
    """

    build: Callable[..., nn.Module]
    representation: str
    form: Form = SCALARS
    extra: Extra = nothing
    per_sample: bool = False
    takes_batch: bool = True
    weights: bool = False
    level: str = "node"
    result: Form | None = None
    split: Callable[[Tensor], tuple[Tensor, ...]] | None = None
    prepare: Callable[[nn.Module], None] | None = None
    stretch: float = 0.0

    @property
    def name(self) -> str:
        """The representation, as the name of a test."""
        name = self.representation.replace("(…, ", "(").replace("(…)", "")
        return f"{name} of {self.form.name}" if self.form.rotates else name

    @property
    def output(self) -> Form:
        """What the features of the result are."""
        return self.form if self.result is None else self.result

    def new(self, **factory: object) -> nn.Module:
        """The layer as it is built."""
        return self.build(self.form.features, **factory)

    def make(self, dtype: torch.dtype = torch.float64, *, trained: bool = True) -> nn.Module:
        """The layer with random parameters and, unless told otherwise, running statistics of two batches."""
        layer = randomize(self.new(dtype=dtype))
        if self.prepare is not None:
            self.prepare(layer)
        if trained:
            for nodes in (7, 9):
                self(layer, *self.inputs(nodes, dtype), batch=ragged_batch((nodes - 3, 3)), batch_size=2)
        return layer

    def inputs(self, nodes: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
        """Random inputs: the features and what belongs to them."""
        return self.form.draw(nodes, dtype), *self.extra(nodes, self.form, dtype)

    def take(self, inputs: tuple[Tensor, ...], nodes: Tensor) -> tuple[Tensor, ...]:
        """The inputs of some nodes, in their order."""
        x, *rest = inputs
        if self.extra is not edges:
            return x[nodes], *(value[nodes] for value in rest)
        distances, receivers = rest
        place = torch.full((len(x),), -1).index_copy(0, nodes, torch.arange(len(nodes)))[receivers]
        return x[nodes], distances[place >= 0], place[place >= 0]

    def turn(self, inputs: tuple[Tensor, ...], rotations: Tensor) -> tuple[Tensor, ...]:
        """Rotate all inputs that are features."""
        x, *rest = inputs
        rest = (self.form.turn(value, rotations) for value in rest) if self.extra is messages else rest
        return self.form.turn(x, rotations), *rest

    def __call__(
        self,
        layer: Callable[..., Tensor],
        x: Tensor,
        *rest: Tensor,
        batch: Tensor | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Apply the layer; a result of several parts comes as one matrix."""
        given = x if self.split is None else self.split(x)
        return together(layer(given, batch, batch_size) if self.takes_batch else layer(given, *rest))


def derivatives(
    case: Case,
    layer: nn.Module,
    inputs: tuple[Tensor, ...],
    batch: Tensor | None = None,
    batch_size: int | None = None,
    order: int = 2,
) -> dict[str, Tensor]:
    """The output, its gradients and the gradients of a functional of the gradients, by name."""
    inputs = tuple(i.detach().requires_grad_() if i.is_floating_point() else i for i in inputs)
    leaves = [i for i in inputs if i.requires_grad] + [p for p in layer.parameters() if p.requires_grad]
    y = case(layer, *inputs, batch=batch, batch_size=batch_size)
    found = {"output": y.detach()}
    values = [y]
    for turn in range(1, order + 1):
        functional = sum(
            (value * torch.cos(torch.arange(value.numel())).view_as(value).to(value)).sum() for value in values
        )
        values = [None] * len(leaves)  # of a constant
        if functional.requires_grad:
            values = torch.autograd.grad(functional, leaves, create_graph=turn < order, allow_unused=True)
        values = [
            torch.zeros_like(leaf) if value is None else value for value, leaf in zip(values, leaves, strict=True)
        ]
        found |= {f"derivative {turn} by {place}": value.detach() for place, value in enumerate(values)}
    return found
