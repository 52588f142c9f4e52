"""One function at one input: every error that the report speaks of."""

from __future__ import annotations

import torch
from torch import Tensor

from geonorm.match import actions
from geonorm.match.errors import relative_error
from geonorm.match.frozen import Function
from geonorm.match.noise import noise_floor
from geonorm.match.rotations import rotate, rotations_of_nodes

#: What a function raises that holds the graphs of this batch and cannot take another one.
HELD = (RuntimeError, ValueError, IndexError)


class Measurement:
    """One function at one input: every error that the report speaks of."""

    def __init__(self, function: Function, x: Tensor, batch: Tensor, irreps: str, outputs: str, seed: int) -> None:
        self.function, self.x, self.batch, self.seed = function, x, batch, seed
        self.irreps, self.outputs = irreps, outputs
        self.number = int(batch.max()) + 1
        self.y = self(x)
        self.floor = noise_floor(self, x, seed=seed)

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x, self.batch, self.number)

    @property
    def per_sample(self) -> bool:
        """Whether the output has one row for each sample."""
        return self.y.shape[0] == self.number != self.x.shape[0]

    def degenerate(self) -> str | None:
        """What is wrong with the output as such."""
        if not torch.isfinite(self.y).all():
            return "the output holds NaN or infinity"
        if not self.y.any():
            return "the output is zero"
        spread = (self.y - self.y.mean(0)).abs().max() if len(self.y) > 1 else self.y.abs().max()
        return None if spread > 1e-12 * self.y.abs().max() else "the output is the same for all inputs"

    def node_permutation(self) -> float:
        """Reorder the nodes of each sample."""
        order = actions.permute_nodes(self.batch, self.seed)
        moved = self(self.x[order])
        return relative_error(moved, self.y if self.per_sample else self.y[order])

    def sample_permutation(self) -> float:
        """Reorder the samples."""
        order, batch = actions.permute_samples(self.batch, self.number, self.seed)
        moved = self.function(self.x[order], batch, self.number)
        first = torch.zeros(self.number, dtype=torch.long).scatter(0, batch, self.batch[order])
        return relative_error(moved, self.y[first] if self.per_sample else self.y[order])

    def rotation(self, level: str, improper: bool) -> float:
        """Rotate the input at a level; improper elements are minus a rotation for every second element."""
        g = rotations_of_nodes(self.x, self.batch, self.number, level=level, improper=improper, seed=self.seed)
        moved = self(rotate(self.x, g, self.irreps))
        rows = g
        if self.per_sample:
            first = torch.stack([torch.nonzero(self.batch == sample)[0, 0] for sample in range(self.number)])
            rows = g[first]
        return relative_error(moved, rotate(self.y, rows, self.outputs))

    def translation(self) -> float:
        """Move the raw coordinates of each sample: the output stays, or moves along."""
        generator = torch.Generator().manual_seed(self.seed)
        t = torch.randn(self.number, 3, dtype=torch.float64, generator=generator)[self.batch]
        t = t.repeat(1, self.x[0].numel() // 3)
        moved = self(self.x + t.reshape(self.x.shape))
        errors = [relative_error(moved, self.y)]
        if self.y.numel() == self.x.numel():
            errors.append(relative_error(moved, self.y + t.reshape(self.y.shape)))
        return min(errors)

    def influence(self, matrix: Tensor) -> float:
        """The part of the Jacobian that couples different samples, relative to the whole."""
        rows = torch.arange(self.number) if self.per_sample else self.batch
        square = matrix.square().reshape(len(rows), -1, len(self.x), self.x[0].numel()).sum((1, 3))
        cross = square[rows[:, None] != self.batch[None, :]].sum()
        return (cross / square.sum()).sqrt().item() if square.sum() > 0 else float("nan")

    def replacement(self) -> float:
        """Draw all other samples anew: a count or a rank in them has no derivative."""
        rows = torch.arange(self.number) if self.per_sample else self.batch
        errors = [0.0]
        for sample in range(self.number):
            other = self(actions.replace_other_samples(self.x, self.batch, sample, self.seed + sample))
            own = rows == sample
            if self.y[own].any() or other[own].any():
                errors.append(relative_error(other[own], self.y[own]))
        errors.append(self._growth())
        return torch.tensor(errors, dtype=torch.float64).max().item()  # nan wins

    def _growth(self) -> float:
        """Give the last sample one node more: the others must not feel how large it is."""
        try:
            grown = self.function(
                torch.cat([self.x, 0.7 * self.x[:1]]), torch.cat([self.batch, self.batch[-1:]]), self.number
            )
        except HELD:
            return 0.0
        last = self.number - 1 if self.per_sample else int((self.batch < self.batch[-1]).sum())
        if grown.shape[1:] != self.y.shape[1:] or not (grown[:last].any() or self.y[:last].any()):
            return 0.0  # an output as wide as the batch is large says nothing here
        return relative_error(grown[:last], self.y[:last])
