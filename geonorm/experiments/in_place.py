"""Geometric match of a row in its place in the backbone, where it meets scalars and vectors together."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.match.check import check
from geonorm.match.report import MatchReport
from geonorm.match.rows import EPS, known_without_data, layer_of, open_thresholds
from geonorm.match.tasks import ENERGY, Task
from geonorm.models.backbone.blocks import Block
from geonorm.models.backbone.rows import arguments, named_row, normalize_blocks, takes
from geonorm.table.row import Row

#: Scalars, and as many vectors, of the place that is checked.
WIDTH = 4
#: The samples: two types of nodes, each in two samples, so that a pool of a type is no pool of a sample.
SIZES = (4, 5, 4, 5)


class InPlace(nn.Module):
    """The place of a row in a block, as a function of scalars and vectors side by side.

    Inside a sample all nodes are neighbours, at distance one; the type of a node is the parity of its sample's size. A
    layer that also takes the features that messages are added to gets the same features for all nodes.

    Args:
        row: A row that acts on features or messages.
        width: The number of scalars, and of vectors.
    """

    def __init__(self, row: Row, width: int = WIDTH) -> None:
        super().__init__()
        self.width = width
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            options, _ = arguments(row, {}, num_types=2, cutoff=3.0)
            block = Block(width, 4)
            normalize_blocks(row, [block], width, True, options, torch.float64)
        self.place = block.after or block.sums
        for module in self.place.modules():
            open_thresholds(module)
            for name in ("eps", "vector_eps"):
                # So small that it does not blur what is forgotten.
                if isinstance(getattr(module, name, None), float):
                    setattr(module, name, EPS)
            if type(module).__name__ == "ScaleFactor":
                module.set(0.7)

    def forward(
        self, x: Float[Tensor, "nodes columns"], batch: Int[Tensor, " nodes"], batch_size: int
    ) -> Float[Tensor, "nodes columns"]:
        """Normalize scalars and vectors."""
        known = known_without_data(x, batch, batch_size)
        s, v = x[:, : self.width], x[:, self.width :].reshape(len(x), self.width, 3)
        s, v = self.place(s, v, known, (torch.ones_like(s), torch.ones_like(v)))
        return torch.cat([s, v.flatten(1)], 1)


def check_in_place(name: str, task: Task = ENERGY, seed: int = 0) -> MatchReport:
    """Measure whether a row is a geometric match where it stands in the backbone.

    A row of weights is measured as the map between channels that carries them, PerTypeScaleShift as a layer of scalars:
    it stands at the energies of atoms.

    Args:
        name: Of the row, in any spelling.
        task: What the target respects.
        seed: Of inputs and group elements.

    Returns:
        The report, on four scalars and four vectors.

    Raises:
        ValueError: If no row has the name.
    """
    row = named_row(name)
    irreps = f"{WIDTH}x0e+{WIDTH}x1o"
    if takes(row) not in ("weights", "atom energies"):
        return check(InPlace(row), irreps, irreps, task=task, sizes=SIZES, seed=seed)
    layer, inputs, outputs = layer_of(row, "vectors" if takes(row) == "weights" else "scalars")
    return check(layer, inputs, outputs, task=task, sizes=SIZES, seed=seed)
