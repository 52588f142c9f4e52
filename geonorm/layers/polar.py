"""Features as lengths and directions: what can be standardized without turning a vector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from geonorm.layers.magnitudes import Runs, blocks, smooth_length


@dataclass(frozen=True)
class Polar:
    """The lengths of all fields, with what puts other lengths back; of type 0e the value itself, with direction 1.

    Args:
        h: The features, ``[nodes, columns]``.
        parts: Consecutive columns of one type, ``[nodes, channels, components]``, and whether that is 0e.
        lengths: The lengths, ``[nodes, fields]``.
    """

    h: Float[Tensor, "nodes columns"]
    parts: list[tuple[Float[Tensor, "nodes _ _"], bool]]
    lengths: Float[Tensor, "nodes fields"]

    @classmethod
    def of(
        cls,
        h: Float[Tensor, "nodes columns"],
        runs: Runs,
        invariant: Sequence[bool],
        smoothing: float,
        added: float | int,
    ) -> Polar:
        """Measure the lengths.

        Args:
            h: The features, ``[nodes, columns]``.
            runs: Channels and components of consecutive columns of one type.
            invariant: Whether they are of type 0e.
            smoothing: The ϵ of a smooth length.
            added: Added to every length.
        """
        parts = list(zip(blocks(h, runs), invariant, strict=True))
        lengths = [block.squeeze(2) if known else smooth_length(block, smoothing) + added for block, known in parts]
        return cls(h, parts, torch.cat([h[:, :0], *lengths], 1))

    def with_lengths(self, lengths: Float[Tensor, "nodes fields"]) -> Float[Tensor, "nodes columns"]:
        """The same directions with other lengths; none of the old ones may be zero.

        Args:
            lengths: The new lengths, which may be negative, ``[nodes, fields]``.
        """
        width = [block.shape[1] for block, _ in self.parts]
        pieces = zip(self.parts, self.lengths.split(width, 1), lengths.split(width, 1), strict=True)
        return self._together(
            [new[..., None] if known else block * (new / old)[..., None] for (block, known), old, new in pieces]
        )

    def directions(self, added: Float[Tensor, " fields"]) -> Float[Tensor, "nodes columns"]:
        """Each field over its length and a number of its own; 1 for 0e.

        Args:
            added: The numbers, one for every field that is not 0e.
        """
        width = [block.shape[1] for block, _ in self.parts]
        least = iter(added.split([number for number, (_, known) in zip(width, self.parts, strict=True) if not known]))
        pieces = zip(self.parts, self.lengths.split(width, 1), strict=True)
        return self._together(
            [
                torch.ones_like(block) if known else block / (length + next(least))[..., None]
                for (block, known), length in pieces
            ]
        )

    def _together(self, parts: list[Float[Tensor, "nodes _ _"]]) -> Float[Tensor, "nodes columns"]:
        return torch.cat([self.h[:, :0], *(part.flatten(1) for part in parts)], 1)
