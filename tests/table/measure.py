"""Measurements that the declared properties of the table are compared with."""

import inspect

import torch
from e3nn import o3
from torch import Tensor, nn

from geonorm.table import Row

CHANNELS = 12
SIZES = (4, 5)
BATCH = torch.repeat_interleave(torch.arange(len(SIZES)), torch.tensor(SIZES))
NODES = sum(SIZES)
SAMPLE = [sample == BATCH for sample in range(len(SIZES))]


def _vector_map() -> Tensor:
    """A weight that mixes whole vectors: the same for x, y and z."""
    return torch.kron(torch.randn(CHANNELS // 3, CHANNELS // 3, dtype=torch.float64), torch.eye(3, dtype=torch.float64))


def build(row: Row, **options) -> nn.Module:
    """The layer of a row in float64, in training mode, with an ε that is negligible."""
    if row.acts_on == "weights":
        linear = nn.Linear(CHANNELS, CHANNELS, bias=False, dtype=torch.float64)
        with torch.no_grad():
            linear.weight.copy_(_vector_map())
        accurate = {"n_power_iterations": 500} if row.name == "SpectralNorm" else {}
        return row.make(linear, **accurate)
    options = {**row.needs, **options}
    if "eps" in inspect.signature(row.layer).parameters:
        options.setdefault("eps", 1e-14)
    layer = row.make(CHANNELS, dtype=torch.float64, **options)
    if row.name == "FilterResponseNorm":
        with torch.no_grad():
            layer.threshold.fill_(-100.0)
    if row.name == "DiffGroupNorm":
        layer.lamda = 1.0
    return layer


class Case:
    """A layer on a batch of two samples, as a function of its features (and messages)."""

    def __init__(self, row: Row, **options) -> None:
        torch.manual_seed(0)
        self.row = row
        self.layer = build(row, **options)
        self.x = torch.randn(NODES, CHANNELS, dtype=torch.float64) + 0.5
        self.message = torch.randn(NODES, CHANNELS, dtype=torch.float64)
        self.num_neighbors = torch.randint(1, 6, (NODES,))

    def __call__(self, x: Tensor, message: Tensor | None = None, order: Tensor | None = None) -> Tensor:
        """Apply the layer; ``order`` is the order of the nodes in ``x``."""
        message = self.message if message is None else message
        order = torch.arange(NODES) if order is None else order
        if self.row.acts_on == "weights":
            return self.layer(x)
        if self.row.name == "MessageNorm":
            # The convolution adds the result to the features; by itself it is only a message.
            return x + self.layer(x, message[order] if message is self.message else message)
        if self.row.name == "SchNet":
            return self.layer(x, self.num_neighbors[order])
        if self.row.name == "Allegro / MACE":
            return self.layer(x)
        return self.layer(x, BATCH, len(SIZES))


def relative(difference: Tensor, reference: Tensor) -> float:
    """The relative error of one tensor against another, in the Euclidean norm."""
    return (difference.norm() / reference.norm()).item()


def permutation_error(case: Case) -> float:
    """Permute the nodes inside each sample: the output must be permuted the same way."""
    order = torch.cat([torch.nonzero(member)[torch.randperm(int(member.sum())), 0] for member in SAMPLE])
    return relative(case(case.x[order], order=order) - case(case.x)[order], case(case.x))


def rotation_error(case: Case, level: str) -> float:
    """Rotate the columns as vectors by one rotation per batch, sample or node."""
    number = {"batch": 1, "sample": len(SIZES), "node": NODES}[level]
    which = {"batch": torch.zeros(NODES, dtype=torch.long), "sample": BATCH, "node": torch.arange(NODES)}[level]
    rotations = o3.rand_matrix(number, dtype=torch.float64)[which]

    def rotate(x: Tensor) -> Tensor:
        return torch.einsum("nij,ncj->nci", rotations, x.view(NODES, -1, 3)).reshape(NODES, -1)

    return relative(case(rotate(case.x), rotate(case.message)) - rotate(case(case.x)), case(case.x))


def jacobian(case: Case, of: str = "features") -> Tensor:
    """The Jacobian of the layer, ``[outputs, inputs]``."""
    if of == "messages":
        return torch.autograd.functional.jacobian(lambda m: case(case.x, m), case.message).reshape(NODES * CHANNELS, -1)
    return torch.autograd.functional.jacobian(case, case.x).reshape(NODES * CHANNELS, -1)


def weight_jacobian(case: Case) -> Tensor:
    """The Jacobian of the normalized weight with respect to the weight that is learned."""
    parametrization = case.layer.parametrizations.weight
    *gains, weight = [original.detach() for original in parametrization.parameters(recurse=False)]
    parametrization.eval()
    jacobian = torch.autograd.functional.jacobian(lambda w: parametrization[0](*gains, w), weight)
    return jacobian.reshape(weight.numel(), -1)


def nullity(jacobian: Tensor) -> int:
    """The number of input directions that the output does not feel, with a check that the gap is clear."""
    values = torch.linalg.svdvals(jacobian)
    small = values < 1e-7 * values[0]
    assert values[~small].min() > 1e-4 * values[0], "no clear gap between zero and the rest"
    return int(small.sum()) + jacobian.shape[1] - len(values)


def coupling(jacobian: Tensor) -> float:
    """The largest derivative of one sample's output with respect to the other sample's input."""
    blocks = jacobian.reshape(NODES, CHANNELS, NODES, CHANNELS)
    first, second = SAMPLE
    return max(blocks[first][:, :, second].abs().max().item(), blocks[second][:, :, first].abs().max().item())
