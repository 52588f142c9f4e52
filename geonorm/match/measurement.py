"""One function at one input: every error that the report speaks of."""

from __future__ import annotations

import torch
from torch import Tensor

from geonorm.match.blocks import block_norms
from geonorm.match.errors import (
    node_permutation_error,
    of_samples,
    relative_error,
    rotation_error,
    sample_dependence,
    sample_permutation_error,
)
from geonorm.match.frozen import Function
from geonorm.match.noise import noise_floor
from geonorm.match.rotations import Level

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
        return of_samples(self.y, len(self.x), self.number)

    @property
    def _given(self) -> tuple[Function, Tensor, Tensor, int]:
        return self.function, self.x, self.batch, self.number

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
        return node_permutation_error(*self._given, seed=self.seed)

    def sample_permutation(self) -> float:
        """Reorder the samples."""
        return sample_permutation_error(*self._given, seed=self.seed)

    def rotation(self, level: Level, improper: bool) -> float:
        """Rotate the input at a level; improper elements are minus a rotation for every second element."""
        return rotation_error(
            *self._given,
            irreps=self.irreps,
            irreps_out=self.outputs,
            level=level,
            improper="only" if improper else False,
            seed=self.seed,
        )

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
        row, column = rows.repeat_interleave(self.y[0].numel()), self.batch.repeat_interleave(self.x[0].numel())
        norms = block_norms(matrix, row, column, self.number)
        return ((norms - torch.diag(norms.diagonal())).norm() / norms.norm()).item()  # of zeros nan

    def replacement(self) -> float:
        """Draw all other samples anew, and let one grow: a count or a rank in them has no derivative."""
        errors = [sample_dependence(*self._given, seed=self.seed), self._growth()]
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
