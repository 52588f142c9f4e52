"""What acts on a batch besides rotations: permutations, other samples, shifts and scales of pools of entries."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from geonorm.axes import Segments
from geonorm.layers.fields import Fields


def samples(
    x: Float[Tensor, "nodes *features"], batch: Int[Tensor, " nodes"] | None, batch_size: int | None = None
) -> tuple[Int[Tensor, " nodes"], int]:
    """The sample of every node, and the number of samples; without a batch vector all nodes are one sample."""
    segments = Segments.from_batch(x.flatten(1), batch, batch_size)
    index = x.new_zeros(x.shape[0], dtype=torch.long) if segments.index is None else segments.index.long()
    return index, segments.num_samples


def permute_nodes(index: Int[Tensor, " nodes"], seed: int = 0) -> Int[Tensor, " nodes"]:
    """Draw a new order of the nodes inside every sample; the positions that a sample holds stay its own.

    Args:
        index: The sample of each node, sorted or not.
        seed: The seed of the draw.

    Returns:
        The order: the new features are ``x[order]``. Every sample of two nodes or more is really reordered.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.arange(len(index))
    for sample in index.unique().tolist():
        places = torch.nonzero(index == sample)[:, 0]
        drawn = torch.randperm(len(places), generator=generator)
        if torch.equal(drawn, torch.arange(len(places))):
            drawn = drawn.roll(1)
        order[places] = places[drawn]
    return order


def permute_samples(
    index: Int[Tensor, " nodes"], number: int, seed: int = 0
) -> tuple[Int[Tensor, " nodes"], Int[Tensor, " nodes"]]:
    """Draw a new order of the samples of a batch.

    Args:
        index: The sample of each node.
        number: The number of samples.
        seed: The seed of the draw.

    Returns:
        The order of the nodes (new features: ``x[order]``) and the new, sorted ``batch`` vector.
    """
    generator = torch.Generator().manual_seed(seed)
    new_number = torch.randperm(number, generator=generator)
    if torch.equal(new_number, torch.arange(number)):
        new_number = new_number.roll(1)
    order = torch.argsort(new_number[index], stable=True)
    return order, new_number[index][order]


def replace_other_samples(
    x: Float[Tensor, "nodes *features"], index: Int[Tensor, " nodes"], sample: int, seed: int = 0
) -> Float[Tensor, "nodes *features"]:
    """Keep one sample and draw new features, of the same mean and spread, for all others."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(x.shape, dtype=torch.float64, generator=generator)
    new = (x.mean() + x.std(correction=0) * drawn).to(x.dtype)
    keep = (index == sample).reshape(-1, *[1] * (x.ndim - 1))
    return torch.where(keep, x, new)


def column_groups(
    x: Float[Tensor, "nodes *features"], irreps: str | tuple | None = None, groups: int | None = None
) -> dict[str, Int[Tensor, " columns"]]:
    """What a parameter can belong to besides samples and nodes: for each name the group of every column.

    Args:
        x: The features; axes after the first are flattened.
        irreps: Adds ``"field"`` (one irrep copy) and ``"type"``. Vectors ``[nodes, channels, 3]`` have fields anyway.
        groups: Adds ``"group"``: that many groups of consecutive channels.
    """
    columns = x[0].numel()
    named = {"channel": torch.arange(columns)}
    if groups is not None:
        named["group"] = torch.arange(columns) * groups // columns
    if irreps is not None:
        fields = Fields(irreps)
        named["type"] = torch.tensor([column.type for column in fields.columns])
        named["field"] = torch.tensor(fields.field_of_column)
    elif x.ndim == 3:
        named["field"] = torch.arange(columns) // x.shape[2]
    return named


def pools(
    x: Float[Tensor, "nodes *features"],
    batch: Int[Tensor, " nodes"] | None,
    per: tuple[str, ...],
    *,
    irreps: str | tuple | None = None,
    groups: int | None = None,
) -> Int[Tensor, "nodes *features"]:
    """Number the entries of a batch: two entries have one number if one parameter belongs to both.

    Args:
        x: The features.
        batch: The sample of each node.
        per: What a parameter belongs to, for example ``("sample", "channel")``: any of ``"sample"``, ``"node"``,
            ``"channel"``, ``"group"``, ``"field"``, ``"type"``. Empty: one parameter for the whole batch.
        irreps: What the columns are, where a field or a type is meant.
        groups: The number of groups of channels, where a group is meant.

    Returns:
        The numbers 0, 1, …, of the shape of ``x``.

    Raises:
        ValueError: If a name is unknown here.
    """
    index, _ = samples(x, batch)
    columns = column_groups(x, irreps, groups)
    known = {"sample": index[:, None], "node": torch.arange(len(x))[:, None]}
    known |= {name: group[None, :] for name, group in columns.items()}
    number = torch.zeros(len(x), x[0].numel(), dtype=torch.long)
    for name in per:
        if name not in known:
            raise ValueError(f"per {name!r} is unknown here, expected any of {', '.join(known)} (field needs irreps)")
        number = number * (int(known[name].max()) + 1) + known[name]
    return number.unique(return_inverse=True)[1].reshape(x.shape)


def shift(
    x: Float[Tensor, "nodes *features"], pool: Int[Tensor, "nodes *features"], seed: int = 0
) -> Float[Tensor, "nodes *features"]:
    """Add to every pool of entries a number of its own, of the size of the features."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(int(pool.max()) + 1, dtype=torch.float64, generator=generator)
    return x + (x.std(correction=0) * drawn[pool]).to(x.dtype)


def scale(
    x: Float[Tensor, "nodes *features"], pool: Int[Tensor, "nodes *features"], seed: int = 0
) -> Float[Tensor, "nodes *features"]:
    """Multiply every pool of entries by a factor of its own between one half and two."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.rand(int(pool.max()) + 1, dtype=torch.float64, generator=generator)
    return x * (2.0 ** (2 * drawn[pool] - 1)).to(x.dtype)
