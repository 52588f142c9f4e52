"""What the features of a node may be: scalars, vectors, tensors, irreps; their shape and how they rotate."""

from dataclasses import dataclass
from math import prod

import torch
from layers.peers import features
from torch import Tensor

from geonorm.layers.fields import Features, Vectors
from geonorm.match import rotate


@dataclass(frozen=True)
class Form:
    """The features of a node.

    Args:
        name: What they are called in the name of a test.
        features: What a layer is told about them.
        shape: Their shape for one node.
        without: The same with no channels.
        irreps: What their columns are; without it every axis after the channels is one of components.
        dim: The dimension of space.
    """

    name: str
    features: Features
    shape: tuple[int, ...]
    without: Features = 0
    irreps: str | None = None
    dim: int = 3

    @property
    def rotates(self) -> bool:
        """Whether there is anything to rotate."""
        return self.irreps is not None or len(self.shape) > 1

    @property
    def shape_without(self) -> tuple[int, ...]:
        """The shape of no channels."""
        return (0, *self.shape[1:])

    def draw(self, nodes: int, dtype: torch.dtype = torch.float64, shape: tuple[int, ...] | None = None) -> Tensor:
        """Random features, each column with a mean and a scale of its own."""
        shape = self.shape if shape is None else shape
        return features(nodes, prod(shape), dtype).view(nodes, *shape)

    def turn(self, x: Tensor, rotations: Tensor) -> Tensor:
        """Rotate the features of every node by its own matrix."""
        if self.irreps is not None:
            return rotate(x, rotations, self.irreps)
        for axis in range(2, x.ndim):
            x = torch.einsum("nij,n...j->n...i", rotations, x.movedim(axis, -1)).movedim(-1, axis)
        return x


#: Every type of irreps up to degree two that layers tell apart, one of them with a single channel.
TYPES = "2x0e+2x0o+2x1o+1x1e+2x2e"

SCALARS = Form("scalars", 4, (4,))
VECTORS = Form("vectors", 4, (4, 3))
#: The same for layers that read a number as scalars.
NAMED_VECTORS = Form("vectors", Vectors(4), (4, 3), without=Vectors(0))
PLANE = Form("plane", 4, (4, 2), dim=2)
TENSORS = Form("tensors", 2, (2, 3, 3))
IRREPS = Form("irreps", TYPES, (23,), without="0x0e+0x1o", irreps=TYPES)
#: Scalars and vectors that a layer gets as a pair; here they are the columns of one matrix.
PAIR = Form("pair", 2, (9,), irreps="3x0e+2x1o")
MAP = Form("map", "3x0e+2x1o", (9,), irreps="3x0e+2x1o")
#: The invariant content of each field, then the direction.
CONTENT_AND_VECTORS = Form("content", 4, (16,), irreps="4x0e+4x1o")
CONTENT_AND_IRREPS = Form("content", 9, (32,), irreps=f"9x0e+{TYPES}")


def orthogonal_matrices(number: int, dim: int = 3, *, improper: bool = False) -> Tensor:
    """Random orthogonal matrices; those with an even number are reflections too where ``improper``."""
    matrices = torch.linalg.qr(torch.randn(number, dim, dim, dtype=torch.float64))[0]
    wanted = torch.ones(number, dtype=torch.float64)
    wanted[::2] = -1 if improper else 1
    return torch.cat([matrices[..., :1] * (wanted * torch.linalg.det(matrices))[:, None, None], matrices[..., 1:]], -1)
