"""Named axes that a statistic pools, and batches of samples of different sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag

from geonorm.numerics import accumulation_dtype, untracked

#: What each letter pools, in canonical order (the survey's b, x, v; m and t for irreps).
LETTERS = {
    "b": "samples of the batch",
    "x": "nodes of a sample",
    "v": "channels",
    "t": "irrep types",
    "m": "components of an irrep",
}

#: The number of entries from which finding the borders of the samples pays.
LARGE = 1 << 16


class Axes(str):
    r"""The set of axes that a statistic pools, written with the letters b, x, v, t, m.

    $\mu_S$ of the survey is the mean over the axes in $S$: two entries of a batch share a statistic exactly when they
    agree in every axis that is *not* pooled. ``Axes("xv")`` is one statistic per sample, ``Axes("bx")`` one per
    channel.

    Args:
        letters: The pooled axes in any order: ``"b"`` samples, ``"x"`` nodes, ``"v"`` channels, ``"m"`` components of
            an irrep, ``"t"`` irrep types. The empty string pools nothing.

    Raises:
        ValueError: If a letter is unknown or repeated, if ``b`` is pooled without ``x``, or ``t`` without ``v`` and
            ``m``. Pooling b without x means one statistic per *node index* across samples: it has no meaning for
            samples of different sizes, and on dense data it breaks permutation equivariance.
    """

    __slots__ = ()

    def __new__(cls, letters: str = "") -> Axes:
        unknown = sorted(set(letters) - set(LETTERS))
        if unknown or len(set(letters)) != len(letters):
            known = ", ".join(f"{letter} ({meaning})" for letter, meaning in LETTERS.items())
            raise ValueError(f"axes {str(letters)!r} must use each of these letters at most once: {known}")
        if "b" in letters and "x" not in letters:
            raise ValueError(
                f"axes {str(letters)!r} pool samples (b) but not nodes (x): a statistic per node index is undefined "
                "for samples of different sizes and depends on the order of the nodes. Pool 'bx', or 'x' per sample."
            )
        if "t" in letters and not {"v", "m"} <= set(letters):
            raise ValueError(
                f"axes {str(letters)!r} pool irrep types (t) whose channels and components do not correspond: "
                "add 'v' and 'm'."
            )
        return super().__new__(cls, "".join(letter for letter in LETTERS if letter in letters))

    @property
    def rows(self) -> str:
        """Which rows share a statistic: ``"node"`` (each its own), ``"sample"``, or ``"batch"``."""
        return "batch" if "b" in self else "sample" if "x" in self else "node"

    def __repr__(self) -> str:
        return f"Axes({str(self)!r})"


@dataclass(frozen=True)
class Segments:
    """A batch of samples (graphs, molecules, sets) of different sizes, stored as one matrix of nodes.

    Args:
        index: The sample of each node, sorted or not, ``[nodes]``; ``None`` when all nodes form one sample.
        num_samples: The number of samples; samples without nodes count.
        num_nodes: The number of nodes of the whole batch.
        known_starts: The first node of each sample, if it is known and samples follow each other, ``[samples]``.
    """

    index: Int[Tensor, " nodes"] | None
    num_samples: int
    num_nodes: int
    known_starts: Int[Tensor, " samples"] | None = None

    @classmethod
    def from_batch(
        cls,
        x: Float[Tensor, "nodes features"],
        batch: Int[Tensor, " nodes"] | None = None,
        batch_size: int | None = None,
    ) -> Segments:
        """Read the ``batch`` vector of PyTorch Geometric.

        With ``batch_size`` nothing is read back from the device; without it the largest entry of ``batch`` is.

        Args:
            x: The node features, of which only the number of rows is used, ``[nodes, features]``.
            batch: The sample of each node, ``[nodes]``; all nodes are one sample if it is missing.
            batch_size: The number of samples.

        Returns:
            The batch.

        Raises:
            ValueError: If ``batch`` has the wrong length or type, or ``batch_size`` is too small for it.
        """
        num_nodes = x.shape[0]
        if batch is None:
            if batch_size not in (None, 1):
                raise ValueError(
                    f"batch_size is {batch_size} but no batch vector says which node belongs to which sample: "
                    "pass batch, an integer tensor of shape [nodes]"
                )
            return cls(None, 1, num_nodes)
        _check_batch(batch, num_nodes)
        readable = num_nodes and batch.device.type == "cpu" and not torch.compiler.is_compiling()
        lowest, highest = (int(number) for number in batch.aminmax()) if readable else (0, -1)
        if lowest < 0:
            raise ValueError(f"batch holds the sample number {lowest}, expected numbers from 0")
        if batch_size is None:
            batch_size = 1 + (highest if readable or not num_nodes else int(batch.max()))
        elif highest >= batch_size:
            raise ValueError(
                f"batch_size is {batch_size} but batch numbers samples up to {highest}: "
                "pass the number of samples, or leave batch_size out"
            )
        return cls(batch, int(batch_size), num_nodes)

    @classmethod
    def dense(cls, x: Float[Tensor, "samples nodes features"]) -> Segments:
        """Samples of one size, ``[samples, nodes, features]``, the special case of the survey's tensor."""
        samples, nodes = x.shape[:2]
        index = torch.arange(samples, device=x.device).repeat_interleave(nodes, output_size=samples * nodes)
        return cls(index, samples, samples * nodes)

    def counts(self, like: Tensor) -> Float[Tensor, " samples"]:
        """The number of nodes of each sample, in the accumulation type of ``like``."""
        dtype = accumulation_dtype(like.dtype)
        if self.index is None:
            return torch.full((1,), self.num_nodes, dtype=dtype, device=like.device)
        if like.device.type == "cpu" and not torch.compiler.is_compiling():
            return self._sizes.to(dtype)
        ones = torch.ones(self.num_nodes, dtype=dtype, device=like.device)
        return ones.new_zeros(self.num_samples).index_add(0, self.index, ones)

    @cached_property
    def _sizes(self) -> Int[Tensor, " samples"]:
        """The number of nodes of each sample; on other devices than the CPU this would wait for the device."""
        return torch.bincount(self.index, minlength=self.num_samples)

    def sum(self, values: Float[Tensor, "nodes features"]) -> Float[Tensor, "samples features"]:
        """Add the rows of each sample."""
        if self.index is None:
            return values.sum(0, keepdim=True)
        if _may_add_in_bags(values):
            nodes, starts = self._bags
            return embedding_bag(nodes, values, starts, mode="sum")
        return values.new_zeros(self.num_samples, values.shape[1]).index_add(0, self.index, values)

    @cached_property
    def starts(self) -> Int[Tensor, " samples"] | None:
        """The first node of each sample, or ``None`` if samples do not follow each other. Reads the batch vector."""
        if self.known_starts is not None:
            return self.known_starts
        if self.index is None or bool((self.index[1:] < self.index[:-1]).any()):
            return None
        return self._sizes.cumsum(0) - self._sizes

    def part(self, nodes: slice, samples: slice) -> Segments:
        """Some samples that follow each other, with all their nodes."""
        index, starts = self.index[nodes] - samples.start, self.starts[samples] - nodes.start
        return Segments(index, samples.stop - samples.start, nodes.stop - nodes.start, starts)

    @cached_property
    def _bags(self) -> tuple[Int[Tensor, " nodes"], Int[Tensor, " samples"]]:
        """The nodes, sample after sample, and where each sample begins among them."""
        if self.starts is not None:
            return torch.arange(self.num_nodes), self.starts
        return torch.argsort(self.index, stable=True), self._sizes.cumsum(0) - self._sizes

    def expand(self, values: Float[Tensor, "samples features"]) -> Float[Tensor, "rows features"]:
        """Give every node the row of its sample (one row that broadcasts when there is one sample)."""
        return values if self.index is None else values.index_select(0, self.index)


