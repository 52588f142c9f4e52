"""The widths and depths of a GemNet, with the two sets that the book uses."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace


@dataclass(frozen=True)
class Sizes:
    """How wide and deep a GemNet is; the defaults are the published ones.

    Args:
        num_blocks: Interaction blocks; there is one more output block.
        atom_channels: Width of the atom embeddings.
        edge_channels: Width of the edge embeddings.
        triplet_channels: Width of the messages of triplets.
        bilinear_channels: Width after the bilinear layer.
        rbf_channels: Width of the shared projections of the radial basis.
        cbf_channels: Width of the shared projection of the circular basis.
        num_spherical: Degrees of the circular basis.
        num_radial: Functions of the radial basis, and of each degree of the circular one.
        num_before_skip: Residual layers before the skip connection of a block.
        num_after_skip: Residual layers after it.
        num_concat: Residual layers after atoms and edges are joined.
        num_atom: Residual layers of atoms, and of edges for direct forces.
        num_elements: The largest nuclear charge.

    Raises:
        ValueError: If a width is no positive number, or a depth is negative.
    """

    num_blocks: int = 4
    atom_channels: int = 128
    edge_channels: int = 128
    triplet_channels: int = 64
    bilinear_channels: int = 64
    rbf_channels: int = 16
    cbf_channels: int = 16
    num_spherical: int = 7
    num_radial: int = 6
    num_before_skip: int = 1
    num_after_skip: int = 1
    num_concat: int = 1
    num_atom: int = 2
    num_elements: int = 93

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            depth = field.name in ("num_blocks", "num_before_skip", "num_after_skip", "num_concat", "num_atom")
            if not isinstance(value, int) or value < (0 if depth else 1):
                raise ValueError(f"{field.name} is {value!r}, expected a whole number of at least {0 if depth else 1}")


#: The published sizes, and sizes for two processor cores.
SIZES = {
    "default": Sizes(),
    "small": Sizes(
        num_blocks=2,
        atom_channels=64,
        edge_channels=64,
        triplet_channels=32,
        bilinear_channels=32,
        num_spherical=5,
        num_atom=1,
    ),
}


def named_sizes(name: str | Sizes, **changes: int) -> Sizes:
    """Return the sizes with this name, with some of them changed.

    Args:
        name: ``"default"``, ``"small"``, or sizes of your own.
        **changes: Fields of :class:`Sizes`.

    Returns:
        The sizes.

    Raises:
        ValueError: If the name or a field is unknown.
    """
    if not isinstance(name, Sizes) and name not in SIZES:
        raise ValueError(f"unknown size {name!r}, expected one of {', '.join(map(repr, SIZES))}, or Sizes of your own")
    known = [field.name for field in fields(Sizes)]
    if unknown := sorted(set(changes) - set(known)):
        raise ValueError(f"unknown sizes {unknown}, expected some of {', '.join(known)}")
    return replace(name if isinstance(name, Sizes) else SIZES[name], **changes)
