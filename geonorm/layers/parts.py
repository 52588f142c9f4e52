"""Several standardizations side by side, each of the irrep types that share its settings."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from geonorm.layers.lost import pool_statistics, restored
from geonorm.layers.patterns import Part
from geonorm.layers.standardize import Standardize


class _Standardize(Standardize):
    """Some of the types; an illegal choice has no way out but a legal one."""

    instead: ClassVar[str] = "GeometricNorm builds legal layers only; Standardize(..., allow_illegal=True) all others"


class Parts(nn.ModuleList):
    """The standardizations of a layer, in the order of their first columns.

    Args:
        parts: The parts of the features, with the settings of each.
        learn_exponent: Learn the exponents; ``None``: where they are strictly between 0 and 1.
        counted: The scale is a number of nodes: the standardizations divide by nothing.
        **options: Further arguments that all of them share.
    """

    def __init__(self, parts: list[Part], learn_exponent: bool | None, counted: bool, **options: Any) -> None:
        super().__init__(
            _Standardize(part.features, **_arguments(part, learn_exponent, counted), **options) for part in parts
        )
        self.widths = [len(part.columns) for part in parts]
        order = [column for part in parts for column in part.columns]
        back = sorted(range(len(order)), key=order.__getitem__)
        for name, value in (("order", order), ("back", back)):
            tensor = torch.tensor(value, dtype=torch.long, device=options.get("device"))
            self.register_buffer(name, None if order == sorted(order) else tensor, persistent=False)

    def split(self, h: Float[Tensor, "nodes columns"]) -> list[Float[Tensor, "nodes _"]]:
        """The columns of each part."""
        h = h if self.order is None else h.index_select(1, self.order)
        return list(h.split(self.widths, 1))

    def join(self, parts: list[Float[Tensor, "nodes _"]]) -> Float[Tensor, "nodes columns"]:
        """The columns of all parts in their places."""
        y = parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        return y if self.back is None else y.index_select(1, self.back)

    def standardized(
        self, h: Float[Tensor, "nodes columns"], batch: Int[Tensor, " nodes"] | None, batch_size: int | None
    ) -> Float[Tensor, "nodes columns"]:
        """Standardize every part by itself.

        Args:
            h: The features, ``[nodes, columns]``.
            batch: The sample of each node, ``[nodes]``.
            batch_size: The number of samples.
        """
        return self.join([part(columns, batch, batch_size) for part, columns in zip(self, self.split(h), strict=True)])

    def statistics(
        self, h: Float[Tensor, "nodes columns"], batch: Int[Tensor, " nodes"] | None, batch_size: int | None
    ) -> tuple[Float[Tensor, "nodes columns"], Float[Tensor, "nodes columns"]]:
        """The mean of every entry and the logarithm of its scale.

        Args:
            h: The features, ``[nodes, columns]``.
            batch: The sample of each node, ``[nodes]``.
            batch_size: The number of samples.
        """
        found = [
            pool_statistics(part, columns, batch, batch_size) for part, columns in zip(self, self.split(h), strict=True)
        ]
        mean, scale = zip(*found, strict=True)
        return self.join(list(mean)), self.join(list(scale))

    def restored(
        self,
        y: Float[Tensor, "nodes columns"],
        mean: Float[Tensor, "nodes columns"],
        log_scale: Float[Tensor, "nodes columns"],
    ) -> Float[Tensor, "nodes columns"]:
        """The features from the output and the statistics.

        Args:
            y: The output, ``[nodes, columns]``.
            mean: The mean of every entry.
            log_scale: The logarithm of the scale of every entry.
        """
        pieces = zip(self, self.split(y), self.split(mean), self.split(log_scale), strict=True)
        return self.join([restored(*each) for each in pieces])


def _arguments(part: Part, learn_exponent: bool | None, counted: bool) -> dict[str, Any]:
    """The arguments of the standardization of one part."""
    settings = dict(part.settings)
    if settings["exponent"] == 0 or counted:
        settings |= {"scale": None, "exponent": 1.0}
    learned = 0 < settings["exponent"] < 1 if learn_exponent is None else learn_exponent
    return {**settings, "learn_exponent": learned and settings["scale"] is not None}