def _may_add_in_bags(values: Tensor) -> bool:
    """Whether sums of rows may be those of ``embedding_bag``: on the CPU several times faster, but without gradient."""
    large = values.dtype == torch.float32 and values.numel() >= LARGE
    return large and values.device.type == "cpu" and untracked(values)


def check_floating_point(x: Tensor, name: str = "x") -> None:
    """Refuse features that cannot be normalized, such as integers.

    Args:
        x: The features.
        name: What the message calls them.

    Raises:
        ValueError: If ``x`` holds no floating-point numbers.
    """
    if not x.is_floating_point():
        raise ValueError(f"{name} has dtype {x.dtype}, expected a floating-point type: convert it with {name}.float()")


def _check_batch(batch: Tensor, num_nodes: int) -> None:
    """What can be checked without reading ``batch``: its shape and type."""
    if batch.ndim != 1 or batch.shape[0] != num_nodes:
        raise ValueError(
            f"batch has shape {list(batch.shape)}, expected [{num_nodes}]: one sample number for each row of x"
        )
    if batch.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"batch has dtype {batch.dtype}, expected torch.int64: convert it with batch.long()")


@dataclass(frozen=True)
class NodeFeatures:
    """Node features as a matrix, with the batch they came in and the shape to give back.

    Args:
        x: The features, ``[nodes, features]``.
        shape: The shape of the tensor that was given.
        dense: Samples and nodes of a dense batch, or ``None``.
        batch: The sample of each node, or ``None``.
        batch_size: The number of samples, or ``None``.
    """

    x: Float[Tensor, "nodes features"]
    shape: torch.Size
    dense: tuple[int, int] | None
    batch: Int[Tensor, " nodes"] | None
    batch_size: int | None

    @classmethod
    def read(
        cls,
        x: Float[Tensor, "..."],
        batch: Int[Tensor, "..."] | None,
        batch_size: int | None,
        features: int,
        block: tuple[int, int] | None = None,
    ) -> NodeFeatures:
        """Accept ``[nodes, features]`` with a batch vector, or a dense batch ``[samples, nodes, features]``.

        Args:
            x: The features.
            batch: The sample of each node.
            batch_size: The number of samples.
            features: The number of columns.
            block: Channels and components, if the features may also come as ``[nodes, channels, components]``.

        Raises:
            ValueError: If the last axes do not fit, the number of axes fits neither form, x holds no floating-point
                numbers, ``batch`` has the wrong length or type, or ``batch_size`` contradicts x.
        """
        split = block is not None and x.ndim in (3, 4) and x.shape[-2:] == block
        rows = x.shape[: -2 if split else -1]
        if len(rows) not in (1, 2) or (not split and x.shape[-1] != features):
            raise ValueError(f"x has shape {list(x.shape)}, expected {_expected(features, block)}")
        dense = tuple(rows) if len(rows) == 2 else None
        if dense and batch is not None:
            raise ValueError(
                f"x has shape {list(x.shape)}, a dense batch, and a batch vector was given too: "
                f"flatten x to [nodes, {features}], or leave batch out"
            )
        if dense and batch_size not in (None, x.shape[0]):
            raise ValueError(
                f"x has shape {list(x.shape)}, a dense batch of {x.shape[0]} samples, but batch_size is {batch_size}: "
                "leave batch_size out"
            )
        check_floating_point(x)
        nodes = (x.flatten(-2) if split else x).flatten(0, -2)
        if batch is not None:
            _check_batch(batch, nodes.shape[0])
        return cls(nodes, x.shape, dense, batch, batch_size)

    def segments(self) -> Segments:
        """Which node belongs to which sample; found only when a statistic asks for it."""
        if self.dense:
            return Segments.dense(self.x.view(*self.dense, self.x.shape[1]))
        return Segments.from_batch(self.x, self.batch, self.batch_size)

    def restore(self, y: Float[Tensor, "nodes features"]) -> Float[Tensor, "..."]:
        """Give the result the shape of the input."""
        return y.view(self.shape)

    def restore_rows(self, y: Float[Tensor, "nodes columns"]) -> Float[Tensor, "..."]:
        """Give a result with columns of its own the nodes, or samples and nodes, of the input."""
        return y.view(*(self.dense or (y.shape[0],)), y.shape[1])


def _expected(features: int, block: tuple[int, int] | None) -> str:
    """The shapes that are accepted, in words."""
    flat = f"[nodes, {features}] (with a batch vector) or a dense batch [samples, nodes, {features}]"
    return flat if block is None else f"[nodes, {block[0]}, {block[1]}], {flat}"
